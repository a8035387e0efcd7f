// The map by keyboard: arrows move it, the space bar clicks in its middle, where a cross is drawn.

import { map } from "./map.js";

const CLICK = ["pointermove", "pointerdown", "mousedown", "pointerup", "mouseup", "click"];

/** Send what a pointer in the middle of the map would: the map and the drawing take it alike. */
function point(types) {
  const canvas = map.getCanvas();
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const at = { bubbles: true, isPrimary: true, clientX: left + width / 2, clientY: top + height / 2 };
  for (const type of types) {
    canvas.dispatchEvent(type.startsWith("pointer") ? new PointerEvent(type, at) : new MouseEvent(type, at));
  }
}

export function startKeyboard() {
  map.getCanvas().addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    if (!event.repeat) point(CLICK);
  });
  map.on("moveend", () => map.getCanvas().matches(":focus-visible") && point(["pointermove"]));
}
