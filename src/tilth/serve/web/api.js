// Requests to the service, and what can go wrong with them.

import { passing } from "./storage.js";

const KEY = "key";

let askForKey = async () => false;

/** `ask(refused)` shows a dialog, and promises whether there is a key now. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export const hasKey = () => passing.get(KEY) !== null;
export const keepKey = (key) => passing.set(KEY, key);
export const forgetKey = () => passing.remove(KEY);

/** A refusal: `status` is 0 where the service was not reached; `problem` as in RFC 9457. */
export class ApiError extends Error {
  constructor(status, problem = {}, wait = null) {
    super(problem.detail ?? problem.title ?? `${status}`);
    Object.assign(this, { status, problem, wait });
  }

  /** Whether the same request may go through later. */
  get passes() {
    return this.status === 0 || this.status === 401 || this.status === 429 || this.status >= 500;
  }
}

/** What the service answers: JSON, or text where `as` says so. Throws ApiError, or AbortError. */
export async function call(path, options = {}) {
  const key = passing.get(KEY);
  const response = await sent(path, key, options);
  if (response.status === 401 && (await hasAnother(key))) return call(path, options);
  if (!response.ok) throw await refusal(response);
  return options.as === "text" ? response.text() : readJson(response);
}

/** Whether there is another key than the one that was refused, after asking for it. */
async function hasAnother(key) {
  const now = passing.get(KEY);
  return now !== null && now !== key ? true : askForKey(key !== null);
}

async function sent(path, key, { body, signal, method = body === undefined ? "GET" : "POST" }) {
  const headers = { Accept: "application/json, text/html" };
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const text = body === undefined ? undefined : JSON.stringify(body);
  try {
    return await fetch(path, { method, headers, body: text, signal, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
}

async function readJson(response) {
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
}

async function refusal(response) {
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  let problem = {};
  try {
    problem = (await response.json()) ?? {};
  } catch {
    // a proxy answers in its own words
  }
  return new ApiError(response.status, problem, Number.isNaN(wait) ? null : wait);
}
