// The manuscript and the filters.

import * as api from "./api.js";
import { $, h, later } from "./dom.js";
import { languageName, locale, number, t, translate } from "./speech.js";

const TEXTS = ["title", "abstract", "keywords"];
const LISTS = ["publishers", "subjects"];
const chips = { publishers: [], subjects: [] };
let facets = null;
let counted = null;

export const manuscript = () => ({
  title: $("title").value.trim(),
  abstract: $("abstract").value.trim(),
  keywords: $("keywords").value.split(/[,;，；]/).map((word) => word.trim()).filter(Boolean),
});

/** The filters that are set, as the gateway names them. */
export function filters() {
  const access = document.querySelector("input[name=access]:checked").value;
  const found = {
    open_access: access === "" ? null : access === "open",
    max_apc_usd: $("apc").value === "" ? null : Math.max(0, Number($("apc").value)),
    languages: [$("languages").value].filter(Boolean),
    // What stands in a field without Enter counts as well.
    publishers: [...chips.publishers, $("publishers").value.trim()].filter(Boolean),
    subjects: [...chips.subjects, $("subjects").value.trim()].filter(Boolean),
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== null && value.length !== 0));
}

export function fill({ title = "", abstract = "", keywords = [] }) {
  $("title").value = title;
  $("abstract").value = abstract;
  $("keywords").value = keywords.join(", ");
  showProblem(null);
  countWords();
}

/** Say what is wrong beside the field that it is about; false if it is about none. */
export function showProblem(problem) {
  for (const name of ["title", "abstract", "filters"]) {
    $(`${name}-error`).hidden = true;
    $(name).removeAttribute("aria-invalid");
  }
  if (problem === null) return true;
  const asked = problem.field ?? "";
  const name = asked.startsWith("filters") ? "filters" : ["title", "abstract"].find((field) => field === asked);
  if (name === undefined) return false;
  const { text, lang } = translate(problem.message, problem.code);
  const place = $(`${name}-error`);
  place.textContent = text;
  place.lang = lang;
  place.hidden = false;
  if (name === "filters") $("filters").open = true;
  else $(name).setAttribute("aria-invalid", "true");
  $(name === "filters" ? "apc" : name).focus();
  return true;
}

function countWords() {
  const text = $("abstract").value.trim();
  $("words").textContent = text ? t("words", { n: text.split(/\s+/).length }) : "";
}

const countJournals = later(200, async () => {
  const asked = filters();
  if (Object.keys(asked).length === 0) counted = null;
  else {
    try {
      counted = await api.count(asked);
    } catch {
      counted = null; // the ranking itself will say what is wrong
    }
  }
  showCount();
});

function showCount() {
  const shown = counted !== null && facets !== null;
  $("filter-count").textContent = shown ? t("filters_pass", { n: counted, all: facets.journals }) : t("filters_hint");
  $("filter-count").classList.toggle("none", shown && counted === 0);
}

function showChips(list) {
  $(`${list}-chips`).replaceChildren(
    ...chips[list].map((value) =>
      h("button", { type: "button", class: "chip", "aria-label": t("remove", { name: value }), onclick: () => removeChip(list, value) }, value, h("span", { "aria-hidden": "true" }, " ×")),
    ),
  );
}

function addChip(list) {
  const value = $(list).value.trim();
  if (value && !chips[list].includes(value)) chips[list].push(value);
  $(list).value = "";
  showChips(list);
  countJournals();
}

function removeChip(list, value) {
  chips[list] = chips[list].filter((kept) => kept !== value);
  showChips(list);
  $(list).focus();
  countJournals();
}

export function clearFilters() {
  document.querySelector("input[name=access][value='']").checked = true;
  for (const id of ["apc", "languages", ...LISTS]) $(id).value = "";
  for (const list of LISTS) {
    chips[list] = [];
    showChips(list);
  }
  showProblem(null);
  countJournals();
}

export async function loadFacets() {
  facets = await api.facets();
  for (const list of LISTS) $(`${list}-known`).replaceChildren(...facets[list].map(({ value, journals }) => h("option", { value }, `${value} (${number(journals)})`)));
  showLanguages();
  showCount();
}

function showLanguages() {
  const wanted = $("languages").value;
  const names = facets.languages.map(({ value, journals }) => [value, journals, languageName(value)]);
  names.sort((one, other) => one[2].localeCompare(other[2], locale()));
  $("languages").replaceChildren(
    h("option", { value: "" }, t("any_language")),
    ...names.map(([value, journals, name]) => h("option", { value }, `${name} (${number(journals)})`)),
  );
  $("languages").value = wanted;
}

/** Say everything again in the language that was chosen. */
export function translateForm() {
  countWords();
  showCount();
  for (const list of LISTS) showChips(list);
  if (facets !== null) showLanguages();
}

for (const name of TEXTS) $(name).addEventListener("input", () => showProblem(null));
$("abstract").addEventListener("input", countWords);
$("filters").addEventListener("input", countJournals);
$("filters-clear").addEventListener("click", clearFilters);
for (const list of LISTS) {
  $(list).addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || $(list).value.trim() === "") return;
    event.preventDefault();
    addChip(list);
  });
  // A choice from the list arrives at once, not letter by letter.
  $(list).addEventListener("input", (event) => {
    const whole = !(event instanceof InputEvent) || event.inputType === "insertReplacementText";
    if (whole && facets?.[list].some(({ value }) => value === $(list).value)) addChip(list);
  });
}
// The browser may have kept what was typed over a reload.
countWords();
countJournals();
