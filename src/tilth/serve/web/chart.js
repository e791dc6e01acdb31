// A rate by day as lines with their intervals. The tables say the same in numbers.

import { el, svg } from "./dom.js";
import { number, percent, t } from "./words.js";

const HEIGHT = 280;
const [NARROWEST, WIDEST] = [300, 720];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 12, 12, 34];
const MOST_LINES = 6;
const DAY = 86_400_000;

/** The chart of one rate; a line for each combination of the other groupings. */
export function dayChart(groups, by, rate, { groupName, rateName, width }) {
  const lines = linesOf(
    groups,
    by.filter((name) => name !== "day"),
    rate,
    groupName,
  );
  const shown = lines.slice(0, MOST_LINES);
  const points = shown.flatMap((line) => line.points);
  if (!points.length) return el("p", {}, t("chart.none"));
  const scale = scaleOf(points, Math.min(Math.max(width - 40, NARROWEST), WIDEST));
  const label = t("chart.label", { rate: rateName, from: dayOf(scale.first), to: dayOf(scale.last) });
  const drawing = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${scale.width} ${HEIGHT}`, role: "img", "aria-label": label },
    axes(scale),
    shown.map((line, place) => band(line, place, scale)),
    shown.map((line, place) => path(line, place, scale)),
  );
  const rest =
    lines.length > shown.length &&
    el("p", { class: "quiet" }, t("chart.some", { n: shown.length, all: lines.length }));
  return el("figure", {}, drawing, el("figcaption", {}, legend(shown), t("chart.caption")), rest);
}

function linesOf(groups, others, rate, groupName) {
  const lines = new Map();
  for (const { group, rates = {} } of groups) {
    const time = Date.parse(group.day);
    const facts = rates[rate];
    if (Number.isNaN(time) || !facts || facts.value === null) continue;
    const name = groupName(group, others);
    if (!lines.has(name)) lines.set(name, { name, points: [] });
    lines.get(name).points.push({
      time,
      value: facts.value,
      low: facts.low ?? facts.value,
      high: facts.high ?? facts.value,
    });
  }
  for (const line of lines.values()) line.points.sort((a, b) => a.time - b.time);
  return [...lines.values()];
}

function scaleOf(points, width) {
  const times = points.map((point) => point.time);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const step = niceStep(Math.max(...points.map((point) => point.high), 0.001) / 4);
  const top = step * Math.ceil(Math.max(...points.map((point) => point.high), 0.001) / step);
  const x = (time) =>
    LEFT + (last === first ? 0.5 : (time - first) / (last - first)) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  return { first, last, step, top, x, y, width };
}

/** 1, 2, 2.5 or 5 times a power of ten, at least so large. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

function axes({ first, last, step, top, x, y, width }) {
  const parts = [];
  for (let place = 0; place <= Math.round(top / step); place += 1) {
    const height = y(place * step);
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: height, y2: height }));
    parts.push(svg("text", { x: LEFT - 8, y: height + 4, "text-anchor": "end" }, percent(place * step, 2)));
  }
  const days = last === first ? [first] : [first, first + Math.round((last - first) / 2 / DAY) * DAY, last];
  const anchors = days.length === 1 ? ["middle"] : ["start", "middle", "end"];
  new Set(days).forEach((time) => {
    const anchor = anchors[days.lastIndexOf(time)];
    parts.push(svg("text", { x: x(time), y: HEIGHT - 12, "text-anchor": anchor }, dayOf(time)));
  });
  return parts;
}

const dayOf = (time) => new Date(time).toISOString().slice(0, 10);
const at = (x, y) => `${x.toFixed(1)},${y.toFixed(1)}`;

function band({ points }, place, { x, y }) {
  const upper = points.map((point) => at(x(point.time), y(point.high)));
  const lower = points.map((point) => at(x(point.time), y(point.low))).reverse();
  return svg("polygon", { class: `band line-${place}`, points: [...upper, ...lower].join(" ") });
}

function path({ points }, place, { x, y }) {
  const line = svg("polyline", {
    class: `line line-${place}`,
    points: points.map((point) => at(x(point.time), y(point.value))).join(" "),
  });
  const dots = points.map((point) =>
    svg(
      "circle",
      { class: `dot line-${place}`, cx: x(point.time).toFixed(1), cy: y(point.value).toFixed(1), r: 3 },
      svg(
        "title",
        {},
        `${dayOf(point.time)}: ${percent(point.value)} (${number(point.low * 100, 1)}–${percent(point.high)})`,
      ),
    ),
  );
  return [line, dots];
}

function legend(lines) {
  if (lines.length < 2) return null;
  const items = lines.map(({ name }, place) => {
    const sample = svg(
      "svg",
      { class: "sample-line", viewBox: "0 0 28 8", "aria-hidden": "true" },
      svg("line", { class: `line line-${place}`, x1: 0, x2: 28, y1: 4, y2: 4 }),
    );
    return el("li", {}, sample, " ", name);
  });
  return el("ul", { class: "legend" }, items);
}
