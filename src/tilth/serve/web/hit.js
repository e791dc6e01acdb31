// One hit: what it is, why it is there, and what the user does with it.

import { el, outside, spoken, webAddress } from "./dom.js";
import { eventOf, tell } from "./feedback.js";
import { fieldName, valueInWords } from "./filters.js";
import { announce, failure } from "./notices.js";
import { why } from "./why.js";
import { money, named, number, t } from "./words.js";

let forms = 0; // labels need ids that are there once

/** A hit as an item of the list; `change` is the place for its change of rank. */
export function hitItem(hit, impressionId) {
  const change = el("span", { class: "change" });
  const told = el("div", {});
  const article = el(
    "article",
    {},
    el(
      "h3",
      {},
      title(hit, (event) => clicked(event, hit, impressionId, told)),
    ),
    prices(hit),
    facts(hit),
    hit.description && el("p", { class: "description" }, hit.description),
    attributes(hit.attributes ?? {}),
    el("div", { class: "more" }, why(hit), details(hit), rejection(hit, impressionId)),
    told,
  );
  const rank = el("div", { class: "rank" }, spoken(t("hit.rank")), number(hit.rank), change);
  return { hit, item: el("li", { class: "hit", tabindex: -1 }, rank, article), change };
}

function clicked(event, hit, impressionId, told) {
  if (event.type === "auxclick" && event.button !== 1) return; // the middle button opens the link, the right one does not
  tell(eventOf("click", impressionId, hit)).catch((error) => told.replaceChildren(failure(error)));
}

function title(hit, follow) {
  const address = webAddress(hit.link);
  if (address === null) return hit.title;
  return outside(address, hit.title, t("newTab"), { onclick: follow, onauxclick: follow });
}

function prices({ price, sale_price: sale }) {
  if (!price && !sale) return null;
  const now = el("strong", { class: "price" }, money(sale ?? price));
  const before = sale && price && [" ", spoken(t("hit.before")), el("s", { class: "quiet" }, money(price))];
  return el("p", { class: "prices" }, sale && spoken(t("hit.sale")), now, before);
}

function facts(hit) {
  const rating =
    hit.rating !== undefined && t("hit.rating", { rating: hit.rating, n: hit.rating_count ?? 0 });
  const texts = [hit.brand, hit.product_type, rating].filter(Boolean);
  const availability =
    hit.availability &&
    el(
      "span",
      { class: `state ${hit.availability.replace(/\W/g, "")}` },
      named("availability", hit.availability),
    );
  return el(
    "p",
    { class: "facts" },
    availability,
    texts.map((text) => el("span", {}, text)),
  );
}

function attributes(given) {
  const pairs = Object.entries(given).map(([name, value]) =>
    el("li", {}, el("span", { class: "quiet" }, `${name}: `), valueInWords(name, value)),
  );
  return pairs.length ? el("ul", { class: "attributes", "aria-label": t("hit.attributes") }, pairs) : null;
}

/** What is left to say: identifiers, and the picture, which is a link and never loaded here. */
function details(hit) {
  const names = ["product_id", "gtin", "mpn", "item_group_id", "popularity", "clicks"];
  const known = names.filter((name) => hit[name] !== undefined && hit[name] !== null && hit[name] !== "");
  const pairs = known.map((name) => [el("dt", {}, fieldName(name)), el("dd", {}, String(hit[name]))]);
  return el("details", {}, el("summary", {}, t("hit.details")), el("dl", {}, pairs), pictureLink(hit));
}

export function pictureLink({ image_link: image }) {
  if (!image) return null;
  const address = webAddress(image);
  return el("p", {}, address === null ? image : outside(address, t("picture"), t("newTab")));
}

/** A form with which a hit is called not relevant, for a reason. */
function rejection(hit, impressionId) {
  forms += 1;
  const id = `reason-${forms}`;
  const reasons = ["kind", "size", "accessory", "price", "stock"].map((name) =>
    el("option", { value: t(`reject.${name}`) }),
  );
  const input = el("input", { id, name: "reason", autocomplete: "off", maxlength: 500, list: `${id}-list` });
  const said = el("div", {});
  const box = el("details", { class: "reject" }, el("summary", {}, t("reject")));
  const event = (reason) => eventOf("rejected", impressionId, hit, reason ? { reason } : {});
  const send = async (told) => {
    try {
      await tell(told);
      box.replaceWith(el("p", { class: "quiet" }, t("reject.done")));
      announce(t("reject.done"));
    } catch (error) {
      said.replaceChildren(failure(error, () => send(told)));
    }
  };
  const submit = (submitted) => {
    submitted.preventDefault();
    send(event(input.value.trim()));
  };
  const list = el("datalist", { id: `${id}-list` }, reasons);
  box.append(
    el(
      "form",
      { class: "row", onsubmit: submit },
      el("label", { for: id }, t("reject.reason")),
      input,
      list,
      el("button", {}, t("reject.send")),
    ),
    said,
  );
  return box;
}
