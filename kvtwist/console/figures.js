// Reads the server's figures every two seconds, and makes rates and quantiles of its counters.

import { api } from "./api.js";
import { setServerTime } from "./clock.js";

const EVERY_MS = 2000;
/** Ten minutes. */
const KEPT = 300;
/** Rates and quantiles are those of the last ten seconds. */
const WINDOW = 5;
/** Requests that wait for changes: they last as long as their clients want. */
const ENDLESS = new Set(["/v1/watch"]);
const READS = new Set(["GET", "HEAD"]);

export class Figures {
  points = [];
  latest = null;
  #raw = [];

  /** :param onpoint: called after each reading; onerror(error) if it failed. */
  constructor(onpoint, onerror) {
    Object.assign(this, { onpoint, onerror });
  }

  /** Read now, and from now on. Nothing is read while nobody looks. */
  async start() {
    await this.read();
    setInterval(() => {
      if (!document.hidden) void this.read();
    }, EVERY_MS);
  }

  async read() {
    try {
      const said = await (await api("/ui/api/figures")).json();
      setServerTime(said.now);
      const raw = digest(said.samples);
      raw.at = performance.now() / 1000;
      if (this.#raw.length && raw.batches < this.#raw.at(-1).batches) this.#raw = []; // the server has been restarted
      this.#raw.push(raw);
      if (this.#raw.length > WINDOW + 1) this.#raw.shift();
      this.latest = said;
      this.raw = raw;
      this.points.push({ at: Date.now(), ...rates(this.#raw[0], raw) });
      if (this.points.length > KEPT) this.points.shift();
      this.onpoint();
    } catch (error) {
      this.onerror(error);
    }
  }

  /** Each route since the start of the window: { profile, route, method, rate, mean, p99, errors }, the busiest first. */
  routes() {
    const [from, to] = [this.#raw[0], this.#raw.at(-1)];
    if (!to || from === to) return [];
    const seconds = to.at - from.at;
    const found = [];
    for (const [name, now] of to.routes) {
      const before = from.routes.get(name);
      const counted = now.count - (before?.count ?? 0);
      if (counted <= 0) continue;
      const [profile, route, method] = JSON.parse(name);
      const spent = now.seconds - (before?.seconds ?? 0);
      const errors = now.errors - (before?.errors ?? 0);
      const slow = quantile(0.99, before?.buckets ?? new Map(), now.buckets);
      found.push({ profile, route, method, rate: counted / seconds, mean: spent / counted, p99: slow, errors: errors / seconds });
    }
    return found.sort((a, b) => b.rate - a.rate);
  }
}

/** The samples by what the page shows of them. */
function digest(samples) {
  const plain = new Map();
  const keyspaces = {};
  const routes = new Map();
  const routeOf = ({ profile, route, method }) => {
    const name = JSON.stringify([profile, route, method]);
    if (!routes.has(name)) routes.set(name, { count: 0, seconds: 0, errors: 0, buckets: new Map() });
    return routes.get(name);
  };
  for (const [name, labels, value] of samples) {
    if (name === "kvtwist_http_requests_total") {
      const route = routeOf(labels);
      route.count += value;
      if (Number(labels.status) >= 500) route.errors += value;
    } else if (name === "kvtwist_http_request_seconds_bucket") {
      routeOf(labels).buckets.set(labels.le === "+Inf" ? Infinity : Number(labels.le), value);
    } else if (name === "kvtwist_http_request_seconds_sum") {
      routeOf(labels).seconds = value;
    } else if (name === "kvtwist_store_records" || name === "kvtwist_store_bytes") {
      (keyspaces[labels.keyspace] ??= {})[name.split("_").at(-1)] = value;
    } else if (!Object.keys(labels).length) {
      plain.set(name, value);
    }
  }
  const get = (name) => plain.get(`kvtwist_${name}`) ?? 0;
  const total = { reads: 0, writes: 0, errors: 0, buckets: new Map() };
  for (const [name, route] of routes) {
    const [profile, path, method] = JSON.parse(name);
    if (profile === "console") {
      routes.delete(name);
      continue;
    }
    total[READS.has(method) ? "reads" : "writes"] += route.count;
    total.errors += route.errors;
    if (ENDLESS.has(path)) continue;
    for (const [bound, value] of route.buckets) total.buckets.set(bound, (total.buckets.get(bound) ?? 0) + value);
  }
  return {
    ...total,
    routes,
    keyspaces,
    batches: get("journal_batches_total"),
    transactions: get("journal_transactions_total"),
    syncSeconds: get("journal_sync_seconds_total"),
    failures: get("journal_failures_total"),
    journal: get("journal_bytes"),
    checkpoints: get("checkpoints_total"),
    checkpointSeconds: get("checkpoint_seconds_total"),
    checkpointFailures: get("checkpoint_failures_total"),
    lastCheckpoint: get("checkpoint_last_timestamp_seconds"),
    isReadOnly: get("store_read_only") > 0,
    inFlight: get("http_requests_in_flight"),
    held: get("http_in_flight_bytes"),
    staged: get("staged_changes"),
    resident: plain.get("process_resident_memory_bytes") ?? 0,
    cpu: plain.get("process_cpu_seconds_total") ?? 0,
    files: plain.get("process_open_fds") ?? 0,
  };
}

function rates(from, to) {
  const seconds = to.at - from.at;
  const per = (name) => (seconds > 0 ? Math.max(0, to[name] - from[name]) / seconds : 0);
  const batches = to.batches - from.batches;
  const share = (total, parts) => (parts > 0 ? total / parts : null);
  return {
    reads: per("reads"),
    writes: per("writes"),
    errors: per("errors"),
    transactions: per("transactions"),
    p50: quantile(0.5, from.buckets, to.buckets),
    p99: quantile(0.99, from.buckets, to.buckets),
    sync: share(to.syncSeconds - from.syncSeconds, batches),
    perBatch: share(to.transactions - from.transactions, batches),
    cpu: per("cpu"),
    resident: to.resident,
    held: to.held,
    journal: to.journal,
    checkpoints: to.checkpoints,
    hasCheckpoint: to.checkpoints > from.checkpoints && from.batches > 0,
  };
}

/** A quantile of what was counted between two readings of a histogram, in seconds; null if nothing was. */
export function quantile(share, from, to) {
  const bounds = [...to.keys()].sort((a, b) => a - b);
  const counts = bounds.map((bound) => to.get(bound) - (from.get(bound) ?? 0));
  const total = counts.at(-1);
  if (!(total > 0)) return null;
  const rank = share * total;
  const at = counts.findIndex((value) => value >= rank);
  const [low, below] = at > 0 ? [bounds[at - 1], counts[at - 1]] : [0, 0];
  if (bounds[at] === Infinity) return low;
  return low + (bounds[at] - low) * ((rank - below) / (counts[at] - below));
}
