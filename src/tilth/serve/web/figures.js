// Live figures: what came of the answers that were served, by arm, release, day and kind.

import { addressOf, go } from "./address.js";
import { call } from "./api.js";
import { dayChart } from "./chart.js";
import { choice, el, labelled, wide } from "./dom.js";
import { announce, fill } from "./notices.js";
import { named, number, percent, t } from "./words.js";

const BY = ["arm", "release", "day", "kind"];
const SHOWN = 200; // groups; more are for `tilth stats`

export function showFigures(root, values) {
  const place = el("div", {});
  const form = figuresForm();
  root.append(el("h1", { tabindex: -1 }, t("figures.title")), el("p", {}, t("figures.about")), form, place);
  const update = (now) => {
    const asked = read(now);
    for (const name of BY) form.elements[`by-${name}`].checked = asked.by.includes(name);
    [form.elements.since.value, form.elements.until.value] = [asked.since, asked.until];
    const load = () => call(`v1/stats?${query(asked)}`);
    fill(place, load, (figures) => shown(figures, asked));
  };
  update(values);
  return { update };
}

function read(values) {
  const by = (values.get("by") ?? "day").split(",").filter((name) => BY.includes(name));
  return {
    by,
    since: values.get("since") ?? "",
    until: values.get("until") ?? "",
    rate: values.get("rate") ?? "ctr",
  };
}

function query({ by, since, until }) {
  const days = Object.entries({ since, until }).filter(([, value]) => value !== "");
  const times = days.map(([name, day]) => [name, `${day}T00:00:00Z`]);
  return new URLSearchParams([["by", by.join(",")], ...times]).toString();
}

function figuresForm() {
  const box = (name) => {
    const id = `by-${name}`;
    return el(
      "span",
      { class: "check" },
      el("input", { type: "checkbox", id, name: id }),
      " ",
      el("label", { for: id }, t(`by.${name}`)),
    );
  };
  const day = (name) => labelled(t(`figures.${name}`), el("input", { type: "date", id: name, name }));
  const submit = (event) => {
    event.preventDefault();
    const { since, until } = form.elements;
    const by = BY.filter((name) => form.elements[`by-${name}`].checked);
    const { rate } = read(new URLSearchParams(location.hash.split("?")[1]));
    const again = () => window.dispatchEvent(new HashChangeEvent("hashchange"));
    go(
      addressOf("figures", { by: by.join(",") || "none", since: since.value, until: until.value, rate }),
      again,
    );
  };
  const form = el(
    "form",
    { class: "card row", onsubmit: submit },
    el("fieldset", { class: "plain-set" }, el("legend", {}, t("figures.by")), BY.map(box)),
    day("since"),
    day("until"),
    el("button", { class: "main" }, t("figures.show")),
  );
  return form;
}

function shown(figures, asked) {
  const groups = figures.groups ?? [];
  announce(t("figures.groups", { n: groups.length }));
  if (groups.every((group) => !group.answers && !group.further_pages)) return el("p", {}, t("figures.none"));
  const by = figures.by ?? asked.by;
  const some = groups.slice(0, SHOWN);
  return [
    by.includes("day") && chartSection(groups, by, asked),
    some.length < groups.length &&
      el("p", { class: "notice" }, t("figures.some", { n: SHOWN, all: groups.length })),
    section("figures.rates", rateTable(some, by)),
    section("figures.numbers", numberTable(some, by)),
    section("figures.latency", latencyTable(some, by)),
    figures.orphans > 0 && el("p", { class: "quiet" }, t("figures.orphans", { n: figures.orphans })),
  ];
}

function chartSection(groups, by, asked) {
  const names = namesIn(groups, "rates");
  const rate = names.includes(asked.rate) ? asked.rate : names[0];
  const select = choice(
    "rate",
    names.map((name) => [name, named("rate", name)]),
    rate,
  );
  const place = el("div", {});
  const draw = () =>
    place.replaceChildren(
      dayChart(groups, by, select.value, {
        groupName,
        rateName: named("rate", select.value),
        width: document.getElementById("main").clientWidth,
      }),
    );
  select.addEventListener("change", () => {
    history.replaceState(
      null,
      "",
      addressOf("figures", { by: by.join(","), since: asked.since, until: asked.until, rate: select.value }),
    );
    draw();
  });
  draw();
  return el(
    "section",
    {},
    el("h2", {}, t("figures.days")),
    el("div", { class: "narrow" }, labelled(t("figures.rate"), select)),
    place,
  );
}

const section = (key, content) => content && el("section", {}, el("h2", {}, t(key)), wide(t(key), content));
const namesIn = (groups, key) => [...new Set(groups.flatMap((group) => Object.keys(group[key] ?? {})))];

/** A group in words: `arm a, 2026-05-31`. */
export function groupName(group, by) {
  const parts = by.filter((name) => name in group).map((name) => valueOf(name, group[name]));
  return parts.join(", ") || t("figures.all");
}

function valueOf(name, value) {
  if (value !== "") return name === "kind" ? named("served", value) : value;
  return name === "release" ? t("release.hybrid") : t("figures.without", { name: t(`by.${name}`) });
}

function groupCells({ group }, by) {
  const cells = by.map((name, place) =>
    el(place ? "td" : "th", { class: "name", scope: place ? null : "row" }, valueOf(name, group[name] ?? "")),
  );
  return cells.length ? cells : [el("th", { scope: "row" }, t("figures.all"))];
}

function table(by, columns, rows) {
  const names = by.length ? by.map((name) => t(`by.${name}`)) : [t("figures.group")];
  const head = [
    ...names.map((text) => el("th", { scope: "col" }, text)),
    ...columns.map((text) => el("th", { scope: "col", class: "number" }, text)),
  ];
  return el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
}

function rateTable(groups, by) {
  const names = namesIn(groups, "rates");
  const rows = groups.map((one) =>
    el(
      "tr",
      {},
      groupCells(one, by),
      numberCell(one.answers),
      names.map((name) => rateCell(one.rates?.[name])),
    ),
  );
  return table(by, [t("figures.answers"), ...names.map((name) => named("rate", name))], rows);
}

function rateCell(rate) {
  if (!rate || rate.value === null) return el("td", { class: "number" }, "–");
  const interval = rate.low !== null && `${percent(rate.low)} – ${percent(rate.high)}`;
  return el(
    "td",
    { class: "number" },
    percent(rate.value),
    el("small", {}, interval),
    el("small", {}, t("figures.of", { count: rate.count, of: rate.of })),
  );
}

function numberCell(value) {
  return el("td", { class: "number" }, typeof value === "number" ? number(value) : "–");
}

function numberTable(groups, by) {
  const names = namesIn(groups, "numbers");
  if (!names.length) return null;
  const rows = groups.map((one) =>
    el(
      "tr",
      {},
      groupCells(one, by),
      names.map((name) => numberCell(one.numbers?.[name])),
    ),
  );
  return table(
    by,
    names.map((name) => named("number", name)),
    rows,
  );
}

function latencyTable(groups, by) {
  const stages = namesIn(groups, "latency_ms");
  if (!stages.length) return null;
  const cell = (latency) => {
    if (!latency) return el("td", { class: "number" }, "–");
    const [p50, p95, p99] = [latency.p50, latency.p95, latency.p99].map((value) => number(value, 1));
    return el("td", { class: "number" }, p50, el("small", {}, `p95 ${p95}`), el("small", {}, `p99 ${p99}`));
  };
  const rows = groups.map((one) =>
    el(
      "tr",
      {},
      groupCells(one, by),
      stages.map((stage) => cell(one.latency_ms?.[stage])),
    ),
  );
  return table(
    by,
    stages.map((stage) => named("stage", stage)),
    rows,
  );
}
