// One job: its progress, then its result.

import { ENDED, address, follow, get, request } from "./api.js";
import { appOf } from "./apps.js";
import { answers, beginCorrecting, correctionPanel, endCorrecting } from "./correct.js";
import { $, announce, color, el, fill, toast } from "./dom.js";
import { hideDrawing, showDrawing } from "./draw.js";
import { duration, hectares, number, percent, sentence, squareKm, t } from "./i18n.js";
import { labelsOf, loadJobs, removeJob, status, titleOf } from "./jobs.js";
import * as view from "./map.js";
import { pickScene, sceneOf } from "./scenes.js";
import { on, set, state } from "./store.js";
import { swipe } from "./swipe.js";

const MOST_BYTES = 30e6; // of polygons that are loaded for clicking
const LOOK = 1_000; // ms between two looks at the finished rows
const FILES = [
  "map", "polygons", "polygons_geojson", "polygons_parquet", "polygons_flatgeobuf", "probabilities", "style", "preview", "facts", "stac",
];

let stop = () => {};
let open = null; // id
let result = null; // of the open job: legend, files, polygons
let opacity = 0.65;
let swiping = false;
let hidden = [];
let looked = 0;
let reported = -1;

const scenesOf = (job) => job["cgeartheye:scenes"].map(sceneOf);
const isCounted = () => result.legend.some((one) => "objects" in one);
const isChange = (job) => appOf(job.processID)?.dates === 2;

/** Numbers of the classes that mean nothing is there: they would cover the scene. */
function emptyClasses(app) {
  const nothing = app && (app.task === "change_detection" || app.classes[0].toLowerCase() === "background");
  return nothing ? [0] : [];
}

function show() {
  const { job } = state;
  if (state.view !== "job" || !job) return leave();
  if (open === job.jobID) return;
  leave();
  open = job.jobID;
  [result, swiping, reported, looked] = [null, false, -1, 0];
  hidden = emptyClasses(appOf(job.processID));
  hideDrawing(false);
  const scene = scenesOf(job).at(isChange(job) ? -1 : 0);
  view.ready.then(() => view.showScene(scene));
  if (!keepView) view.look(job["cgeartheye:bounds"]);
  keepView = false;
  render();
  if (job.status === "successful") finish(job);
  else if (!ENDED.includes(job.status)) stop = follow(job.jobID, changed);
}

let keepView = false;
/** Open the next job where the map is. */
export const stay = () => (keepView = true);

function leave() {
  if (!open) return;
  stop();
  open = null;
  endCorrecting();
  view.hideResult();
  swipe(null);
  showDrawing();
  view.showScene(state.scene);
}

function changed(job) {
  if (job.jobID !== open) return;
  set({ job });
  render();
  if (job.progress >= reported + 25) {
    reported = job.progress;
    announce(percent(job.progress / 100, 0));
  }
  if (job.status === "running" && job.progress && scenesOf(job)[0] && Date.now() - looked > LOOK) {
    looked = Date.now();
    const still = () => open === job.jobID && !result;
    view.showPartial(job.jobID, scenesOf(job)[0], opacity, hidden, still).catch(() => {});
  }
  if (!ENDED.includes(job.status)) return;
  loadJobs();
  if (job.status === "successful") finish(job);
  else {
    view.hidePartial();
    announce(job.status === "failed" ? t("job-failed", { reason: sentence(job.message) }) : t("dismissed"));
  }
}

async function finish(job) {
  try {
    const [tilejson, files] = await Promise.all([get(`jobs/${job.jobID}/tilejson.json`), get(`jobs/${job.jobID}/results`)]);
    if (open !== job.jobID) return;
    result = { ...tilejson, files, polygons: null };
    await view.ready;
    drawRaster();
    // Objects are corrected in annotation tools, change where both dates are seen.
    if (!isChange(job) && !isCounted()) beginCorrecting(job, result.legend);
    render();
    announce(t("job-done"));
    await loadPolygons(job);
  } catch (error) {
    toast(error.message);
  }
}

function drawRaster() {
  if (result.files.map) view.showResult(open, result, opacity, hidden);
  view.hidePartial();
}

async function loadPolygons(job) {
  const file = `jobs/${job.jobID}/results/map.geojson`;
  const mine = result;
  if (!mine.files.polygons_geojson) return;
  const size = Number((await request(file, { method: "HEAD" })).headers.get("content-length"));
  if (size > MOST_BYTES) mine.polygons = "many";
  else {
    const found = await get(file);
    if (result !== mine || open !== job.jobID) return;
    mine.polygons = found.features.length;
    view.showPolygons(found, mine.legend, opacity, !mine.files.map, answers);
    view.hideClasses(hidden);
  }
  if (open === job.jobID) render();
}

function render() {
  const { job } = state;
  if (state.view !== "job" || !job) return;
  fill(
    $("#job-view"),
    el("button", { type: "button", class: "link", "data-key": "back", onclick: () => set({ view: "jobs" }) }, `← ${t("back")}`),
    el("h2", {}, titleOf(job), " ", status(job)),
    el("p", { class: "hint" }, labelsOf(job)),
    job.status === "successful" ? outcome(job) : running(job),
    actions(job),
  );
}

function running(job) {
  if (job.status === "failed") return el("p", { class: "bad", role: "alert" }, sentence(job.message));
  if (job.status === "dismissed") return null;
  return [
    el("progress", { max: 100, value: job.progress || undefined, "aria-label": t("running") }),
    el("p", {}, progressText(job)),
    job.progress > 0 && isSeen(job) && el("p", { class: "hint" }, t("first-rows")),
  ];
}

const isSeen = (job) => view.map.getSource("partial") && job.status === "running";

function progressText(job) {
  if (job.message === "is being cancelled") return t("is-cancelled");
  if (job.status === "accepted") return t("waiting-worker");
  const left = job["cgeartheye:seconds_left"];
  if (!job.progress) return t("starting");
  if (left === null) return percent(job.progress / 100, 0);
  const seconds = (new Date(job.updated) - new Date(job.started)) / 1000;
  const rate = (job["cgeartheye:square_km"] * job.progress) / 100 / Math.max(seconds, 0.1);
  return t("progress", { share: percent(job.progress / 100, 0), rate: number(rate, 2), time: duration(left) });
}

function outcome(job) {
  const seconds = (new Date(job.finished) - new Date(job.started)) / 1000;
  const summary = el("p", {}, t("took", { area: squareKm(job["cgeartheye:square_km"]), time: duration(seconds) }));
  if (!result) return [summary, el("p", { class: "hint" }, t("loading"))];
  return [summary, controls(job), legendTable(), polygonHint(), correctionPanel(), downloads()];
}

function controls(job) {
  const [before] = scenesOf(job);
  const turn = () => {
    swiping = !swiping;
    const [first, last] = job["cgeartheye:labels"];
    const names = isChange(job) ? [first, last] : [t("scene-only"), t("result")];
    swipe(swiping ? before : null, ...names);
    render();
  };
  const slide = (event) => {
    opacity = event.target.value / 100;
    view.setOpacity(opacity);
  };
  return el(
    "div",
    { class: "controls" },
    el("label", {}, t("opacity"), el("input", { type: "range", min: "0", max: "100", value: String(opacity * 100), "data-key": "opacity", oninput: slide })),
    before && el("button", { type: "button", "data-key": "swipe", "aria-pressed": String(swiping), onclick: turn }, `⇆ ${t("swipe")}`),
  );
}

function legendTable() {
  const counted = isCounted();
  const toggle = (value) => {
    hidden = hidden.includes(value) ? hidden.filter((one) => one !== value) : [...hidden, value];
    drawRaster();
    view.hideClasses(hidden);
  };
  const row = (one) =>
    el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        el(
          "label",
          {},
          el("input", { type: "checkbox", "data-key": `class${one.value}`, checked: !hidden.includes(one.value), onchange: () => toggle(one.value) }),
          el("i", { class: "swatch", style: `background: ${color(one.color)}` }),
          one.name,
        ),
      ),
      counted ? el("td", {}, number(one.objects, 9)) : [el("td", {}, percent(one.share)), el("td", {}, number(one.hectares))],
    );
  const heads = counted ? ["class", "count"] : ["class", "share", "hectares"];
  return el(
    "table",
    {},
    el("caption", {}, t("legend")),
    el("thead", {}, el("tr", {}, heads.map((name) => el("th", { scope: "col" }, t(name))))),
    el("tbody", {}, result.legend.map(row)),
  );
}

function polygonHint() {
  if (result.polygons === "many") return el("p", { class: "hint" }, t("no-polygons"));
  return result.polygons ? el("p", { class: "hint" }, t("click-hint")) : null;
}

function downloads() {
  const link = (name) => {
    const file = new URL(result.files[name].href).pathname.split("/").at(-1);
    const href = address(`jobs/${open}/results/${file}`);
    const way = name === "preview" ? { target: "_blank", rel: "noopener" } : { download: `${state.job.processID}-${file}` };
    return el("a", { href, class: "button", "data-file": name, ...way }, t(name === "map" ? "map_file" : name));
  };
  return el("div", { class: "downloads" }, el("h3", {}, t("downloads")), FILES.filter((name) => name in result.files).map(link));
}

function actions(job) {
  const ended = ENDED.includes(job.status);
  const remove = async () => {
    if ((await removeJob(job)) && ended) set({ view: "jobs", job: null });
  };
  return el(
    "div",
    { class: "actions" },
    el("button", { type: "button", "data-key": "share", onclick: share }, t("share-link")),
    ended && el("button", { type: "button", "data-key": "again", onclick: () => again(job) }, t("again")),
    el("button", { type: "button", class: "danger", "data-key": "remove", onclick: remove }, t(ended ? "delete-job" : "cancel-job")),
  );
}

async function share() {
  try {
    await navigator.clipboard.writeText(location.href);
    toast(t("copied"), "hint");
  } catch {
    toast(t("cannot-copy"), "hint");
  }
}

function again(job) {
  const [first, second] = job["cgeartheye:scenes"];
  const app = appOf(job.processID);
  set({ view: "make" });
  pickScene(first);
  set({ app, after: isChange(job) ? sceneOf(second) : null });
}

export function startJob() {
  on(["view", "job"], show);
  on(["language", "apps", "scenes"], render);
}
