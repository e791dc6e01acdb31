// Reports of releases and experiments, and the releases with what was measured of them.

import { addressOf } from "./address.js";
import { call } from "./api.js";
import { el, wide } from "./dom.js";
import { fill } from "./notices.js";
import { releasesSection } from "./releases.js";
import { reportFrame } from "./report_frame.js";
import { moment, named, t } from "./words.js";

export function showReports(root, values) {
  const heading = el("h1", { tabindex: -1 }, t("reports.title"));
  const place = el("div", {});
  root.append(heading, place);
  const update = (now) => {
    const name = now.get("open");
    if (name) showReport(place, name);
    else showLists(place);
  };
  update(values);
  return { update };
}

function showLists(place) {
  const [reports, releases] = [el("section", {}), el("section", {})];
  place.replaceChildren(reports, releases);
  fill(reports, () => call("v1/reports"), reportList);
  fill(releases, () => call("v1/releases"), releasesSection);
}

function reportList(answer) {
  const list = Array.isArray(answer) ? answer : (answer.reports ?? []);
  const heading = el("h2", {}, t("reports.list"));
  if (!list.length) return [heading, el("p", {}, t("reports.none"))];
  const row = ({ name, kind, created, title }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, el("a", { href: addressOf("reports", { open: name }) }, title || name)),
      el("td", {}, named("report", kind)),
      el("td", {}, moment(created)),
    );
  const head = ["reports.name", "reports.kind", "reports.created"].map((key) =>
    el("th", { scope: "col" }, t(key)),
  );
  return [
    heading,
    wide(
      t("reports.list"),
      el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, list.map(row))),
    ),
  ];
}

function showReport(place, name) {
  const body = el("div", {});
  const back = el("a", { href: addressOf("reports") }, t("reports.back"));
  const save = el("span", {});
  place.replaceChildren(
    el("p", { class: "row middle" }, back, save),
    el("h2", { tabindex: -1, id: "report-name" }, name),
    body,
  );
  place.querySelector("#report-name").focus();
  const load = () => call(`v1/reports/${encodeURIComponent(name)}`, { as: "text" });
  return fill(body, load, (html) => {
    save.replaceChildren(saveLink(html, name));
    return reportFrame(html, t("reports.frame", { name }));
  });
}

/** The report as a file: a browser that opens it shows it as it was made. */
function saveLink(html, name) {
  const save = (event) => {
    event.preventDefault();
    const address = URL.createObjectURL(new Blob([html], { type: "text/html" }));
    el("a", { href: address, download: `${name.replace(/\.html$/, "")}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  };
  return el("button", { type: "button", class: "plain", onclick: save }, t("reports.save"));
}
