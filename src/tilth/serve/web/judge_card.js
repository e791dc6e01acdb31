// The pair to be judged: query, product with all that is known of it, and the grades with their meanings.

import { el, outside, webAddress } from "./dom.js";
import { fieldName, valueInWords } from "./filters.js";
import { pictureLink } from "./hit.js";
import { keysSwitch } from "./judge_keys.js";
import { money, named, number, percent, t } from "./words.js";

const FIRST = ["brand", "product_type", "price", "sale_price", "availability"];
const ELSEWHERE = ["title", "attributes", "image_link", "link", "description"];

export function pairCard(judging, actions) {
  const { pair, highest } = judging;
  return el(
    "section",
    { class: "pair", tabindex: -1, "aria-label": t("judge.pair") },
    el(
      "div",
      { class: "card" },
      el("h2", {}, el("span", { class: "quiet" }, t("judge.query")), " ", el("q", {}, pair.query)),
      reasonOfChoice(pair),
    ),
    productCard(pair.product),
    gradeForm(judging, highest, actions),
  );
}

/** Closed at first: whoever knows which system found a product grades less freely. */
function reasonOfChoice({ why }) {
  return why
    ? el("details", { class: "quiet" }, el("summary", {}, t("judge.why")), el("p", { lang: "en" }, why))
    : null;
}

function productCard(product) {
  const order = [
    ...FIRST,
    ...Object.keys(product).filter((name) => !FIRST.includes(name) && !ELSEWHERE.includes(name)),
  ];
  const facts = order
    .filter((name) => isThere(product[name]))
    .map((name) => pairOf(fieldName(name), valueOf(name, product[name])));
  const attributes = Object.entries(product.attributes ?? {}).map(([name, value]) =>
    pairOf(name, valueInWords(name, value)),
  );
  const address = webAddress(product.link);
  return el(
    "article",
    { class: "card product" },
    el("h3", {}, product.title),
    isThere(product.description) && el("p", {}, product.description),
    el("dl", {}, facts, attributes),
    address && el("p", {}, outside(address, t("judge.link"), t("newTab"))),
    pictureLink(product),
  );
}

const isThere = (value) => value !== undefined && value !== null && value !== "";
const pairOf = (name, value) => [el("dt", {}, name), el("dd", {}, value)];

function valueOf(name, value) {
  if (name === "price" || name === "sale_price") return money(value);
  if (name === "availability") return named("availability", value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function gradeForm(judging, highest, actions) {
  const chosen = judging.chosen;
  const button = (grade) =>
    el(
      "button",
      {
        type: "button",
        class: "grade",
        "aria-pressed": String(grade === chosen),
        onclick: () => actions.grade(grade),
      },
      el("kbd", {}, String(grade)),
      el(
        "span",
        {},
        el("strong", {}, t(`grade${highest}.${grade}`)),
        " ",
        el("span", { class: "quiet" }, t(`grade${highest}.${grade}.means`)),
      ),
    );
  const grades = Array.from({ length: highest + 1 }, (_, place) => button(highest - place));
  return el(
    "div",
    { class: "grading" },
    el("div", { role: "group", "aria-label": t("judge.grades"), class: "grades" }, grades),
    reasonField(judging),
    otherActions(actions),
  );
}

function reasonField(judging) {
  const input = el("input", {
    id: "reason",
    autocomplete: "off",
    maxlength: 1000,
    value: judging.reason,
    oninput: () => (judging.reason = input.value),
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      input.closest(".pair").focus();
    }
  });
  return el(
    "div",
    { class: "field" },
    el("label", { for: "reason" }, t("judge.reason"), " ", el("kbd", {}, "r")),
    input,
  );
}

function otherActions({ skip, undo, help }) {
  const button = (key, text, onclick) =>
    el("button", { type: "button", onclick }, text, " ", el("kbd", { "aria-hidden": "true" }, key));
  return el(
    "div",
    { class: "row" },
    button("s", t("judge.skip"), skip),
    button("u", t("judge.undo"), undo),
    button("?", t("judge.help"), help),
    keysSwitch(),
  );
}

/** How far one is, and how far judges agree. */
export function progressOf(progress, agreement) {
  if (!progress) return null;
  const { mine = 0, left = 0 } = progress;
  const bar = el("progress", {
    max: Math.max(mine + left, 1),
    value: mine,
    "aria-label": t("judge.progressBar"),
  });
  return el(
    "div",
    { class: "progress" },
    bar,
    el("p", {}, t("judge.progress", { mine, left })),
    agreementOf(agreement),
  );
}

function agreementOf(agreement) {
  if (!agreement?.pairs || agreement.exact === null)
    return el("p", { class: "quiet" }, t("judge.noAgreement"));
  const text = t("judge.agreement", { share: percent(agreement.exact), n: agreement.pairs });
  const kappa =
    agreement.kappa !== null &&
    agreement.kappa !== undefined &&
    ` ${t("judge.kappa", { kappa: number(agreement.kappa, 2) })}`;
  return el("p", { class: "quiet" }, text, kappa);
}
