// What is seen is in the address: `#/search?q=roses&k=20`.

/** The view and its values. */
export function parse(hash) {
  const [, view = "", values = ""] = /^#\/([a-z]*)(?:\?(.*))?$/.exec(hash) ?? [];
  return { view, values: new URLSearchParams(values) };
}

/** The address of a view; what is empty is left out. */
export function addressOf(view, values = {}) {
  const given = Object.entries(values).filter(
    ([, value]) => value !== "" && value !== null && value !== undefined,
  );
  const text = new URLSearchParams(given).toString();
  return `#/${view}${text && `?${text}`}`;
}

/** Go there; `again` runs where one is there already, when no event would tell. */
export function go(address, again) {
  if (location.hash === address) again?.();
  else location.hash = address;
}
