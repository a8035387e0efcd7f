const byId = id => document.getElementById(id);
const view = byId("view"), sheet = byId("sheet");
let scale = 1, left = 0, top_ = 0, only = null, moved = 0;
const rows = [...document.querySelectorAll("tr")];
const colors = rows.map(row => getComputedStyle(row.querySelector("i")).backgroundColor
  .match(/\d+/g).map(Number));
sheet.style.width = facts.width + "px";
sheet.style.height = facts.height + "px";
const layers = [...sheet.children], later = byId("later"), divider = byId("divider");
let share = 50;  // percent of the window to the left of the divider, where the first date is seen
// A round length on the ground of up to 160 pixels of the window.
const measure = () => {
  const pixel = facts.ground[0] / scale, most = 160 * pixel;
  const ten = 10 ** Math.floor(Math.log10(most));
  const length = ten * [5, 2, 1].find(times => times * ten <= most);
  byId("ruler").style.width = length / pixel + "px";
  byId("ruler").textContent = length < 1000 ? `${+length.toPrecision(1)} m` : `${length / 1000} km`;
};
const draw = () => {
  sheet.style.transform = `translate(${left}px, ${top_}px) scale(${scale})`;
  for (const layer of layers) layer.classList.toggle("sharp",
    scale * layer.clientWidth > 2 * (layer.naturalWidth || layer.width));
  measure();
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
  byId("where").textContent = `${east.toFixed(digits)}, ${north.toFixed(digits)}  ${facts.crs}` +
    name(x, y);
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
document.addEventListener("keydown", event => {
  if (event.target.matches("input, #divider, button") || event.ctrlKey || event.metaKey) return;
  if (event.target.matches("tr") && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    event.target.click();
  }
  const step = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]};
  if (event.key === "+" || event.key === "=") zoom(1.3, innerWidth / 2, innerHeight / 2);
  else if (event.key === "-") zoom(1 / 1.3, innerWidth / 2, innerHeight / 2);
  else if (event.key === "0") fit();
  else if (step[event.key]) { left += step[event.key][0]; top_ += step[event.key][1];
    draw();
    event.preventDefault();
  }
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
