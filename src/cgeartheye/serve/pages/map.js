// The map: a scene, a result over it, the rows of one that is being made, and polygons to click on.

import * as maplibre from "./vendor/maplibre-gl.mjs";
import { address, request } from "./api.js";
import { color, el } from "./dom.js";
import { area, percent, t } from "./i18n.js";

const marked = (id) => ["fill", "line", "circle"].map((type) => `${id}-${type}`);
// From bottom to top; what is added later finds its place by this.
const ORDER = ["outlines-fill", "outlines", "places", "scene", "partial", "result", "labelled", "found", "fill", "lines", "picked", ...marked("corrected"), ...marked("labels"), "suggested"];
const ACCENT = "#0b6e55";

export const style = () => ({
  version: 8,
  sources: {},
  layers: [{ id: "ground", type: "background", paint: { "background-color": "#dbe2e6" } }],
});

export const map = new maplibre.Map({
  container: "map",
  style: style(),
  center: [105, 35],
  zoom: 2.5,
  maxZoom: 23,
  pitchWithRotate: false,
  dragRotate: false,
  attributionControl: false,
});
map.touchZoomRotate.disableRotation();
map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
map.addControl(new maplibre.ScaleControl(), "bottom-left");

/** When layers can be added. */
export const ready = new Promise((resolve) => map.once("load", resolve));

function put(layer) {
  const above = ORDER.slice(ORDER.indexOf(layer.id) + 1);
  const drawn = map.getStyle().layers.map((other) => other.id);
  map.addLayer(layer, drawn.find((id) => above.includes(id) || id.startsWith("td-")));
}

function drop(...ids) {
  for (const id of ids) if (map.getLayer(id)) map.removeLayer(id);
  for (const id of ids) if (map.getSource(id)) map.removeSource(id);
}

export function tiles(place, { bounds, gsd, maxzoom }, query = "") {
  const finest = maxzoom ?? Math.ceil(Math.log2(156_543 / Math.max(gsd, 1e-3)));
  return {
    type: "raster",
    tiles: [`${address(place)}/tiles/{z}/{x}/{y}${query}`],
    tileSize: 256,
    bounds,
    minzoom: Math.max(0, finest - 12),
    maxzoom: Math.min(24, finest),
  };
}

export const phone = () => matchMedia("(max-width: 760px)").matches;

export function look([west, south, east, north], moving = true) {
  const still = !moving || matchMedia("(prefers-reduced-motion: reduce)").matches;
  map.fitBounds([[west, south], [east, north]], { padding: phone() ? 24 : 48, duration: still ? 0 : 600 });
}

/** Show the outlines of the scenes; a click on one calls `picked` with its id. */
export function showOutlines(scenes, picked) {
  const features = scenes.map((scene) => ({
    type: "Feature",
    properties: { id: scene.id, label: scene.label },
    geometry: { type: "Polygon", coordinates: [scene.outline] },
  }));
  const places = scenes.map(({ id, bounds: [west, south, east, north] }) => ({
    type: "Feature",
    properties: { id },
    geometry: { type: "Point", coordinates: [(west + east) / 2, (south + north) / 2] },
  }));
  for (const [id, found] of [["outlines", features], ["places", places]]) {
    const data = { type: "FeatureCollection", features: found };
    if (map.getSource(id)) map.getSource(id).setData(data);
    else map.addSource(id, { type: "geojson", data });
  }
  if (map.getLayer("outlines")) return;
  const fill = { "fill-color": ACCENT, "fill-opacity": 0.08 };
  put({ id: "outlines-fill", type: "fill", source: "outlines", paint: fill });
  put({ id: "outlines", type: "line", source: "outlines", paint: { "line-color": ACCENT, "line-width": 1.5 } });
  const dot = { "circle-radius": 6, "circle-color": ACCENT, "circle-stroke-color": "#fff", "circle-stroke-width": 2 };
  put({ id: "places", type: "circle", source: "places", maxzoom: 12, paint: dot });
  for (const layer of ["outlines-fill", "places"]) {
    map.on("click", layer, (event) => picked(event.features[0].properties.id));
    map.on("mouseenter", layer, () => (map.getCanvas().style.cursor = "pointer"));
    map.on("mouseleave", layer, () => (map.getCanvas().style.cursor = ""));
  }
}

export function outlinesVisible(visible) {
  for (const id of ["outlines-fill", "outlines", "places"]) {
    if (map.getLayer(id)) map.setLayoutProperty(id, "visibility", visible ? "visible" : "none");
  }
}

let shown = null;

export function showScene(scene) {
  if (shown === (scene?.id ?? null)) return;
  shown = scene?.id ?? null;
  drop("scene");
  if (!scene) return;
  map.addSource("scene", tiles(`scenes/${scene.id}`, scene));
  put({ id: "scene", type: "raster", source: "scene", paint: { "raster-fade-duration": 0 } });
}

/** Show the raster of a result; `hidden`: numbers of the classes that are left out. */
export function showResult(job, extent, opacity, hidden) {
  drop("result");
  const query = hidden.length ? `?without=${hidden.join(",")}` : "";
  map.addSource("result", tiles(`jobs/${job}`, extent, query));
  const paint = { "raster-opacity": opacity, "raster-resampling": "nearest", "raster-fade-duration": 0 };
  put({ id: "result", type: "raster", source: "result", paint });
}

export function setOpacity(opacity) {
  if (map.getLayer("result")) map.setPaintProperty("result", "raster-opacity", opacity);
  if (map.getLayer("partial")) map.setPaintProperty("partial", "raster-opacity", opacity);
  if (map.getLayer("lines")) map.setPaintProperty("lines", "line-opacity", opacity);
  if (map.getLayer("lines")) map.setPaintProperty("fill", "fill-opacity", 0.3 * opacity);
}

/** Show the rows that are done; they come as a picture of the whole scene. */
export async function showPartial(job, scene, opacity, hidden, still) {
  const answer = await request(`jobs/${job}/partial.png?without=${hidden.join(",")}`);
  if (answer.status !== 200) return false;
  const picture = await createImageBitmap(await answer.blob());
  if (!still()) return false;
  let source = map.getSource("partial");
  if (!source) {
    const canvas = el("canvas", { width: picture.width, height: picture.height });
    map.addSource("partial", { type: "canvas", canvas, coordinates: scene.outline.slice(0, 4), animate: false });
    const paint = { "raster-opacity": opacity, "raster-resampling": "nearest", "raster-fade-duration": 0 };
    put({ id: "partial", type: "raster", source: "partial", paint });
    source = map.getSource("partial");
  }
  const canvas = source.getCanvas();
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  source.play();
  source.pause();
  return true;
}

export const hidePartial = () => drop("partial");

export function hideResult() {
  drop("result", "partial", "picked", "lines", "fill");
  drop("polygons");
  popup.remove();
}

/** Show the map that labels make; `version` is that of the labels, none: there is none. */
export function showLabelled(job, scene, version, opacity) {
  drop("labelled");
  if (!version) return;
  map.addSource("labelled", tiles(`embeddings/${job}`, scene, `?version=${version}`));
  put({ id: "labelled", type: "raster", source: "labelled", paint: { "raster-opacity": opacity, "raster-fade-duration": 0 } });
}

export function labelledOpacity(opacity) {
  if (map.getLayer("labelled")) map.setPaintProperty("labelled", "raster-opacity", opacity);
}

const only = (...types) => ["in", ["geometry-type"], ["literal", types.flatMap((type) => [type, `Multi${type}`])]];
const ANY_SHAPE = [
  ["fill", { "fill-color": ["get", "color"], "fill-opacity": 0.25 }, only("Polygon")],
  ["line", { "line-color": ["get", "color"], "line-width": 4 }, only("Polygon", "LineString")],
  ["circle", { "circle-radius": 6, "circle-color": ["get", "color"], "circle-stroke-color": "#fff", "circle-stroke-width": 2 }, only("Point")],
];
const MARKS = {
  suggested: ["circle", { "circle-radius": 13, "circle-opacity": 0, "circle-stroke-color": "#ffd54a", "circle-stroke-width": 3 }],
  found: ["line", { "line-color": "#ffd54a", "line-width": 2.5 }],
};

/** Show shapes: `labels`, `corrected`, `suggested` or `found`; an empty list takes them away. */
export function showMarks(id, features) {
  const data = { type: "FeatureCollection", features };
  if (map.getSource(id)) return map.getSource(id).setData(data);
  if (!features.length) return null;
  map.addSource(id, { type: "geojson", data, tolerance: 0.1 });
  if (id in MARKS) put({ id, type: MARKS[id][0], source: id, paint: MARKS[id][1] });
  else for (const [type, paint, filter] of ANY_SHAPE) put({ id: `${id}-${type}`, type, source: id, paint, filter });
  return null;
}

/** Move to a place without coming nearer than it is seen well. */
export function go([lng, lat], zoom) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  map.easeTo({ center: [lng, lat], zoom: Math.max(map.getZoom(), zoom), duration: still ? 0 : 400 });
}

const MARGIN = 8; // pixels between a popup and the end of the map
const popup = new maplibre.Popup({ closeButton: true, maxWidth: "260px" });
let legend = [];
let polygons = [];
let ask = () => null;
let drawing = false;
export const closePopup = () => popup.remove();

/** Let clicks pick polygons, or not: while something is drawn over them they mean that. */
export function pickPolygons(picking) {
  drawing = !picking;
  if (drawing) popup.remove();
}
popup.on("close", () => map.getLayer("picked") && map.setFilter("picked", ["==", ["id"], -1]));

/** Show polygons that can be clicked on; those of objects have an outline too. `asking` makes what their popup has below. */
export function showPolygons(data, classes, opacity, outlined, asking) {
  [legend, polygons, ask] = [classes, data.features, asking];
  drop("picked", "lines", "fill");
  drop("polygons");
  map.addSource("polygons", { type: "geojson", data, generateId: true, tolerance: 0.1 });
  const byClass = ["match", ["get", "value"], ...classes.flatMap((one) => [one.value, color(one.color)]), "#fff"];
  put({ id: "fill", type: "fill", source: "polygons", paint: { "fill-color": byClass, "fill-opacity": outlined ? 0.3 * opacity : 0.001 } });
  if (outlined) {
    const paint = { "line-color": byClass, "line-width": 2, "line-opacity": opacity };
    put({ id: "lines", type: "line", source: "polygons", paint });
  }
  const picked = { "line-color": "#fff", "line-width": 3 };
  put({ id: "picked", type: "line", source: "polygons", paint: picked, filter: ["==", ["id"], -1] });
}

export function hideClasses(hidden) {
  const filter = ["!", ["in", ["get", "value"], ["literal", hidden]]];
  for (const id of ["fill", "lines"]) if (map.getLayer(id)) map.setFilter(id, filter);
}

map.on("click", "fill", (event) => {
  if (drawing) return;
  const { id, properties } = event.features[0];
  map.setFilter("picked", ["==", ["id"], id]);
  popup.setLngLat(event.lngLat).setDOMContent(el("div", { class: "popup" }, describe(properties), ask(polygons[id]))).addTo(map);
  bringInside(popup.getElement());
  map.once("idle", () => popup.isOpen() && bringInside(popup.getElement())); // it may be laid out anew
});

/** Move the map by what is cut off of a popup: on a phone it is hardly higher than one with its answers. */
function bringInside(element) {
  for (let turn = 0; turn < 3; turn++) { // where the map moves, a popup may turn to the other side of its place
    const [box, frame] = [element, map.getContainer()].map((node) => node.getBoundingClientRect());
    const past = (low, high, from, to) => Math.min(0, low - from - MARGIN) || Math.max(0, high - to + MARGIN);
    const by = [past(box.left, box.right, frame.left, frame.right), past(box.top, box.bottom, frame.top, frame.bottom)];
    if (!by.some(Boolean)) return;
    map.panBy(by, { duration: 0 });
  }
}
map.on("mouseenter", "fill", () => (map.getCanvas().style.cursor = "pointer"));
map.on("mouseleave", "fill", () => (map.getCanvas().style.cursor = ""));

function describe(properties) {
  const found = legend.find((one) => one.value === properties.value);
  const size = properties.area_m2 ?? properties.length_m * properties.width_m;
  const sure = properties.confidence ?? properties.score;
  const rows = [];
  if (Number.isFinite(size)) rows.push([t("area"), area(size)]);
  if (Number.isFinite(properties.length_m)) {
    rows.push(["↔", `${properties.length_m.toFixed(1)} × ${properties.width_m.toFixed(1)} m`]);
  }
  if (Number.isFinite(sure)) rows.push([t("confidence"), percent(sure, 0)]);
  return [
    el("strong", {}, el("i", { class: "swatch", style: `background: ${color(found?.color ?? [0, 0, 0])}` }), properties.class),
    el("dl", {}, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
  ];
}
