// The side panel: the faces in view and the session's metrics.

import { LABELS, confidence, confidenceText } from "./messages.js";

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const COUNTS = ["faces_with_mask", "faces_without_mask", "unsure", "frames", "frames_without_face", "distinct_faces"];

/** One row per face; existing rows are updated in place, so that nothing jumps. */
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
    item.classList.toggle("missed", !face.detected);
    const [number, label, value, scale] = item.children;
    set(number, `#${face.number}`);
    set(label, LABELS[face.label]);
    set(value, confidenceText(face));
    scale.firstChild.style.width = `${confidence(face) * 100}%`;
  });
  $("empty").hidden = faces.length > 0;
  for (const label of Object.keys(LABELS)) {
    set($(`now-${label}`), faces.filter((face) => face.detected && face.label === label).length);
  }
}

function row() {
  const item = document.createElement("li");
  for (const [tag, name] of [["span", "number"], ["span", "label"], ["span", "confidence"], ["div", "scale"]]) {
    const part = document.createElement(tag);
    part.className = name;
    item.append(part);
  }
  item.lastChild.append(document.createElement("i"));
  item.lastChild.setAttribute("aria-hidden", "true");
  return item;
}

/** Show the running metrics of a model; {} if there are none. */
export function showMetrics(metrics) {
  for (const name of COUNTS) set($(name), whole.format(metrics[name] ?? 0));
  for (const name of ["mean_confidence_with_mask", "mean_confidence_without_mask"]) {
    set($(name), metrics[name] == null ? "–" : percent.format(metrics[name]));
  }
  showProportion(metrics);
  set($("fps"), metrics.fps == null ? "–" : metrics.fps.toFixed(1));
  const latencies = [50, 90, 99].map((p) => metrics[`latency_ms_p${p}`]);
  set($("latency"), latencies.includes(undefined) || latencies.includes(null) ? "–" : latencies.map(Math.round).join(" · "));
}

/** The proportion of people with a mask, corrected with its interval if the error rates of the model are known. */
function showProportion(metrics) {
  const { proportion_with_mask: predicted, proportion_corrected: corrected } = metrics;
  const [low, high] = [metrics.proportion_corrected_low, metrics.proportion_corrected_high].map((end) => Math.round(100 * end));
  const interval = corrected == null ? "" : ` (${low}–${high})`;
  set($("proportion"), predicted == null ? "–" : `${Math.round(100 * (corrected ?? predicted))}%${interval}`);
  $("proportion-name").title = "Each tracked face is one person. " + (corrected == null
    ? "Uncorrected: as predicted"
    : `Corrected for faces missed or misclassified, at the rates of single images, with the 95% interval; ${Math.round(100 * predicted)}% as predicted`);
}

function set(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** The number of faces with each label: "2 with mask, 1 unsure". */
export function inWords(faces) {
  const count = (label) => faces.filter((face) => face.label === label).length;
  const parts = Object.keys(LABELS).filter(count).map((label) => `${count(label)} ${LABELS[label]}`);
  return faces.length ? parts.join(", ") : "no face detected";
}

/** Announces to screen readers which faces are in view when that changes, at most every three seconds. */
export class Announcer {
  constructor(element) {
    this.element = element;
    this.lastTime = -Infinity;
  }

  /** `atOnce`: even if something else was announced just before, for a picture. */
  announce(faces, atOnce = false) {
    const now = performance.now();
    if (now - this.lastTime < 3000 && !atOnce) return;
    const text = inWords(faces);
    if (text !== this.element.textContent) {
      this.element.textContent = text;
      this.lastTime = now;
    }
  }
}

/** Download the metrics of each model, and of previous sessions, as a JSON file. */
export function save(session, previous) {
  const text = JSON.stringify(previous.length ? { session, previous } : { session }, null, 2) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "face-mask-session.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
