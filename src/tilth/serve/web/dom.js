// Elements, made without markup: a text always becomes a text node, so nothing that a product says is parsed.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (`onclick`) and children; what is null or false is left out. */
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same for a drawing. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

/** Text that only a screen reader says. */
export function spoken(text) {
  return el("span", { class: "spoken" }, text);
}

/** A label with its control: the control needs an id. */
export function labelled(text, control, hint = null) {
  return el("div", { class: "field" }, el("label", { for: control.id }, text), control, hint);
}

export function choice(id, options, chosen, properties = {}) {
  const items = options.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("select", { id, ...properties }, items);
}

/** A table that scrolls sideways by itself, by keyboard too. */
export function wide(name, table) {
  return el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": name }, table);
}

/** The address where it leads to the web; null for `javascript:` and everything else. */
export function webAddress(text) {
  try {
    const address = new URL(text);
    return ["http:", "https:"].includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}

/** A link to another site, in a new tab that learns nothing about this one. */
export function outside(address, text, note, properties = {}) {
  const link = { href: address, target: "_blank", rel: "noopener noreferrer", ...properties };
  return el("a", link, text, spoken(` ${note}`));
}
