// What labels and corrections are drawn with: points, boxes, polygons and scribbles.

import { el } from "./dom.js";
import { stopTracing, trace } from "./draw.js";
import { t } from "./i18n.js";

export const POINT = "point";
export const AREAS = ["rectangle", "polygon"];
export const SHAPES = [POINT, ...AREAS, "freehand-linestring"];

let taking = null;
let drawn = POINT;

/** Draw with a shape from now on, and hand each one to `take`; points are clicks on the map itself. */
export function drawWith(shape, take) {
  if (shape === drawn && (shape === POINT || take === taking)) return;
  [drawn, taking] = [shape, take];
  if (shape === POINT) stopTracing();
  else trace(shape, take);
}

/** Buttons of shapes, and what to do with the chosen one. */
export function shapeButtons(shapes, chosen, choose) {
  const button = (shape) =>
    el("button", { type: "button", "data-key": `shape-${shape}`, "aria-pressed": String(shape === chosen), onclick: () => choose(shape) }, t(`shape-${shape}`));
  return [
    el("div", { class: `segments shapes-${shapes.length}`, role: "group", "aria-label": t("shapes") }, shapes.map(button)),
    chosen && el("p", { class: "hint", "aria-live": "polite" }, t(`shape-hint-${chosen}`)),
  ];
}

/** Whether some of a geometry is within bounds [west, south, east, north]. */
export function touches(geometry, [west, south, east, north]) {
  const all = geometry.coordinates.flat(Infinity);
  const [xs, ys] = [all.filter((_, n) => n % 2 === 0), all.filter((_, n) => n % 2)];
  return Math.max(...xs) >= west && Math.min(...xs) <= east && Math.max(...ys) >= south && Math.min(...ys) <= north;
}
