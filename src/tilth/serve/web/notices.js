// What is said when something went wrong, and what a screen reader hears when something went well.

import { ApiError } from "./api.js";
import { el } from "./dom.js";
import { t } from "./words.js";

const REASONS = { 0: "network", 401: "key", 403: "scope", 404: "missing" };
const LATER = { 429: "busy", 503: "down" };

const announcer = el("div", { class: "spoken", role: "status" });

export function placeAnnouncer() {
  document.body.append(announcer);
}

export function announce(text) {
  announcer.textContent = "";
  setTimeout(() => (announcer.textContent = text), 50); // the same words again are news, too
}

/** An error with its reasons, and a button to try again where that may help. */
export function failure(error, retry = null) {
  if (!(error instanceof ApiError)) console.error(error);
  const { problem = {}, status } = error;
  const requestId = problem.request_id ?? problem.instance;
  const reasons = (problem.errors ?? []).map((one) => el("li", {}, reasonOf(one)));
  return el(
    "div",
    { class: "notice bad", role: "alert" },
    el("p", {}, el("strong", {}, headline(error))),
    status !== 0 && problem.detail && el("p", { lang: "en" }, problem.detail),
    (reasons.length > 1 || !problem.detail) && el("ul", { lang: "en" }, reasons),
    requestId && el("p", { class: "quiet" }, t("error.request", { id: requestId })),
    retry && el("button", { type: "button", onclick: retry }, t("retry")),
  );
}

export function reasonOf({ field, detail, remedy }) {
  return [field && `${field}: `, detail, remedy && ` (${remedy})`].filter(Boolean).join("");
}

function headline(error) {
  if (!(error instanceof ApiError)) return t("error.page", { detail: error.message });
  const { status, wait } = error;
  if (status in LATER)
    return wait === null ? t(`error.${LATER[status]}`) : t(`error.${LATER[status]}For`, { n: wait });
  if (status in REASONS) return t(`error.${REASONS[status]}`);
  return status >= 500 ? t("error.server", { status }) : t("error.refused");
}

export function loading() {
  return el("p", { class: "quiet loading" }, t("loading"));
}

const turns = new WeakMap(); // of each place, the load that counts: an answer may come after a later one's

/** Fill a place with what a promise gives; errors come with a button that tries again. */
export async function fill(place, load, show) {
  const turn = {};
  turns.set(place, turn);
  place.replaceChildren(loading());
  place.setAttribute("aria-busy", "true");
  let content;
  try {
    content = show(await load());
  } catch (error) {
    content = failure(error, () => fill(place, load, show));
  }
  if (turns.get(place) !== turn) return;
  place.removeAttribute("aria-busy");
  place.replaceChildren(...[content].flat().filter(Boolean));
}
