// Elements made by code: text stays text, so that no name of a scene or a class is ever read as HTML.

export const $ = (selector, root = document) => root.querySelector(selector);

/** Make an element: attributes by name, `on...` as listeners, then its children. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Put children in the place of those that a node has; the focus stays where it was. */
export function fill(node, ...children) {
  const key = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  node.replaceChildren(...children.flat().filter(Boolean));
  if (key) node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export const color = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;

/** Tell a screen reader, and nobody else. */
export function announce(text) {
  $("#live").textContent = text;
}

let hiding = 0;

/** Show a sentence for some seconds. */
export function toast(text, kind = "error") {
  const node = $("#toast");
  node.className = kind;
  node.setAttribute("role", kind === "error" ? "alert" : "status");
  node.textContent = text;
  node.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (node.hidden = true), kind === "error" ? 10_000 : 3_000);
}
