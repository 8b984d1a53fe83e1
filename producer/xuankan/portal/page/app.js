// What happens when: submitting, waiting, showing, and the ways back.

import * as api from "./api.js";
import { clearCompared, showTray } from "./compare.js";
import { $, h } from "./dom.js";
import { forget } from "./files.js";
import * as form from "./form.js";
import { cited, showReferences } from "./references.js";
import { showRanking } from "./results.js";
import { apply, language, percent, seconds, setLanguage, t, translate } from "./speech.js";

const TOP_K = 50;
const DEADLINE_S = 600;
const MAX_CHARACTERS = 100_000;
const SHOW_BUSY_MS = 150;

let service = null;
/** What the right side shows: {kind: "welcome" | "waiting" | "ranking" | "problem", ...}. */
let view = { kind: "welcome" };
let running = null;
let ticking = null;

function show(next) {
  clearInterval(ticking);
  view = next;
  $("problem").replaceChildren();
  $("results").setAttribute("aria-busy", String(view.kind === "waiting"));
  $("submit").disabled = view.kind === "waiting";
  $("cancel").hidden = view.kind !== "waiting";
  const content = $("content");
  if (view.kind === "welcome") content.replaceChildren(welcome());
  else if (view.kind === "waiting") {
    content.replaceChildren(waiting());
    ticking = setInterval(tick, 200);
    tick();
  } else if (view.kind === "ranking") {
    const made = showRanking(view.ranking, view.manuscript, view.shown?.());
    view.shown = made.shown;
    content.replaceChildren(...made.elements);
  } else {
    content.replaceChildren();
    const { text, lang } = view.words ? { text: t(view.words) } : translate(view.problem.message, view.problem.code);
    const again = view.problem?.retry_s ? ` ${t("again_in", { s: view.problem.retry_s })}` : "";
    $("problem").replaceChildren(h("div", { class: "trouble" }, h("b", {}, t("problem")), h("p", {}, h("span", { lang }, text), again)));
  }
}

function welcome() {
  const examples = h("ul", { class: "examples" });
  fetch("page/examples.json")
    .then((answer) => answer.json())
    .then((found) =>
      examples.replaceChildren(
        ...found.map((example) =>
          h("li", {}, h("button", { type: "button", lang: "en", onclick: () => (form.fill(example), forget(), submit()) }, example.title)),
        ),
      ),
    )
    .catch(() => {});
  return h(
    "div",
    { class: "welcome" },
    h("p", {}, t("welcome")),
    h("ul", { class: "gets" }, ["welcome_1", "welcome_2", "welcome_3"].map((name) => h("li", {}, t(name)))),
    h("h3", {}, t("try_one")),
    examples,
  );
}

function waiting() {
  const steps = ["sent", "queued", "running"];
  const at = view.state === undefined ? 0 : view.state.status === "queued" ? 1 : 2;
  const wait_s = view.state?.expected_wait_s;
  const said = at === 0 ? t("sending") : at === 2 ? t("running") : wait_s > 1 ? t("queued_wait", { s: Math.ceil(wait_s) }) : t("queued");
  if ($("live").textContent !== said) $("live").textContent = said;
  return h(
    "div",
    { class: "waiting" },
    h("ol", { class: "steps" }, steps.map((step, place) => h("li", { class: place < at ? "past" : place === at ? "now" : "", "aria-current": place === at ? "step" : null }, t(`step_${step}`)))),
    h("progress", { "aria-label": said, max: 3, value: view.state === undefined ? null : at + 0.5 }),
    h("p", { class: "said" }, h("span", {}, said), h("span", { class: "hint", id: "elapsed", "aria-hidden": "true" })),
    h("ul", { class: "ghosts", "aria-hidden": "true" }, [1, 2, 3, 4].map(() => h("li", {}, h("i"), h("i"), h("i")))),
  );
}

function tick() {
  const elapsed = $("elapsed");
  if (elapsed) elapsed.textContent = t("elapsed", { s: seconds((performance.now() - view.since) / 1000) });
}

async function submit() {
  const manuscript = form.manuscript();
  form.showProblem(null);
  if (!manuscript.title && !manuscript.abstract) {
    form.showProblem(new api.Problem({ field: "title", detail: t("empty") }));
    return;
  }
  if (JSON.stringify(manuscript).length > MAX_CHARACTERS) {
    const field = manuscript.abstract.length > manuscript.title.length ? "abstract" : "title";
    form.showProblem(new api.Problem({ field, detail: t("too_long", { n: MAX_CHARACTERS }) }));
    return;
  }
  const asked = form.filters();
  await track(manuscript, (signal) => api.submit({ ...manuscript, cited: cited(), filters: asked, top_k: TOP_K, deadline_s: DEADLINE_S }, signal));
}

/** Show a request from its first answer to its ranking. A newer one takes its place. */
async function track(manuscript, begin) {
  await stop();
  const mine = (running = { abort: new AbortController(), id: null });
  const { signal } = mine.abort;
  const before = view.kind === "ranking" ? view : { kind: "welcome" };
  const since = performance.now();
  // What is there at once is not announced first.
  const soon = setTimeout(() => show({ kind: "waiting", since, state: mine.state }), SHOW_BUSY_MS);
  $("submit").disabled = true;
  if (matchMedia("(max-width: 60rem)").matches) $("results").scrollIntoView();
  try {
    let answer = await begin(signal);
    mine.id = answer.id;
    history.replaceState(null, "", `#r=${encodeURIComponent(answer.id)}`);
    const seen = (state) => {
      mine.state = state;
      if (view.kind === "waiting") show({ ...view, state });
    };
    if (answer.status !== "done") {
      seen(answer);
      answer = await api.follow(answer.id, seen, signal);
    }
    mine.done = true;
    clearTimeout(soon);
    if (running !== mine) return;
    clearCompared();
    show({ kind: "ranking", ranking: answer, manuscript });
    $("live").textContent = t("done", { n: answer.journals.length, best: `${answer.journals[0].journal.title}, ${percent(answer.journals[0].score)}` });
    $("results").focus({ preventScroll: !matchMedia("(max-width: 60rem)").matches });
  } catch (problem) {
    clearTimeout(soon);
    if (problem.name === "AbortError" || running !== mine) return;
    if (!(problem instanceof api.Problem)) throw problem;
    mine.done = true;
    if (problem.code === "unauthorized") askKey();
    show(before); // what is wrong in a field takes no ranking away
    if (manuscript === null && ["not_found", "cancelled"].includes(problem.code)) show({ kind: "problem", words: "gone" });
    else if (!form.showProblem(problem)) show({ kind: "problem", problem });
  } finally {
    if (running === mine) $("submit").disabled = false;
  }
}

/** Give up what runs, here and on the server. */
async function stop() {
  const old = running;
  running = null;
  if (old === null || old.done) return;
  old.abort.abort();
  if (old.id !== null) await api.cancel(old.id).catch(() => {});
}

async function cancel() {
  const waited = view.kind === "waiting";
  await stop();
  history.replaceState(null, "", location.pathname + location.search);
  show({ kind: "welcome" });
  $("live").textContent = waited ? t("cancelled") : "";
  $("title").focus();
}

function askKey() {
  $("key-button").hidden = false;
  if (!$("key").open) $("key").showModal();
}

async function start() {
  try {
    service = await api.service();
    $("key-button").hidden = !service.key_required;
    showService();
    if (service.key_required && !api.hasKey()) askKey();
    else await form.loadFacets();
  } catch (problem) {
    if (problem instanceof api.Problem && problem.code === "unauthorized") askKey();
  }
}

function showService() {
  if (service === null) return;
  $("service").textContent = t("service", { n: service.journals, version: service.version });
  const trouble = !service.accepting && service.message;
  $("notice").hidden = !trouble;
  if (trouble) {
    const { text, lang } = translate(service.message, "queue_full");
    $("notice").textContent = text;
    $("notice").lang = lang;
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("submit").disabled) submit();
});
$("cancel").addEventListener("click", cancel);
$("reset").addEventListener("click", () => {
  form.fill({});
  form.clearFilters();
  forget();
  clearCompared();
  cancel();
});
$("language").addEventListener("click", () => {
  setLanguage(language === "zh" ? "en" : "zh");
  form.translateForm();
  showReferences();
  showService();
  showTray();
  show(view);
});
$("key-button").addEventListener("click", askKey);
document.addEventListener("key-wanted", askKey);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useKey($("key-value").value.trim());
  $("key-value").value = "";
  $("key").close();
  start();
});

apply();
form.translateForm();
show(view);
start();
const kept = new URLSearchParams(location.hash.slice(1)).get("r");
if (kept) track(null, async () => ({ id: kept, status: "queued" }));
