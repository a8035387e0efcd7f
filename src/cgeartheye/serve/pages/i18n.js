// Words in English and Chinese, and numbers as people write them.

import { set, state } from "./store.js";
import { WORDS } from "./words.js";

const KEPT = "cgeartheye-language";
const LOCALES = { en: "en-GB", zh: "zh-CN" };

export function t(key, values = {}) {
  const text = WORDS[state.language]?.[key] ?? WORDS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function chooseLanguage(language) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  try {
    localStorage.setItem(KEPT, language);
  } catch {
    // it is asked again next time
  }
  set({ language });
  translate(document);
}

export function firstLanguage() {
  let kept = null;
  try {
    kept = localStorage.getItem(KEPT);
  } catch {
    // no storage: the browser's language
  }
  return kept in WORDS ? kept : navigator.language.startsWith("zh") ? "zh" : "en";
}

/** Put the words into elements that name them: `data-t` their text, `data-t-label` their label. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.tagName === "BUTTON" || node.tagName === "A") node.title = t(node.dataset.tLabel);
  }
  document.title = t("title");
}

/** Return a sentence of the server in the page's language, where its translation is known. */
export function sentence(text) {
  if (state.language === "en") return text;
  for (const [pattern, chinese] of SENTENCES) {
    if (pattern.test(text)) return text.replace(pattern, chinese);
  }
  return text;
}

export const number = (value, digits = 3) =>
  new Intl.NumberFormat(LOCALES[state.language], { maximumSignificantDigits: digits }).format(value);

export const squareKm = (value) => `${number(value)} km²`;
export const hectares = (value) => `${number(value)} ${t("ha")}`;
export const percent = (share, digits = 1) =>
  new Intl.NumberFormat(LOCALES[state.language], { style: "percent", maximumFractionDigits: digits }).format(share);
export const gsd = (value) => `${number(value, 2)} ${t("m/px")}`;

export function area(squareMeters) {
  return squareMeters < 10_000 ? `${number(squareMeters)} m²` : hectares(squareMeters / 10_000);
}

export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return t("seconds", { s: whole });
  if (whole < 3600) return t("minutes", { m: Math.floor(whole / 60), s: whole % 60 });
  return t("hours", { h: Math.floor(whole / 3600), m: Math.floor((whole % 3600) / 60) });
}

export function when(iso) {
  const format = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(LOCALES[state.language], format).format(new Date(iso));
}

const SENTENCES = [
  [
    /^the scene has ([\d.]+) m\/px, and '(.*)' sees ([\d.]+) m\/px.*$/,
    "影像分辨率为 $1 米/像素，而“$2”需要 $3 米/像素：要找的目标在此影像中太小",
  ],
  [
    /^the scene has ([\d.]+) m\/px, far finer than the ([\d.]+) m\/px of '(.*)'.*$/,
    "影像分辨率为 $1 米/像素，远高于“$3”的 $2 米/像素：该应用不适用于此类影像",
  ],
  [/^the area is outside of the scene$/, "所绘区域在影像范围之外"],
  [/^([\d.,]+) km2 are more than the ([\d.,]+) km2 that a job may have.*$/, "$1 km² 超过单个任务上限 $2 km²：请画小一些的区域"],
  [/^the file is larger than ([\d.,]+) MB$/, "文件超过上限 $1 MB"],
  [/^send a GeoTIFF, PNG, JPEG or JPEG 2000$/, "请上传 GeoTIFF、PNG、JPEG 或 JPEG 2000 文件"],
  [/^the file has no CRS or no place in it.*$/, "文件没有坐标参考系，无法定位：请用 gdal_edit 添加"],
  [/^the file cannot be read as.*$/, "文件已损坏，或不是可读取的栅格"],
  [/^this token is not known$/, "令牌无效"],
  [/^send a token.*$/, "需要访问令牌"],
  [/^the token '(.*)' may not do this: it needs the scope '(.*)'$/, "令牌“$1”无此权限：需要 $2 权限"],
  [/^the server has no room for more.*$/, "服务器空间已满：请删除任务和上传的影像，或联系管理员"],
  [/^(\d+) jobs of '.*' wait or run, and (\d+) are allowed.*$/, "已有 $1 个任务在排队或运行，上限为 $2：请等待其中一个结束"],
  [/^there is no job of this id$/, "没有此任务"],
  [/^there is no scene of this id: GET \/scenes has the ids$/, "没有此影像"],
];
