// What the user does with hits, told to the service. What could not be told is kept, and told with the next event.

import { ApiError, call } from "./api.js";
import { identifier, lasting, passing } from "./storage.js";

const WAITING = "events";
const MOST = 200; // a browser's storage is small; the oldest go first

function kept(store, name) {
  if (!store.get(name)) store.set(name, identifier());
  return store.get(name);
}

export const clientId = () => kept(lasting, "client");

/** An event as User Behavior Insights has it; the id makes telling it twice harmless. */
export function eventOf(action, impressionId, hit, attributes = {}) {
  return {
    action_name: action,
    query_id: impressionId,
    client_id: clientId(),
    session_id: kept(passing, "session"),
    timestamp: new Date().toISOString(),
    event_id: identifier(),
    event_attributes: {
      object: { object_id: hit.product_id, object_id_field: "product_id" },
      position: { ordinal: hit.rank },
      ...attributes,
    },
  };
}

/** Tell an event, and those that wait. Throws ApiError; what may go through later waits. */
export function tell(event) {
  passing.setList(WAITING, [...passing.getList(WAITING), event].slice(-MOST));
  return tellWaiting();
}

export async function tellWaiting() {
  const events = passing.getList(WAITING);
  if (!events.length) return;
  try {
    await call("v1/feedback", { body: { events } });
    drop(events);
  } catch (error) {
    if (error instanceof ApiError && !error.passes) drop(events); // refused for good: they would block the others
    throw error;
  }
}

function drop(events) {
  const told = new Set(events.map((event) => event.event_id));
  passing.setList(
    WAITING,
    passing.getList(WAITING).filter((event) => !told.has(event.event_id)),
  );
}
