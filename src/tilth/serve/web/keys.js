// The dialog that asks for an API key.

import { forgetKey, hasKey, keepKey, onKeyNeeded } from "./api.js";
import { el, labelled } from "./dom.js";
import { announce } from "./notices.js";
import { t } from "./words.js";

const READABLE = /^[\x21-\x7e]+$/; // what may stand in a header

let asking = null; // several requests may need the key at once
let changed = () => {};

/** `onChange` runs whenever there is a key, or is none any more. */
export function watchKey(onChange) {
  changed = onChange;
  onKeyNeeded((refused) => (asking ??= ask(refused).finally(() => (asking = null))));
}

function ask(refused) {
  if (refused) forgetKey();
  changed();
  return new Promise((resolve) => {
    const dialog = keyDialog(refused);
    dialog.addEventListener("close", () => {
      dialog.remove();
      changed();
      resolve(hasKey());
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

function keyDialog(refused) {
  const input = el("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
  });
  const wrong = el("p", { class: "wrong", id: "key-wrong", role: "alert" });
  const take = (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!READABLE.test(key)) return refuse(input, wrong);
    keepKey(key);
    return dialog.close();
  };
  const dialog = el(
    "dialog",
    { "aria-labelledby": "key-title" },
    el("h2", { id: "key-title" }, t("key.title")),
    el("p", {}, refused ? t("key.refused") : t("key.why")),
    el(
      "form",
      { onsubmit: take, novalidate: true },
      labelled(t("key.label"), input, wrong),
      el(
        "p",
        { class: "row" },
        el("button", { class: "main" }, t("key.use")),
        el("button", { type: "button", onclick: () => dialog.close() }, t("cancel")),
      ),
    ),
  );
  return dialog;
}

function refuse(input, wrong) {
  wrong.textContent = t("key.unreadable");
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", wrong.id);
  input.focus();
}

/** The button that forgets the key; it is there while there is one. */
export function forgetButton() {
  const forget = () => {
    forgetKey();
    changed();
    announce(t("key.forgotten"));
  };
  return el(
    "button",
    { type: "button", class: "plain", hidden: !hasKey(), onclick: forget },
    t("key.forget"),
  );
}
