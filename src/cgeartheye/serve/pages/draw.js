// Drawing: of the area, one polygon at a time whose corners can be dragged, or of shapes for labels.

import { map, ready } from "./map.js";
import { set, state } from "./store.js";

const { TerraDraw, TerraDrawFreehandLineStringMode, TerraDrawPolygonMode, TerraDrawRectangleMode, TerraDrawSelectMode } = window.terraDraw;
const { TerraDrawMapLibreGLAdapter } = window.terraDrawMaplibreGlAdapter;

const PAINT = {
  fillColor: "#ffffff",
  fillOpacity: 0.12,
  outlineColor: "#ffd54a",
  outlineWidth: 3,
};
const LINE = { lineStringColor: "#ffd54a", lineStringWidth: 4 };
const EITHER = "click-move-or-drag"; // a finger cannot move without dragging
const PICKED = {
  selectedPolygonColor: "#ffffff",
  selectedPolygonFillOpacity: 0.12,
  selectedPolygonOutlineColor: "#ffd54a",
  selectedPolygonOutlineWidth: 3,
  selectionPointColor: "#ffd54a",
  selectionPointOutlineColor: "#14202b",
  selectionPointOutlineWidth: 1.5,
  selectionPointWidth: 6,
};
const MOVABLE = { feature: { draggable: true, coordinates: { draggable: true } } };
const RESIZABLE = { feature: { draggable: true, coordinates: { resizable: "opposite" } } };

let drawing = null;
let hand = null; // takes the shapes that are traced; none: the area is drawn

async function begin() {
  if (drawing) return drawing;
  await ready;
  const made = new TerraDraw({
    adapter: new TerraDrawMapLibreGLAdapter({ map }),
    modes: [
      new TerraDrawRectangleMode({ styles: PAINT, drawInteraction: EITHER }),
      new TerraDrawPolygonMode({ styles: PAINT }),
      new TerraDrawFreehandLineStringMode({ styles: LINE, drawInteraction: EITHER, minDistance: 6 }),
      new TerraDrawSelectMode({ flags: { rectangle: RESIZABLE, polygon: MOVABLE }, styles: PICKED }),
    ],
  });
  made.start();
  made.on("finish", (id, { action }) => {
    if (hand) return handOver(id);
    if (action === "draw") keepOnly(id);
    return take(id);
  });
  drawing = made;
  return made;
}

function polygons() {
  const found = drawing?.getSnapshot() ?? [];
  return found.filter(({ geometry, properties }) => geometry.type === "Polygon" && "mode" in properties);
}

function keepOnly(id) {
  const others = polygons().map((one) => one.id).filter((other) => other !== id);
  if (others.length) drawing.removeFeatures(others);
  drawing.setMode("select");
  drawing.selectFeature(id);
}

function take(id) {
  const { geometry } = drawing.getSnapshotFeature(id);
  set({ area: { type: "Polygon", coordinates: geometry.coordinates }, tool: null });
}

function handOver(id) {
  const { type, coordinates } = drawing.getSnapshotFeature(id).geometry;
  const take = hand;
  // Not while the mode still works on it.
  setTimeout(() => {
    if (drawing.hasFeature(id)) drawing.removeFeatures([id]);
    take({ type, coordinates });
  });
}

/** Draw shapes one after the other, and hand each to `take`: `rectangle`, `polygon` or `freehand-linestring`. */
export async function trace(mode, take) {
  hand = take;
  const made = await begin();
  if (hand !== take) return;
  made.clear();
  made.setMode(mode);
}

export function stopTracing() {
  if (!hand) return;
  hand = null;
  hideDrawing(false);
}

/** Let an area be drawn: `rectangle` or `polygon`. */
export async function draw(mode) {
  const made = await begin();
  made.clear();
  set({ area: null });
  made.setMode(mode);
}

/** Take a ring of longitudes and latitudes as the area. */
export async function takeRing(ring) {
  const made = await begin();
  made.clear();
  const coordinates = [ring.map((point) => point.map((value) => Number(value.toFixed(9))))];
  const geometry = { type: "Polygon", coordinates };
  const [{ id }] = made.addFeatures([{ type: "Feature", properties: { mode: "polygon" }, geometry }]);
  keepOnly(id);
  set({ area: geometry });
}

/** Remove the drawing from the map; the area stays unless `forget`. */
export function hideDrawing(forget) {
  if (drawing?.enabled) {
    drawing.clear();
    drawing.setMode("select");
  }
  if (forget) set({ area: null });
}

export function showDrawing() {
  if (state.area && !polygons().length) takeRing(state.area.coordinates[0]);
}
