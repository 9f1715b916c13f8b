// Frames of the <video> as JPEG, each sent as soon as the connection has room: what it has no room for is never taken.

const LONGER_SIDE = 640; // pixels; the detector is shown fewer still
const QUALITY = 0.85;

export class Capture {
  constructor(video, connection) {
    this.video = video;
    this.connection = connection;
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.running = false;
    this.byFrame = "requestVideoFrameCallback" in video;
  }

  start(kind) {
    this.kind = kind;
    if (this.running) return;
    this.running = true;
    this.next();
  }

  stop() {
    this.running = false;
  }

  next() {
    const step = (now, frame) => {
      if (!this.running) return;
      this.next();
      this.take(frame?.mediaTime);
    };
    if (this.byFrame) this.video.requestVideoFrameCallback(step);
    else requestAnimationFrame((now) => step(now, null));
  }

  take(mediaTime) {
    const { videoWidth, videoHeight } = this.video;
    if (!this.connection.room || !videoWidth || this.busy) return;
    const now = performance.now();
    const seconds = this.kind === "film" ? mediaTime ?? this.video.currentTime : now / 1000;
    if (!this.byFrame && this.kind === "film" && seconds === this.last) return; // the same picture again
    this.last = seconds;
    const scale = Math.min(1, LONGER_SIDE / Math.max(videoWidth, videoHeight));
    const width = Math.max(1, Math.round(videoWidth * scale)), height = Math.max(1, Math.round(videoHeight * scale));
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    this.context.drawImage(this.video, 0, 0, width, height);
    const number = this.connection.take(now);
    this.busy = true; // one encoder at a time, so that frames leave in order
    this.canvas.toBlob(async (blob) => {
      const jpeg = blob && (await blob.arrayBuffer());
      this.busy = false;
      if (jpeg) this.connection.frame(number, seconds, jpeg);
      else this.connection.giveUp(number);
    }, "image/jpeg", QUALITY);
  }
}
