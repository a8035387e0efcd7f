// Corrections of a finished map: a polygon gets another class, or an area is drawn anew. They are labels.

import { request, send } from "./api.js";
import { $, announce, color, el, fill, toast } from "./dom.js";
import { t } from "./i18n.js";
import { closePopup, pickPolygons, showMarks } from "./map.js";
import { hex } from "./palette.js";
import { pickScene } from "./scenes.js";
import { AREAS, POINT, drawWith, shapeButtons, touches } from "./shapes.js";
import { set } from "./store.js";

const NOT = "not ";
const UNKNOWN = "#5b6973";

let now = null; // job, legend, features, those that the server has, their version, chosen, shape
let sending = Promise.resolve();

/** Begin with a map of one date, whose classes are those of its legend. */
export async function beginCorrecting(job, legend) {
  const mine = { job, legend, features: [], kept: [], chosen: legend[0].name, shape: null };
  now = mine;
  await load(mine);
  refresh();
}

async function load(mine) {
  try {
    const answer = await request(`jobs/${mine.job.jobID}/corrections`);
    const { features } = await answer.json();
    Object.assign(mine, { features, kept: features, version: answer.headers.get("ETag") });
  } catch (error) {
    toast(error.message);
  }
}

export function endCorrecting() {
  if (!now) return;
  now = null;
  drawWith(POINT);
  pickPolygons(true);
  showMarks("corrected", []);
}

const colorOf = (name) => {
  const entry = now.legend.find((one) => one.name === name);
  return entry ? hex(entry.color) : UNKNOWN;
};

function refresh() {
  if (!now) return;
  showMarks("corrected", now.features.map((one) => ({ ...one, properties: { color: colorOf(one.properties.class) } })));
  if ($("#correct")) fill($("#correct"), ...parts());
}

/** Put other corrections in the place of those that are there; requests go one after the other. */
function put(features) {
  const mine = now;
  mine.features = features;
  refresh();
  sending = sending.then(async () => {
    if (mine.features !== features) return; // newer ones follow
    try {
      const answer = await send("PUT", `jobs/${mine.job.jobID}/corrections`, { type: "FeatureCollection", features }, { "If-Match": mine.version });
      Object.assign(mine, { kept: features, version: answer.headers.get("ETag") });
    } catch (error) {
      const changed = error.status === 409; // in another tab
      toast(changed ? t("correct-changed") : error.message);
      if (changed) await load(mine);
      else if (mine.features === features) mine.features = mine.kept;
    }
    refresh();
  });
}

function add(geometry, name) {
  const same = JSON.stringify(geometry);
  const others = now.features.filter((one) => JSON.stringify(one.geometry) !== same);
  const properties = { class: name, time: new Date().toISOString(), color: name.startsWith(NOT) ? "" : colorOf(name) };
  put([...others, { type: "Feature", properties, geometry }]);
  announce(t("corrected", { name: nameOf(name) }));
}

const nameOf = (name) => (name.startsWith(NOT) ? t("not-class", { name: name.slice(NOT.length) }) : name);

/** What a polygon that was clicked can be instead; none where the map cannot be corrected. */
export function answers({ geometry, properties }) {
  if (!now?.version) return null; // what is there is not known, so it would be replaced
  const pick = (name) => {
    closePopup();
    add(geometry, name);
  };
  const others = now.legend.filter((one) => one.name !== properties.class);
  return el(
    "div",
    { class: "answers", role: "group", "aria-label": t("correct-to") },
    el("span", {}, t("correct-to")),
    others.map((one) => el("button", { type: "button", class: "answer", onclick: () => pick(one.name) }, el("i", { class: "swatch", style: `background: ${color(one.color)}` }), one.name)),
    el("button", { type: "button", class: "answer", onclick: () => pick(NOT + properties.class) }, t("not-this")),
  );
}

function drawnArea(geometry) {
  if (!now.version) return undefined;
  if (!touches(geometry, now.job["cgeartheye:bounds"])) return toast(t("correct-outside"), "hint");
  return add(geometry, now.chosen);
}

function chooseShape(shape) {
  now.shape = shape === now.shape ? null : shape;
  drawWith(now.shape ?? POINT, drawnArea);
  pickPolygons(!now.shape);
  refresh();
}

/** The part of the job's view on corrections. */
export const correctionPanel = () => now && el("section", { id: "correct", "aria-label": t("correct") }, parts());

function parts() {
  const { features, legend, chosen, shape, job } = now;
  const option = ({ name }) => el("option", { value: name, selected: name === chosen }, name);
  const pick = (event) => (now.chosen = event.target.value);
  const goOn = () => {
    const [scene] = job["cgeartheye:scenes"];
    set({ view: "label" });
    pickScene(scene);
  };
  return [
    el("h3", {}, t("correct")),
    el("p", { class: "hint" }, t("correct-hint")),
    el("label", { class: "field" }, t("correct-class"), el("select", { "data-key": "correct-class", onchange: pick }, legend.map(option))),
    ...shapeButtons(AREAS, shape, chooseShape),
    features.length > 0 && el("p", { "aria-live": "polite" }, t("corrections", { count: features.length })),
    features.length > 0 &&
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", "data-key": "correct-undo", onclick: () => put(features.slice(0, -1)) }, t("label-undo")),
        el("button", { type: "button", "data-key": "correct-train", onclick: goOn }, t("correct-train")),
      ),
  ].filter(Boolean);
}
