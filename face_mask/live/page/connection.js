// The WebSocket to the server. Only a few frames are in flight at a time; a lost connection is opened again.

const MAX_IN_FLIGHT = 2; // frames sent and not answered: no queue builds up anywhere
const ANSWER_TIMEOUT = 10_000; // ms without a pending answer, after which the connection counts as lost
const FIRST_WAIT = 500, LONGEST_WAIT = 10_000; // ms before reconnecting; doubled after each failure
const IDLE = 4000; // the server's close code for an inactive page, which reconnects when it is used again

export class Connection {
  /** `handlers`: message(json, capturedAt), and state("open" | "lost", {code, wait}). */
  constructor(handlers) {
    this.handlers = handlers;
    this.number = 0;
    this.inFlight = new Map(); // frame number → when it was captured, performance.now()
    this.failures = 0;
    this.connect();
  }

  connect() {
    clearTimeout(this.reconnectTimer);
    this.idle = false;
    const address = new URL("/frames", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    if (this.socket) this.socket.onclose = this.socket.onmessage = null;
    this.socket?.close();
    this.socket = socket;
    this.inFlight.clear();
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.lost(code);
  }

  lost(code) {
    clearTimeout(this.answerTimer);
    this.inFlight.clear();
    this.open = false;
    this.idle = code === IDLE;
    let wait = Infinity;
    if (!this.idle) {
      wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures++) * (0.8 + 0.4 * Math.random());
      this.reconnectTimer = setTimeout(() => this.connect(), wait);
    }
    this.handlers.state("lost", { code, wait });
  }

  /** Reconnect if the server closed the connection because the page was inactive. */
  wake() {
    if (this.idle) this.connect();
  }

  receive(message) {
    if (message.type === "hello") {
      this.open = true;
      this.failures = 0;
      this.handlers.state("open", {});
    }
    const capturedAt = this.inFlight.get(message.frame);
    if (this.inFlight.delete(message.frame)) this.restartAnswerTimer();
    this.handlers.message(message, capturedAt);
  }

  /** Whether another frame may be sent now. */
  get ready() {
    return this.open && this.inFlight.size < MAX_IN_FLIGHT;
  }

  /** Reserve a number for a frame that is being encoded. */
  reserve(now) {
    this.inFlight.set(++this.number, now);
    return this.number;
  }

  /** Release a reserved number whose frame could not be encoded. */
  release(number) {
    this.inFlight.delete(number);
  }

  /** Send a picture (a JPEG as ArrayBuffer) now. Returns its number; answers have it in `frame`. */
  sendPicture(jpeg) {
    const number = this.reserve(performance.now());
    // Each is earlier than all frames of a camera or a video before: the server then forgets the faces in those.
    this.sendFrame(number, -1e9 - number, jpeg);
    return number;
  }

  /** Send a JPEG (ArrayBuffer) with its time in seconds. */
  sendFrame(number, seconds, jpeg) {
    if (!this.open || !this.inFlight.has(number)) return;
    const message = new Uint8Array(12 + jpeg.byteLength); // the format is described in frames.py
    const header = new DataView(message.buffer);
    header.setUint32(0, number);
    header.setFloat64(4, seconds);
    message.set(new Uint8Array(jpeg), 12);
    this.socket.send(message);
    this.restartAnswerTimer();
  }

  sendCommand(command) {
    if (this.open) this.socket.send(JSON.stringify(command));
  }

  restartAnswerTimer() {
    clearTimeout(this.answerTimer);
    if (!this.inFlight.size) return;
    this.answerTimer = setTimeout(() => {
      this.socket.onclose = null;
      this.socket.close();
      this.lost(1006);
    }, ANSWER_TIMEOUT);
  }
}
