// What the buttons, keys, camera and server have to do with each other.

import { Capture } from "./capture.js";
import { Connection } from "./connection.js";
import { draw } from "./drawing.js";
import { CLOSED } from "./messages.js";
import { save, showFaces, showFigures, Speaker } from "./panel.js";
import { Source } from "./source.js";

const $ = (id) => document.getElementById(id);
const video = $("video"), overlay = $("overlay"), screen = $("screen");
const speaker = new Speaker($("heard"));
let answer = null; // the last one, as drawn
let figures = new Map(); // by model, of this session
let earlier = []; // those of sessions that ended with their connection, for the file that is saved
let model = null;
let mirrored = false;
let paused = false;
let answered = []; // when answers came, of the last two seconds
let waiting = null; // counts down until it connects again
let wanted = null; // the camera that the user chose

const source = new Source(video, (problem) => {
  capture.stop();
  if (problem) show(problem);
  else pause(true, "the film is over");
});

const connection = new Connection({ message: receive, state: connectionState });
const capture = new Capture(video, connection);

// --- the picture ---------------------------------------------------------------------------------------------------

async function open(start) {
  connection.wake();
  capture.stop();
  clear();
  state("starting");
  try {
    if (!(await start())) return; // something else was opened meanwhile
  } catch (problem) {
    show(problem);
    return;
  }
  paused = false;
  setMirrored(source.kind === "camera" && source.facing !== "environment");
  fit();
  state("running");
  capture.start(source.kind);
  await listCameras();
}

const openCamera = () => open(() => source.camera(wanted));
const openFilm = (file) => open(() => source.film(file));

/** idle, starting, running, paused or problem: what is shown, and which buttons do something. */
function state(name) {
  document.body.dataset.state = name;
  const playing = name === "running" || name === "paused";
  $("start").hidden = name !== "idle";
  $("problem").hidden = name !== "problem";
  $("pause").disabled = !playing;
  $("pause").setAttribute("aria-pressed", name === "paused");
  $("pause-icon").setAttribute("href", name === "paused" ? "#i-play" : "#i-pause");
  $("pause-name").textContent = name === "paused" ? "Go on" : "Pause";
  $("paused").hidden = name !== "paused";
  $("speed").hidden = !playing;
  if (name !== "running") $("nobody").hidden = true;
}

function show({ title, text }) {
  source.close();
  clear();
  $("problem-title").textContent = title;
  $("problem-text").textContent = text;
  state("problem");
}

function clear() {
  answer = null;
  answered = [];
  draw(overlay, null, mirrored);
  showFaces([]);
  $("speed").textContent = "";
}

function pause(on, why = "paused") {
  paused = on;
  $("paused").textContent = why;
  if (on) {
    capture.stop();
    video.pause();
  } else {
    connection.wake();
    if (video.ended) video.currentTime = 0;
    video.play().catch(() => {});
    capture.start(source.kind);
  }
  state(on ? "paused" : "running");
}

function setMirrored(on) {
  mirrored = on;
  screen.classList.toggle("mirrored", on);
  $("mirror").setAttribute("aria-pressed", on);
  draw(overlay, answer, mirrored);
}

/** The screen takes the picture's shape, so that there are no bars. */
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

function receive(message, taken) {
  if (message.type === "faces") judged(message, taken);
  else if (message.type === "hello") hello(message);
  else if (message.type === "model") setModel(message.model);
  else if (message.type === "restarted") restarted();
  else if (message.type === "logged") say(`Logged to MLflow: ${message.message}.`);
  else if (message.type === "error") say(`The server: ${message.message}.`, true);
  if (message.type === "logged" || (message.type === "error" && message.frame === undefined)) $("log").disabled = false;
}

function hello(message) {
  if (figures.size) earlier.push([...figures.values()]);
  forget();
  for (const input of $("models").querySelectorAll("input")) {
    input.parentElement.hidden = !message.models.includes(input.value);
  }
  const [low, high] = message.unsure.map((share) => `${share * 100}%`);
  document.documentElement.style.setProperty("--low", low);
  document.documentElement.style.setProperty("--high", high);
  $("log").hidden = $("log-key").hidden = !message.mlflow;
  if (model && model !== message.model && message.models.includes(model)) {
    connection.command({ type: "model", model }); // as it was before the connection was lost
  } else {
    setModel(message.model);
  }
}

function judged(message, taken) {
  figures.set(message.model, message.figures);
  if (message.model === model) showFigures(message.figures);
  for (const id of ["save", "log", "anew"]) $(id).disabled = false;
  if (document.body.dataset.state !== "running") return; // it was still under way
  answer = message;
  draw(overlay, answer, mirrored);
  showFaces(message.faces);
  speaker.hear(message.faces);
  $("nobody").hidden = message.faces.length > 0;
  const now = performance.now();
  answered = [...answered.filter((time) => now - time < 2000), now];
  const seconds = (now - answered[0]) / 1000;
  const rate = seconds > 0.3 ? `${Math.round((answered.length - 1) / seconds)} frames/s · ` : "";
  $("speed").textContent = `${rate}${Math.round(now - taken)} ms`;
}

function connectionState(name, { code, wait }) {
  clearInterval(waiting);
  $("connection").dataset.state = name;
  $("connection").textContent = { open: "connected", lost: "no connection" }[name];
  $("models").disabled = name !== "open";
  $("offline").hidden = name === "open";
  if (name === "open") return;
  for (const id of ["log", "anew"]) $(id).disabled = true;
  if (document.body.dataset.state === "running") clear();
  const until = performance.now() + wait;
  const tell = () => {
    const left = Math.max(1, Math.ceil((until - performance.now()) / 1000));
    const again = wait < Infinity ? ` Trying again in ${left} s.` : "";
    $("offline-text").textContent = (CLOSED[code] ?? "The server does not answer.") + again;
  };
  tell();
  waiting = setInterval(tell, 500);
}

function setModel(name) {
  model = name;
  for (const input of $("models").querySelectorAll("input")) input.checked = input.value === name;
  showFigures(figures.get(name) ?? {});
}

function restarted() {
  earlier = [];
  forget();
}

/** The server's session is new: after it was started anew, or came back. */
function forget() {
  figures = new Map();
  showFigures({});
  for (const id of ["log", "anew"]) $(id).disabled = true;
  $("save").disabled = earlier.length === 0;
  say(earlier.length ? "The figures start again with the connection; Save has the earlier ones too." : "");
}

function say(text, bad = false) {
  $("said").textContent = text;
  $("said").classList.toggle("bad", bad);
}

// --- buttons and keys ----------------------------------------------------------------------------------------------

const ACTIONS = {
  camera: openCamera,
  film: () => $("file").click(),
  pause: () => pause(!paused),
  mirror: () => setMirrored(!mirrored),
  reconnect: () => connection.connect(),
  save: () => save([...figures.values()], earlier),
  log: () => {
    $("log").disabled = true;
    say("Logging to MLflow …");
    connection.command({ type: "log" });
  },
  anew: () => connection.command({ type: "restart" }),
};
const KEYS = { c: "camera", o: "film", " ": "pause", m: "mirror", s: "save", n: "anew", l: "log" };

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-does]");
  if (button) ACTIONS[button.dataset.does]();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("select")) return;
  if (event.key === " " && event.target.closest("button, input")) return; // that presses it
  const chosen = $("models").querySelectorAll("input")[Number(event.key) - 1];
  if (chosen && !chosen.parentElement.hidden) connection.command({ type: "model", model: chosen.value });
  const does = KEYS[event.key.toLowerCase()];
  const button = does && document.querySelector(`.controls [data-does=${does}], aside [data-does=${does}]`);
  if (button && !button.disabled && !button.hidden) {
    event.preventDefault();
    ACTIONS[does]();
  }
});

$("models").addEventListener("change", ({ target }) => connection.command({ type: "model", model: target.value }));
$("camera").addEventListener("change", ({ target }) => {
  wanted = target.value;
  openCamera();
});
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) openFilm(target.files[0]);
  target.value = "";
});
video.addEventListener("resize", fit); // a phone was turned
new ResizeObserver(fit).observe(screen);

// A camera that was allowed before opens by itself.
navigator.permissions?.query({ name: "camera" }).then(
  ({ state: allowed }) => allowed === "granted" && document.body.dataset.state === "idle" && openCamera(),
  () => {}, // a browser that does not know this permission
);
