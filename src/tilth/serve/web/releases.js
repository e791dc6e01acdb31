// The releases with the numbers that speak for them, and what was in force when.

import { el, wide } from "./dom.js";
import { moment, named, number, t } from "./words.js";

export function releasesSection({ in_force: inForce, releases = [], history = [] }) {
  const now = inForce ? t("releases.inForce", { name: inForce }) : t("releases.hybrid");
  return [
    el("h2", {}, t("releases.title")),
    el("p", {}, now),
    releases.length > 0 && releaseTable(releases.map(plain), inForce),
    el("h2", {}, t("releases.history")),
    history.length > 0 ? historyTable(history) : el("p", {}, t("releases.noHistory")),
  ];
}

/** A release with its name and evidence, wherever they stand. */
function plain(release) {
  const evidence = release.evidence ?? release.measures ?? {};
  return { ...release, name: release.name ?? release.release, evidence };
}

function releaseTable(releases, inForce) {
  const row = ({ name, created, evidence }) => {
    const mark = name === inForce && el("span", { class: "badge" }, t("releases.now"));
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, name, " ", mark),
      el("td", { class: "name" }, moment(created)),
      el("td", {}, measured(evidence)),
      el("td", {}, differences(evidence)),
      el("td", {}, latency(evidence)),
    );
  };
  return table(
    t("releases.title"),
    ["name", "created", "measured", "difference", "latency"],
    releases.map(row),
  );
}

function measured({ candidate, measure, queries, systems = {}, ...rest }) {
  const value = systems[candidate]?.[measure];
  if (value === undefined) return numbersIn(rest);
  const of =
    typeof queries === "number" && el("small", { class: "quiet" }, t("releases.queries", { n: queries }));
  return [`${measure} ${number(value)}`, " ", of];
}

/** Where the shape is another one, the numbers that there are. */
function numbersIn(facts) {
  const numbers = Object.entries(facts).filter(([, value]) => typeof value === "number");
  return numbers.map(([name, value]) => `${name} ${number(value)}`).join(", ") || "–";
}

function differences({ candidate, measure, differences: all = [] }) {
  const own = all.filter((one) => one.system === candidate && one.measure === measure);
  const lines = own.map(({ baseline, difference, low, high }) =>
    el(
      "div",
      { class: "name" },
      `${signed(difference)} [${signed(low)}; ${signed(high)}] `,
      el("span", { class: "quiet" }, t("releases.against", { baseline })),
    ),
  );
  return lines.length ? lines : "–";
}

const signed = (value) => (value > 0 ? `+${number(value)}` : number(value).replace("-", "−"));

function latency({ latency: measuredLatency }) {
  if (typeof measuredLatency?.p99_ms !== "number") return "–";
  return t("releases.ms", { p99: number(measuredLatency.p99_ms, 1) });
}

function historyTable(history) {
  const row = (line) => {
    const action = [named("action", line.action ?? ""), line.forced && t("releases.forced")]
      .filter(Boolean)
      .join(", ");
    return el(
      "tr",
      {},
      el("td", { class: "name" }, moment(line.time)),
      el("td", {}, action),
      el("th", { scope: "row" }, line.release ?? named("release", "hybrid")),
      el("td", {}, line.by || "–"),
      el("td", {}, line.why || "–"),
    );
  };
  return table(
    t("releases.history"),
    ["time", "action", "name", "by", "why"],
    [...history].reverse().map(row),
  );
}

function table(name, columns, rows) {
  const head = columns.map((column) => el("th", { scope: "col" }, t(`releases.column.${column}`)));
  return wide(name, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}
