// Judging: one pair of query and product after the other, graded with a single key.

import { choice, el, labelled } from "./dom.js";
import { pairCard, progressOf } from "./judge_card.js";
import { actionOf, helpDialog, keysAreOn } from "./judge_keys.js";
import { Judging } from "./judging.js";
import { announce, failure, loading } from "./notices.js";
import { t } from "./words.js";

const SCALES = [3, 5];

const judging = new Judging(); // outlives the view: a change of language loses no reason that was typed

export function showJudging(root) {
  const view = new JudgeView(root);
  view.start();
  return { update: () => {}, leave: () => view.leave() };
}

class JudgeView {
  constructor(root) {
    this.place = el("div", { class: "judging" });
    this.busy = false;
    root.append(el("h1", { tabindex: -1 }, t("judge.title")), this.place);
    this.listen = (event) => this.pressed(event);
    document.addEventListener("keydown", this.listen);
  }

  leave() {
    document.removeEventListener("keydown", this.listen);
  }

  start() {
    if (!judging.judge) return this.askName();
    if (judging.pair) return this.draw();
    return this.act(() => judging.next());
  }

  askName() {
    const name = el("input", {
      id: "judge",
      name: "judge",
      required: true,
      maxlength: 100,
      autocomplete: "name",
      value: judging.judge,
    });
    const scales = SCALES.map((top) => [String(top), t(`judge.scale${top}`)]);
    const scale = choice("scale", scales, String(judging.highest), { name: "scale" });
    const begin = (event) => {
      event.preventDefault();
      if (!name.value.trim()) return name.focus();
      judging.begin(name.value.trim(), Number(scale.value));
      return this.act(() => judging.next());
    };
    const form = el(
      "form",
      { class: "stack card", onsubmit: begin },
      labelled(t("judge.name"), name),
      labelled(t("judge.scale"), scale),
      el("button", { class: "main" }, t("judge.begin")),
    );
    this.place.replaceChildren(el("p", {}, t("judge.about")), form);
    name.focus();
  }

  /** Do something that the service must know of; one thing at a time. */
  async act(action) {
    if (this.busy) return;
    this.busy = true;
    this.place.setAttribute("aria-busy", "true");
    if (!judging.pair) this.place.replaceChildren(loading());
    try {
      announceIf(await action());
      this.draw();
    } catch (error) {
      this.draw(error, action);
    } finally {
      this.busy = false;
      this.place.removeAttribute("aria-busy");
    }
  }

  draw(error = null, action = null) {
    const { pair, progress, agreement } = judging;
    const again = judging.pair && !judging.waiting.length ? action : () => judging.next();
    const problem = error && failure(error, () => this.act(again));
    const actions = this.actions();
    const card = pair ? pairCard(judging, actions) : !error && el("p", { class: "card" }, t("judge.done"));
    const top = el("div", { class: "judge-top" }, progressOf(progress, agreement), this.whoIsIt());
    this.place.replaceChildren(
      ...[top, judging.waiting.length > 0 && this.unsaved(), problem, card].filter(Boolean),
    );
    this.place.querySelector(".pair")?.focus({ preventScroll: true });
  }

  actions() {
    return {
      grade: (grade) => this.act(() => judging.grade(grade)),
      skip: () => this.act(() => judging.skip()),
      undo: () => this.act(() => judging.undo()),
      help: () => helpDialog(judging.highest),
      reason: () => document.getElementById("reason")?.focus(),
    };
  }

  whoIsIt() {
    const change = el(
      "button",
      { type: "button", class: "plain", onclick: () => this.askName() },
      t("judge.change"),
    );
    return el(
      "p",
      { class: "quiet" },
      t("judge.as", { name: judging.judge, highest: judging.highest }),
      " ",
      change,
    );
  }

  /** Grades that the service does not have: they are kept in this browser until it has. */
  unsaved() {
    const save = () => this.act(() => judging.next());
    const drop = () => {
      judging.dropWaiting();
      this.draw();
    };
    return el(
      "div",
      { class: "notice warn" },
      el("p", {}, t("judge.unsaved", { n: judging.waiting.length })),
      el(
        "p",
        { class: "row" },
        el("button", { type: "button", onclick: save }, t("judge.save")),
        el("button", { type: "button", class: "plain", onclick: drop }, t("judge.drop")),
      ),
    );
  }

  pressed(event) {
    const action = keysAreOn() ? actionOf(event, judging.highest) : null;
    if (!action || !judging.pair || !this.place.querySelector(".pair")) return;
    event.preventDefault();
    this.actions()[action.name](action.grade);
  }
}

function announceIf(text) {
  if (text) announce(text);
}
