// Sends frames of the <video> as JPEG. A frame is captured only if the connection can send it at once.

const LONGER_SIDE = 640; // pixels; the detector downscales further
const QUALITY = 0.85;

export class Capture {
  constructor(video, connection) {
    this.video = video;
    this.connection = connection;
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.running = false;
    this.hasFrameCallback = "requestVideoFrameCallback" in video;
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
      this.capture(frame?.mediaTime);
    };
    if (this.hasFrameCallback) this.video.requestVideoFrameCallback(step);
    else requestAnimationFrame((now) => step(now, null));
  }

  capture(mediaTime) {
    const { videoWidth, videoHeight } = this.video;
    if (!this.connection.ready || !videoWidth || this.encoding) return;
    const now = performance.now();
    const seconds = this.kind === "video" ? mediaTime ?? this.video.currentTime : now / 1000;
    if (!this.hasFrameCallback && this.kind === "video" && seconds === this.lastSeconds) return; // the same frame
    this.lastSeconds = seconds;
    const scale = Math.min(1, LONGER_SIDE / Math.max(videoWidth, videoHeight));
    const width = Math.max(1, Math.round(videoWidth * scale)), height = Math.max(1, Math.round(videoHeight * scale));
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    this.context.drawImage(this.video, 0, 0, width, height);
    const number = this.connection.reserve(now);
    this.encoding = true; // one frame at a time, so that they are sent in order
    this.canvas.toBlob(async (blob) => {
      const jpeg = blob && (await blob.arrayBuffer());
      this.encoding = false;
      if (jpeg) this.connection.sendFrame(number, seconds, jpeg);
      else this.connection.release(number);
    }, "image/jpeg", QUALITY);
  }
}
