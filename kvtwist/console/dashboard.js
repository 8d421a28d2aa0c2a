// The server at a glance: load, latency, memory, journal and checkpoints, drawn as they come in.

import { api, hasToken } from "./api.js";
import { Chart } from "./chart.js";
import { serverNow } from "./clock.js";
import { fill, h, icon } from "./dom.js";
import { ago, bytes, count, duration, millis, short } from "./format.js";

const ROUTES = 10;
const rate = (value) => `${short(value)}/s`;

export class Dashboard {
  constructor(figures) {
    this.figures = figures;
    this.tiles = h("div", { class: "tiles" });
    this.charts = [
      new Chart({
        title: "Requests",
        series: [
          { name: "reads", label: "reads", kind: "area", tone: 1 },
          { name: "writes", label: "writes", kind: "line", tone: 2 },
        ],
        format: rate,
        least: 10,
      }),
      new Chart({
        title: "Latency",
        series: [
          { name: "p50", label: "median", kind: "area", tone: 1 },
          { name: "p99", label: "99 %", kind: "line", tone: 2 },
        ],
        format: millis,
        least: 0.001,
      }),
      new Chart({
        title: "Journal",
        series: [{ name: "journal", label: "since the last checkpoint", kind: "area", tone: 1 }],
        format: bytes,
        least: 2 ** 20,
        base: 2,
        mark: { name: "checkpoints" },
      }),
      new Chart({
        title: "Memory",
        series: [
          { name: "resident", label: "process", kind: "area", tone: 1 },
          { name: "held", label: "requests", kind: "line", tone: 2 },
        ],
        format: bytes,
        least: 2 ** 26,
        base: 2,
      }),
    ];
    this.routes = h("tbody");
    this.facts = h("dl", { class: "facts column" });
    const heads = ["Profile", "Route", "Requests", "Mean", "99 %", "Errors"];
    this.element = h(
      "section",
      { class: "page dashboard", "aria-labelledby": "dashboard-title" },
      h("header", { class: "page-head" }, h("h1", { id: "dashboard-title" }, "Dashboard"), (this.summary = h("span", { class: "note" }))),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures" },
        this.tiles,
        h("div", { class: "charts" }, this.charts.map((chart) => chart.element)),
        h(
          "div",
          { class: "below" },
          h(
            "div",
            { class: "card table", tabindex: "0", role: "region", "aria-label": "Routes" },
            h("h2", null, "Routes in the last ten seconds"),
            h("table", null, h("thead", null, h("tr", null, heads.map((text, at) => h("th", { scope: "col", class: at > 1 ? "number" : "" }, text)))), this.routes),
          ),
          h("div", { class: "card server" }, h("h2", null, "Server"), this.facts),
        ),
      ),
    );
  }

  draw() {
    const { latest, raw, points } = this.figures;
    if (!latest) return;
    const point = points.at(-1);
    const data = raw.keyspaces.data ?? { records: 0, bytes: 0 };
    fill(this.summary, `up ${duration(latest.uptime)}`);
    fill(
      this.tiles,
      tile("Requests", rate(point.reads + point.writes), `${short(raw.inFlight)} in flight`),
      tile("Errors", rate(point.errors), "5xx answers", point.errors > 0),
      tile("Records", count(data.records), bytes(data.bytes)),
      tile("Writes", rate(point.transactions), point.perBatch === null ? "none just now" : `${short(point.perBatch)} in a batch`),
      tile("Sync", point.sync === null ? "–" : millis(point.sync), "to write a batch"),
      tile("Checkpoints", count(raw.checkpoints), checkpointText(raw), raw.checkpointFailures > 0),
      tile("Processor", `${Math.round(point.cpu * 100)} %`, "of one core"),
      tile("State", raw.isReadOnly ? "Read-only" : "Healthy", raw.isReadOnly ? "until a restart" : `${count(raw.failures)} failed batches`, raw.isReadOnly || raw.failures > 0),
    );
    for (const chart of this.charts) chart.draw(points);
    this.#drawRoutes();
    this.#drawFacts(latest, raw);
  }

  #drawRoutes() {
    const rows = this.figures.routes().slice(0, ROUTES);
    const cell = (text) => h("td", { class: "number" }, text);
    fill(
      this.routes,
      rows.length
        ? rows.map(({ profile, route, method, rate: each, mean, p99, errors }) =>
            h("tr", null, h("td", null, profile), h("td", null, h("code", null, `${method} ${route}`)), cell(rate(each)), cell(millis(mean)), cell(p99 === null ? "–" : millis(p99)), cell(errors ? rate(errors) : "–")),
          )
        : h("tr", null, h("td", { colspan: 6, class: "none" }, "No requests but the console's own.")),
    );
  }

  #drawFacts(latest, raw) {
    const facts = [
      ["Version", latest.version],
      ["Serves", latest.profiles.filter((name) => name !== "console").join(", ")],
      ["Store", latest.store === "memory" ? "memory, nothing on disk" : `directory, ${latest.durability}`],
      ["Memory", `${bytes(latest.memory_limit)} for the store, ${bytes(latest.max_in_flight)} for requests`],
      ["Largest value", bytes(latest.max_value)],
      ["Open files", count(raw.files)],
    ];
    if (this.said === JSON.stringify(facts)) return;
    this.said = JSON.stringify(facts);
    fill(
      this.facts,
      facts.map(([name, text]) => h("div", null, h("dt", null, name), h("dd", null, text))),
      latest.store === "dir" && h("div", null, h("dt", null, "Backup"), h("dd", null, backup())),
    );
  }
}

function tile(name, value, note, isBad = false) {
  return h("div", { class: isBad ? "card tile bad" : "card tile" }, h("span", { class: "name" }, name), h("b", null, value), h("span", { class: "note" }, note));
}

function checkpointText({ lastCheckpoint, checkpointFailures }) {
  if (checkpointFailures) return `${count(checkpointFailures)} failed`;
  return lastCheckpoint ? `last ${ago(lastCheckpoint * 1000, serverNow())}` : "none since the start";
}

/** A link that saves a copy of the store. With a token the page has to fetch it: a link sends no header. */
function backup() {
  const href = "/ui/api/backup";
  const save = async (event) => {
    if (!hasToken()) return;
    event.preventDefault();
    const url = URL.createObjectURL(await (await api(href)).blob());
    h("a", { href: url, download: "kvtwist.tar" }).click();
  };
  return h("a", { class: "button", href, download: "kvtwist.tar", onclick: save }, icon("download"), h("span", null, "Download"));
}
