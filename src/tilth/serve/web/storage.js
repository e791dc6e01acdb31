// What the browser remembers: for ever (`lasting`), or until the tab is closed (`passing`). Where the browser
// refuses to, it is remembered until the page is left.

function memory(open) {
  const here = new Map();
  const attempt = (action) => {
    try {
      return action(open());
    } catch {
      return undefined;
    }
  };
  return {
    get: (name) => attempt((store) => store.getItem(`tilth.${name}`)) ?? here.get(name) ?? null,
    set(name, value) {
      here.set(name, value);
      attempt((store) => store.setItem(`tilth.${name}`, value));
    },
    remove(name) {
      here.delete(name);
      attempt((store) => store.removeItem(`tilth.${name}`));
    },
    getList(name) {
      try {
        const list = JSON.parse(this.get(name));
        return Array.isArray(list) ? list : [];
      } catch {
        return [];
      }
    },
    setList(name, list) {
      if (list.length) this.set(name, JSON.stringify(list));
      else this.remove(name);
    },
  };
}

export const lasting = memory(() => localStorage);
export const passing = memory(() => sessionStorage);

/** Thirty-two random hexadecimal digits; `crypto.randomUUID` is missing where the page is served without TLS. */
export function identifier() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
