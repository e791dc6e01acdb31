// Filters as the service reads them: a field to its condition. Everything here gives a new object.

import { named, number, t } from "./words.js";

const ATTRIBUTE = "attributes.";
const LOGIC = ["and", "or", "not"];
const OPERATORS = {
  presence: ["exists", "missing"],
  boolean: ["is", "exists", "missing"],
  number: ["range", "is", "exists", "missing"],
  date: ["range", "is", "exists", "missing"],
  path: ["prefix", "is", "exists", "missing"],
};
const BOUNDS = [
  ["gte", "≥"],
  ["gt", ">"],
  ["lte", "≤"],
  ["lt", "<"],
];
const FACETS = ["product_type", "brand", "availability", "price"];
const ATTRIBUTE_FACETS = 5;
const MOST_DISTINCT = 40; // beyond, nobody chooses from a list

/** What can be asked of a field of this type. */
export const operatorsOf = (type) => OPERATORS[type] ?? ["is", "exists", "missing"];

export function fieldName(field) {
  return field.startsWith(ATTRIBUTE) ? field.slice(ATTRIBUTE.length) : named("field", field);
}

export const isAttribute = (field) => field.startsWith(ATTRIBUTE);

/** The fields whose values are counted beside the hits. */
export function facetFields(fields) {
  const chosen = Object.entries(fields)
    .filter(
      ([field, { type, distinct = 0 }]) =>
        isAttribute(field) && type !== "presence" && distinct > 1 && distinct <= MOST_DISTINCT,
    )
    .slice(0, ATTRIBUTE_FACETS) // those of the most products come first
    .map(([field]) => field);
  return [...FACETS.filter((field) => !Object.keys(fields).length || field in fields), ...chosen];
}

/** A value as it was typed or counted, in the type that the field has. */
export function typed(text, facts = {}) {
  if (facts.type === "boolean") return text === "true";
  const amount = Number(text.trim().replace(",", "."));
  return facts.type === "number" && text.trim() !== "" && !Number.isNaN(amount) ? amount : text.trim();
}

export function valuesOf(filters, field) {
  const condition = filters[field];
  if (condition === undefined || (typeof condition === "object" && !Array.isArray(condition))) return [];
  return [condition].flat();
}

export const isChosen = (filters, field, value) =>
  valuesOf(filters, field).some((one) => String(one) === String(value));

/** With the value chosen where it was not, and the other way round. */
export function toggled(filters, field, value) {
  const chosen = valuesOf(filters, field);
  const others = chosen.filter((one) => String(one) !== String(value));
  return withValues(filters, field, others.length < chosen.length ? others : [...chosen, value]);
}

function withValues(filters, field, values) {
  if (!values.length) return without(filters, field);
  return { ...filters, [field]: values.length === 1 ? values[0] : values };
}

export function without(filters, field) {
  return Object.fromEntries(Object.entries(filters).filter(([name]) => name !== field));
}

/** With a condition added: another value stands beside those before, anything else replaces them. */
export function added(filters, field, condition) {
  const isValue = typeof condition !== "object";
  if (isValue && isChosen(filters, field, condition)) return filters;
  return isValue
    ? withValues(filters, field, [...valuesOf(filters, field), condition])
    : { ...filters, [field]: condition };
}

/** The condition that an operator makes of what was typed; null where nothing was. */
export function conditionOf(operator, { value = "", from = "", to = "" }, facts) {
  if (operator === "exists" || operator === "missing") return { exists: operator === "exists" };
  if (operator === "range") return rangeOf(from, to, facts);
  if (value.trim() === "") return null;
  return operator === "prefix" ? { prefix: value.trim() } : typed(value, facts);
}

/** A range; null where both ends are open. */
export function rangeOf(from, to, facts) {
  const ends = {};
  if (from.trim() !== "") ends.gte = typed(from, facts);
  if (to.trim() !== "") ends.lte = typed(to, facts);
  return Object.keys(ends).length ? ends : null;
}

/** One condition in words. */
export function inWords(field, condition) {
  if (LOGIC.includes(field)) return `${t(`logic.${field}`)}: ${JSON.stringify(condition)}`;
  return `${fieldName(field)}: ${conditionInWords(field, condition)}`;
}

function conditionInWords(field, condition) {
  if (Array.isArray(condition)) return condition.map((one) => valueInWords(field, one)).join(` ${t("or")} `);
  if (condition === null || typeof condition !== "object") return valueInWords(field, condition);
  return Object.entries(condition)
    .map(([name, value]) => operatorInWords(name, value))
    .join(", ");
}

function operatorInWords(name, value) {
  const bound = BOUNDS.find(([operator]) => operator === name);
  if (bound) return `${bound[1]} ${typeof value === "number" ? number(value) : String(value)}`;
  if (name === "exists") return value ? t("operator.exists") : t("operator.missing");
  if (name === "prefix") return `${value} ${t("operator.below")}`;
  return JSON.stringify({ [name]: value });
}

/** A value as people read it. */
export function valueInWords(field, value) {
  if (field === "availability") return named("availability", value);
  if (value === true || value === "true") return t("yes");
  if (value === false || value === "false") return t("no");
  return typeof value === "number" ? number(value) : String(value);
}

/** Filters out of JSON that somebody typed. Throws an Error with what is wrong. */
export function readFilters(text) {
  if (text.trim() === "") return {};
  let filters;
  try {
    filters = JSON.parse(text);
  } catch (error) {
    throw new Error(t("filters.notJson", { detail: error.message }));
  }
  if (filters === null || typeof filters !== "object" || Array.isArray(filters))
    throw new Error(t("filters.notObject"));
  return filters;
}
