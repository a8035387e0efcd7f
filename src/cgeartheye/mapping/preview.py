"""A map over its scene as one HTML file: pan, zoom, opacity, legend; no network."""

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from affine import Affine
from PIL import Image

from cgeartheye.files import write_text
from cgeartheye.mapping.planes import RGB
from cgeartheye.mapping.scene import Bytes


class Entry(NamedTuple):
    """A class in the legend.

    Attributes:
        name: of the class.
        colour: of the class.
        share: of the mapped area, percent.
        area: km².
    """

    name: str
    colour: RGB
    share: float
    area: float


def write_preview(
    path: Path,
    title: str,
    scene: Bytes,
    classes: Bytes,
    legend: Sequence[Entry],
    place: tuple[Affine, str] | None,
    shape: tuple[int, int],
    extent: tuple[float, float],
) -> None:
    """Write the page.

    Args:
        path: where to.
        title: the scene's name.
        scene: uint8 `[H, W, 3]`.
        classes: uint8 `[h, w]` over the same extent; what is not in the legend is clear.
        legend: classes by value.
        place: from the scene's pixels to the map, and the name of its reference system.
        shape: rows and columns of the scene.
        extent: rows and columns of the scene that the map covers: cells may stand out.

    Raises:
        UserError: it cannot be written.
    """
    colours = np.zeros((256, 4), np.uint8)
    for value, entry in enumerate(legend):
        colours[value] = (*entry.colour, 255)
    rows = "".join(
        f'<tr data-value="{value}" title="click: show only this class"><td>'
        f'<i style="background: rgb{entry.colour}"></i></td>'
        f"<td>{html.escape(entry.name)}</td><td>{entry.share:.1f} %</td>"
        f"<td>{_area(entry.area)}</td></tr>"
        for value, entry in enumerate(legend)
    )
    facts = {
        "transform": list(place[0][:6]) if place else None,
        "crs": place[1] if place else "pixels",
        "width": shape[1],
        "height": shape[0],
        "mapWidth": extent[1],
        "mapHeight": extent[0],
    }
    write_text(
        path,
        _PAGE.replace("@TITLE@", html.escape(title))
        .replace("@LEGEND@", rows)
        .replace("@SCENE@", _embed(Image.fromarray(scene), "JPEG", quality=82))
        .replace("@MAP@", _embed(_palette_png(classes, colours), "PNG", optimize=True))
        .replace("@FACTS@", json.dumps(facts).replace("<", "\\u003c")),
    )


def _palette_png(classes: Bytes, colours: Bytes) -> Image.Image:
    image = Image.frombytes("P", classes.shape[::-1], classes.tobytes())
    image.putpalette(colours.tobytes(), "RGBA")
    return image


def _embed(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _area(km2: float) -> str:
    if km2 >= 0.1:
        return f"{km2:,.2f} km²"
    return f"{km2 * 1e6:,.0f} m²"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
* { box-sizing: border-box; }
html { color-scheme: light dark; --ink: #1c2127; --soft: #5f6b7a; --paper: #ffffffee;
  --line: #d8dee6; --ground: #e9edf2; }
@media (prefers-color-scheme: dark) { html { --ink: #e7ebf0; --soft: #9aa7b5; --paper: #1b2027ee;
  --line: #39424d; --ground: #11151a; } }
body { margin: 0; height: 100vh; overflow: hidden; color: var(--ink); background: var(--ground);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
#view { position: absolute; inset: 0; cursor: grab; touch-action: none; }
#view:active { cursor: grabbing; }
#view:focus-visible { outline: 2px solid #2f6fde; outline-offset: -2px; }
#sheet { position: absolute; transform-origin: 0 0; }
#sheet img, #sheet canvas { position: absolute; left: 0; top: 0; user-select: none;
  -webkit-user-drag: none; }
#sheet img { width: 100%; height: 100%; }
.sharp { image-rendering: pixelated; }
aside { position: absolute; top: 12px; right: 12px; width: min(310px, calc(100vw - 24px));
  max-height: calc(100vh - 60px); overflow: auto; padding: 12px 14px; border-radius: 10px;
  background: var(--paper); border: 1px solid var(--line); }
h1 { margin: 0 0 8px; font-size: 15px; overflow-wrap: anywhere; }
label { display: grid; grid-template-columns: auto 1fr 3em; gap: 8px; align-items: center;
  color: var(--soft); }
label input { width: 100%; accent-color: #2f6fde; }
output { text-align: right; font-variant-numeric: tabular-nums; }
table { width: 100%; margin-top: 8px; border-collapse: collapse; }
td { padding: 3px 4px; border-top: 1px solid var(--line); }
td:nth-child(n+3) { text-align: right; white-space: nowrap; color: var(--soft);
  font-variant-numeric: tabular-nums; }
tr { cursor: pointer; }
tr.off { opacity: .35; }
i { display: block; width: 14px; height: 14px; border-radius: 3px; }
#where:empty { display: none; }
#where { position: absolute; left: 12px; bottom: 12px; padding: 3px 9px; border-radius: 8px;
  background: var(--paper); border: 1px solid var(--line); font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<div id="view" tabindex="0" role="img" aria-label="Map over the scene; drag, wheel, + and - zoom">
<div id="sheet"><img id="scene" alt="" src="@SCENE@"><canvas id="map"></canvas></div></div>
<aside><h1>@TITLE@</h1>
<label>Map <input id="opacity" type="range" min="0" max="100" value="60"
 aria-label="opacity of the map"><output id="percent">60 %</output></label>
<table><tbody>@LEGEND@</tbody></table></aside>
<div id="where"></div>
<script>
const facts = @FACTS@, source = "@MAP@";
const byId = id => document.getElementById(id);
const view = byId("view"), sheet = byId("sheet"), canvas = byId("map"), slider = byId("opacity");
let scale = 1, left = 0, top_ = 0, only = null, pixels = null;
sheet.style.width = facts.width + "px";
sheet.style.height = facts.height + "px";
canvas.style.width = facts.mapWidth + "px";
canvas.style.height = facts.mapHeight + "px";
const draw = () => {
  sheet.style.transform = `translate(${left}px, ${top_}px) scale(${scale})`;
  for (const layer of [byId("scene"), canvas]) layer.classList.toggle("sharp",
    scale * layer.clientWidth > 2 * (layer.naturalWidth || layer.width));
};
const fit = () => {
  scale = 0.96 * Math.min(innerWidth / facts.width, innerHeight / facts.height);
  left = (innerWidth - facts.width * scale) / 2;
  top_ = (innerHeight - facts.height * scale) / 2;
  draw();
};
const zoom = (factor, x, y) => {
  factor = Math.min(40, Math.max(1e-3, scale * factor)) / scale;
  left = x - (x - left) * factor;
  top_ = y - (y - top_) * factor;
  scale *= factor;
  draw();
};
view.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
}, {passive: false});
const fingers = new Map();
view.addEventListener("pointerdown", event => {
  view.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, event);
});
const lift = event => fingers.delete(event.pointerId);
view.addEventListener("pointerup", lift);
view.addEventListener("pointercancel", lift);
view.addEventListener("pointermove", event => {
  const x = (event.clientX - left) / scale, y = (event.clientY - top_) / scale;
  const t = facts.transform;
  const [east, north] = t ? [t[0] * x + t[1] * y + t[2], t[3] * x + t[4] * y + t[5]] : [x, y];
  const digits = t && Math.abs(t[0]) + Math.abs(t[1]) < 0.01 ? 6 : 1;
  byId("where").textContent = `${east.toFixed(digits)}, ${north.toFixed(digits)}  ${facts.crs}`;
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const other = [...fingers.values()].find(finger => finger.pointerId !== event.pointerId);
  if (other) {
    const {clientX: u, clientY: v} = other;
    const far = finger => Math.hypot(finger.clientX - u, finger.clientY - v);
    zoom(far(event) / Math.max(far(before), 1), u, v);
  } else {
    left += event.clientX - before.clientX;
    top_ += event.clientY - before.clientY;
    draw();
  }
  fingers.set(event.pointerId, event);
});
view.addEventListener("dblclick", fit);
view.addEventListener("keydown", event => {
  const step = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]};
  if (event.key === "+" || event.key === "=") zoom(1.3, innerWidth / 2, innerHeight / 2);
  else if (event.key === "-") zoom(1 / 1.3, innerWidth / 2, innerHeight / 2);
  else if (event.key === "0") fit();
  else if (step[event.key]) { left += step[event.key][0]; top_ += step[event.key][1]; draw(); }
});
slider.oninput = () => {
  canvas.style.opacity = slider.value / 100;
  byId("percent").textContent = slider.value + " %";
};
const rows = [...document.querySelectorAll("tr")];
const colours = rows.map(row => getComputedStyle(row.querySelector("i")).backgroundColor
  .match(/\\d+/g).map(Number));
const show = () => {
  const context = canvas.getContext("2d");
  const shown = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  if (only !== null) for (let i = 0; i < shown.data.length; i += 4)
    if (colours[only].some((part, c) => part !== shown.data[i + c])) shown.data[i + 3] = 0;
  context.putImageData(shown, 0, 0);
  rows.forEach((row, value) => row.classList.toggle("off", only !== null && only !== value));
};
rows.forEach((row, value) => row.onclick = () => { only = only === value ? null : value; show(); });
const image = new Image();
image.onload = () => {
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  pixels = context.getImageData(0, 0, image.width, image.height);
  show();
  draw();
};
image.src = source;
slider.oninput();
fit();
</script>
</body>
</html>
"""
