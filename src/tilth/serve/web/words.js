// What the page says, in the language of the user.

import { lasting } from "./storage.js";

const LANGUAGES = { en: "English", ru: "Русский" };

let words = {};
let language = "en";

/** The language that was chosen before, or else the first of the browser's that there is. */
export function preferred() {
  const wanted = [lasting.get("language"), ...navigator.languages.map((code) => code.slice(0, 2))];
  return wanted.find((code) => code in LANGUAGES) ?? "en";
}

export async function speak(code) {
  const response = await fetch(`assets/${code}.json`);
  if (!response.ok) throw new Error(`assets/${code}.json: ${response.status}`);
  [words, language] = [await response.json(), code];
  document.documentElement.lang = code;
}

export async function choose(code) {
  await speak(code);
  lasting.set("language", code);
}

/** The languages that are not spoken now, as [code, name]. */
export function others() {
  return Object.entries(LANGUAGES).filter(([code]) => code !== language);
}

/** The words of a key, with `{name}` filled in; where they depend on a number, on that of `values.n`. */
export function t(key, values = {}) {
  const entry = words[key] ?? key;
  const text = typeof entry === "string" ? entry : form(entry, values.n);
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));
}

function form(entry, n) {
  return entry[new Intl.PluralRules(language).select(n)] ?? entry.other;
}

function shown(value) {
  return typeof value === "number" ? number(value) : String(value);
}

/** The words for a name out of a family (`stage.fuse`), or the name itself where there are none. */
export function named(family, name) {
  const entry = words[`${family}.${name}`];
  return typeof entry === "string" ? entry : String(name);
}

export function number(value, digits = 3) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

/** With that many significant digits: scores are of any size. */
export function significant(value, digits = 3) {
  return new Intl.NumberFormat(language, { maximumSignificantDigits: digits }).format(value);
}

export function percent(value, digits = 1) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits }).format(value);
}

/** `49.95 EUR` as people write it; anything else as it is. */
export function money(text) {
  const parts = /^(\d+(?:\.\d+)?) ([A-Z]{3})$/.exec(text);
  if (!parts) return String(text);
  const style = { style: "currency", currency: parts[2], currencyDisplay: "narrowSymbol" };
  return new Intl.NumberFormat(language, style).format(Number(parts[1]));
}

export function moment(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text ?? "");
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(time);
}
