// The changes of keys, read from GET /v1/watch. EventSource could not send a token, so the stream is read with fetch.

import { api, Problem } from "./api.js";

const RETRY_MS = [500, 1000, 2000, 5000];
const HIDDEN_MS = 60_000;

/** Yields the events of a stream: { kind, data, id }. A block with an id alone has no kind. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = {};
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.id !== undefined || event.data !== undefined) yield event;
          event = {};
          continue;
        }
        const at = line.indexOf(": ");
        const [name, text] = [line.slice(0, at), line.slice(at + 2)];
        if (name === "id") event.id = Number(text);
        else if (name === "event") event.kind = text;
        else if (name === "data") event.data = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection is closed
  }
}

/** An event with the text that it came as: numbers in a JSON value are exact only there. */
function eventOf(kind, data) {
  return { kind, ...JSON.parse(data), text: data };
}

/**
 * A watch that comes back after the last event that it saw.
 *
 * onfresh(revision): it begins now, or had to begin again because changes were missed: list the keys after this.
 * onevent({ kind, key, revision, modified, ..., text }), onstate("live" | "connecting" | "paused").
 */
export class Watch {
  constructor({ onfresh, onevent, onstate }) {
    Object.assign(this, { onfresh, onevent, onstate });
    this.lastId = null;
    this.abort = null;
    this.isPaused = false;
    this.isHidden = false;
    this.hiding = 0;
    document.addEventListener("visibilitychange", () => this.#visibility());
    void this.#run();
  }

  /** Stop reading for a while. What happens meanwhile is told after `resume`, if the server still has it. */
  pause(isPaused) {
    this.isPaused = isPaused;
    this.#apply();
  }

  // A tab that nobody looks at does not keep the server busy.
  #visibility() {
    clearTimeout(this.hiding);
    const hide = (isHidden) => {
      this.isHidden = isHidden;
      this.#apply();
    };
    if (document.hidden) this.hiding = setTimeout(hide, HIDDEN_MS, true);
    else hide(false);
  }

  #apply() {
    if (this.isPaused || this.isHidden) this.abort?.abort();
    else this.wake?.();
  }

  async #run() {
    for (let failures = 0; ; ) {
      if (this.isPaused || this.isHidden) {
        this.onstate("paused");
        await new Promise((resolve) => (this.wake = resolve));
        failures = 0;
      }
      this.abort = new AbortController();
      try {
        await this.#follow(() => (failures = 0));
      } catch (error) {
        if (error instanceof Problem && error.status < 500) this.lastId = null;
      }
      if (this.isPaused || this.isHidden) continue;
      this.onstate("connecting");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
      failures += 1;
    }
  }

  async #follow(onlive) {
    const headers = this.lastId === null ? {} : { "Last-Event-ID": String(this.lastId) };
    const response = await api("/v1/watch", { headers, expected: [410], signal: this.abort.signal });
    if (response.status === 410) {
      this.lastId = null;
      return;
    }
    let isFresh = this.lastId === null;
    onlive();
    this.onstate("live");
    for await (const { kind, data, id } of events(response.body)) {
      if (kind === "gone") {
        this.lastId = null;
        return;
      }
      if (kind !== undefined) this.onevent(eventOf(kind, data));
      if (id !== undefined) this.lastId = id;
      if (isFresh && id !== undefined) {
        isFresh = false;
        this.onfresh(id);
      }
    }
  }
}

/**
 * The changes of one key that the server still has, newest first, and whether there were earlier ones that it has not.
 *
 * Reads until the revision that the key has now, which is known to be told.
 */
export async function changesOf(key, until, signal) {
  const query = new URLSearchParams({ key, after: "0" });
  let response = await api(`/v1/watch?${query}`, { expected: [410], signal });
  const isCut = response.status === 410;
  if (isCut) {
    const { oldest } = await response.json();
    if (oldest >= until) return { changes: [], isCut };
    query.set("after", oldest);
    response = await api(`/v1/watch?${query}`, { expected: [410], signal });
    if (response.status === 410) return { changes: [], isCut };
  }
  const changes = [];
  for await (const { kind, data } of events(response.body)) {
    if (kind === "gone") break;
    if (kind === undefined) continue;
    changes.push(eventOf(kind, data));
    if (changes.at(-1).revision >= until) break;
  }
  return { changes: changes.reverse(), isCut };
}
