// Small helpers for the document. Text only ever goes in as text, so nothing of a journal or a file is markup.

export const $ = (id) => document.getElementById(id);

/** An element: h("a", {class: "x", href: "/", onclick: f}, "text", child, null). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A link to another site, if the address is one of the web. */
export function outside(url, text, note) {
  if (!/^https?:\/\//i.test(url ?? "")) return text;
  return h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, text, h("span", { class: "unseen" }, ` (${note})`));
}

export function later(wait_ms, work) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait_ms);
  };
}

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
for (const dialog of document.querySelectorAll("dialog")) {
  // A click on the backdrop is a click on the dialog itself.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
