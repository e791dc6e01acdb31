// What is being judged, and what the service has been told of it.

import { call } from "./api.js";
import { lasting } from "./storage.js";
import { t } from "./words.js";

const WAITING = "judgments";

export class Judging {
  constructor() {
    this.judge = lasting.get("judge") ?? "";
    this.highest = Number(lasting.get("highest") ?? 3);
    this.forget();
  }

  forget() {
    [this.pair, this.progress, this.agreement, this.reason] = [null, null, null, ""];
  }

  begin(judge, highest) {
    Object.assign(this, { judge, highest });
    lasting.set("judge", judge);
    lasting.set("highest", String(highest));
    this.forget();
  }

  /** Grades that are not saved yet. */
  get waiting() {
    return lasting.getList(WAITING);
  }

  dropWaiting() {
    lasting.setList(WAITING, []);
  }

  /** The grade of the pair in sight: not saved yet, or given before. */
  get chosen() {
    const waiting = this.waiting.find((one) => this.isOfThisPair(one));
    return waiting?.grade ?? this.pair?.given ?? null;
  }

  isOfThisPair({ query_id, product_id, judge }) {
    return judge === this.judge && query_id === this.pair?.query_id && product_id === this.pair?.product.id;
  }

  /** Fetch the next pair, after saving what is not saved. */
  async next() {
    await this.save();
    const asked = new URLSearchParams({ judge: this.judge, highest: this.highest });
    const answer = await call(`v1/judgments/next?${asked}`);
    this.take(answer);
    return this.pair
      ? t("judge.now", { query: this.pair.query, product: this.pair.product.title })
      : t("judge.done");
  }

  take({ pair, progress, agreement }) {
    this.pair = pair ?? null;
    this.reason = "";
    if (progress) this.progress = progress;
    if (agreement) this.agreement = agreement;
  }

  /** Grade the pair in sight. The grade is kept here until the service has it. */
  async grade(grade) {
    const { query_id, query, product } = this.pair;
    const judgment = {
      query_id,
      query,
      product_id: product.id,
      grade,
      highest: this.highest,
      judge: this.judge,
    };
    if (this.reason.trim()) judgment.reason = this.reason.trim();
    lasting.setList(WAITING, [...this.waiting.filter((one) => !this.isOfThisPair(one)), judgment]);
    return this.next();
  }

  async save() {
    const judgments = this.waiting;
    if (!judgments.length) return;
    await call("v1/judgments", { body: { judgments } });
    const saved = new Set(judgments.map((one) => JSON.stringify(one)));
    lasting.setList(
      WAITING,
      this.waiting.filter((one) => !saved.has(JSON.stringify(one))),
    );
    if (judgments.some((one) => this.isOfThisPair(one))) [this.pair, this.reason] = [null, ""];
  }

  async skip() {
    const { query_id, product } = this.pair;
    await call("v1/judgments/skip", { body: { judge: this.judge, query_id, product_id: product.id } });
    [this.pair, this.reason] = [null, ""];
    return this.next();
  }

  /** Take the last grade back: one that is not saved is dropped, else the service gives its pair again. */
  async undo() {
    const waiting = this.waiting;
    if (waiting.some((one) => this.isOfThisPair(one))) {
      lasting.setList(
        WAITING,
        waiting.filter((one) => !this.isOfThisPair(one)),
      );
      return t("judge.undone");
    }
    const { pair } = await call("v1/judgments/undo", { body: { judge: this.judge } });
    if (!pair) return t("judge.nothingToUndo");
    await this.next(); // which gives that pair, with its grade on the scale in use
    return t("judge.undone");
  }
}
