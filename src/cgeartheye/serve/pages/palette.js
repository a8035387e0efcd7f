// Colors of classes: the server's, in the order in which classes are made.

const CHOSEN = [
  "#4285f4", "#2e7d32", "#fbc02d", "#d32f2f", "#8e44ad", "#ff8a65", "#00acc1", "#8d6e63", "#aed581", "#f06292", "#607d8b", "#3949ab",
];

export const hex = (rgb) => `#${rgb.map((level) => level.toString(16).padStart(2, "0")).join("")}`;

/** Return the first color that none of some has. */
export function freeColor(taken) {
  const more = Array.from({ length: taken.length + 1 }, (_, n) => hex([(n * 83 + 40) % 256, (n * 151 + 90) % 256, (n * 47 + 160) % 256]));
  return [...CHOSEN, ...more].find((color) => !taken.includes(color));
}
