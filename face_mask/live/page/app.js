// Connects the buttons, the keys, the camera and the server.

import { Capture } from "./capture.js";
import { Connection } from "./connection.js";
import { draw } from "./drawing.js";
import { CLOSED, pictureProblem } from "./messages.js";
import { Announcer, inWords, save, showFaces, showMetrics } from "./panel.js";
import { fileOf, readPicture } from "./picture.js";
import { Source } from "./source.js";

const $ = (id) => document.getElementById(id);
const video = $("video"), overlay = $("overlay"), screen = $("screen");
const announcer = new Announcer($("announcement"));
let answer = null; // the last one, as drawn
let metrics = new Map(); // of this session, by model
let previous = []; // metrics of sessions that ended with their connection; they are saved too
let model = null;
let unsureLimits = {}; // by model: between these smoothed probabilities of a mask a face is unsure; null for never
let mirrored = false;
let paused = false;
let answerTimes = []; // of the last two seconds
let countdown = null; // timer of the seconds until reconnection
let cameraId = null; // the camera that the user chose
let picture = null; // what is open, if it is a picture, with the number of its frame

const source = new Source(video, (problem) => {
  capture.stop();
  if (problem) showProblem(problem);
  else pause(true, "End of video");
});

const connection = new Connection({ message: receive, state: showConnection });
const capture = new Capture(video, connection);

// --- the video -----------------------------------------------------------------------------------------------------

async function open(start) {
  connection.wake();
  capture.stop();
  clear();
  setState("starting");
  try {
    if (!(await start())) return; // something else was opened meanwhile
    connection.sendCommand({ type: "pictures", on: false });
  } catch (problem) {
    showProblem(problem);
    return;
  }
  paused = false;
  setMirrored(source.kind === "camera" && source.facing !== "environment");
  fit();
  setState("running");
  capture.start(source.kind);
  await listCameras();
}

/** Show a picture and classify it; something else that is opened meanwhile wins. */
async function openPicture(file) {
  connection.wake();
  capture.stop();
  const opened = source.close();
  clear();
  setState("starting");
  try {
    const read = await readPicture(file);
    if (opened !== source.opened) return;
    picture = read;
  } catch (problem) {
    if (opened === source.opened) showProblem(problem);
    return;
  }
  const { width, height } = picture.canvas;
  Object.assign($("picture"), { width, height }).getContext("2d").drawImage(picture.canvas, 0, 0);
  $("picture").setAttribute("aria-label", picture.name);
  $("cameras").hidden = true;
  setMirrored(false);
  fit();
  setState("picture");
  sendPicture();
}

/** Have the open picture classified: when it is opened, with another model, or after a reconnection. */
function sendPicture() {
  if (!picture || !connection.open) return;
  connection.sendCommand({ type: "pictures", on: true });
  picture.number = connection.sendPicture(picture.jpeg);
}

const VIDEO_SUFFIX = /\.(mp4|m4v|mov|mkv|webm|avi|mpg|mpeg|ts|ogv|3gp|y4m)$/i;

/** Open a file that was dropped or pasted. */
function openAny(file) {
  // The browser may not know a video's type, as that of .mkv.
  if (file.type.startsWith("video/") || (!file.type && VIDEO_SUFFIX.test(file.name))) openFile(file);
  else openPicture(file);
}

const openCamera = () => open(() => source.camera(cameraId));
const openFile = (file) => open(() => source.file(file));

/** idle, starting, running, paused, picture or problem: what is visible and which buttons are enabled. */
function setState(name) {
  document.body.dataset.state = name;
  const playing = name === "running" || name === "paused";
  $("start").hidden = name !== "idle";
  $("problem").hidden = name !== "problem";
  $("pause").disabled = !playing;
  $("pause-icon").setAttribute("href", name === "paused" ? "#i-play" : "#i-pause");
  $("pause-name").textContent = name === "paused" ? "Resume" : "Pause";
  $("paused").hidden = name !== "paused";
  $("speed").hidden = !playing;
  $("picture").hidden = name !== "picture";
  if (name !== "running") $("no-face").hidden = true;
}

function showProblem({ title, text, retry = "Try again" }) {
  $("retry").textContent = retry;
  source.close();
  clear();
  $("problem-title").textContent = title;
  $("problem-text").textContent = text;
  setState("problem");
}

function clear() {
  answer = picture = null;
  answerTimes = [];
  draw(overlay, null, mirrored);
  showFaces([]);
  $("speed").textContent = "";
}

function pause(on, reason = "Paused") {
  paused = on;
  $("paused").textContent = reason;
  if (on) {
    capture.stop();
    video.pause();
  } else {
    connection.wake();
    if (video.ended) video.currentTime = 0;
    video.play().catch(() => {});
    capture.start(source.kind);
  }
  setState(on ? "paused" : "running");
}

function setMirrored(on) {
  mirrored = on;
  screen.classList.toggle("mirrored", on);
  $("mirror").setAttribute("aria-pressed", on);
  draw(overlay, answer, mirrored);
}

/** Give the screen the aspect ratio of the video, so that there are no bars. */
function fit() {
  if (picture) screen.style.setProperty("--shape", picture.canvas.width / picture.canvas.height);
  else if (video.videoWidth) screen.style.setProperty("--shape", video.videoWidth / video.videoHeight);
  draw(overlay, answer, mirrored);
}

async function listCameras() {
  const cameras = await Source.cameras();
  $("cameras").hidden = cameras.length < 2 || source.kind !== "camera";
  $("camera").replaceChildren(
    ...cameras.map((camera, i) => new Option(camera.label || `Camera ${i + 1}`, camera.deviceId)),
  );
  if (source.deviceId) $("camera").value = source.deviceId;
}

// --- the server ----------------------------------------------------------------------------------------------------

function receive(message, capturedAt) {
  if (message.type === "faces") showAnswer(message, capturedAt);
  else if (message.type === "hello") startSession(message);
  else if (message.type === "model") setModel(message.model);
  else if (message.type === "dropped" && picture && message.frame === picture.number) sendPicture();
  else if (message.type === "reset") {
    previous = [];
    clearMetrics();
  } else if (message.type === "logged") showStatus(`Logged to MLflow: ${message.message}.`);
  else if (message.type === "error" && picture && message.frame === picture.number) {
    showProblem(pictureProblem(picture.name, `is refused by the server: ${message.message}`));
  } else if (message.type === "error") showStatus(`Error: ${message.message}.`, true);
  if (message.type === "logged" || (message.type === "error" && message.frame === undefined)) $("log").disabled = false;
}

function startSession(hello) {
  if (metrics.size) previous.push([...metrics.values()]);
  clearMetrics();
  for (const input of $("models").querySelectorAll("input")) {
    input.parentElement.hidden = !hello.models.includes(input.value);
  }
  unsureLimits = hello.unsure;
  $("log").hidden = $("log-key").hidden = !hello.mlflow;
  if (model && model !== hello.model && hello.models.includes(model)) {
    connection.sendCommand({ type: "model", model }); // as selected before the connection was lost
  } else {
    setModel(hello.model);
  }
}

function showAnswer(message, capturedAt) {
  metrics.set(message.model, message.metrics);
  if (message.model === model) showMetrics(message.metrics);
  for (const id of ["save", "log", "reset"]) $(id).disabled = false;
  const state = document.body.dataset.state;
  if (state === "picture" ? message.frame !== picture.number : state !== "running") return; // it was in flight before
  answer = message;
  draw(overlay, answer, mirrored);
  showFaces(message.faces);
  announcer.announce(message.faces, state === "picture");
  $("no-face").hidden = message.faces.length > 0;
  if (state === "picture") {
    $("picture").setAttribute("aria-label", `${picture.name}: ${inWords(message.faces)}`);
    return;
  }
  const now = performance.now();
  answerTimes = [...answerTimes.filter((time) => now - time < 2000), now];
  const seconds = (now - answerTimes[0]) / 1000;
  const rate = seconds > 0.3 ? `${Math.round((answerTimes.length - 1) / seconds)} frames/s · ` : "";
  $("speed").textContent = `${rate}${Math.round(now - capturedAt)} ms`;
}

function showConnection(state, { code, wait }) {
  clearInterval(countdown);
  $("connection").dataset.state = state;
  $("connection").textContent = { open: "connected", lost: "disconnected" }[state];
  $("models").disabled = state !== "open";
  $("offline").hidden = state === "open";
  if (state === "open") return;
  for (const id of ["log", "reset"]) $(id).disabled = true;
  if (document.body.dataset.state === "running") clear();
  const until = performance.now() + wait;
  const showCountdown = () => {
    const left = Math.max(1, Math.ceil((until - performance.now()) / 1000));
    const retry = wait < Infinity ? ` Reconnecting in ${left} s.` : "";
    $("offline-text").textContent = (CLOSED[code] ?? "The server does not respond.") + retry;
  };
  showCountdown();
  countdown = setInterval(showCountdown, 500);
}

function setModel(name) {
  model = name;
  sendPicture();
  const limits = unsureLimits[name]?.map((probability) => `${(100 * probability).toFixed(1)}%`);
  $("unsure-name").title = limits
    ? `Smoothed probability of a mask between ${limits[0]} and ${limits[1]}; the totals above include these faces`
    : "The file of this model does not say when it is unsure";
  for (const input of $("models").querySelectorAll("input")) input.checked = input.value === name;
  showMetrics(metrics.get(name) ?? {});
}

/** Start from zero, like the server's session: it was reset, or the connection is a new one. */
function clearMetrics() {
  metrics = new Map();
  showMetrics({});
  for (const id of ["log", "reset"]) $(id).disabled = true;
  $("save").disabled = previous.length === 0;
  showStatus(previous.length ? "Reconnected: the metrics start from zero. Saving includes the earlier ones." : "");
}

function showStatus(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// --- buttons and keys ----------------------------------------------------------------------------------------------

const ACTIONS = {
  camera: openCamera,
  video: () => $("file").click(),
  picture: () => $("picture-file").click(),
  pause: () => pause(!paused),
  mirror: () => setMirrored(!mirrored),
  reconnect: () => connection.connect(),
  save: () => save([...metrics.values()], previous),
  log: () => {
    $("log").disabled = true;
    showStatus("Logging to MLflow …");
    connection.sendCommand({ type: "log" });
  },
  reset: () => connection.sendCommand({ type: "reset" }),
};
const KEYS = { c: "camera", v: "video", p: "picture", " ": "pause", m: "mirror", s: "save", r: "reset", l: "log" };

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (button) ACTIONS[button.dataset.action]();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("select")) return;
  if (event.key === " " && event.target.closest("button, input")) return; // the browser presses it
  const input = $("models").querySelectorAll("input")[Number(event.key) - 1];
  if (input && !input.parentElement.hidden) connection.sendCommand({ type: "model", model: input.value });
  const action = KEYS[event.key.toLowerCase()];
  const button = action && document.querySelector(`.controls [data-action=${action}], aside [data-action=${action}]`);
  if (button && !button.disabled && !button.hidden) {
    event.preventDefault();
    ACTIONS[action]();
  }
});

$("models").addEventListener("change", ({ target }) => connection.sendCommand({ type: "model", model: target.value }));
$("camera").addEventListener("change", ({ target }) => {
  cameraId = target.value;
  openCamera();
});
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) openFile(target.files[0]);
  target.value = "";
});
$("picture-file").addEventListener("change", ({ target }) => {
  if (target.files.length) openPicture(target.files[0]);
  target.value = "";
});
document.addEventListener("paste", ({ clipboardData }) => {
  const file = fileOf(clipboardData);
  if (file) openAny(file);
});
// Files may be dropped anywhere: the browser would leave the page for one that misses the target.
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("drop").hidden = type === "drop" || (type === "dragleave" && event.relatedTarget === null); // it left the window
    const file = type === "drop" && fileOf(event.dataTransfer);
    if (file) openAny(file);
  });
}
video.addEventListener("resize", fit); // for example, a phone was rotated
new ResizeObserver(fit).observe(screen);

// If the camera was allowed before, it opens at once.
navigator.permissions?.query({ name: "camera" }).then(
  ({ state }) => state === "granted" && document.body.dataset.state === "idle" && openCamera(),
  () => {}, // a browser that does not know this permission
);
