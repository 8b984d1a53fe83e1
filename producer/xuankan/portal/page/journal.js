// What a journal is and costs, in words and as a bar: what the ranking and the comparison both show.

import { h, outside } from "./dom.js";
import { languageName, t } from "./speech.js";

export const access = (journal) => t(journal.open_access ?? "access_unknown");

/** What publishing openly costs, or null where nobody knows. */
export function charge(journal) {
  if (journal.open_access === "diamond" || journal.apc_usd === 0) return t("free");
  return journal.apc_usd === null ? null : t("charge", { n: Math.round(journal.apc_usd) });
}

/** The journal's own page, else its record at the ISSN centre. */
export const page = (journal) => journal.homepage ?? (journal.issns[0] ? `https://portal.issn.org/resource/ISSN/${encodeURIComponent(journal.issns[0])}` : null);

export const languages = (journal) => journal.languages.map(languageName).join(", ");

/** The journal's papers that are most like the manuscript. */
export const papers = ({ evidence }) =>
  h("ul", { lang: "en" }, evidence.map(({ title, year, link }) => h("li", {}, outside(link, title, t("new_tab")), h("span", { class: "year" }, ` ${year}`))));

/** A bar as long as the journal's fit beside the best one's. */
export function bar(score, best) {
  const inner = h("span", {});
  inner.style.width = `${Math.max(1, (100 * score) / (best || 1))}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, inner);
}
