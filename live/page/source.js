// Where pictures come from: a camera, or a film that the user picks. Both play in one <video>.

import { cameraProblem, filmProblem } from "./messages.js";

export class Source {
  /** `onend(problem)` is called when a camera goes away (with a problem), or a film is over (without). */
  constructor(video, onend) {
    this.video = video;
    this.onend = onend;
    this.kind = null; // camera or film
    this.asked = 0;
  }

  /** Open a camera, the one with this device id if given; throws {title, text} where that fails. */
  async camera(deviceId) {
    const asked = this.close();
    let stream;
    try {
      if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) throw new Error("insecure");
      stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: {
          width: { ideal: 640 },
          height: { ideal: 480 },
          frameRate: { ideal: 30 },
          ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" }),
        },
      });
    } catch (error) {
      if (asked === this.asked) throw cameraProblem(error);
      return false;
    }
    if (asked !== this.asked) { // something else was opened meanwhile
      for (const track of stream.getTracks()) track.stop();
      return false;
    }
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => asked === this.asked && this.onend(cameraProblem({ name: "Gone" })));
    this.kind = "camera";
    this.facing = track.getSettings().facingMode;
    this.deviceId = track.getSettings().deviceId;
    this.video.srcObject = stream;
    await this.play(asked, () => cameraProblem({ name: "NotReadableError" }));
    return asked === this.asked;
  }

  /** Open a film; throws {title, text} where the browser cannot play it. */
  async film(file) {
    const asked = this.close();
    this.kind = "film";
    this.address = URL.createObjectURL(file);
    this.video.src = this.address;
    this.video.onended = () => asked === this.asked && this.onend(null);
    await this.play(asked, () => filmProblem(file.name));
    return asked === this.asked;
  }

  async play(asked, problem) {
    try {
      await this.video.play();
      if (asked === this.asked && !this.video.videoWidth) throw new Error("no picture");
    } catch {
      if (asked !== this.asked) return;
      this.close();
      throw problem();
    }
  }

  /** Let go of camera or film; returns a number that is this.asked until the next one is opened. */
  close() {
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.video.onended = null;
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    this.video.load();
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = this.kind = null;
    return ++this.asked;
  }

  static async cameras() {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    return devices.filter((device) => device.kind === "videoinput" && device.deviceId);
  }
}
