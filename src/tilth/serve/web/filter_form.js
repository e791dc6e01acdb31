// Conditions, chosen from what the catalogue has or typed as JSON.

import { choice, el, labelled, spoken } from "./dom.js";
import {
  added,
  conditionOf,
  fieldName,
  inWords,
  isAttribute,
  operatorsOf,
  readFilters,
  valueInWords,
  without,
} from "./filters.js";
import { number, t } from "./words.js";

/** What is filtered by now, each with a button that takes it away. */
export function chips(filters, change) {
  const chip = ([field, condition]) =>
    el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "chip",
          "data-key": `chip ${field}`,
          onclick: () => change(without(filters, field)),
        },
        inWords(field, condition),
        el("span", { "aria-hidden": "true" }, " ×"),
        spoken(` ${t("filters.remove")}`),
      ),
    );
  const entries = Object.entries(filters);
  if (!entries.length) return null;
  const all = el(
    "button",
    { type: "button", class: "plain", "data-key": "chips", onclick: () => change({}) },
    t("filters.clear"),
  );
  return el(
    "ul",
    { class: "chips", "aria-label": t("filters.now") },
    entries.map(chip),
    entries.length > 1 && el("li", {}, all),
  );
}

/** The form that adds one condition: the field, what is asked of it, and the value. */
export function conditionForm(fields, filters, change) {
  const field = fieldChoice(fields);
  const values = el("div", { class: "stack" });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const facts = () => fields[field.value] ?? {};
  const redraw = () => values.replaceChildren(...inputs(field.value, facts()));
  const add = (event) => {
    event.preventDefault();
    const typed = Object.fromEntries(new FormData(event.target));
    const condition = conditionOf(typed.operator, typed, facts());
    wrong.textContent = condition === null ? t("filters.noValue") : "";
    if (condition !== null) change(added(filters(), field.value, condition));
  };
  field.addEventListener("change", redraw);
  redraw();
  const button = el("button", { "data-key": "add condition" }, t("filters.add"));
  return el(
    "form",
    { class: "stack", onsubmit: add, "aria-label": t("filters.new") },
    labelled(t("filters.field"), field),
    values,
    wrong,
    button,
  );
}

function fieldChoice(fields) {
  const option = (field) => el("option", { value: field }, fieldName(field));
  const names = Object.keys(fields);
  const own = names.filter((field) => !isAttribute(field));
  const others = names.filter(isAttribute);
  const group = (label, some) => some.length > 0 && el("optgroup", { label }, some.map(option));
  const select = el(
    "select",
    { id: "condition-field" },
    group(t("filters.own"), own),
    group(t("filters.attributes"), others),
  );
  if (own.includes("brand")) select.value = "brand";
  return select;
}

function inputs(field, facts) {
  const options = operatorsOf(facts.type).map((name) => [name, t(`operator.${name}`)]);
  const operator = choice("condition-operator", options, options[0][0], { name: "operator" });
  const place = el("div", {});
  const redraw = () => place.replaceChildren(...valueInputs(field, operator.value, facts).filter(Boolean));
  operator.addEventListener("change", redraw);
  redraw();
  return [labelled(t("filters.operator"), operator), place];
}

function valueInputs(field, operator, facts) {
  if (operator === "range") return [rangeInputs(facts)];
  if (operator === "exists" || operator === "missing") return [];
  if (facts.type === "boolean") {
    const yesNo = [
      ["true", t("yes")],
      ["false", t("no")],
    ];
    return [labelled(t("filters.value"), choice("condition-value", yesNo, "true", { name: "value" }))];
  }
  const known = (facts.values ?? []).map(({ value, count }) =>
    el("option", { value: String(value) }, `${valueInWords(field, value)} (${number(count)})`),
  );
  const input = el("input", {
    id: "condition-value",
    name: "value",
    autocomplete: "off",
    list: "condition-values",
  });
  return [labelled(t("filters.value"), input), el("datalist", { id: "condition-values" }, known)];
}

function rangeInputs(facts) {
  const end = (name, bound) => {
    const type = facts.type === "date" ? "date" : "text";
    const properties = {
      id: `condition-${name}`,
      name,
      type,
      inputmode: type === "text" && "decimal",
      autocomplete: "off",
    };
    return labelled(t(`filters.${name}`), el("input", { ...properties, placeholder: bound }));
  };
  const unit = facts.unit && el("p", { class: "quiet" }, t("filters.unit", { unit: facts.unit }));
  return el(
    "div",
    { class: "stack" },
    el("div", { class: "row" }, end("from", facts.min), end("to", facts.max)),
    unit,
  );
}

/** All filters as JSON, to be edited; what is wrong stands beside it. */
export function jsonForm(filters, change) {
  const text = el("textarea", {
    id: "filters-json",
    rows: 6,
    spellcheck: "false",
    "aria-describedby": "filters-json-wrong",
  });
  const wrong = el("p", { class: "wrong", id: "filters-json-wrong", role: "alert" });
  const box = el("details", {}, el("summary", {}, t("filters.json")));
  const refuse = (message) => {
    wrong.textContent = message;
    text.toggleAttribute("aria-invalid", message !== "");
    if (message) text.setAttribute("aria-invalid", "true");
    if (message) box.open = true;
  };
  const apply = (event) => {
    event.preventDefault();
    try {
      change(readFilters(text.value));
      refuse("");
    } catch (error) {
      refuse(error.message);
    }
  };
  const show = (now) => {
    text.value = Object.keys(now).length ? JSON.stringify(now, null, 2) : "";
    refuse("");
  };
  show(filters);
  const button = el("button", {}, t("filters.apply"));
  box.append(
    el("form", { class: "stack", onsubmit: apply }, labelled(t("filters.jsonLabel"), text, wrong), button),
  );
  return { box, show, refuse };
}
