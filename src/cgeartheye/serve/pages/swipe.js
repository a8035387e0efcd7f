// A second map over the first, of which a divider shows the left part.

import * as maplibre from "./vendor/maplibre-gl.mjs";
import { $ } from "./dom.js";
import { t } from "./i18n.js";
import { map, style, tiles } from "./map.js";

let other = null;
let position = 0.5;
let showing = null;

const handle = $("#divider");

/** Show a scene left of the divider; none: no divider. */
export async function swipe(scene, left, right) {
  const box = $("#left-map");
  handle.hidden = box.hidden = !scene;
  if (!scene) {
    showing = null;
    return;
  }
  handle.setAttribute("aria-label", t("swipe-handle", { left, right }));
  $("#left-name").textContent = left;
  $("#right-name").textContent = right;
  if (!other) {
    other = new maplibre.Map({ container: box, style: style(), interactive: false, attributionControl: false, maxZoom: 23 });
    map.on("move", follow);
    map.on("resize", () => other.resize());
  }
  follow();
  place(position);
  if (showing === scene.id) return;
  showing = scene.id;
  if (!other.loaded()) await new Promise((resolve) => other.once("load", resolve));
  if (other.getLayer("scene")) {
    other.removeLayer("scene");
    other.removeSource("scene");
  }
  other.addSource("scene", tiles(`scenes/${scene.id}`, scene));
  other.addLayer({ id: "scene", type: "raster", source: "scene", paint: { "raster-fade-duration": 0 } });
}

function follow() {
  other.jumpTo({ center: map.getCenter(), zoom: map.getZoom() });
}

function place(share) {
  position = Math.min(0.98, Math.max(0.02, share));
  const percent = `${position * 100}%`;
  handle.style.left = percent;
  handle.setAttribute("aria-valuenow", Math.round(position * 100));
  $("#left-map").style.clipPath = `inset(0 calc(100% - ${percent}) 0 0)`;
}

handle.addEventListener("pointerdown", (event) => {
  handle.setPointerCapture(event.pointerId);
  event.preventDefault();
  handle.focus();
});
handle.addEventListener("pointermove", (event) => {
  if (!handle.hasPointerCapture(event.pointerId)) return;
  const box = $("#map").getBoundingClientRect();
  place((event.clientX - box.left) / box.width);
});
handle.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1 }[event.key];
  if (event.key === "Home") place(0);
  else if (event.key === "End") place(1);
  else if (step) place(position + step);
  else return;
  event.preventDefault();
});
