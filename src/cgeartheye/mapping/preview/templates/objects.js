const name = () => "";
const canvas = byId("boxes"), slider = byId("score"), context = canvas.getContext("2d");
const {corners, labels, scores, lengths, widths, headings} = facts.objects;
const boxes = labels.map((label, n) => {
  const xy = corners.slice(8 * n, 8 * n + 8), x = xy.filter((_, i) => i % 2 === 0),
    y = xy.filter((_, i) => i % 2);
  return {n, label, x, y, west: Math.min(...x), east: Math.max(...x), north: Math.min(...y),
    south: Math.max(...y)};
});
const names = rows.map(row => row.children[1].textContent);
const paints = colors.map(color => `rgb(${color})`);
let chosen = null;
const visible = box => scores[box.n] * 100 >= slider.value && (only === null || only === box.label);
const trace = box => {
  for (let i = 0; i < 4; i++) context[i ? "lineTo" : "moveTo"](
    left + scale * box.x[i], top_ + scale * box.y[i]);
  context.closePath();
};
function paint() {
  const dots = devicePixelRatio || 1;
  canvas.width = innerWidth * dots;  // this clears it
  canvas.height = innerHeight * dots;
  context.scale(dots, dots);
  context.lineJoin = "round";
  const west = -left / scale, north = -top_ / scale;
  const east = west + innerWidth / scale, south = north + innerHeight / scale;
  const seen = boxes.filter(box => visible(box) && box.east >= west && box.west <= east &&
    box.south >= north && box.north <= south);
  const thin = seen.length > 2000;
  names.forEach((_, label) => {
    const own = seen.filter(box => box.label === label);
    if (!own.length) return;
    context.beginPath();
    own.forEach(trace);
    if (!thin) {  // a dark rim shows boxes on any ground
      context.lineWidth = 3.5;
      context.strokeStyle = "#000a";
      context.stroke();
    }
    context.lineWidth = thin ? 1 : 1.8;
    context.strokeStyle = paints[label];
    context.stroke();
  });
  if (!chosen || !visible(chosen)) return;
  context.beginPath();
  trace(chosen);
  context.fillStyle = "#fff5";
  context.fill();
  context.lineWidth = 3;
  context.strokeStyle = "#fff";
  context.stroke();
}
const inside = (box, x, y) => {
  let turn = 0;  // on the same side of all four sides
  for (let i = 0; i < 4; i++) {
    const j = (i + 1) % 4;
    turn += Math.sign((box.x[j] - box.x[i]) * (y - box.y[i]) -
      (box.y[j] - box.y[i]) * (x - box.x[i]));
  }
  return Math.abs(turn) > 2;
};
const far = (box, x, y) => Math.hypot((box.west + box.east) / 2 - x,
  (box.north + box.south) / 2 - y) * scale;
const size = box => lengths[box.n] * widths[box.n];
function pick(x, y) {
  const near = boxes.filter(box => visible(box) && (inside(box, x, y) || far(box, x, y) < 5));
  chosen = near.sort((a, b) => size(a) - size(b))[0] || null;
  showChosen();
  paint();
}
const metres = value => value.toFixed(value < 10 ? 2 : 1) + " m";
const showChosen = () => {
  const what = byId("what");
  what.textContent = "";
  if (!chosen || !visible(chosen)) return;
  const {n, label} = chosen, name = document.createElement("b");
  name.textContent = names[label];
  let text = `score ${scores[n].toFixed(2)}, length ${metres(lengths[n])}, ` +
    `width ${metres(widths[n])}`;
  if (headings) text += `, heading ${Math.round(headings[n])}° or ` +
    `${Math.round(headings[n]) + 180}°`;
  what.append(name, text);
};
const show = () => {
  const shown = boxes.filter(visible).length;
  const all = facts.total > boxes.length ? `; the map has ${facts.total.toLocaleString("en")}, ` +
    "these are the best" : "";
  byId("note").textContent = `${shown.toLocaleString("en")} of ` +
    `${boxes.length.toLocaleString("en")} objects shown${all}`;
  byId("least").textContent = (slider.value / 100).toFixed(2);
  rows.forEach((row, label) => row.classList.toggle("off", only !== null && only !== label));
  showChosen();
  paint();
};
rows.forEach((row, label) => row.onclick = () => { only = only === label ? null : label; show(); });
slider.min = Math.floor(100 * scores.reduce((a, b) => Math.min(a, b), 1));
slider.value = Math.floor(100 * facts.score);  // the slider's own least one, if that is higher
slider.oninput = show;
addEventListener("resize", paint);
show();
