"""The preview's page: what stands between @ signs is filled in.

`SCRIPT` gives it `paint`, called whenever the view changes, and `pick`, called on a click.
"""

PAGE = """<!doctype html>
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
td:first-child { width: 22px; }
td { padding: 3px 4px; border-top: 1px solid var(--line); }
td:nth-child(n+3) { text-align: right; white-space: nowrap; color: var(--soft);
  font-variant-numeric: tabular-nums; }
tr { cursor: pointer; }
tr.off { opacity: .35; }
i { display: block; width: 14px; height: 14px; border-radius: 3px; }
.dates { display: flex; gap: 8px; margin: 0 0 8px; }
.dates button { flex: 1; min-width: 0; padding: 0; overflow: hidden; border-radius: 6px;
  color: inherit; font: inherit; cursor: pointer; background: none; border: 1px solid var(--line); }
.dates img { display: block; width: 100%; height: 84px; object-fit: cover; }
.dates span { display: block; padding: 2px 6px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
#divider { position: absolute; top: 0; bottom: 0; width: 32px; margin-left: -16px;
  cursor: ew-resize; touch-action: none; outline: none; }
#divider::before { content: ""; position: absolute; inset: 0 15px; background: #fff;
  box-shadow: 0 0 3px #000a; }
#divider b { position: absolute; left: 0; top: 50%; width: 32px; height: 32px; margin-top: -16px;
  border-radius: 50%; text-align: center; line-height: 30px; color: #1c2127; background: #fff;
  box-shadow: 0 0 4px #000a; }
#divider:focus-visible b { outline: 3px solid #2f6fde; }
#divider span { position: absolute; top: 50%; max-width: 40vw; margin-top: -14px; padding: 2px 9px;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; pointer-events: none;
  border-radius: 8px; background: var(--paper); border: 1px solid var(--line); }
#divider span:first-of-type { right: 40px; }
#divider span:last-of-type { left: 40px; }
#where:empty { display: none; }
#where { position: absolute; left: 12px; bottom: 12px; padding: 3px 9px; border-radius: 8px;
  background: var(--paper); border: 1px solid var(--line); font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<div id="view" tabindex="0" role="img" aria-label="Map over the scene; drag, wheel, + and - zoom">
<div id="sheet">@SCENES@@LAYER@</div></div>@OVER@
<aside><h1>@TITLE@</h1>@DATES@
@CONTROLS@
<table><tbody>@LEGEND@</tbody></table></aside>
<div id="where"></div>
<script>
const facts = @FACTS@;
const byId = id => document.getElementById(id);
const view = byId("view"), sheet = byId("sheet");
let scale = 1, left = 0, top_ = 0, only = null, moved = 0;
const rows = [...document.querySelectorAll("tr")];
const colours = rows.map(row => getComputedStyle(row.querySelector("i")).backgroundColor
  .match(/\\d+/g).map(Number));
sheet.style.width = facts.width + "px";
sheet.style.height = facts.height + "px";
const layers = [...sheet.children], later = byId("later"), divider = byId("divider");
let share = 50;  // percent of the window to the left of the divider, where the first date is seen
const draw = () => {
  sheet.style.transform = `translate(${left}px, ${top_}px) scale(${scale})`;
  for (const layer of layers) layer.classList.toggle("sharp",
    scale * layer.clientWidth > 2 * (layer.naturalWidth || layer.width));
  paint();
  if (!later) return;
  divider.style.left = share + "%";
  const hidden = (share / 100 * innerWidth - left) / scale;
  later.style.clipPath = `inset(0 0 0 ${Math.min(Math.max(hidden, 0), facts.width)}px)`;
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
  moved = 0;
});
const lift = event => fingers.delete(event.pointerId);
view.addEventListener("pointerup", event => {
  lift(event);
  if (moved < 4) pick((event.clientX - left) / scale, (event.clientY - top_) / scale);
});
view.addEventListener("pointercancel", lift);
view.addEventListener("pointermove", event => {
  const x = (event.clientX - left) / scale, y = (event.clientY - top_) / scale;
  const t = facts.transform;
  const [east, north] = t ? [t[0] * x + t[1] * y + t[2], t[3] * x + t[4] * y + t[5]] : [x, y];
  const digits = t && Math.abs(t[0]) + Math.abs(t[1]) < 0.01 ? 6 : 1;
  byId("where").textContent = `${east.toFixed(digits)}, ${north.toFixed(digits)}  ${facts.crs}`;
  const before = fingers.get(event.pointerId);
  if (!before) return;
  moved += Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
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
if (divider) {
  const swipe = percent => {
    share = Math.min(100, Math.max(0, percent));
    divider.setAttribute("aria-valuenow", Math.round(share));
    draw();
  };
  divider.addEventListener("pointerdown", event => {
    divider.setPointerCapture(event.pointerId);
    divider.focus();
    event.preventDefault();
  });
  divider.addEventListener("pointermove", event => {
    if (divider.hasPointerCapture(event.pointerId)) swipe(100 * event.clientX / innerWidth);
  });
  divider.addEventListener("keydown", event => {
    const to = {ArrowLeft: share - 2, ArrowRight: share + 2, ArrowDown: share - 2,
      ArrowUp: share + 2, PageDown: share - 20, PageUp: share + 20, Home: 0, End: 100}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    swipe(to);
  });
  document.querySelectorAll(".dates button").forEach((button, number) => {
    button.querySelector("img").src = byId(number ? "later" : "scene").src;
    button.onclick = () => swipe(number ? 0 : 100);
  });
}
@SCRIPT@
fit();
</script>
</body>
</html>
"""

DIVIDER = """
<div id="divider" role="slider" tabindex="0" aria-label="Divider between the dates"
 aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"><span>@BEFORE@</span><b>⇔</b>
<span>@AFTER@</span></div>"""

DATES = """
<div class="dates"><button title="show only this date"><img alt=""><span>@BEFORE@</span></button>
<button title="show only this date"><img alt=""><span>@AFTER@</span></button></div>"""

PIXELS_LAYER = """<canvas id="map"></canvas>"""

PIXELS_CONTROLS = """<label>Map <input id="opacity" type="range" min="0" max="100" value="60"
 aria-label="opacity of the map"><output id="percent">60 %</output></label>"""

PIXELS_SCRIPT = """const canvas = byId("map"), slider = byId("opacity");
let pixels = null;
canvas.style.width = facts.mapWidth + "px";
canvas.style.height = facts.mapHeight + "px";
function paint() {}
function pick() {}
slider.oninput = () => {
  canvas.style.opacity = slider.value / 100;
  byId("percent").textContent = slider.value + " %";
};
const show = () => {
  const context = canvas.getContext("2d");
  const shown = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  const off = rows.map((_, value) => only === null ? facts.clear.includes(value) : only !== value);
  const gone = new Set(colours.filter((colour, value) => off[value]).map(String));
  const data = shown.data;
  if (gone.size) for (let i = 0; i < data.length; i += 4)
    if (gone.has(`${data[i]},${data[i + 1]},${data[i + 2]}`)) data[i + 3] = 0;
  context.putImageData(shown, 0, 0);
  rows.forEach((row, value) => row.classList.toggle("off", off[value]));
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
image.src = "@MAP@";
slider.oninput();"""
