// The server's API. Addresses are relative to the page, so that it also works below a proxy's path.

import { sentence, t } from "./i18n.js";

export class Problem extends Error {
  constructor(status, detail) {
    super(sentence(detail));
    this.status = status;
  }
}

export const address = (path) => new URL(path, document.baseURI).href;

let askToken = null;

/** Name what asks for a token, and returns when a new one is in the cookie. */
export function onTokenNeeded(ask) {
  askToken = ask;
}

export async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path), options);
  } catch {
    throw new Problem(0, t("offline"));
  }
  if (answer.status === 401 && askToken) {
    await askToken(await messageOf(answer));
    return request(path, options);
  }
  if (!answer.ok) throw new Problem(answer.status, await messageOf(answer));
  return answer;
}

async function messageOf(answer) {
  try {
    return (await answer.json()).detail ?? answer.statusText;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

export const get = async (path) => (await request(path)).json();

export const send = (method, path, body, headers = {}) =>
  request(path, {
    method,
    headers: { "Content-Type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

export const post = async (path, body, headers) => (await send("POST", path, body, headers)).json();

/** Upload a file; `progress` is called with the share that has gone, 0..1. */
export function upload(file, progress, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", address(`scenes?name=${encodeURIComponent(file.name)}`));
    sending.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    sending.onload = () => {
      let body = {};
      try {
        body = JSON.parse(sending.responseText);
      } catch {
        // a proxy's page, perhaps
      }
      if (sending.status === 201) resolve(body);
      else reject(new Problem(sending.status, body.detail ?? `${sending.status} ${sending.statusText}`));
    };
    sending.onerror = () => reject(new Problem(0, t("offline")));
    sending.onabort = () => resolve(null);
    signal.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}

/** Follow a job until it has ended: by server-sent events, or by asking where those do not come through. */
export function follow(job, changed) {
  let stopped = false;
  let timer = 0;
  const events = new EventSource(address(`jobs/${job}/events`));
  const report = (status) => {
    if (stopped) return;
    changed(status);
    if (ENDED.includes(status.status)) stop();
  };
  const ask = async () => {
    try {
      report(await get(`jobs/${job}`));
    } catch (error) {
      if (error.status === 404) stop();
    }
    if (!stopped) timer = setTimeout(ask, 2_000);
  };
  events.onmessage = (event) => report(JSON.parse(event.data));
  events.onerror = () => {
    if (!stopped && events.readyState === EventSource.CLOSED && !timer) ask();
  };
  function stop() {
    stopped = true;
    clearTimeout(timer);
    events.close();
  }
  return stop;
}

export const ENDED = ["successful", "failed", "dismissed"];
