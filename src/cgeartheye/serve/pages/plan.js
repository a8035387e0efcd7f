// The area, what a run will take, and the run.

import { post } from "./api.js";
import { inputsOf } from "./apps.js";
import { $, el, fill, toast } from "./dom.js";
import { draw, hideDrawing, showDrawing, takeRing } from "./draw.js";
import { duration, sentence, squareKm, t } from "./i18n.js";
import { map } from "./map.js";
import { optionsOf } from "./options.js";
import { on, set, state } from "./store.js";

const WAIT = 200; // ms between a change and the question what it costs
const TOOLS = ["all", "rectangle", "polygon", "view"];
let tool = "all";
let key = null;

function render() {
  if (!state.area && !["rectangle", "polygon"].includes(tool)) tool = "all";
  const button = (name) =>
    el("button", { type: "button", "data-key": name, "aria-pressed": String(tool === name), onclick: () => use(name) }, t(`area-${name}`));
  fill($("#area"), TOOLS.map(button));
  const drawing = ["rectangle", "polygon"].includes(tool);
  $("#area-hint").textContent = drawing ? t(state.area ? "hint-edit" : `hint-${tool}`) : "";
}

async function use(name) {
  if (!state.scene) return toast(t("need-scene"), "hint");
  if (name === "view" && !visiblePart()) return toast(t("outside-view"), "hint");
  tool = name;
  if (name === "all") hideDrawing(true);
  else if (name === "view") await takeRing(visiblePart());
  else await draw(name);
  render();
}

/** Return the ring of what the map shows of the scene; none where it shows none. */
function visiblePart() {
  const seen = map.getBounds();
  const [west, south, east, north] = state.scene.bounds;
  const [left, right] = [Math.max(west, seen.getWest()), Math.min(east, seen.getEast())];
  const [low, high] = [Math.max(south, seen.getSouth()), Math.min(north, seen.getNorth())];
  if (left >= right || low >= high) return null;
  return [[left, low], [right, low], [right, high], [left, high], [left, low]];
}

/** Return what is still to be chosen; none: it can be run. */
function missing() {
  if (!state.scene) return t("need-scene");
  if (!state.app) return t("need-app");
  if (state.app.dates === 2 && !state.after) return t("need-after");
  return null;
}

function showEstimate() {
  const { estimate } = state;
  const lack = missing();
  let text = lack ?? t("estimating");
  let bad = false;
  if (!lack && estimate) {
    bad = !estimate.ok;
    const area = squareKm(estimate.square_km ?? 0);
    if (bad) text = sentence(estimate.problems[0]);
    else if (estimate.seconds === null) text = t("estimate-unknown", { area });
    else text = t("estimate", { area, time: duration(estimate.seconds) });
  }
  $("#estimate").textContent = text;
  $("#estimate").classList.toggle("bad", bad);
  $("#run").setAttribute("aria-disabled", String(Boolean(lack || bad || !estimate)));
}

let timer = 0;

function ask() {
  clearTimeout(timer);
  key = crypto.randomUUID?.() ?? String(Math.random());
  set({ estimate: null });
  showEstimate();
  if (missing()) return;
  const mine = key;
  timer = setTimeout(async () => {
    let estimate;
    try {
      estimate = await post(`apps/${state.app.id}/fit`, inputsOf(state.app, state.area));
    } catch (error) {
      estimate = { ok: false, problems: [error.message] };
    }
    if (key === mine) set({ estimate });
  }, WAIT);
}

async function run() {
  if (missing()) return toast(missing(), "hint");
  if (!state.estimate?.ok) return;
  $("#run").disabled = true;
  try {
    const inputs = { ...inputsOf(state.app, state.area), options: optionsOf(state.app) };
    // The key makes a second click, or a lost answer, the same job.
    const headers = { Prefer: "respond-async", "Idempotency-Key": key };
    const job = await post(`processes/${state.app.id}/execution`, { inputs }, headers);
    key = crypto.randomUUID?.() ?? String(Math.random());
    set({ view: "job", job });
  } catch (error) {
    toast(error.message);
  } finally {
    $("#run").disabled = false;
  }
}

export function startPlan() {
  on(["area", "scene", "language"], () => {
    if (!state.area && !state.scene) tool = "all";
    render();
  });
  on(["scene"], () => {
    tool = "all";
    hideDrawing(true);
    render();
  });
  on(["view"], () => state.view === "make" && showDrawing());
  on(["scene", "more", "after", "app", "area", "options"], ask);
  on(["estimate", "language"], showEstimate);
  $("#run").addEventListener("click", run);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !state.area && tool !== "all" && state.view === "make") use("all");
  });
}
