// Drawing of an area: one polygon at a time, whose corners can be dragged.

import { map, ready } from "./map.js";
import { set, state } from "./store.js";

const { TerraDraw, TerraDrawPolygonMode, TerraDrawRectangleMode, TerraDrawSelectMode } = window.terraDraw;
const { TerraDrawMapLibreGLAdapter } = window.terraDrawMaplibreGlAdapter;

const PAINT = {
  fillColor: "#ffffff",
  fillOpacity: 0.12,
  outlineColor: "#ffd54a",
  outlineWidth: 3,
};
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

async function begin() {
  if (drawing) return drawing;
  await ready;
  const made = new TerraDraw({
    adapter: new TerraDrawMapLibreGLAdapter({ map }),
    modes: [
      new TerraDrawRectangleMode({ styles: PAINT }),
      new TerraDrawPolygonMode({ styles: PAINT }),
      new TerraDrawSelectMode({ flags: { rectangle: RESIZABLE, polygon: MOVABLE }, styles: PICKED }),
    ],
  });
  made.start();
  made.on("finish", (id, { action }) => {
    if (action === "draw") keepOnly(id);
    take(id);
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
