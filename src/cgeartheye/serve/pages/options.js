// Options of a map: those that the chosen application has.

import { $, el, fill } from "./dom.js";
import { t } from "./i18n.js";
import { on, set, state } from "./store.js";

const FORMATS = { gpkg: "GeoPackage", parquet: "GeoParquet", fgb: "FlatGeobuf", geojson: "GeoJSON" };
const PIXELS = ["semantic_segmentation", "change_detection"];

/** Return the options of an execution; the page itself needs the GeoJSON. */
export function optionsOf(app) {
  const options = {};
  for (const { name } of fieldsOf(app)) if (state.options[name] !== undefined) options[name] = state.options[name];
  return { ...options, vector_format: [...new Set([...formats(), "geojson"])] };
}

const formats = () => state.options.vector_format ?? ["gpkg"];

function fieldsOf(app) {
  const found = [];
  if (PIXELS.includes(app?.task)) found.push({ name: "min_area", word: "min-area", min: 0 }, { name: "smooth", word: "smooth" });
  if (app && app.task !== "object_detection") found.push({ name: "probabilities", word: "write-probabilities" });
  if (app?.dates === 2) found.push({ name: "coregister", word: "coregister" });
  if (app?.task === "object_detection") found.push({ name: "score_threshold", word: "score-threshold", min: 0, max: 1 });
  return found;
}

function change(name, value) {
  const options = { ...state.options };
  if (value === undefined || value === false) delete options[name];
  else options[name] = value;
  set({ options });
}

function field({ name, word, min, max }) {
  const shared = { id: `option-${name}`, "data-key": name };
  if (min === undefined) {
    const input = el("input", { ...shared, type: "checkbox", checked: Boolean(state.options[name]) });
    input.addEventListener("change", () => change(name, input.checked));
    return el("label", {}, input, t(word));
  }
  const input = el("input", { ...shared, type: "number", min: String(min), max: max && String(max), step: "any" });
  input.value = state.options[name] ?? "";
  input.addEventListener("change", () => {
    const value = input.valueAsNumber;
    const fits = value >= min && (max === undefined ? value > min : value <= max);
    if (!fits) input.value = "";
    change(name, fits ? value : undefined);
  });
  return el("label", {}, input, t(word));
}

function format([ending, name]) {
  const input = el("input", { type: "checkbox", checked: formats().includes(ending), "data-key": ending });
  input.addEventListener("change", () =>
    change("vector_format", Object.keys(FORMATS).filter((one) => (one === ending ? input.checked : formats().includes(one)))));
  return el("label", {}, input, name);
}

function render() {
  const list = el("div", { class: "formats", role: "group", "aria-label": t("formats") }, t("formats"), Object.entries(FORMATS).map(format));
  fill($("#options > div"), fieldsOf(state.app).map(field), list);
}

export function startOptions() {
  on(["app", "options", "language"], render);
  render();
}
