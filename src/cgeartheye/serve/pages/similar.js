// More like this: places that look like those that are clicked, in one scene or in all prepared ones.

import { post } from "./api.js";
import { el, toast } from "./dom.js";
import { t } from "./i18n.js";
import { go } from "./map.js";
import { pickScene } from "./scenes.js";

const MODES = ["label", "like", "unlike"];
const TOP = 20;

const fresh = () => ({ mode: "label", asked: { at: [], unlike: [] }, found: [], leftOut: 0 });

let now = fresh();
let everywhere = false;

export const mode = () => now.mode;
export const foundPlaces = () => now.found;

/** Forget what was looked for, unless it is looked for in all scenes. */
export function leaveScene() {
  if (!everywhere) now = fresh();
}

/** Take a click as a place that is looked for, or is not. */
export async function seek(job, place) {
  const kind = now.mode === "like" ? "at" : "unlike";
  now.asked[kind].push(place);
  if (!(await ask(job))) now.asked[kind].pop();
}

async function ask(job) {
  const mine = now;
  if (!mine.asked.at.length) return true;
  try {
    const { features, left_out: leftOut } = await post(`embeddings/${job}/search`, { ...mine.asked, top: TOP, everywhere });
    Object.assign(mine, { found: features, leftOut });
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

/** Buttons that say what a click means; `changed` is called with whether the map is labelled again. */
export function modeButtons(changed) {
  const set = (name) => {
    if (name === "label") now = fresh();
    now.mode = name;
    changed();
  };
  const button = (name) => el("button", { type: "button", "data-key": name, "aria-pressed": String(now.mode === name), onclick: () => set(name) }, t(`label-mode-${name}`));
  return el("div", { class: "segments three", role: "group" }, MODES.map(button));
}

/** The places that were found, ranked; `zoom` is from which they can be seen. */
export function ranking(job, scene, zoom, changed) {
  if (now.mode === "label") return null;
  const widen = async (event) => {
    everywhere = event.target.checked;
    await ask(job);
    changed();
  };
  const visit = ({ scene: other, lon, lat }) => {
    if (other !== scene.id) pickScene(other, false);
    go([lon, lat], zoom);
  };
  const row = ({ properties }) =>
    el(
      "div",
      { class: "row" },
      el(
        "button",
        { type: "button", class: "open", "data-key": `found-${properties.rank}`, onclick: () => visit(properties) },
        t("label-place", { n: properties.rank, score: properties.score.toFixed(2) }),
        everywhere && el("small", {}, properties.label),
      ),
    );
  return [
    el("label", { class: "check" }, el("input", { type: "checkbox", checked: everywhere, "data-key": "everywhere", onchange: widen }), t("label-everywhere")),
    now.found.length
      ? [el("h3", { "aria-live": "polite" }, t("label-found", { count: now.found.length })), el("div", { class: "list" }, now.found.map(row))]
      : el("p", { class: "hint" }, t("label-like-hint")),
    now.leftOut > 0 && el("p", { class: "hint" }, t("label-left-out", { count: now.leftOut })),
  ].flat();
}
