// The manuscript's reference list: from its own file, or from a bibliography beside it.

import * as api from "./api.js";
import { $, h } from "./dom.js";
import { t, translate } from "./speech.js";

/** {name, references, cited, warnings, given} of the list that counts, or null; `given` beside the manuscript. */
let list = null;
let reading = 0;

/** Journal id -> how many references are to it, or null where nothing is known of them. */
export const cited = () => list?.cited ?? null;

/** Of a manuscript's own file; a list that was given beside it stays. */
export function foundReferences(name, found) {
  if (list?.given) return;
  list = found.references ? { ...found, name, warnings: [], given: false } : null;
  showReferences();
}

export function forgetReferences() {
  reading += 1;
  list = null;
  showReferences();
}

export async function readReferences(file) {
  forgetReferences();
  const mine = reading;
  say([{ text: t("reading_file", { name: file.name }) }]);
  try {
    const found = await api.references(file);
    if (mine !== reading) return;
    list = { name: file.name, ...found, given: true };
    showReferences();
  } catch (problem) {
    if (mine !== reading) return;
    if (!(problem instanceof api.Problem)) throw problem;
    if (problem.code === "unauthorized") document.dispatchEvent(new Event("key-wanted"));
    say([translate(problem.message, problem.code)], true);
  }
}

/** Say again, in the language that was chosen, what is known. */
export function showReferences() {
  if (list === null) {
    say([]);
    return;
  }
  const counts = Object.values(list.cited);
  const found = { name: list.name, n: list.references, known: counts.reduce((sum, count) => sum + count, 0), journals: counts.length };
  say([{ text: t("references_read", found) }, ...list.warnings.map((warning) => translate(warning))]);
  $("references-state").append(
    h("button", { type: "button", class: "chip", "aria-label": t("remove", { name: t("references") }), onclick: () => (forgetReferences(), $("references").focus()) }, h("span", { "aria-hidden": "true" }, "×")),
  );
}

function say(parts, wrong = false) {
  $("references-state").replaceChildren(...parts.map(({ text, lang }) => h("span", { lang }, `${text} `)));
  $("references-state").classList.toggle("wrong", wrong);
}

$("references").addEventListener("change", () => {
  const [file] = $("references").files;
  if (file) readReferences(file);
  $("references").value = ""; // the same file may be chosen again
});
