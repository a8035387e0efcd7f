const canvas = byId("map"), slider = byId("opacity");
let pixels = null, sure = null;
canvas.style.width = facts.width + "px";
canvas.style.height = facts.height + "px";
function paint() {}
function pick() {}
// The class at a place of the scene, and the model's confidence.
const name = (x, y) => {
  const at = image => {
    const i = Math.floor(x / facts.width * image.width);
    const j = Math.floor(y / facts.height * image.height);
    const inside = i >= 0 && j >= 0 && i < image.width && j < image.height;
    return inside ? image.data.slice(4 * (j * image.width + i), 4 * (j * image.width + i) + 4) : [];
  };
  const found = pixels ? at(pixels) : [];
  if (!found[3]) return "";
  const value = colors.findIndex(color => color.every((level, band) => level === found[band]));
  if (value < 0) return "";
  return `  ${rows[value].children[1].textContent}` + (sure ? `, about ${at(sure)[0]} %` : "");
};
slider.oninput = () => {
  canvas.style.opacity = slider.value / 100;
  byId("percent").textContent = slider.value + " %";
};
const show = () => {
  const context = canvas.getContext("2d");
  const shown = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  const off = rows.map((_, value) => only === null ? facts.clear.includes(value) : only !== value);
  const gone = new Set(colors.filter((color, value) => off[value]).map(String));
  const data = shown.data;
  if (gone.size) for (let i = 0; i < data.length; i += 4)
    if (gone.has(`${data[i]},${data[i + 1]},${data[i + 2]}`)) data[i + 3] = 0;
  context.putImageData(shown, 0, 0);
  rows.forEach((row, value) => row.classList.toggle("off", off[value]));
};
const fold = byId("fold");
if (fold) fold.onclick = () =>
  fold.setAttribute("aria-expanded", fold.getAttribute("aria-expanded") === "false");
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
image.src = facts.map;
const other = new Image();
other.onload = () => {
  const hidden = document.createElement("canvas");
  hidden.width = other.width;
  hidden.height = other.height;
  const context = hidden.getContext("2d", {willReadFrequently: true});
  context.drawImage(other, 0, 0);
  sure = context.getImageData(0, 0, other.width, other.height);
};
other.src = facts.confidence;
slider.oninput();
