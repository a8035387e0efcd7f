const canvas = byId("map"), slider = byId("opacity");
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
  const gone = new Set(colors.filter((color, value) => off[value]).map(String));
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
image.src = facts.map;
slider.oninput();
