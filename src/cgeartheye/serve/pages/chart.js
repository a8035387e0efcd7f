// A small chart of shares against counts.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, MARGIN] = [320, 96, 26];

function node(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/** Draw points [count, share] as a line, shares from 0 to 100 %. */
export function chart(points, label) {
  const counts = points.map(([count]) => count);
  const [low, high] = [Math.min(...counts), Math.max(...counts, Math.min(...counts) + 1)];
  const x = (count) => MARGIN + ((count - low) / (high - low)) * (WIDTH - MARGIN - 8);
  const y = (share) => 8 + (1 - share) * (HEIGHT - 26);
  const drawn = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    drawn.append(node("line", { x1: MARGIN, x2: WIDTH - 8, y1: y(share), y2: y(share) }));
    drawn.append(node("text", { x: MARGIN - 4, y: y(share) + 3, "text-anchor": "end" }, `${100 * share}`));
  }
  for (const count of [low, high]) drawn.append(node("text", { x: x(count), y: HEIGHT - 4, "text-anchor": "middle" }, `${count}`));
  drawn.append(node("polyline", { points: points.map(([count, share]) => `${x(count)},${y(share)}`).join(" ") }));
  const [count, share] = points.at(-1);
  drawn.append(node("circle", { cx: x(count), cy: y(share), r: 3.5 }));
  return drawn;
}
