// The WebSocket to the server: frames go out while few are under way, and it connects again when it was lost.

const UNDER_WAY = 2; // frames that are sent and not answered, at most: no queue builds up anywhere
const SILENCE = 10_000; // ms without an answer that is due, after which the connection is taken for dead
const FIRST_WAIT = 500, LONGEST_WAIT = 10_000; // ms before connecting again, doubled each time
const IDLE = 4000; // the server's close code for a page that was silent: it connects again when it is used again

export class Connection {
  /** `handlers`: message(json, sentAt), and state("connecting" | "open" | "lost", {code, wait}). */
  constructor(handlers) {
    this.handlers = handlers;
    this.number = 0;
    this.underWay = new Map(); // frame number: when it was taken, performance.now()
    this.failures = 0;
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.resting = false;
    const address = new URL("/frames", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    if (this.socket) this.socket.onclose = this.socket.onmessage = null;
    this.socket?.close();
    this.socket = socket;
    this.underWay.clear();
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.lost(code);
  }

  lost(code) {
    clearTimeout(this.silent);
    this.underWay.clear();
    const wait = code === IDLE ? Infinity : Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures++) * (0.8 + 0.4 * Math.random());
    this.open = false;
    this.resting = code === IDLE;
    if (!this.resting) this.timer = setTimeout(() => this.connect(), wait);
    this.handlers.state("lost", { code, wait });
  }

  /** The page is used again. */
  wake() {
    if (this.resting) this.connect();
  }

  receive(message) {
    if (message.type === "hello") {
      this.open = true;
      this.failures = 0;
      this.handlers.state("open", {});
    }
    let taken;
    if (message.frame !== undefined && message.frame !== null) {
      taken = this.underWay.get(message.frame);
      this.underWay.delete(message.frame);
      this.watch();
    }
    this.handlers.message(message, taken);
  }

  /** Whether another frame may be sent now. */
  get room() {
    return this.open && this.underWay.size < UNDER_WAY;
  }

  /** Make room for a frame that is about to be sent; its number. */
  take(now) {
    this.underWay.set(++this.number, now);
    return this.number;
  }

  /** Give up a number that was taken: there is no picture for it. */
  giveUp(number) {
    this.underWay.delete(number);
  }

  /** Send a JPEG (ArrayBuffer) with its time in seconds. */
  frame(number, seconds, jpeg) {
    if (!this.open || !this.underWay.has(number)) return;
    const message = new Uint8Array(12 + jpeg.byteLength);
    const header = new DataView(message.buffer);
    header.setUint32(0, number);
    header.setFloat64(4, seconds);
    message.set(new Uint8Array(jpeg), 12);
    this.socket.send(message);
    this.watch();
  }

  command(command) {
    if (this.open) this.socket.send(JSON.stringify(command));
  }

  watch() {
    clearTimeout(this.silent);
    if (this.underWay.size) {
      this.silent = setTimeout(() => {
        this.socket.onclose = null;
        this.socket.close();
        this.lost(1006);
      }, SILENCE);
    }
  }
}
