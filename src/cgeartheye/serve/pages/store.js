// What the parts of the page share. A part names the fields that it shows, and is called when one changes.

export const state = {
  view: "make", // or label, jobs, job
  scenes: [],
  leftOut: [], // the operator's files that cannot be mapped, each with its reason
  scene: null,
  more: [], // ids of scenes that make one mosaic with it
  after: null, // the scene of a second date
  apps: [],
  app: null,
  fits: {}, // by the id of an application: whether the scene fits it
  estimate: null, // of what would be run now
  options: {}, // of the map, where they are not the application's own
  area: null, // GeoJSON Polygon; none: all
  jobs: [],
  job: null, // the one that is shown
  language: "", // en or zh, once it is chosen
};

const listeners = [];

export function on(fields, listener) {
  listeners.push([fields, listener]);
}

export function set(changes) {
  const changed = Object.keys(changes).filter((name) => state[name] !== changes[name]);
  Object.assign(state, changes);
  for (const [fields, listener] of listeners) {
    if (fields.some((name) => changed.includes(name))) listener(changed);
  }
}
