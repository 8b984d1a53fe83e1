// The language of the page: chosen by the reader, else the browser's.

import { en, zh, zhProblems, zhSentences } from "./words.js";

const LANGUAGE = "xuankan.language";
const chosen = () => localStorage.getItem(LANGUAGE) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

export let language = chosen();
export const locale = () => (language === "zh" ? "zh-CN" : "en");

export function t(name, values = {}) {
  const text = (language === "zh" ? zh : en)[name];
  return text.replace(/\{(\w+)\}/g, (_, value) => (typeof values[value] === "number" ? number(values[value]) : values[value]));
}

export const number = (value, digits = 0) => value.toLocaleString(locale(), { maximumFractionDigits: digits });
export const percent = (share) => share.toLocaleString(locale(), { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const seconds = (value) => number(value, value < 9.95 ? 1 : 0);

export function languageName(code) {
  try {
    return new Intl.DisplayNames([locale()], { type: "language" }).of(code);
  } catch {
    return code;
  }
}

/** A sentence of the server in the reader's language, as text and the language that it is in. */
export function translate(sentence, code) {
  const plain = sentence.replace(/^[a-z_.]+(\[\d+\])?: /, "");
  if (language === "zh") {
    const known = zhSentences.find(([pattern]) => pattern.test(sentence));
    if (known) return { text: sentence.match(known[0])[0].replace(known[0], known[1]), lang: "zh" };
    if (code in zhProblems) return { text: zhProblems[code], lang: "zh" };
  }
  return { text: plain.charAt(0).toUpperCase() + plain.slice(1) + (/[.!?]$/.test(plain) ? "" : "."), lang: "en" };
}

export function setLanguage(wanted) {
  language = wanted;
  localStorage.setItem(LANGUAGE, wanted);
  apply();
}

/** Put the words into the page's fixed parts. */
export function apply() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = t("page_title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
  for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
  const button = document.getElementById("language");
  button.textContent = language === "zh" ? "English" : "中文";
  button.lang = language === "zh" ? "en" : "zh";
}
