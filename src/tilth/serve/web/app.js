// The frame of the page: which view is shown, in which language.

import { addressOf, parse } from "./address.js";
import { el } from "./dom.js";
import { showFigures } from "./figures.js";
import { showJudging } from "./judge.js";
import { forgetButton, watchKey } from "./keys.js";
import { placeAnnouncer } from "./notices.js";
import { showReports } from "./reports.js";
import { showSearch } from "./search.js";
import { choose, others, preferred, speak, t } from "./words.js";

const VIEWS = { search: showSearch, judge: showJudging, reports: showReports, figures: showFigures };

const main = el("main", { id: "main", tabindex: -1 });
let current = { name: null, view: {} };

async function start() {
  await speak(preferred());
  placeAnnouncer();
  watchKey(drawHeader);
  document.body.prepend(skipLink(), el("header", { class: "top" }), main);
  window.addEventListener("hashchange", () => follow(true));
  follow(false);
}

function skipLink() {
  const skip = (event) => {
    event.preventDefault();
    main.focus();
  };
  return el("a", { class: "skip", href: "#main", onclick: skip }, t("skip"));
}

/** Show what the address names; `moved`: the user went there, so the focus goes along. */
function follow(moved) {
  const { view, values } = parse(location.hash);
  const name = view in VIEWS ? view : "search";
  if (name === current.name && current.view.update) return current.view.update(values);
  return show(name, values, moved);
}

function show(name, values, moved) {
  current.view.leave?.();
  main.replaceChildren();
  current = { name, view: {} };
  document.title = `${t(`nav.${name}`)} – Tilth`;
  drawHeader();
  current.view = VIEWS[name](main, values) ?? {};
  if (moved) main.querySelector("h1")?.focus();
}

function drawHeader() {
  const link = (name) =>
    el("a", { href: addressOf(name), "aria-current": name === current.name && "page" }, t(`nav.${name}`));
  const languages = others().map(([code, text]) =>
    el("button", { type: "button", class: "plain", lang: code, onclick: () => change(code) }, text),
  );
  document.querySelector("header.top").replaceChildren(
    el("span", { class: "brand" }, "Tilth"),
    el(
      "nav",
      { "aria-label": t("nav") },
      el(
        "ul",
        {},
        Object.keys(VIEWS).map((name) => el("li", {}, link(name))),
      ),
    ),
    el("div", { class: "tools" }, forgetButton(), languages),
  );
}

async function change(code) {
  await choose(code);
  document.querySelector("a.skip").textContent = t("skip");
  show(current.name, parse(location.hash).values, false);
  document.querySelector(".tools [lang]").focus();
}

start().catch((error) => document.body.append(el("p", { role: "alert" }, `Tilth: ${error.message}`)));
