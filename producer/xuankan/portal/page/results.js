// A ranking as the author sees it.

import { compareBox } from "./compare.js";
import { h, outside } from "./dom.js";
import { save, toBibtex, toCsv, toJson } from "./export.js";
import { access, bar, charge, languages, page, papers } from "./journal.js";
import { number, percent, seconds, t, translate } from "./speech.js";

const STEP = 10;

export function showRanking(ranking, manuscript, shown = STEP) {
  const places = ranking.journals;
  const list = h("ol", { class: "places" }, places.slice(0, shown).map((place) => card(place, places[0].score)));
  const rest = Math.min(STEP, places.length - shown);
  const more = h("button", { type: "button", class: "more" }, rest > 0 ? t("more", { n: rest }) : "");
  more.addEventListener("click", () => {
    const added = places.slice(shown, shown + STEP).map((place) => card(place, places[0].score));
    shown += added.length;
    list.append(...added);
    added[0].querySelector("h3").focus();
    if (shown >= places.length) more.remove();
    else more.textContent = t("more", { n: Math.min(STEP, places.length - shown) });
  });
  const warnings = ranking.warnings.map((warning) => translate(warning));
  return {
    shown: () => shown,
    elements: [
      head(ranking, manuscript),
      ...(ranking.few_fit ? [h("p", { class: "few-fit", role: "note" }, t("few_fit"))] : []),
      ...(warnings.length ? [h("ul", { class: "warnings" }, warnings.map(({ text, lang }) => h("li", { lang }, text)))] : []),
      list,
      ...(rest > 0 ? [more] : []),
      h("p", { class: "hint" }, t("fit_help", { n: ranking.scored })),
      h("p", { class: "hint made" }, t("release", ranking)),
    ],
  };
}

function head(ranking, manuscript) {
  const timings = ranking.timings_ms;
  const total_s = Object.values(timings).reduce((sum, part) => sum + (part ?? 0), 0) / 1000;
  const name = "journals";
  const kinds = [
    ["CSV", () => save(`${name}.csv`, "text/csv", toCsv(ranking))],
    ["JSON", () => save(`${name}.json`, "application/json", toJson(ranking, manuscript))],
    ["BibTeX", () => save(`${name}.bib`, "application/x-bibtex", toBibtex(ranking))],
  ];
  return h(
    "div",
    { class: "result-head" },
    h(
      "div",
      {},
      h("p", { class: "result-title" }, ranking.scored === 1 ? t("ranked_one") : t("ranked", { n: ranking.scored })),
      h("p", { class: "hint" }, [manuscript?.title, t("time", { n: ranking.scored, s: seconds(total_s) })].filter(Boolean).join(" · ")),
    ),
    h(
      "div",
      { class: "exports", role: "group", "aria-label": t("export") },
      h("span", { class: "hint", "aria-hidden": "true" }, t("export")),
      kinds.map(([kind, work]) => h("button", { type: "button", class: "quiet", onclick: work }, kind)),
    ),
  );
}

function card(place, best) {
  const { journal } = place;
  const facts = [
    journal.publisher,
    journal.country,
    journal.issns.length ? `ISSN ${journal.issns.join(", ")}` : null,
    journal.quartile ? `${t("quartile")} ${journal.quartile}` : null,
    languages(journal),
    journal.licence,
  ].filter(Boolean);
  return h(
    "li",
    { class: "place" },
    h("span", { class: "rank", "aria-hidden": "true" }, number(place.rank)),
    h(
      "div",
      { class: "body" },
      h("h3", { tabindex: "-1" }, h("span", { class: "unseen" }, `${place.rank}. `), outside(page(journal), journal.title, t("new_tab"))),
      h("p", { class: "fit" }, bar(place.score, best), h("span", {}, t("fit_of", { percent: percent(place.score) }))),
      place.cited ? h("p", { class: "cited" }, place.cited === 1 ? t("cited_once") : t("cited", { n: place.cited })) : null,
      place.evidence.length ? h("section", { class: "similar" }, h("h4", {}, t("similar")), papers(place)) : null,
      h(
        "p",
        { class: "badges" },
        h("span", { class: `badge ${journal.open_access ?? "unknown"}` }, access(journal)),
        charge(journal) && journal.open_access !== "diamond" ? h("span", { class: "badge plain" }, charge(journal)) : null,
      ),
      h("p", { class: "facts" }, facts.flatMap((fact, index) => [index ? " · " : "", h("span", {}, fact)])),
      journal.subjects.length ? h("p", { class: "subjects", lang: "en" }, journal.subjects.join(", ")) : null,
      h(
        "div",
        { class: "place-foot" },
        !place.evidence.length && journal.examples?.length
          ? h("details", {}, h("summary", {}, t("evidence")), h("ul", { lang: "en" }, journal.examples.map((title) => h("li", {}, title))), h("p", { class: "hint" }, t("evidence_note")))
          : null,
        compareBox(place),
      ),
    ),
  );
}
