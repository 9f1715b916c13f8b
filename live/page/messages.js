// What can go wrong with a camera or a film, said so that there is a way on.

const INSECURE = {
  title: "The camera needs a secure address",
  text: () =>
    `Browsers lend a camera only to https and to this very machine. Open http://localhost:${location.port || 80}/ ` +
    `on the machine that runs the server, or bring the port here: ` +
    `ssh -L ${location.port || 80}:localhost:${location.port || 80} ${location.hostname}. A film works here as well.`,
};

const BY_NAME = {
  NotAllowedError: {
    title: "The camera is not allowed",
    text: () => "The browser refused it. Allow the camera for this page, at the left of the address bar, then try again.",
  },
  NotFoundError: {
    title: "There is no camera",
    text: () => "This machine has none that the browser can see. Plug one in and try again, or open a film.",
  },
  NotReadableError: {
    title: "The camera is in use",
    text: () => "Another program or tab holds it. Close that, then try again.",
  },
  Gone: {
    title: "The camera is gone",
    text: () => "It was unplugged or taken by another program. Plug it in and try again.",
  },
};
BY_NAME.SecurityError = BY_NAME.NotAllowedError;
BY_NAME.OverconstrainedError = BY_NAME.NotFoundError;
BY_NAME.AbortError = BY_NAME.NotReadableError;

/** A title and a text for an error of getUserMedia, or for none being there at all. */
export function cameraProblem(error) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    return { title: INSECURE.title, text: INSECURE.text() };
  }
  const known = BY_NAME[error?.name];
  return known
    ? { title: known.title, text: known.text() }
    : { title: "The camera does not start", text: `The browser says: ${error?.message || error?.name || "nothing"}.` };
}

export function filmProblem(name) {
  return {
    title: "This film does not play",
    text: `The browser cannot decode ${name}. MP4 with H.264, or WebM, play nearly everywhere.`,
  };
}

export const CLOSED = {
  1013: "As many pages are connected as the server takes: close another one.",
  4000: "Nothing was sent for minutes, so the connection rests.",
};

export const LABELS = { with_mask: "with mask", without_mask: "without mask", unsure: "unsure" };

const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

/** How sure a face's label is: of the class that it says, and of the mask where it is unsure. */
export function sureness(face) {
  if (face.label === "unsure") return `${percent.format(face.smoothed)} masked`;
  const sure = face.label === "with_mask" ? face.smoothed : 1 - face.smoothed;
  return sure > 0.99 ? ">99%" : percent.format(sure);
}
