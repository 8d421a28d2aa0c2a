// Every request of the page goes through api(): one place for the token, for signing in, and for errors.

import { askForToken } from "./signin.js";

const TOKEN = "kvtwist.token";
let signingIn = null;

/** A response that was not expected; the message is the server's own. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/**
 * Send a request, with a token if there is one. 401 asks for a token and tries again.
 *
 * `options` are those of fetch, and `expected`: the statuses beside 2xx that the caller handles.
 * Throws a Problem for all others, and what fetch throws when the server cannot be reached.
 */
export async function api(path, { expected = [], headers = {}, ...options } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const sent = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
    const response = await fetch(path, { cache: "no-store", ...options, headers: sent });
    if (response.status === 401) {
      await signIn(token);
    } else if (response.ok || expected.includes(response.status)) {
      return response;
    } else {
      throw await problemOf(response);
    }
  }
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/** Ask for a token once, however many requests need one. */
async function signIn(refused) {
  if (sessionStorage.getItem(TOKEN) !== refused) return; // another request has one by now
  signingIn ??= askForToken(refused !== null);
  try {
    sessionStorage.setItem(TOKEN, await signingIn);
  } finally {
    signingIn = null;
  }
}

async function problemOf(response) {
  const text = await response.text();
  let detail = text.trim().slice(0, 300);
  try {
    const said = JSON.parse(text);
    detail = said.detail ?? said.error ?? detail;
  } catch {
    // the body is not JSON: some profiles answer in plain text
  }
  return new Problem(response.status, `${detail || response.statusText} (${response.status})`);
}

/** Words for any error that a request can end with. */
export function explain(error) {
  return error instanceof Problem ? error.message : "The server cannot be reached";
}

export function keyPath(key) {
  return `/v1/kv/${encodeURIComponent(key)}`;
}

/** A page of keys without their values. */
export async function listKeys(prefix, after, limit, signal) {
  const query = new URLSearchParams({ prefix, limit, keys_only: "true" });
  if (after !== null) query.set("after", after);
  return (await api(`/v1/kv?${query}`, { signal })).json();
}

/** The size of a value; null if the key is gone. */
export async function sizeOf(key, signal) {
  const response = await api(keyPath(key), { method: "HEAD", expected: [404], signal });
  return response.status === 404 ? null : Number(response.headers.get("Content-Length"));
}

/**
 * The value of a key with its properties; null if there is none.
 *
 * With `most`, at most so many bytes of it.
 */
export async function readValue(key, most = null, signal = undefined) {
  const headers = most === null ? {} : { Range: `bytes=0-${most - 1}` };
  const response = await api(keyPath(key), { headers, expected: [404, 416], signal });
  if (response.status === 404) return null;
  if (response.status === 416) return readValue(key, null, signal); // no range of an empty value
  const bytes = new Uint8Array(await response.arrayBuffer());
  const whole = response.headers.get("Content-Range")?.split("/")[1];
  const expires = response.headers.get("Expires");
  return {
    key,
    bytes,
    size: whole === undefined ? bytes.length : Number(whole),
    type: response.headers.get("Content-Type") ?? "application/octet-stream",
    revision: Number(response.headers.get("ETag").replaceAll('"', "")),
    modified: Date.parse(response.headers.get("Last-Modified")),
    expires: expires === null ? null : Date.parse(expires),
    ttl: Number(response.headers.get("Kvtwist-TTL")),
  };
}

/**
 * Write a value if the key still is as the caller knows it: at `revision`, or missing if that is 0.
 * Returns whether it was written; false: somebody was faster.
 */
export async function writeValue(key, body, type, ttl, revision) {
  const condition = revision ? { "If-Match": `"${revision}"` } : { "If-None-Match": "*" };
  const query = ttl === null ? "" : `?ttl=${ttl}`;
  const headers = { ...condition, "Content-Type": type };
  const response = await api(keyPath(key) + query, { method: "PUT", headers, body, expected: [412] });
  return response.status !== 412;
}

/** Delete a key if it still is at that revision; returns whether somebody was faster: "done", "gone" or "changed". */
export async function deleteKey(key, revision) {
  const headers = { "If-Match": `"${revision}"` };
  const response = await api(keyPath(key), { method: "DELETE", headers, expected: [404, 412] });
  return { 404: "gone", 412: "changed" }[response.status] ?? "done";
}
