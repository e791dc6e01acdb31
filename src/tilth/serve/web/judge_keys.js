// Single keys for judging, which can be switched off; and what they do.

import { el } from "./dom.js";
import { lasting } from "./storage.js";
import { t } from "./words.js";

const LETTERS = { s: "skip", u: "undo", r: "reason", "?": "help" };
const CODES = { KeyS: "s", KeyU: "u", KeyR: "r" };
const TYPING = "input:not([type=checkbox]), textarea, select, [contenteditable]";

export const keysAreOn = () => lasting.get("keys") !== "off";

/** What a key asks for; null while somebody types, holds the key down, or a dialog is open. */
export function actionOf(event, highest) {
  const { ctrlKey, altKey, metaKey, repeat, target } = event;
  if (ctrlKey || altKey || metaKey || repeat || event.isComposing) return null;
  if (target.closest?.(TYPING) || document.querySelector("dialog[open]")) return null;
  const key = keyOf(event);
  if (/^\d$/.test(key)) return Number(key) <= highest ? { name: "grade", grade: Number(key) } : null;
  return key in LETTERS ? { name: LETTERS[key] } : null;
}

/** The key as it is written on it: a Russian layout has other letters on the same keys. */
function keyOf({ key, code, shiftKey }) {
  if (/^[a-z0-9?]$/i.test(key)) return key.toLowerCase();
  if (shiftKey) return "";
  return CODES[code] ?? /^(?:Digit|Numpad)(\d)$/.exec(code)?.[1] ?? "";
}

export function keysSwitch() {
  const box = el("input", {
    type: "checkbox",
    id: "keys",
    checked: keysAreOn(),
    onchange: () => lasting.set("keys", box.checked ? "on" : "off"),
  });
  return el("span", { class: "check" }, box, " ", el("label", { for: "keys" }, t("judge.keys")));
}

export function helpDialog(highest) {
  const before = document.activeElement;
  const keys = [
    [`0–${highest}`, t("help.grade")],
    ["s", t("help.skip")],
    ["u", t("help.undo")],
    ["r", t("help.reason")],
    ["?", t("help.help")],
  ];
  const meanings = Array.from({ length: highest + 1 }, (_, place) => highest - place);
  const dialog = el(
    "dialog",
    { "aria-labelledby": "help-title" },
    el("h2", { id: "help-title" }, t("help.title")),
    el(
      "dl",
      {},
      keys.map(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)]),
    ),
    el("h3", {}, t("help.grades")),
    el(
      "dl",
      {},
      meanings.map((grade) => [
        el("dt", {}, `${grade} – ${t(`grade${highest}.${grade}`)}`),
        el("dd", {}, t(`grade${highest}.${grade}.means`)),
      ]),
    ),
    el("button", { type: "button", class: "main", onclick: () => dialog.close() }, t("close")),
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
}
