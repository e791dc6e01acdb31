// How often each value is there, among what was found and among all that the filters allow; a click filters.

import { call } from "./api.js";
import { el, spoken } from "./dom.js";
import { fieldName, isChosen, rangeOf, toggled, typed, valueInWords, valuesOf, without } from "./filters.js";
import { number, t } from "./words.js";

const SHOWN = 6;
const MOST = 40;

/**
 * Counts of the fields with chosen values, over what the other filters allow: else nobody could add a second brand.
 * A field that cannot be counted anew is left as it is.
 */
export async function widened(facets, filters, signal) {
  const chosen = Object.keys(facets).filter((field) => valuesOf(filters, field).length);
  const counted = chosen.map(async (field) => {
    const body = { fields: [field], filters: without(filters, field) };
    const answer = await call("v1/facets", { body, signal });
    return [field, { ...facets[field], allowed: answer.facets[field] }];
  });
  const settled = await Promise.allSettled(counted);
  const known = settled.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
  return { ...facets, ...Object.fromEntries(known) };
}

/** The facets of an answer; `change` takes the new filters. */
export function facetList(facets, fields, filters, change) {
  const boxes = Object.entries(facets).map(([field, counts]) => {
    const state = { field, counts, facts: fields[field] ?? {}, filters, change };
    return field === "price" ? rangeBox(state) : valueBox(state);
  });
  return el("div", { class: "facets" }, boxes);
}

function valueBox(state) {
  const { field, counts, filters } = state;
  const found = counts.retrieved ?? {};
  const names = new Set([
    ...valuesOf(filters, field).map(String),
    ...Object.keys(found),
    ...Object.keys(counts.allowed ?? {}),
  ]);
  const values = [...names].slice(0, MOST);
  if (!values.length) return null;
  const items = values.map((value) => valueItem(state, value));
  const rest = items.slice(SHOWN);
  const more =
    rest.length > 0 &&
    el(
      "details",
      { "data-open": `more ${field}` },
      el("summary", {}, t("facets.more", { n: rest.length })),
      el("ul", {}, rest),
    );
  return box(field, el("ul", {}, items.slice(0, SHOWN)), more);
}

function valueItem({ field, counts, facts, filters, change }, value) {
  const toggle = () => change(toggled(filters, field, typed(value, facts)));
  const chosen = isChosen(filters, field, typed(value, facts));
  const input = el("input", {
    type: "checkbox",
    checked: chosen,
    "data-key": `${field} ${value}`,
    onchange: toggle,
  });
  const found = counts.retrieved?.[value] ?? 0;
  const allowed = counts.allowed?.[value] ?? 0;
  const count = el(
    "span",
    { class: "count" },
    el("span", { "aria-hidden": "true" }, `${number(found)} / ${number(allowed)}`),
  );
  return el(
    "li",
    {},
    el(
      "label",
      {},
      input,
      el("span", {}, valueInWords(field, value)),
      count,
      spoken(t("facets.counts", { found, allowed })),
    ),
  );
}

function rangeBox({ field, counts, facts, filters, change }) {
  const { min, max } = counts.allowed ?? {};
  if (min === undefined && !(field in filters)) return null;
  const now = filters[field] ?? {};
  const end = (name, value, bound) =>
    el("input", {
      name,
      inputmode: "decimal",
      autocomplete: "off",
      value,
      placeholder: bound,
      "aria-label": `${fieldName(field)}: ${t(`filters.${name}`)}`,
      "data-key": `${field} ${name}`,
    });
  const apply = (event) => {
    event.preventDefault();
    const { from, to } = Object.fromEntries(new FormData(event.target));
    const range = rangeOf(from, to, { type: "number", ...facts });
    change(range ? { ...filters, [field]: range } : without(filters, field));
  };
  const form = el(
    "form",
    { class: "row", onsubmit: apply },
    end("from", now.gte ?? now.gt, min === undefined ? null : number(min)),
    el("span", { "aria-hidden": "true" }, "–"),
    end("to", now.lte ?? now.lt, max === undefined ? null : number(max)),
    el("button", { "data-key": `${field} apply` }, t("filters.apply")),
  );
  return box(field, form);
}

function box(field, ...content) {
  return el("fieldset", {}, el("legend", {}, fieldName(field)), content);
}
