// Connects the buttons, the keys, the camera and the server.

import { Capture } from "./capture.js";
import { Connection } from "./connection.js";
import { draw } from "./drawing.js";
import { CLOSED } from "./messages.js";
import { Announcer, save, showFaces, showMetrics } from "./panel.js";
import { Source } from "./source.js";

const $ = (id) => document.getElementById(id);
const video = $("video"), overlay = $("overlay"), screen = $("screen");
const announcer = new Announcer($("announcement"));
let answer = null; // the last one, as drawn
let metrics = new Map(); // of this session, by model
let previous = []; // metrics of sessions that ended with their connection; they are saved too
let model = null;
let mirrored = false;
let paused = false;
let answerTimes = []; // of the last two seconds
let countdown = null; // timer of the seconds until reconnection
let cameraId = null; // the camera that the user chose

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

const openCamera = () => open(() => source.camera(cameraId));
const openFile = (file) => open(() => source.file(file));

/** idle, starting, running, paused or problem: what is visible and which buttons are enabled. */
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
  if (name !== "running") $("no-face").hidden = true;
}

function showProblem({ title, text }) {
  source.close();
  clear();
  $("problem-title").textContent = title;
  $("problem-text").textContent = text;
  setState("problem");
}

function clear() {
  answer = null;
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
  if (video.videoWidth) screen.style.setProperty("--shape", video.videoWidth / video.videoHeight);
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
  else if (message.type === "reset") {
    previous = [];
    clearMetrics();
  } else if (message.type === "logged") showStatus(`Logged to MLflow: ${message.message}.`);
  else if (message.type === "error") showStatus(`Error: ${message.message}.`, true);
  if (message.type === "logged" || (message.type === "error" && message.frame === undefined)) $("log").disabled = false;
}

function startSession(hello) {
  if (metrics.size) previous.push([...metrics.values()]);
  clearMetrics();
  for (const input of $("models").querySelectorAll("input")) {
    input.parentElement.hidden = !hello.models.includes(input.value);
  }
  const [low, high] = hello.unsure.map((probability) => `${Math.round(100 * probability)}%`);
  $("unsure-name").title = `Smoothed probability of a mask between ${low} and ${high}; the totals above include these faces`;
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
  if (document.body.dataset.state !== "running") return; // the frame was in flight when the video was paused
  answer = message;
  draw(overlay, answer, mirrored);
  showFaces(message.faces);
  announcer.announce(message.faces);
  $("no-face").hidden = message.faces.length > 0;
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
const KEYS = { c: "camera", v: "video", " ": "pause", m: "mirror", s: "save", r: "reset", l: "log" };

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
video.addEventListener("resize", fit); // for example, a phone was rotated
new ResizeObserver(fit).observe(screen);

// If the camera was allowed before, it opens at once.
navigator.permissions?.query({ name: "camera" }).then(
  ({ state }) => state === "granted" && document.body.dataset.state === "idle" && openCamera(),
  () => {}, // a browser that does not know this permission
);
