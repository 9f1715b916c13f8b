// The faces in view and the session's figures, beside the picture.

import { LABELS, sureness } from "./messages.js";

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const COUNTS = ["faces_with_mask", "faces_without_mask", "unsure", "frames", "frames_without_face", "distinct_faces"];

/** One row a face; the rows are kept and filled anew, so that nothing jumps. */
export function showFaces(faces) {
  const list = $("faces");
  while (list.children.length > faces.length) list.lastChild.remove();
  while (list.children.length < faces.length) list.append(row());
  faces.forEach((face, i) => {
    const item = list.children[i];
    item.dataset.class = face.label;
    item.dataset.number = face.number;
    item.dataset.box = face.box.join(" ");
    item.dataset.probability = face.probability;
    item.classList.toggle("expected", !face.found);
    const [number, label, share, scale] = item.children;
    set(number, `#${face.number}`);
    set(label, LABELS[face.label]);
    set(share, sureness(face));
    scale.firstChild.style.width = `${face.smoothed * 100}%`;
  });
  $("empty").hidden = faces.length > 0;
  for (const label of Object.keys(LABELS)) {
    set($(`now-${label}`), faces.filter((face) => face.found && face.label === label).length);
  }
}

function row() {
  const item = document.createElement("li");
  for (const [tag, name] of [["span", "number"], ["span", "label"], ["span", "share"], ["div", "scale"]]) {
    const part = document.createElement(tag);
    part.className = name;
    item.append(part);
  }
  item.lastChild.append(document.createElement("i"));
  item.lastChild.setAttribute("aria-hidden", "true");
  return item;
}

/** The running figures, {} for none. */
export function showFigures(figures) {
  for (const name of COUNTS) set($(name), whole.format(figures[name] ?? 0));
  for (const name of ["mean_confidence_with_mask", "mean_confidence_without_mask"]) {
    set($(name), figures[name] == null ? "–" : percent.format(figures[name]));
  }
  set($("fps"), figures.fps == null ? "–" : figures.fps.toFixed(1));
  const latencies = [50, 90, 99].map((p) => figures[`latency_ms_p${p}`]);
  set($("latency"), latencies.includes(undefined) || latencies.includes(null) ? "–" : latencies.map(Math.round).join(" · "));
}

function set(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** What a screen reader hears: who is in view, when that has changed, and not too often. */
export class Speaker {
  constructor(element) {
    this.element = element;
    this.at = -Infinity;
  }

  hear(faces) {
    const now = performance.now();
    if (now - this.at < 3000) return;
    const count = (label) => faces.filter((face) => face.label === label).length;
    const parts = Object.keys(LABELS).filter(count).map((label) => `${count(label)} ${LABELS[label]}`);
    const text = faces.length ? parts.join(", ") : "no face";
    if (text !== this.element.textContent) {
      this.element.textContent = text;
      this.at = now;
    }
  }
}

/** Offer the figures of each model, and of earlier sessions, as a JSON file that is made in the browser. */
export function save(session, earlier) {
  const text = JSON.stringify(earlier.length ? { session, earlier } : { session }, null, 2) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "face-mask-session.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
