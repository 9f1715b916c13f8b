// Where frames come from: a camera, or a video file that the user opens. Both play in one <video>.

import { cameraProblem, videoProblem } from "./messages.js";

export class Source {
  /** `onend(problem)` is called when the camera is disconnected (with a problem) or the video ends (without). */
  constructor(video, onend) {
    this.video = video;
    this.onend = onend;
    this.kind = null; // camera or video
    this.opened = 0; // how many times something was opened or closed
  }

  /** Open a camera, by its device id if given. Returns false if something else was opened meanwhile; throws {title, text}. */
  async camera(deviceId) {
    const opened = this.close();
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
      if (opened === this.opened) throw cameraProblem(error);
      return false;
    }
    if (opened !== this.opened) { // something else was opened meanwhile
      for (const track of stream.getTracks()) track.stop();
      return false;
    }
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => opened === this.opened && this.onend(cameraProblem({ name: "Disconnected" })));
    this.kind = "camera";
    this.facing = track.getSettings().facingMode;
    this.deviceId = track.getSettings().deviceId;
    this.video.srcObject = stream;
    await this.play(opened, () => cameraProblem({ name: "NotReadableError" }));
    return opened === this.opened;
  }

  /** Open a video file; as `camera`. */
  async file(file) {
    const opened = this.close();
    this.kind = "video";
    this.address = URL.createObjectURL(file);
    this.video.src = this.address;
    this.video.onended = () => opened === this.opened && this.onend(null);
    await this.play(opened, () => videoProblem(file.name));
    return opened === this.opened;
  }

  async play(opened, problem) {
    try {
      await this.video.play();
      if (opened === this.opened && !this.video.videoWidth) throw new Error("no frame");
    } catch {
      if (opened !== this.opened) return;
      this.close();
      throw problem();
    }
  }

  /** Close the camera or video. Returns a number that equals this.opened until the next one is opened. */
  close() {
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.video.onended = null;
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    this.video.load();
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = this.kind = null;
    return ++this.opened;
  }

  static async cameras() {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    return devices.filter((device) => device.kind === "videoinput" && device.deviceId);
  }
}
