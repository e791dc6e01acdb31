// The answer to a query, with further pages; and two answers beside each other.

import { call } from "./api.js";
import { el, spoken } from "./dom.js";
import { hitItem } from "./hit.js";
import { announce, failure } from "./notices.js";
import { named, number, percent, t } from "./words.js";
import { timings } from "./why.js";

/** A column with the first page of an answer; `ask` asks for the page of a cursor. */
export function column(answer, name, ask, changed = () => {}) {
  const list = el("ol", { class: "hits", "aria-label": t("results.hits", { name }) });
  const foot = el("div", { class: "foot" });
  const hits = [];
  const element = el(
    "section",
    { class: "column", "aria-label": name },
    heading(answer, name),
    banner(answer),
    list,
    foot,
    aside(answer),
  );
  const add = (page) => {
    const items = (page.hits ?? []).map((hit) => hitItem(hit, page.impression_id));
    hits.push(...items);
    list.append(...items.map(({ item }) => item));
    foot.replaceChildren(...[page.cursor && moreButton(page.cursor)].filter(Boolean));
    return items;
  };
  const moreButton = (cursor) =>
    el("button", { type: "button", class: "more-hits", onclick: () => more(cursor) }, t("results.more"));
  const more = async (cursor) => {
    foot.setAttribute("aria-busy", "true");
    try {
      const [first] = add(await ask(cursor));
      changed();
      announce(t("results.loaded", { n: hits.length }));
      first?.item.focus();
    } catch (error) {
      if (error.name !== "AbortError") foot.replaceChildren(failure(error, () => more(cursor)));
    } finally {
      foot.removeAttribute("aria-busy");
    }
  };
  add(answer);
  if (!hits.length) list.replaceWith(el("p", {}, t("results.none")));
  return { element, hits };
}

function heading(answer, name) {
  const { retrieved = 0, allowed = 0 } = answer.totals ?? {};
  const order = answer.release ? t("results.byRelease", { release: answer.release }) : t("results.byHybrid");
  return el(
    "header",
    {},
    el("h2", {}, name),
    el("p", { class: "quiet" }, `${t("results.totals", { retrieved, allowed })} ${order}`),
  );
}

function banner({ query, read_as: read, decision }) {
  const corrected =
    read && read !== query && el("p", { class: "notice" }, t("results.readAs"), " ", el("strong", {}, read));
  const refused = decision && !decision.answered;
  const shares = refused && {
    probability: percent(decision.probability),
    threshold: percent(decision.threshold),
  };
  return [
    corrected,
    refused &&
      el(
        "p",
        { class: "notice warn" },
        el("strong", {}, t("results.nothingFits")),
        " ",
        t("results.below", shares),
      ),
  ];
}

/** What was left out, and the time. */
function aside({ skipped = {}, milliseconds = {} }) {
  const items = Object.entries(skipped).map(([stage, reason]) =>
    el("li", {}, `${named("stage", stage)}: `, el("span", { lang: "en" }, reason)),
  );
  const left = items.length > 0 && [el("p", {}, t("results.skipped")), el("ul", {}, items)];
  return el("footer", { class: "quiet" }, left, timings(milliseconds));
}

/** Say of each hit on the right how far it moved, and of each on the left whether it is gone. */
export function markChanges(left, right) {
  const ranks = (hits) => new Map(hits.map(({ hit }) => [hit.product_id, hit.rank]));
  const [before, after] = [ranks(left), ranks(right)];
  for (const { hit, change } of right) change.replaceChildren(...moved(before.get(hit.product_id), hit.rank));
  for (const { hit, change } of left)
    change.replaceChildren(...(after.has(hit.product_id) ? [] : mark("gone", "–", t("change.gone"))));
}

function moved(before, now) {
  if (before === undefined) return mark("new", "+", t("change.new"));
  if (before === now) return mark("same", "=", t("change.same"));
  const [sign, key] = before > now ? ["▲", "change.up"] : ["▼", "change.down"];
  return mark(
    key.slice(7),
    `${sign} ${number(Math.abs(before - now))}`,
    t(key, { n: Math.abs(before - now), before }),
  );
}

function mark(kind, sign, words) {
  return [
    el("span", { class: kind, title: words }, el("span", { "aria-hidden": "true" }, sign), spoken(words)),
  ];
}

/** Ask for one page. */
export function search(request, signal) {
  return call("v1/search", { body: request, signal });
}
