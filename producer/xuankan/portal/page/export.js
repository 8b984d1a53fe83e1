// A ranking as a file. Each function gives the text of one.

const COLUMNS = [
  ["rank", (place) => place.rank],
  ["fit", (place) => place.score],
  ["journal", (place) => place.journal.title],
  ["publisher", (place) => place.journal.publisher],
  ["issn", (place) => place.journal.issns.join("; ")],
  ["country", (place) => place.journal.country],
  ["open_access", (place) => place.journal.open_access],
  ["apc_usd", (place) => place.journal.apc_usd],
  ["licence", (place) => place.journal.licence],
  ["languages", (place) => place.journal.languages.join("; ")],
  ["subjects", (place) => place.journal.subjects.join("; ")],
  ["homepage", (place) => place.journal.homepage],
  ["cited", (place) => place.cited],
  ["similar_papers", (place) => place.evidence.map(({ title, year, link }) => [`${title} (${year})`, link].filter(Boolean).join(" ")).join("; ")],
];

const FORMULA = /^(?:[\s\u200b\ufeff]*[=+\-@＝＋－＠]|[\t\r])/;

/** RFC 4180, with the byte order mark without which Excel misreads accents. */
export function toCsv(ranking) {
  const cell = (value) => {
    const raw = String(value ?? "");
    // A spreadsheet would run a text that begins like a formula, as the title of an imported journal may.
    const text = typeof value === "string" && FORMULA.test(raw) ? `'${raw}` : raw;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = [COLUMNS.map(([name]) => name), ...ranking.journals.map((place) => COLUMNS.map(([, of]) => cell(of(place))))];
  return `\ufeff${rows.map((row) => row.join(",")).join("\r\n")}\r\n`;
}

export const toJson = (ranking, manuscript) => `${JSON.stringify({ manuscript, ...ranking }, null, 2)}\n`;

/** One @misc a journal, which every reference manager takes; UTF-8, as BibTeX's successors and biber read it. */
export function toBibtex(ranking) {
  const escape = (text) => String(text).replace(/[\\{}]/g, "").replace(/[&%$#_]/g, "\\$&").replaceAll("~", "\\textasciitilde{}").replaceAll("^", "\\textasciicircum{}");
  const entries = ranking.journals.map(({ rank, score, journal }) => {
    const fields = {
      title: `{${escape(journal.title)}}`,
      publisher: journal.publisher && escape(journal.publisher),
      issn: journal.issns.join(", "),
      url: /^https?:\/\/[^\s{}\\]+$/i.test(journal.homepage ?? "") ? journal.homepage : "",
      keywords: escape(journal.subjects.join(", ")),
      note: `Xuankan: rank ${rank}, fit ${(100 * score).toFixed(1)}\\,\\%`,
    };
    const lines = Object.entries(fields).filter(([, value]) => value).map(([name, value]) => `  ${name} = {${value}}`);
    return `@misc{${journal.id.replace(/[^\w-]/g, "") || `journal-${rank}`},\n${lines.join(",\n")}\n}\n`;
  });
  return entries.join("\n");
}

export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
