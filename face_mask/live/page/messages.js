// Texts: problems with a camera or a video and what to do about them, labels, and confidences.

const port = location.port || 80;
const INSECURE = {
  title: "The camera needs a secure connection",
  text:
    `Browsers allow camera access only over HTTPS or on localhost. Open http://localhost:${port}/ on the machine that ` +
    `runs the server, or forward its port with ssh -L ${port}:localhost:${port} ${location.hostname}. ` +
    "Videos and pictures can be opened without it.",
};

const BY_NAME = {
  NotAllowedError: {
    title: "Camera access was denied",
    text:
      "Allow the camera in the site settings, to the left of the address bar, then try again, or open a video or a " +
      "picture.",
  },
  NotFoundError: {
    title: "No camera available",
    text: "The browser does not see a camera. Connect one and try again, or open a video or a picture.",
  },
  NotReadableError: {
    title: "The camera is in use",
    text: "Another program or tab is using it. Close that one, then try again.",
  },
  Disconnected: {
    title: "The camera was disconnected",
    text: "It was unplugged, or another program is using it now. Reconnect it, then try again.",
  },
};
BY_NAME.SecurityError = BY_NAME.NotAllowedError;
BY_NAME.OverconstrainedError = BY_NAME.NotFoundError;
BY_NAME.AbortError = BY_NAME.NotReadableError;

/** {title, text} for an error of getUserMedia, or if the browser does not offer it. */
export function cameraProblem(error) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) return INSECURE;
  return BY_NAME[error?.name] ?? {
    title: "The camera cannot be started",
    text: `The browser reports: ${error?.message || error?.name || "unknown error"}.`,
  };
}

export function videoProblem(name) {
  return {
    title: "This video cannot be played",
    retry: "Use the camera",
    text: `The browser cannot decode ${name}. MP4 with H.264 and WebM play in most browsers.`,
  };
}

/** `reason` continues a sentence that begins with the name. */
export function pictureProblem(name, reason) {
  return { title: "This picture cannot be opened", retry: "Use the camera", text: `${name || "The file"} ${reason}.` };
}

/** By close code of the WebSocket. */
export const CLOSED = {
  1013: "The server accepts no more pages. Close another one.",
  4000: "Disconnected after several minutes of inactivity.",
};

export const LABELS = { with_mask: "with mask", without_mask: "without mask", unsure: "unsure" };

const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

/** The probability of a face's label, 0…1; for an unsure face, that of a mask. */
export function confidence(face) {
  return face.label === "without_mask" ? 1 - face.smoothed : face.smoothed;
}

export function confidenceText(face) {
  const text = confidence(face) > 0.99 ? ">99%" : percent.format(confidence(face));
  return face.label === "unsure" ? `${text} mask` : text;
}
