// Choosing a scene, and uploading one.

import { get, send, upload } from "./api.js";
import { $, announce, el, fill, toast } from "./dom.js";
import { gsd, percent, squareKm, t } from "./i18n.js";
import { look, ready, showOutlines } from "./map.js";
import { on, set, state } from "./store.js";

const MANY = 6; // scenes from which a search helps
const unread = state.scenes;

export async function loadScenes() {
  const { scenes, left_out: leftOut } = await get("scenes");
  set({ leftOut, scenes });
}

export const sceneOf = (id) => state.scenes.find((scene) => scene.id === id) ?? null;

export function pickScene(id, moving = true) {
  const scene = sceneOf(id);
  if (!scene || scene === state.scene) return;
  set({ scene, more: [], area: null, after: state.after?.id === id ? null : state.after });
  look(scene.bounds, moving);
}

export function factsOf(scene) {
  const size = t("pixels", { width: scene.width, height: scene.height });
  return [size, gsd(scene.gsd), squareKm(scene.square_km), scene.datetime?.slice(0, 10).replaceAll(":", "-")];
}

function render() {
  const wanted = $("#scene-filter").value.trim().toLowerCase();
  $("#scene-filter").hidden = state.scenes.length <= MANY;
  $("#scene-filter").placeholder = t("filter-scenes");
  const found = state.scenes.filter((scene) => scene.label.toLowerCase().includes(wanted));
  const empty = el("p", { class: "hint" }, t(state.scenes === unread ? "loading" : state.scenes.length ? "nothing-found" : "no-scenes"));
  fill($("#scenes"), found.length ? found.map(row) : empty, leftOut());
}

/** The operator's files that are no scenes, with their reasons. */
function leftOut() {
  if (!state.leftOut.length) return null;
  const facts = state.leftOut.map(({ reason }) => el("li", {}, reason)); // which begins with the file's name
  const open = $("#scenes details")?.open ?? false;
  return el("details", { open }, el("summary", { "data-key": "left-out" }, t("left-out", { count: facts.length })), el("ul", {}, facts));
}

/** Whether a scene can be one mosaic with the chosen one: the same grid and the same bands. */
function together(scene) {
  const first = state.scene;
  if (!first || scene.id === first.id || scene.id === state.after?.id) return false;
  return ["crs", "bands", "dtype"].every((fact) => scene[fact] === first[fact]) && Math.abs(scene.gsd / first.gsd - 1) < 1e-4;
}

function join(scene, joined) {
  set({ more: joined ? [...state.more, scene.id] : state.more.filter((id) => id !== scene.id), area: null });
}

function row(scene) {
  const chosen = scene.id === state.scene?.id;
  return el(
    "div",
    { class: chosen ? "row chosen" : "row" },
    el(
      "label",
      {},
      el("input", {
        type: "radio",
        name: "scene",
        checked: chosen,
        "data-key": scene.id,
        onchange: () => pickScene(scene.id),
      }),
      el("span", {}, el("b", {}, scene.label), el("small", {}, factsOf(scene).filter(Boolean).join(" · "))),
    ),
    together(scene) &&
      el("label", { class: "join" },
        el("input", { type: "checkbox", checked: state.more.includes(scene.id), "data-key": `join-${scene.id}`,
          "aria-label": t("join-scene", { name: scene.label }), onchange: (event) => join(scene, event.target.checked) }),
        t("join")),
    scene.uploaded &&
      el("button", {
        type: "button",
        class: "icon",
        "aria-label": t("delete-scene", { name: scene.label }),
        title: t("delete-scene", { name: scene.label }),
        onclick: () => remove(scene),
      }, "×"),
  );
}

async function remove(scene) {
  if (!confirm(t("sure-scene", { name: scene.label }))) return;
  try {
    await send("DELETE", `scenes/${scene.id}`);
    if (state.scene?.id === scene.id) set({ scene: null, more: [], area: null });
    set({ more: state.more.filter((id) => id !== scene.id) });
    if (state.after?.id === scene.id) set({ after: null });
    await loadScenes();
  } catch (error) {
    toast(error.message);
  }
}

async function sendFile(file) {
  const ending = new AbortController();
  const bar = el("progress", { max: 1, value: 0, "aria-label": file.name });
  const text = el("span", {}, file.name);
  const box = el(
    "div",
    { class: "upload" },
    text,
    el("button", { type: "button", class: "link", onclick: () => ending.abort() }, t("cancel")),
    bar,
  );
  $("#uploads").append(box);
  const showShare = (share) => {
    bar.value = share;
    if (share >= 1) bar.removeAttribute("value"); // the server takes its time to look at it
    text.textContent = t(share < 1 ? "uploading" : "checking", { name: file.name, share: percent(share, 0) });
  };
  showShare(0);
  try {
    const made = await upload(file, showShare, ending.signal);
    if (!made) return;
    await loadScenes();
    set({ view: "make" });
    pickScene(made.id);
    announce(t("uploaded", { name: made.label }));
  } catch (error) {
    toast(`${file.name}: ${error.message}`);
  } finally {
    box.remove();
  }
}

export function startScenes() {
  on(["scenes", "leftOut", "scene", "more", "after", "language"], render);
  on(["scenes"], () => ready.then(() => showOutlines(state.scenes, (id) => state.scene ?? pickScene(id))));
  $("#scene-filter").addEventListener("input", render);
  $("#file").addEventListener("change", (event) => {
    for (const file of event.target.files) sendFile(file);
    event.target.value = "";
  });
  const over = $("#dropping");
  addEventListener("dragenter", (event) => {
    if (event.dataTransfer.types.includes("Files")) over.hidden = false;
  });
  addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
  addEventListener("dragleave", (event) => (over.hidden ||= !event.relatedTarget));
  addEventListener("drop", (event) => {
    over.hidden = true;
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    for (const file of event.dataTransfer.files) sendFile(file);
  });
}
