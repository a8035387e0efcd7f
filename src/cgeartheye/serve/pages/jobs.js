// The list of jobs.

import { appOf } from "./apps.js";
import { ENDED, get, send } from "./api.js";
import { $, el, fill, toast } from "./dom.js";
import { percent, t, when } from "./i18n.js";
import { pickScene } from "./scenes.js";
import { on, set, state } from "./store.js";

const EVERY = 3_000; // ms
let timer = 0;

export async function loadJobs() {
  clearTimeout(timer);
  try {
    set({ jobs: (await get("jobs?limit=200")).jobs });
  } catch (error) {
    if (state.view === "jobs") toast(error.message);
  }
  const active = state.jobs.filter((job) => !ENDED.includes(job.status)).length;
  $("#active").hidden = !active;
  $("#active").textContent = active;
  if (active || state.view === "jobs") timer = setTimeout(loadJobs, EVERY);
}

/** Kinds of jobs that make no map: what their results are is shown elsewhere. */
export const KINDS = ["embed", "application"];

export function titleOf(job) {
  const kind = KINDS.includes(job.processID) && !appOf(job.processID);
  return kind ? t(`job-${job.processID}`) : (appOf(job.processID)?.title ?? job.processID);
}

/** Show what a job is about. */
function openJob(job) {
  if (!KINDS.includes(job.processID)) return set({ view: "job", job });
  const [scene] = job["cgeartheye:scenes"];
  set({ view: job.processID === "embed" ? "label" : "make" });
  pickScene(scene);
}

export const labelsOf = (job) => job["cgeartheye:labels"].join(" → ");

export const status = (job) => el("span", { class: `status ${job.status}` }, t(job.status));

/** Cancel a job, or delete one that has ended; returns whether it was done. */
export async function removeJob(job) {
  const ended = ENDED.includes(job.status);
  if (ended && !confirm(t("sure-job"))) return false;
  try {
    await send("DELETE", `jobs/${job.jobID}`);
    if (ended) toast(t("job-gone"), "hint");
    loadJobs();
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

function row(job) {
  const ended = ENDED.includes(job.status);
  const label = t(ended ? "delete-job" : "cancel-job");
  return el(
    "div",
    { class: "row" },
    el(
      "button",
      { type: "button", class: "open", "data-key": job.jobID, onclick: () => openJob(job) },
      el("span", { class: "line" }, el("b", {}, titleOf(job)), status(job)),
      el("small", {}, labelsOf(job)),
      el("small", {}, when(job.created), job.status === "running" ? ` · ${percent(job.progress / 100, 0)}` : ""),
      job.status === "failed" && el("small", { class: "bad" }, job.message),
    ),
    el("button", { type: "button", class: "icon", "data-key": `x${job.jobID}`, "aria-label": `${label}: ${titleOf(job)}`, title: label, onclick: () => removeJob(job) }, "×"),
  );
}

function render() {
  if (state.view !== "jobs") return;
  const empty = el("p", { class: "hint" }, t("no-jobs"));
  fill($("#job-list"), el("h2", {}, t("jobs")), state.jobs.length ? el("div", { class: "list tall" }, state.jobs.map(row)) : empty);
}

export function startJobs() {
  on(["jobs", "apps", "view", "language"], render);
  on(["view"], () => state.view === "jobs" && loadJobs());
}
