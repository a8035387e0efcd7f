// The address of the page: what is chosen and where the map is, so that it can be sent to others.

import { get } from "./api.js";
import { appOf } from "./apps.js";
import { toast } from "./dom.js";
import { stay } from "./job.js";
import { map } from "./map.js";
import { pickScene, sceneOf } from "./scenes.js";
import { on, set, state } from "./store.js";

function write() {
  const parts = new URLSearchParams();
  const { lng, lat } = map.getCenter();
  if (state.view === "job" && state.job) parts.set("job", state.job.jobID);
  else if (state.view === "jobs") parts.set("list", "1");
  else {
    if (state.scene) parts.set("scene", state.scene.id);
    if (state.after) parts.set("after", state.after.id);
    if (state.app) parts.set("app", state.app.id);
  }
  parts.set("view", [map.getZoom().toFixed(2), lat.toFixed(6), lng.toFixed(6)].join("/"));
  history.replaceState(null, "", `#${decodeURIComponent(parts.toString())}`);
}

async function read() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const [zoom, lat, lng] = (parts.get("view") ?? "").split("/").map(Number);
  const placed = [zoom, lat, lng].every(Number.isFinite) && Math.abs(lat) < 86;
  if (parts.has("scene")) pickScene(parts.get("scene"), false);
  set({ app: appOf(parts.get("app")), after: sceneOf(parts.get("after")) });
  if (parts.has("list")) set({ view: "jobs" });
  if (/^[0-9a-f]{32}$/.test(parts.get("job") ?? "")) {
    try {
      const job = await get(`jobs/${parts.get("job")}`);
      if (placed) stay();
      set({ view: "job", job });
    } catch (error) {
      toast(error.message);
    }
  }
  if (placed) map.jumpTo({ center: [lng, lat], zoom });
}

export async function startLink() {
  await read();
  on(["view", "scene", "after", "app", "job"], write);
  map.on("moveend", write);
  addEventListener("hashchange", read);
  write();
}
