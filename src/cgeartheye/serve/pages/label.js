// Labels with few clicks: prepare a scene, click, see the map, and where to click next.

import { address, follow, get, post, send } from "./api.js";
import { $, announce, color, el, fill, toast } from "./dom.js";
import { percent, sentence, t } from "./i18n.js";
import * as view from "./map.js";
import { chart } from "./chart.js";
import { loadJobs } from "./jobs.js";
import { on, state } from "./store.js";

const NEAR = 16; // zoom from which a patch of a scene can be seen
const COLORS = ["#4285f4", "#2e7d32", "#fbc02d", "#d32f2f", "#8e44ad", "#ff8a65", "#00acc1", "#8d6e63"];
const MODES = ["label", "like", "unlike"];

const fresh = () => ({
  scene: null, // that is labelled
  job: null, // of its embedding, once it is there
  share: null, // of the preparation, while it goes on
  problem: "",
  classes: [],
  chosen: null,
  features: [], // the labels, the oldest first
  made: null, // what they make of the scene
  accuracy: null, // estimated, 0..1
  history: [], // of it: [labels, share]
  mode: "label",
  asked: { at: [], unlike: [] },
  found: [],
  queue: [], // of suggested places
  place: 0,
});

let now = fresh();
let opacity = 0.55;
let stop = () => {};
let sending = Promise.resolve();

function colorOf(name) {
  const entry = now.made?.legend.find((one) => one.name === name);
  return entry ? color(entry.color) : COLORS[now.classes.indexOf(name) % COLORS.length];
}

/** Take what belongs to the view off the map, or put it back. */
function draw() {
  const here = state.view === "label" && now.job;
  view.ready.then(() => {
    view.showLabelled(now.job, now.scene, here ? now.made?.version : null, opacity);
    const marks = now.features.map((one) => ({ ...one, properties: { color: colorOf(one.properties.class) } }));
    view.showMarks("labels", here ? marks : []);
    view.showMarks("suggested", here && now.queue[now.place] ? [now.queue[now.place]] : []);
    view.showMarks("found", here ? now.found : []);
  });
}

/** Begin with a scene: with its embedding, if there is one. */
async function begin() {
  if (state.view !== "label") return draw();
  if (now.scene?.id !== state.scene?.id) {
    stop();
    now = { ...fresh(), scene: state.scene };
    const mine = now;
    try {
      const { jobs } = await get("jobs?limit=1000&status=successful&status=running&status=accepted");
      const known = jobs.find((job) => job.processID === "embed" && job["cgeartheye:scenes"][0] === mine.scene?.id);
      if (known && now === mine) watch(known);
    } catch (error) {
      toast(error.message);
    }
  }
  render();
  return draw();
}

async function prepare() {
  now.problem = "";
  try {
    watch(await post("embeddings", { scene: now.scene.id }));
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
  const { labels, map } = await get(`embeddings/${job}/labels`);
  if (now !== mine) return;
  Object.assign(now, { job, share: null, features: labels.features, made: map });
  now.classes = [...new Set(labels.features.map((one) => one.properties.class))];
  now.chosen = now.classes[0] ?? null;
  rate();
  render();
  draw();
}

/** Ask how good the map is; it takes longer than the map itself. */
async function rate() {
  const mine = now;
  if (!mine.made) return;
  try {
    const { version, labels, accuracy } = await get(`embeddings/${mine.job}/accuracy`);
    if (now !== mine || version !== mine.made?.version) return;
    mine.accuracy = accuracy;
    if (accuracy !== null) mine.history.push([labels, accuracy]);
    render();
  } catch (error) {
    if (error.status !== 422) toast(error.message); // there are fewer labels by now
  }
}

/** Put other labels in the place of those that are there; requests go one after the other. */
function relabel(features) {
  now.features = features;
  render();
  draw();
  const mine = now;
  sending = sending.then(async () => {
    if (now !== mine || mine.features !== features) return; // newer ones follow
    try {
      const answer = await send("PUT", `embeddings/${mine.job}/labels`, { type: "FeatureCollection", features });
      mine.made = await answer.json();
      rate();
      if (mine.made) announce(mine.made.legend.map((one) => `${one.name} ${percent(one.share, 0)}`).join(", "));
    } catch (error) {
      toast(error.message);
    }
    if (now === mine) {
      render();
      draw();
    }
  });
}

function add(coordinates, name) {
  const geometry = { type: "Point", coordinates };
  const properties = { class: name, time: new Date().toISOString() };
  relabel([...now.features, { type: "Feature", properties, geometry }]);
}

async function clicked({ lngLat: { lng, lat } }) {
  if (state.view !== "label" || !now.job) return;
  const [west, south, east, north] = now.scene.bounds;
  if (lng < west || lng > east || lat < south || lat > north) return toast(t("label-outside"), "hint");
  if (now.mode !== "label") return look(now.mode === "like" ? "at" : "unlike", [lng, lat]);
  if (!now.chosen) return toast(t("label-need-class"), "hint");
  return add([lng, lat], now.chosen);
}

async function look(kind, place) {
  now.asked[kind].push(place);
  try {
    if (now.asked.at.length) now.found = (await post(`embeddings/${now.job}/search`, { ...now.asked, top: 20 })).features;
  } catch (error) {
    now.asked[kind].pop();
    toast(error.message);
  }
  render();
  draw();
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
  const { coordinates } = now.queue[now.place].geometry;
  next();
  add(coordinates, name);
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

function classes() {
  const rows = now.classes.map((name) => {
    const share = now.made?.legend.find((one) => one.name === name)?.share;
    const count = now.features.filter((one) => one.properties.class === name).length;
    return el(
      "div",
      { class: name === now.chosen ? "row chosen" : "row" },
      el(
        "label",
        {},
        el("input", { type: "radio", name: "class", checked: name === now.chosen, "data-key": `class-${name}`, onchange: () => choose(name) }),
        el("i", { class: "swatch", style: `background: ${colorOf(name)}` }),
        el("span", {}, el("b", {}, name), el("small", {}, t("label-count", { count }), share === undefined ? "" : ` · ${percent(share, 0)}`)),
      ),
    );
  });
  const adding = (event) => {
    event.preventDefault();
    const name = event.target.elements.name.value.trim();
    if (!name) return;
    if (!now.classes.includes(name)) now.classes.push(name);
    event.target.reset();
    choose(name);
    draw();
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
      now.classes.map((name) =>
        el("button", { type: "button", class: "answer", "data-key": `answer-${name}`, onclick: () => answer(name) }, el("i", { class: "swatch", style: `background: ${colorOf(name)}` }), name),
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
  if (!made) return el("p", { class: "hint" }, t("label-more"));
  const sure = now.accuracy !== null;
  return el(
    "div",
    { class: "made" },
    el("p", { id: "label-accuracy" }, sure ? t("label-accuracy", { share: percent(now.accuracy, 0) }) : t("label-accuracy-unknown")),
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

function finds() {
  if (now.mode === "label") return null;
  const rows = now.found.map(({ properties: { rank, score, lon, lat } }) =>
    el("div", { class: "row" }, el("button", { type: "button", class: "open", "data-key": `found-${rank}`, onclick: () => view.go([lon, lat], NEAR) }, t("label-place", { n: rank, score: score.toFixed(2) }))),
  );
  if (!rows.length) return el("p", { class: "hint" }, t("label-like-hint"));
  return [el("h3", {}, t("label-found", { count: rows.length })), el("div", { class: "list" }, rows)];
}

function setMode(mode) {
  now.mode = mode;
  if (mode === "label") Object.assign(now, { asked: { at: [], unlike: [] }, found: [] });
  render();
  draw();
}

function labelling() {
  const modes = MODES.map((mode) => el("button", { type: "button", "data-key": mode, "aria-pressed": String(now.mode === mode), onclick: () => setMode(mode) }, t(`label-mode-${mode}`)));
  const undo = () => relabel(now.features.slice(0, -1));
  const clear = () => confirm(t("label-sure", { count: now.features.length })) && relabel([]);
  return [
    el("div", { class: "segments three", role: "group" }, modes),
    finds(),
    now.mode === "label" && [
      classes(),
      el("p", { class: "hint" }, t("label-hint")),
      el("div", { class: "actions" }, button("label-undo", undo, { disabled: !now.features.length }), button("label-clear", clear, { disabled: !now.features.length })),
      now.classes.length > 0 && walk(),
      now.features.length > 0 && results(),
    ],
  ];
}

function render() {
  if (state.view !== "label") return;
  const head = el("h2", {}, t("label"), now.scene && el("small", {}, now.scene.label));
  let body;
  if (!now.scene) body = el("p", { class: "hint" }, t("need-scene"));
  else if (now.job) body = labelling();
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
}
