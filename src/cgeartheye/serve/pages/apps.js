// Choosing an application: cards, and whether each fits the scene.

import { address, get, post } from "./api.js";
import { $, color, el, fill, toast } from "./dom.js";
import { gsd, number, sentence, t } from "./i18n.js";
import { on, set, state } from "./store.js";

const MANY = 6;
const FEW = 6; // of the classes of an application that its card shows
const unread = state.apps;
// The first of these that a card has is shown on it.
const FIGURES = {
  miou: "mIoU", iou: "IoU", f1: "F1", ap50: "AP50", map50: "mAP50", ap: "AP", accuracy: "OA", top1: "Top-1",
};

export async function loadApps() {
  const items = (await get("apps")).features;
  set({ apps: items.map((item) => ({ id: item.id, ...ownOf(item.properties) })) });
}

function ownOf(properties) {
  const own = Object.entries(properties).filter(([name]) => name.startsWith("cgeartheye:"));
  const { title, description, license } = properties;
  return { title, description, license, ...Object.fromEntries(own.map(([name, value]) => [name.slice(11), value])) };
}

export const appOf = (id) => state.apps.find((app) => app.id === id) ?? null;

/** Inputs of an execution of an application on what is chosen. */
export function inputsOf(app, area) {
  const inputs = { scene: state.more.length ? [state.scene.id, ...state.more] : state.scene.id };
  if (app.dates === 2) inputs.after = state.after.id;
  if (area) inputs.area = area;
  return inputs;
}

/** Ask for each application whether it fits; one of two dates only once the second is chosen. */
async function hold() {
  const scene = state.scene;
  set({ fits: {} });
  if (!scene) return;
  const asked = state.apps.filter((app) => app.dates === 1 || state.after);
  const after = state.after;
  await Promise.all(
    asked.map(async (app) => {
      try {
        const fit = await post(`apps/${app.id}/fit`, inputsOf(app, null));
        if (state.scene === scene && (app.dates === 1 || state.after === after)) {
          set({ fits: { ...state.fits, [app.id]: fit } });
        }
      } catch (error) {
        toast(error.message);
      }
    }),
  );
  if (state.app && state.fits[state.app.id]?.ok === false && state.app.dates === 1) set({ app: null });
}

function render() {
  const wanted = $("#app-filter").value.trim().toLowerCase();
  $("#app-filter").hidden = state.apps.length <= MANY;
  $("#app-filter").placeholder = t("filter-apps");
  const words = (app) => `${app.title} ${t(app.task)} ${app.classes.join(" ")}`.toLowerCase();
  const found = state.apps.filter((app) => words(app).includes(wanted));
  const last = (app) => Number(state.fits[app.id]?.ok === false);
  const sorted = found.toSorted((a, b) => last(a) - last(b) || a.title.localeCompare(b.title));
  const empty = el("p", { class: "hint" }, t(state.apps === unread ? "loading" : state.apps.length ? "nothing-found" : "no-apps"));
  fill($("#apps"), sorted.length ? sorted.map(card) : empty);
}

function card(app) {
  const fit = state.fits[app.id];
  // With another second date it may fit.
  const refused = fit?.ok === false;
  const chosen = state.app?.id === app.id;
  const name = Object.keys(FIGURES).find((key) => Number.isFinite(app.figures[key]));
  const picture = el("img", { src: address(`apps/${app.id}/thumbnail`), alt: "", width: 76, height: 76, loading: "lazy" });
  picture.addEventListener("error", () => picture.replaceWith(el("span", { class: "no-picture" }, app.title.slice(0, 1))));
  const facts = [
    t(app.task),
    app.gsd && gsd(app.gsd),
    name ? `${FIGURES[name]} ${number(app.figures[name])} (${t(part(app))})` : t("not-tested"),
  ];
  const more = app.classes.length > FEW && el("span", { class: "chip" }, `+${app.classes.length - FEW}`);
  return el(
    "div",
    { class: ["card", chosen && "chosen", refused && "refused"].filter(Boolean).join(" ") },
    el(
      "label",
      {},
      el("input", {
        type: "radio",
        name: "app",
        checked: chosen,
        disabled: refused && app.dates === 1,
        "data-key": app.id,
        "aria-describedby": `why-${app.id}`,
        onchange: () => set({ app }),
      }),
      picture,
      el(
        "span",
        { class: "text" },
        el("b", {}, app.title),
        el("small", {}, facts.filter(Boolean).join(" · ")),
        el("span", { class: "classes" }, app.classes.slice(0, FEW).map((one, index) => chip(one, app.colors[index])), more),
      ),
    ),
    el("p", { id: `why-${app.id}`, class: refused ? "why" : "unseen" }, refused ? t("does-not-fit", { why: sentence(fit.problems[0]) }) : ""),
    chosen && app.dates === 2 && second(app),
    chosen && details(app),
  );
}

/** Return of which part of the data the figures are: those of the validation part are better. */
const part = (app) => (app.measured_on?.startsWith("validation") ? "of-validation" : "of-test");

const chip = (name, rgb) => el("span", { class: "chip" }, el("i", { class: "swatch", style: `background: ${color(rgb)}` }), name);

function second() {
  const others = state.scenes.filter((scene) => scene.id !== state.scene?.id);
  if (!others.length) return el("p", { class: "hint" }, t("no-after"));
  const options = others.map((scene) => el("option", { value: scene.id, selected: scene.id === state.after?.id }, scene.label));
  const pick = (event) => set({ after: others.find((scene) => scene.id === event.target.value) ?? null });
  return el(
    "label",
    { class: "second" },
    t("after-label"),
    el("select", { "data-key": "after", onchange: pick }, el("option", { value: "" }, t("after-none")), options),
  );
}

function details(app) {
  return el(
    "details",
    {},
    el("summary", { "data-key": "more" }, t("more")),
    app.description && el("p", {}, app.description),
    app.measured_on && el("p", {}, t("measured", { what: app.measured_on })),
    el("p", {}, t("app-classes", { names: app.classes.join(", ") })),
    el("p", {}, `${t("license", { license: app.license })} · ${t("backbone", { name: app.backbone })}`),
  );
}

export function startApps() {
  on(["apps", "app", "fits", "after", "scenes", "language"], render);
  on(["scene", "after", "apps"], hold);
  $("#app-filter").addEventListener("input", render);
}
