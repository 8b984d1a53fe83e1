// A few journals side by side.

import { $, h, outside } from "./dom.js";
import { access, bar, charge, languages, page, papers } from "./journal.js";
import { number, percent, t } from "./speech.js";

const MOST = 4;
const chosen = new Map();

/** The box on a journal's card that chooses it. */
export function compareBox(place) {
  const id = place.journal.id;
  const box = h("input", { type: "checkbox", "aria-label": t("compare_one", { name: place.journal.title }), "data-journal": id });
  box.checked = chosen.has(id);
  box.addEventListener("change", () => {
    if (box.checked && chosen.size >= MOST) {
      box.checked = false;
      $("live").textContent = $("tray-count").textContent = t("compare_full", { max: MOST });
      return;
    }
    if (box.checked) chosen.set(id, place);
    else chosen.delete(id);
    showTray();
  });
  return h("label", { class: "compare-box" }, box, h("span", { "aria-hidden": "true" }, t("compare_short")));
}

export function clearCompared() {
  chosen.clear();
  for (const box of document.querySelectorAll("input[data-journal]")) box.checked = false;
  showTray();
}

export function showTray() {
  $("tray").hidden = chosen.size === 0;
  document.body.classList.toggle("with-tray", chosen.size > 0);
  $("tray-count").textContent = t("compare_count", { n: chosen.size, max: MOST });
  $("tray-compare").disabled = chosen.size < 2;
}

function table() {
  const places = [...chosen.values()].sort((one, other) => one.rank - other.rank);
  const best = Math.max(...places.map(({ score }) => score));
  const unknown = () => h("span", { class: "hint" }, t("charge_unknown"));
  const rows = [
    ["fit", ({ score }) => [bar(score, best), percent(score)]],
    ["rank", ({ rank }) => number(rank)],
    ["publisher", ({ journal }) => journal.publisher],
    ["access", ({ journal }) => (journal.open_access ? access(journal) : null)],
    ["apc_row", ({ journal }) => charge(journal)],
    ["licence", ({ journal }) => journal.licence],
    ["published_in", ({ journal }) => languages(journal)],
    ["country", ({ journal }) => journal.country],
    ["quartile", ({ journal }) => journal.quartile],
    ["issn", ({ journal }) => journal.issns.join(", ")],
    ["subjects", ({ journal }) => journal.subjects.join(", ")],
    ["cited_row", ({ cited }) => (cited === null ? null : number(cited))],
    ["similar", (place) => (place.evidence.length ? papers(place) : null)],
    ["evidence", ({ journal }) => (journal.examples?.length ? h("ul", { lang: "en" }, journal.examples.map((title) => h("li", {}, title))) : null)],
    ["homepage", ({ journal }) => (page(journal) ? outside(page(journal), t("visit"), `${journal.title}, ${t("new_tab")}`) : null)],
  ].filter(([, of]) => places.some((place) => of(place)));
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("journal")), places.map(({ journal }) => h("th", { scope: "col" }, journal.title)))),
    h("tbody", {}, rows.map(([name, of]) => h("tr", {}, h("th", { scope: "row" }, t(name)), places.map((place) => h("td", {}, of(place) || unknown()))))),
  );
}

$("tray-compare").addEventListener("click", () => {
  $("compare-table").replaceChildren(table());
  $("compare").showModal();
});
$("tray-clear").addEventListener("click", clearCompared);
