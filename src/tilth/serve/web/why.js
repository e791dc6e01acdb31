// Why a hit is there, and where the time of an answer went.

import { el, wide } from "./dom.js";
import { fieldName } from "./filters.js";
import { named, number, percent, significant, t } from "./words.js";

const COLOURS = 8; // of the style sheet

/** The evidence of one hit. */
export function why(hit) {
  const { places = {}, matched = {}, identified = false } = hit.explanation ?? {};
  return el(
    "details",
    { class: "why" },
    el("summary", {}, t("why")),
    identified && el("p", {}, t("why.identified")),
    placesTable(places),
    matchedList(matched),
    el("p", {}, t("why.score", { score: significant(hit.score, 4) })),
    hit.probability !== null &&
      hit.probability !== undefined &&
      el("p", {}, t("why.probability", { share: percent(hit.probability) })),
  );
}

function placesTable(places) {
  const rows = Object.entries(places).map(([retriever, { rank, score }]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, named("retriever", retriever)),
      el("td", { class: "number" }, number(rank)),
      el("td", { class: "number" }, significant(score, 4)),
    ),
  );
  if (!rows.length) return el("p", {}, t("why.noPlace"));
  const head = ["why.retriever", "why.rank", "why.itsScore"].map((key, place) =>
    el("th", { scope: "col", class: place > 0 && "number" }, t(key)),
  );
  return wide(t("why.places"), el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}

function matchedList(matched) {
  const terms = Object.entries(matched);
  if (!terms.length) return el("p", {}, t("why.noTerm"));
  const pairs = terms.map(([term, fields]) => [
    el("dt", {}, term),
    el("dd", {}, fields.map(fieldName).join(", ")),
  ]);
  return [el("p", {}, t("why.matched")), el("dl", {}, pairs)];
}

/** A bar of the stages, drawn to scale, with the same in words. */
export function timings(milliseconds) {
  const stages = Object.entries(milliseconds).filter(([, value]) => typeof value === "number");
  if (!stages.length) return null;
  const total = stages.reduce((sum, [, value]) => sum + value, 0);
  const bar = el("div", { class: "bar", "aria-hidden": "true" });
  const parts = stages.map(([stage, value], place) => {
    const part = el("span", { class: `part part-${place % COLOURS}`, title: named("stage", stage) });
    part.style.flexGrow = String(value);
    bar.append(part);
    const sample = el("span", { class: `sample part-${place % COLOURS}`, "aria-hidden": "true" });
    return el("li", {}, sample, `${named("stage", stage)} ${number(value, 1)}`);
  });
  return el(
    "div",
    { class: "timings" },
    el("p", {}, t("timings", { total: number(total, 1) })),
    bar,
    el("ul", {}, parts),
  );
}
