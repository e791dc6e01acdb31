// Search: the query, the filters, and one or two answers.

import { addressOf, go } from "./address.js";
import { call } from "./api.js";
import { el, labelled } from "./dom.js";
import { facetList, widened } from "./facets.js";
import { clientId, tellWaiting } from "./feedback.js";
import { facetFields } from "./filters.js";
import { chips, conditionForm, jsonForm } from "./filter_form.js";
import { announce, failure, loading, reasonOf } from "./notices.js";
import { column, markChanges, search } from "./results.js";
import { t } from "./words.js";

const IN_FORCE = "~"; // no release can be called so
const HYBRID = "hybrid";
const PATIENCE = 1500; // ms; without the fields of the catalogue, only the usual facets are counted

export function showSearch(root, values) {
  const view = new SearchView(root);
  view.update(values);
  return { update: (now) => view.update(now), leave: () => view.abort.abort() };
}

class SearchView {
  constructor(root) {
    this.abort = new AbortController();
    this.fields = {};
    this.releases = [];
    this.state = read(new URLSearchParams());
    this.bar = searchForm(() => this.goTo({ ...typedIn(this.bar), filters: this.state.filters }));
    this.json = jsonForm({}, (filters) => this.filter(filters));
    [this.chips, this.conditions, this.facets] = [el("div", {}), el("div", {}), el("div", {})];
    this.results = el("div", { class: "results" });
    root.append(
      el("h1", { tabindex: -1 }, t("search.title")),
      this.bar,
      this.chips,
      el("div", { class: "beside" }, this.panel(), this.results),
    );
    this.known = Promise.race([this.learnFields(), new Promise((done) => setTimeout(done, PATIENCE))]);
    this.learnReleases();
    tellWaiting().catch(() => {}); // the next click says what is wrong
  }

  panel() {
    const open = matchMedia("(min-width: 60rem)").matches;
    const form = el("details", {}, el("summary", {}, t("filters.new")), this.conditions);
    return el(
      "details",
      { class: "panel", open },
      el("summary", {}, t("filters")),
      this.facets,
      form,
      this.json.box,
    );
  }

  async learnFields() {
    try {
      this.fields = (await call("v1/fields")).fields ?? {};
    } catch (error) {
      this.conditions.replaceChildren(failure(error, () => this.learnFields()));
      return;
    }
    const current = () => this.state.filters;
    this.conditions.replaceChildren(conditionForm(this.fields, current, (filters) => this.filter(filters)));
  }

  /** Offer the releases, if this key may list them; the usual two are there without. */
  async learnReleases() {
    try {
      this.releases = ((await call("v1/releases")).releases ?? []).map(nameOf).filter(Boolean);
      this.drawOrders();
    } catch {
      // searching goes on
    }
  }

  drawOrders() {
    const names = [...new Set([...this.releases, this.state.left, this.state.right])];
    const others = names.filter((name) => ![IN_FORCE, HYBRID, ""].includes(name)).map((name) => [name, name]);
    const orders = [[IN_FORCE, t("search.inForce")], [HYBRID, t("search.hybrid")], ...others];
    fillChoice(this.bar.elements.left, orders, this.state.left);
    fillChoice(this.bar.elements.right, [["", t("search.none")], ...orders], this.state.right);
  }

  filter(filters) {
    this.goTo({ ...typedIn(this.bar), filters });
  }

  goTo(state) {
    go(written(state), () => this.run());
  }

  update(values) {
    this.state = read(values);
    const { q, k, collapse } = this.bar.elements;
    [q.value, k.value, collapse.checked] = [this.state.q, this.state.k, this.state.collapse];
    this.drawOrders();
    this.run();
  }

  async run() {
    this.abort.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.drawFilters();
    this.results.removeAttribute("aria-busy");
    if (!this.state.q) return this.results.replaceChildren(el("p", { class: "quiet" }, t("search.start")));
    this.results.replaceChildren(loading());
    this.results.setAttribute("aria-busy", "true");
    await this.known;
    if (signal.aborted) return;
    const sides = [this.state.left, ...(this.state.right ? [this.state.right] : [])];
    const answers = await Promise.allSettled(sides.map((release) => search(this.request(release), signal)));
    if (signal.aborted) return;
    this.results.removeAttribute("aria-busy");
    this.show(sides, answers, signal);
  }

  request(release, cursor = null) {
    const { q, k, filters, collapse } = this.state;
    const given = Object.keys(filters).length ? filters : null;
    const facets = cursor === null ? facetFields(this.fields) : [];
    const order = release === IN_FORCE ? null : release;
    return {
      query: q,
      k,
      filters: given,
      facets,
      cursor,
      collapse,
      explain: true,
      release: order,
      client_id: clientId(),
    };
  }

  show(sides, answers, signal) {
    const columns = answers.map((settled, place) =>
      this.columnOf(sides[place], settled, signal, () => compare()),
    );
    const compare = () =>
      columns.length === 2 && columns.every(Boolean) && markChanges(columns[0].hits, columns[1].hits);
    const failed = answers
      .filter(({ status }) => status === "rejected")
      .map(({ reason }) => failure(reason, () => this.run()));
    this.results.replaceChildren(
      ...failed,
      el(
        "div",
        { class: `columns of-${columns.length}` },
        columns.map((one) => one?.element),
      ),
    );
    compare();
    this.judgeFilters(answers);
    const first = answers.find(({ status }) => status === "fulfilled")?.value;
    if (!first) return;
    announce(t("results.found", { n: first.hits.length, allowed: first.totals?.allowed ?? 0 }));
    this.drawFacets(first.facets ?? {});
    this.widenFacets(first.facets ?? {}, signal);
  }

  columnOf(release, settled, signal, changed) {
    if (settled.status === "rejected") return null;
    const names = { [IN_FORCE]: t("search.inForce"), [HYBRID]: t("search.hybrid") };
    const name = this.state.right ? (names[release] ?? release) : t("results.title");
    return column(settled.value, name, (cursor) => search(this.request(release, cursor), signal), changed);
  }

  /** What the service says about the filters stands beside them, too. */
  judgeFilters(answers) {
    const refused = answers.map(({ reason }) => reason?.problem?.errors ?? []).flat();
    const about = refused.filter(
      ({ field = "" }) =>
        field.startsWith("filters") ||
        field.split(".")[0] in this.state.filters ||
        field in this.state.filters,
    );
    this.json.refuse(about.map(reasonOf).join(" "));
  }

  drawFilters() {
    const { filters } = this.state;
    keepingFocus(this.chips, () =>
      this.chips.replaceChildren(...[chips(filters, (now) => this.filter(now))].filter(Boolean)),
    );
    this.json.show(filters);
  }

  drawFacets(facets) {
    const list = facetList(facets, this.fields, this.state.filters, (filters) => this.filter(filters));
    keepingFocus(this.facets, () => this.facets.replaceChildren(list));
  }

  async widenFacets(facets, signal) {
    const wider = await widened(facets, this.state.filters, signal);
    if (!signal.aborted && wider) this.drawFacets(wider);
  }
}

/** The form above the answer. */
function searchForm(submitted) {
  const input = (id, properties) => el("input", { id, name: id, ...properties });
  const query = input("q", { type: "search", maxlength: 500, autocomplete: "off", enterkeyhint: "search" });
  const collapse = input("collapse", { type: "checkbox" });
  const options = el(
    "div",
    { class: "options" },
    labelled(t("search.k"), input("k", { type: "number", min: 1, max: 100 })),
    labelled(t("search.left"), el("select", { id: "left", name: "left" })),
    labelled(t("search.right"), el("select", { id: "right", name: "right" })),
    el("div", { class: "field check" }, collapse, el("label", { for: "collapse" }, t("search.collapse"))),
  );
  const submit = (event) => {
    event.preventDefault();
    submitted();
  };
  const label = el("label", { for: "q", class: "spoken" }, t("search.query"));
  const box = el("div", { class: "query" }, label, query, el("button", { class: "main" }, t("search.go")));
  return el("form", { class: "searchbar", role: "search", onsubmit: submit }, box, options);
}

function typedIn({ elements: { q, k, left, right, collapse } }) {
  const count = Number(k.value) || 10;
  return { q: q.value.trim(), k: count, left: left.value, right: right.value, collapse: collapse.checked };
}

function fillChoice(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  select.value = chosen;
}

/** Draw anew; the focus stays on what has the same key, and what was open stays open. */
function keepingFocus(place, draw) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const open = [...place.querySelectorAll("details[open]")].map((box) => box.dataset.open);
  draw();
  for (const box of place.querySelectorAll("details")) box.open ||= open.includes(box.dataset.open);
  const key = focused === undefined ? null : place.querySelector(`[data-key="${CSS.escape(focused)}"]`);
  key?.focus();
}

const nameOf = (release) => (typeof release === "string" ? release : (release.name ?? release.release));

function read(values) {
  let filters = {};
  try {
    filters = JSON.parse(values.get("filters") ?? "{}") ?? {};
  } catch {
    // an address that somebody shortened: without filters it still leads somewhere
  }
  if (typeof filters !== "object" || Array.isArray(filters)) filters = {};
  const k = Number.parseInt(values.get("k") ?? "", 10);
  return {
    q: values.get("q") ?? "",
    k: k > 0 ? k : 10,
    filters,
    left: values.get("left") ?? IN_FORCE,
    right: values.get("right") ?? "",
    collapse: values.get("collapse") === "1",
  };
}

function written({ q, k, filters, left, right, collapse }) {
  return addressOf("search", {
    q,
    k: k === 10 ? "" : k,
    filters: Object.keys(filters).length ? JSON.stringify(filters) : "",
    left: left === IN_FORCE ? "" : left,
    right,
    collapse: collapse ? "1" : "",
  });
}
