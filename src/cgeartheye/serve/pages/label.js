// Labels with few clicks: prepare a scene, click, see the map, and where to click next.

import { address, follow, get, post, request, send } from "./api.js";
import { $, announce, el, fill, toast } from "./dom.js";
import { percent, sentence, t } from "./i18n.js";
import * as view from "./map.js";
import { chart } from "./chart.js";
import { loadJobs } from "./jobs.js";
import { freeColor, hex } from "./palette.js";
import { POINT, SHAPES, drawWith, shapeButtons, touches } from "./shapes.js";
import * as similar from "./similar.js";
import { on, state } from "./store.js";

const NEAR = 16; // zoom from which a patch of a scene can be seen
const UNKNOWN = "#5b6973"; // of labels that only exclude a class

const fresh = () => ({
  scene: null, // that is labelled
  job: null, // of its embedding, once it is there
  share: null, // of the preparation, while it goes on
  problem: "",
  colors: {}, // of the classes, by name, in the order in which they were made
  chosen: null,
  shape: POINT,
  features: [], // the labels, the oldest first
  version: null, // of those on the server
  past: [], // what they were before each change
  made: null, // what they make of the scene
  reason: null, // why they make nothing
  accuracy: null, // estimated, 0..1
  calibration: null, // error of its probabilities, before and after
  history: [], // of it: [labels, share]
  queue: [], // of suggested places
  place: 0,
});

let now = fresh();
let opacity = 0.55;
let stop = () => {};
let sending = Promise.resolve();

const labelling = () => state.view === "label" && now.job && similar.mode() === "label";

/** Take what belongs to the view off the map, or put it back. */
function draw() {
  const here = state.view === "label" && now.job;
  view.ready.then(() => {
    view.showLabelled(now.job, now.scene, here ? now.made?.version : null, opacity);
    const marks = now.features.map((one) => ({ ...one, properties: { color: now.colors[one.properties.class] ?? UNKNOWN } }));
    view.showMarks("labels", here ? marks : []);
    view.showMarks("suggested", here && now.queue[now.place] ? [now.queue[now.place]] : []);
    view.showMarks("found", here ? similar.foundPlaces() : []);
  });
  drawWith(labelling() && now.chosen ? now.shape : POINT, drawn);
}

/** Begin with a scene: with its embedding, if there is one. */
async function begin() {
  if (state.view !== "label") return draw();
  if (now.scene?.id === state.scene?.id) {
    if (now.job) open(now.job); // corrections of a map may have come to the labels
  } else {
    stop();
    similar.leaveScene();
    now = { ...fresh(), scene: state.scene };
    const mine = now;
    try {
      const { jobs } = await get("jobs?limit=1000&status=successful&status=running&status=accepted");
      const known = jobs.find((job) => job.processID === "embed" && job["cgeartheye:scenes"][0] === mine.scene?.id);
      if (known && now === mine) prepare(); // the server knows if it is of the file as it is now
    } catch (error) {
      toast(error.message);
    }
  }
  render();
  return draw();
}

async function prepare() {
  const mine = now;
  mine.problem = "";
  try {
    const job = await post("embeddings", { scene: mine.scene.id });
    if (now === mine) watch(job);
    loadJobs();
  } catch (error) {
    toast(error.message);
  }
  render();
}

function watch(job) {
  const mine = now;
  if (job.status === "successful") return open(job.jobID);
  now.share = job.progress / 100;
  stop = follow(job.jobID, (status) => {
    if (now !== mine) return;
    now.share = status.progress / 100;
    if (status.status === "successful") open(job.jobID);
    else if (status.status !== "running" && status.status !== "accepted") {
      now.share = null;
      now.problem = t("label-failed", { reason: sentence(status.message) || t(status.status) });
    }
    render();
  });
  return null;
}

async function open(job) {
  const mine = now;
  await sending;
  let answer;
  try {
    answer = await request(`embeddings/${job}/labels`);
  } catch (error) {
    return toast(error.message);
  }
  const { labels, map, reason } = await answer.json();
  if (now !== mine) return null;
  Object.assign(now, { job, share: null, features: labels.features, past: [], made: map, reason, version: answer.headers.get("ETag") });
  for (const { class: name, color } of labels.features.map((one) => one.properties)) {
    if (name.startsWith("not ")) continue;
    const legend = map?.legend.find((one) => one.name === name);
    now.colors[name] = legend ? hex(legend.color) : color || (now.colors[name] ?? freeColor(Object.values(now.colors)));
  }
  now.chosen ??= Object.keys(now.colors)[0] ?? null;
  rate();
  render();
  return draw();
}

/** Ask how good the map is; it takes longer than the map itself. */
async function rate() {
  const mine = now;
  if (!mine.made) return;
  try {
    const { version, labels, accuracy, calibration } = await get(`embeddings/${mine.job}/accuracy`);
    if (now !== mine || version !== mine.made?.version) return;
    Object.assign(mine, { accuracy, calibration });
    if (accuracy !== null) mine.history.push([labels, accuracy]);
    render();
  } catch (error) {
    if (error.status !== 422) toast(error.message); // there are fewer labels by now
  }
}

/** Put other labels in the place of those that are there; requests go one after the other. */
function relabel(features, undoing = false) {
  if (!undoing) now.past.push(now.features);
  now.features = features;
  render();
  draw();
  const mine = now;
  sending = sending.then(async () => {
    if (now !== mine || mine.features !== features) return; // newer ones follow
    try {
      const answer = await send("PUT", `embeddings/${mine.job}/labels`, { type: "FeatureCollection", features }, { "If-Match": mine.version ?? "*" });
      const { map, reason } = await answer.json();
      Object.assign(mine, { made: map, reason, version: answer.headers.get("ETag") });
      rate();
      if (mine.made) announce(mine.made.legend.map((one) => `${one.name} ${percent(one.share, 0)}`).join(", "));
    } catch (error) {
      const changed = error.status === 409; // in another tab, or by a correction
      toast(changed ? t("label-changed") : error.message);
      if (changed && now === mine) open(mine.job);
    }
    if (now === mine) {
      render();
      draw();
    }
  });
}

function add(geometry, name) {
  const properties = { class: name, time: new Date().toISOString(), color: now.colors[name] };
  relabel([...now.features, { type: "Feature", properties, geometry }]);
}

function undo() {
  if (now.past.length) relabel(now.past.pop(), true);
  else if (now.features.length) relabel(now.features.slice(0, -1), true);
  announce(t("label-undone", { count: now.features.length }));
}

async function clicked({ lngLat: { lng, lat } }) {
  if (state.view !== "label" || !now.job) return;
  if (similar.mode() === "label") {
    if (now.shape === POINT) drawn({ type: "Point", coordinates: [lng, lat] });
    return;
  }
  await similar.seek(now.job, [lng, lat]);
  render();
  draw();
}

/** Take a shape as a label. */
function drawn(geometry) {
  if (!labelling()) return;
  if (!touches(geometry, now.scene.bounds)) toast(t("label-outside"), "hint");
  else if (!now.chosen) toast(t("label-need-class"), "hint");
  else add(geometry, now.chosen);
}

async function suggest() {
  try {
    now.queue = (await get(`embeddings/${now.job}/suggestions?count=10`)).features;
    now.place = -1;
    next();
  } catch (error) {
    toast(error.message);
  }
}

function next() {
  now.place += 1;
  const place = now.queue[now.place];
  if (place) view.go(place.geometry.coordinates, NEAR);
  else {
    now.queue = [];
    toast(t("label-thanks"), "hint");
  }
  render();
  draw();
}

function answer(name) {
  const { geometry } = now.queue[now.place];
  next();
  add(geometry, name);
}

async function makeApplication(event) {
  event.preventDefault();
  try {
    await post(`embeddings/${now.job}/application`, { name: event.target.elements.name.value.trim() });
    toast(t("label-app-begun"), "hint");
    loadJobs();
  } catch (error) {
    toast(error.message);
  }
}

function button(key, onclick, more = {}) {
  return el("button", { type: "button", "data-key": key, onclick, ...more }, t(key));
}

function classRow([name, color]) {
  const share = now.made?.legend.find((one) => one.name === name)?.share;
  const count = now.features.filter((one) => one.properties.class === name).length;
  const chosen = name === now.chosen;
  return el(
    "div",
    { class: chosen ? "row chosen" : "row" },
    el("input", { type: "color", value: color, "aria-label": t("label-color", { name }), title: t("label-color", { name }), "data-key": `color-${name}`, onchange: (event) => recolor(name, event.target.value) }),
    el(
      "label",
      {},
      el("input", { type: "radio", name: "class", checked: chosen, "data-key": `class-${name}`, onchange: () => choose(name) }),
      el("span", {}, el("b", {}, name), el("small", {}, t("label-count", { count }), share === undefined ? "" : ` · ${percent(share, 0)}`)),
    ),
  );
}

function recolor(name, color) {
  now.colors[name] = color;
  const dyed = (one) => (one.properties.class === name ? { ...one, properties: { ...one.properties, color } } : one);
  if (now.features.some((one) => one.properties.class === name)) relabel(now.features.map(dyed));
  else render();
}

function classes() {
  const rows = Object.entries(now.colors).map(classRow);
  const adding = (event) => {
    event.preventDefault();
    const name = event.target.elements.name.value.trim();
    if (!name) return;
    now.colors[name] ??= freeColor(Object.values(now.colors));
    event.target.reset();
    choose(name);
  };
  return el(
    "fieldset",
    {},
    el("legend", {}, t("label-classes")),
    rows.length > 0 && el("div", { class: "list tall" }, rows),
    el(
      "form",
      { class: "inline", onsubmit: adding },
      el("input", { type: "search", name: "name", maxlength: "80", placeholder: t("label-new"), "aria-label": t("label-new"), "data-key": "class-name" }),
      el("button", { class: "button" }, t("label-add")),
    ),
  );
}

function choose(name) {
  now.chosen = name;
  render();
  draw();
}

function chooseShape(shape) {
  now.shape = shape;
  render();
  draw();
}

function walk() {
  const place = now.queue[now.place];
  if (!place) return button("label-suggest", suggest, { class: "button" });
  const { guess } = place.properties;
  return el(
    "div",
    { class: "ask", role: "group" },
    el("p", {}, t("label-suggested", { n: now.place + 1, count: now.queue.length }), " ", guess && el("small", {}, t("label-guess", { name: guess }))),
    el(
      "div",
      { class: "actions" },
      Object.entries(now.colors).map(([name, color]) =>
        el("button", { type: "button", class: "answer", "data-key": `answer-${name}`, onclick: () => answer(name) }, el("i", { class: "swatch", style: `background: ${color}` }), name),
      ),
      button("label-skip", next),
      button("label-stop", () => {
        now.queue = [];
        render();
        draw();
      }),
    ),
  );
}

function results() {
  const { made } = now;
  if (!made) return el("p", { class: "hint" }, sentence(now.reason) || t("label-more"));
  const sure = now.accuracy !== null;
  return el(
    "div",
    { class: "made" },
    el("p", { id: "label-accuracy" }, sure ? t("label-accuracy", { share: percent(now.accuracy, 0) }) : t("label-accuracy-unknown")),
    now.calibration && el("p", { id: "label-calibration", class: "hint" }, t("label-calibration", { before: percent(now.calibration.before, 0), after: percent(now.calibration.after, 0) })),
    now.history.length > 1 && chart(now.history, t("label-chart")),
    el("label", {}, t("label-opacity"), el("input", { type: "range", min: "0", max: "100", value: String(100 * opacity), "data-key": "label-opacity", oninput: fade })),
    el(
      "div",
      { class: "actions" },
      el("a", { class: "button", href: address(`embeddings/${now.job}/labels.gpkg`), download: "labels.gpkg" }, t("label-gpkg")),
      el("a", { class: "button", href: address(`embeddings/${now.job}/map.tif`), download: "map.tif" }, t("label-tif")),
    ),
    el(
      "form",
      { class: "inline", onsubmit: makeApplication },
      el("input", { type: "search", name: "name", required: true, maxlength: "120", placeholder: t("label-app-name"), "aria-label": t("label-app-name"), "data-key": "app-name" }),
      el("button", { class: "button" }, t("label-app")),
    ),
  );
}

function fade(event) {
  opacity = Number(event.target.value) / 100;
  view.labelledOpacity(opacity);
}

function panel() {
  const again = () => {
    render();
    draw();
  };
  const clear = () => confirm(t("label-sure", { count: now.features.length })) && relabel([]);
  return [
    similar.modeButtons(again),
    similar.ranking(now.job, now.scene, NEAR, again),
    similar.mode() === "label" && [
      classes(),
      el("div", { class: "draw" }, shapeButtons(SHAPES, now.shape, chooseShape)),
      el("div", { class: "actions" }, button("label-undo", undo, { disabled: !now.features.length && !now.past.length }), button("label-clear", clear, { disabled: !now.features.length })),
      now.chosen && walk(),
      now.features.length > 0 && results(),
    ],
  ];
}

function render() {
  if (state.view !== "label") return;
  const head = el("h2", {}, t("label"), now.scene && el("small", {}, now.scene.label));
  let body;
  if (!now.scene) body = el("p", { class: "hint" }, t("need-scene"));
  else if (now.job) body = panel();
  else if (now.share !== null) {
    const preparing = t("label-preparing", { share: percent(now.share, 0) });
    body = [el("p", { "aria-live": "polite" }, preparing), el("progress", { max: 1, value: now.share, "aria-label": preparing })];
  } else {
    const bad = now.problem && el("p", { class: "bad", role: "alert" }, now.problem);
    body = [el("p", { class: "hint" }, t("label-intro")), bad, button("label-prepare", prepare, { class: "primary" })];
  }
  fill($("#label-view"), head, [body].flat(2));
}

export function startLabel() {
  on(["view", "scene"], begin);
  on(["language"], render);
  view.map.on("click", clicked);
  addEventListener("keydown", (event) => {
    const writing = event.target.matches("input[type=search]");
    if (!labelling() || writing || event.key !== "z" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    undo();
  });
}
