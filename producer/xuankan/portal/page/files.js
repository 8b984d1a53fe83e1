// Files: dropped anywhere on the page, or chosen.

import * as api from "./api.js";
import { $, h } from "./dom.js";
import { fill } from "./form.js";
import { foundReferences, forgetReferences, readReferences } from "./references.js";
import { t, translate } from "./speech.js";

// Endings of papers; of two files that are given together, the other one is the reference list.
const PAPER = /\.(docm|docx|latex|ltx|markdown|md|nxml|odt|pdf|tex|text|txt|zip)$/i;
let reading = 0;

function say(parts, wrong = false) {
  $("file-state").replaceChildren(...parts.map(({ text, lang }) => h("span", { lang }, `${text} `)));
  $("file-state").classList.toggle("wrong", wrong);
}

export const forget = () => {
  reading += 1;
  say([]);
  forgetReferences();
};

/** A manuscript, and its reference list if there are two files. */
function readAll(files) {
  const paper = files.find(({ name }) => PAPER.test(name)) ?? files[0];
  const list = files.find((file) => file !== paper);
  if (paper) read(paper, list);
}

async function read(file, list) {
  const mine = (reading += 1);
  say([{ text: t("reading_file", { name: file.name }) }]);
  $("drop").classList.add("busy");
  try {
    const found = await api.extract(file);
    if (mine !== reading) return;
    if (list) readReferences(list);
    const warnings = found.warnings.map((warning) => translate(warning));
    if (found.manuscripts.length > 1) {
      if (found.left_out) warnings.push({ text: t("file_left_out", { n: found.left_out }) });
      say([{ text: t("file_many", { name: file.name, n: found.manuscripts.length }) }, ...warnings]);
      pick(file, found.manuscripts, warnings);
    } else take(file, found.manuscripts[0], warnings);
  } catch (problem) {
    if (mine !== reading) return;
    if (!(problem instanceof api.Problem)) throw problem;
    if (problem.code === "unauthorized") document.dispatchEvent(new Event("key-wanted"));
    say([translate(problem.message, problem.code)], true);
  } finally {
    if (mine === reading) $("drop").classList.remove("busy");
  }
}

function take(file, manuscript, warnings) {
  fill(manuscript);
  foundReferences(file.name, manuscript);
  say([{ text: t("file_read", { name: file.name }) }, ...warnings]);
  $("title").focus();
}

/** Let the author choose among a bibliography's entries. */
function pick(file, manuscripts, warnings) {
  const search = $("pick-search");
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    const shown = manuscripts.filter(({ title, abstract }) => words.every((word) => `${title} ${abstract}`.toLowerCase().includes(word)));
    $("pick-list").replaceChildren(
      ...shown.map((manuscript) =>
        h(
          "li",
          {},
          h(
            "button",
            { type: "button", onclick: () => ($("pick").close(), take(file, manuscript, warnings)) },
            h("b", {}, manuscript.title || t("untitled")),
            h("span", { class: "hint" }, manuscript.abstract ? `${manuscript.abstract.slice(0, 140)} …` : t("no_abstract")),
          ),
        ),
      ),
    );
    if (!shown.length) $("pick-list").append(h("li", { class: "hint" }, t("pick_none")));
  };
  search.value = "";
  search.oninput = show;
  show();
  $("pick").showModal();
}

$("file").addEventListener("change", () => {
  readAll([...$("file").files]);
  $("file").value = ""; // the same file may be chosen again
});

const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
let inside = 0;
addEventListener("dragenter", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  inside += 1;
  $("dropping").hidden = false;
});
addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
addEventListener("dragleave", (event) => {
  if (!carriesFile(event)) return;
  inside = Math.max(0, inside - 1);
  $("dropping").hidden = inside === 0;
});
addEventListener("drop", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  inside = 0;
  $("dropping").hidden = true;
  readAll([...event.dataTransfer.files]);
});
