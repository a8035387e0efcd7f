// Start of the page.

import { onTokenNeeded, send } from "./api.js";
import { loadApps, startApps } from "./apps.js";
import { $, toast } from "./dom.js";
import { chooseLanguage, firstLanguage, sentence, t } from "./i18n.js";
import { startJob } from "./job.js";
import { loadJobs, startJobs } from "./jobs.js";
import { startKeyboard } from "./keyboard.js";
import { startLabel } from "./label.js";
import { startLink } from "./link.js";
import { map, outlinesVisible, ready, showScene } from "./map.js";
import { startOptions } from "./options.js";
import { startPlan } from "./plan.js";
import { loadScenes, startScenes } from "./scenes.js";
import { on, set, state } from "./store.js";

function showView() {
  for (const view of ["make", "label", "jobs", "job"]) $(`#${view}`).hidden = state.view !== view;
  for (const button of document.querySelectorAll("[data-view]")) {
    const current = button.dataset.view === (state.view === "job" ? "jobs" : state.view);
    if (current) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  // What had the focus may have gone with its view.
  if (!document.activeElement.checkVisibility()) $("#panel").focus();
}

function showMap() {
  ready.then(() => {
    outlinesVisible(state.view !== "job" && !state.scene);
    if (state.view !== "job") showScene(state.after && state.app?.dates === 2 ? state.after : state.scene);
  });
}

let asking = null;

/** Ask for a token, once however many requests want one. */
function askToken(problem) {
  asking ??= new Promise((resolve) => {
    const dialog = $("#token");
    const form = dialog.querySelector("form");
    $("#token-problem").textContent = /known/.test(problem) ? sentence(problem) : "";
    form.token.value = "";
    dialog.showModal();
    dialog.oncancel = (event) => event.preventDefault(); // there is nothing to see without one
    form.onsubmit = async () => {
      await send("POST", "session", { token: form.token.value.trim() });
      asking = null;
      resolve();
    };
  });
  return asking;
}

function nameControls() {
  for (const [name, key] of [["in", "zoom-in"], ["out", "zoom-out"]]) {
    const button = $(`.maplibregl-ctrl-zoom-${name}`);
    button.title = t(key);
    button.setAttribute("aria-label", t(key));
  }
  map.getCanvas().setAttribute("aria-label", t("map"));
}

async function start() {
  onTokenNeeded(askToken);
  const parts = [startScenes, startApps, startOptions, startPlan, startJobs, startJob, startLabel, startKeyboard];
  for (const part of parts) part();
  on(["view"], showView);
  on(["view", "scene", "after", "app", "scenes"], showMap);
  on(["language"], nameControls);
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => set({ view: button.dataset.view }));
  }
  $("#language").addEventListener("click", () => chooseLanguage(state.language === "en" ? "zh" : "en"));
  $("#larger").addEventListener("click", (event) => {
    const large = document.body.classList.toggle("large-map");
    event.currentTarget.setAttribute("aria-pressed", String(large));
    map.resize();
  });
  chooseLanguage(firstLanguage());
  nameControls();
  try {
    await Promise.all([loadScenes(), loadApps(), loadJobs()]);
    await startLink();
    if (!location.hash.includes("scene=") && !location.hash.includes("job=") && state.scenes.length) lookAtAll();
  } catch (error) {
    toast(error.message);
  }
  document.body.dataset.ready = "";
}

/** Begin where the scenes are. */
function lookAtAll() {
  const edge = (index, pick) => pick(...state.scenes.map((scene) => scene.bounds[index]));
  const corners = [[edge(0, Math.min), edge(1, Math.min)], [edge(2, Math.max), edge(3, Math.max)]];
  map.fitBounds(corners, { padding: 60, duration: 0, maxZoom: 15 });
}

window.cgeartheye = { map, state }; // for the console and for tests
start();
