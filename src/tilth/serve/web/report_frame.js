// A report inside the page. It is a document with styles of its own, which this page's policy forbids as markup;
// so they are taken out of the text, and set by script. The frame runs no script and loads nothing.

import { el } from "./dom.js";

const STYLE_SHEET = /<style\b[^>]*>([\s\S]*?)<\/style\s*>/gi;
const TAG = /<[a-z](?:"[^"]*"|'[^']*'|[^"'>])*>/gi;
const HELD_NAME = /("[^"]*"|'[^']*')|(\s)(style|on[a-z]+)(?=\s*=)/gi; // quoted values first: they may say anything
const UNWANTED =
  "script, meta, base, link, iframe, frame, object, embed, form, template, img:not([src^='data:'])";
const HELD = "data-held-";
const MARGIN = 48; // px, below the body

/** A frame that shows HTML once it stands in the page. */
export function reportFrame(html, title) {
  const frame = el("iframe", {
    class: "report",
    title,
    sandbox: "allow-same-origin",
    srcdoc: "<!DOCTYPE html><title></title>",
  });
  frame.addEventListener("load", () => write(frame, html), { once: true });
  return frame;
}

function write(frame, html) {
  const { document: inner, CSSStyleSheet: Sheet } = frame.contentWindow;
  const { source, styles } = withoutStyles(html);
  const parsed = new DOMParser().parseFromString(source, "text/html");
  for (const node of parsed.querySelectorAll(UNWANTED)) node.remove();
  inner.documentElement.lang = parsed.documentElement.lang;
  inner.title = parsed.title;
  inner.body.replaceWith(inner.adoptNode(parsed.body));
  const sheet = new Sheet();
  sheet.replaceSync(styles);
  inner.adoptedStyleSheets = [sheet];
  for (const node of inner.querySelectorAll(`[${HELD}style]`)) giveBack(node);
  inner.addEventListener("click", (event) => followInside(event, inner));
  fit(frame);
}

/** The text without style sheets, with inert styles and handlers in its tags; and the sheets. */
export function withoutStyles(html) {
  const sheets = [];
  const bare = html.replace(STYLE_SHEET, (whole, sheet) => {
    sheets.push(sheet);
    return "";
  });
  const source = bare.replace(TAG, (tag) =>
    tag.replace(HELD_NAME, (found, quoted, blank, name) => quoted ?? `${blank}${HELD}${name}`),
  );
  return { source, styles: sheets.join("\n") };
}

function giveBack(node) {
  node.style.cssText = node.getAttribute(`${HELD}style`);
  node.removeAttribute(`${HELD}style`);
}

/** Links within the report scroll; the others would leave the frame, and do nothing. */
function followInside(event, inner) {
  const link = event.target.closest?.("a[href]");
  if (!link) return;
  event.preventDefault();
  const target =
    link.getAttribute("href").startsWith("#") && inner.getElementById(link.getAttribute("href").slice(1));
  if (target) target.scrollIntoView();
}

/** As high as the report, so that the page scrolls and not the frame. */
function fit(frame) {
  const { body } = frame.contentDocument;
  const measure = () => {
    frame.style.height = `${Math.ceil(body.getBoundingClientRect().height) + MARGIN}px`;
  };
  new ResizeObserver(measure).observe(body);
  measure();
}
