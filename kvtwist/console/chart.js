// A chart of the last ten minutes, in SVG: lines and areas that share one scale.

import { fill, h, svg } from "./dom.js";
import { clock } from "./format.js";

/** A chart begins with the last two minutes, and grows to ten. */
const SPANS_MIN = [2, 5, 10];
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 12, 10, 22];
/** A gap longer than this breaks a line: the page was hidden. */
const GAP_MS = 10_000;

/** The next larger round number: 1, 2 or 5 times a power of ten; of two where bytes are counted. */
function ceiling(value, base) {
  if (base === 2) return 2 ** Math.ceil(Math.log2(value)) * (value <= 0.75 * 2 ** Math.ceil(Math.log2(value)) ? 0.75 : 1);
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

export class Chart {
  /**
   * :param title: what it shows.
   * :param series: [{ name, label, kind: "area" | "line", tone: 1 | 2 }] of the points' members.
   * :param format: makes text of a value.
   */
  constructor({ title, series, format, least, base = 10, mark = null }) {
    Object.assign(this, { series, format, least, base, mark });
    this.svg = svg("svg", { role: "img", "aria-label": title });
    this.tip = h("div", { class: "tip", hidden: true });
    this.now = series.map(() => h("b", null, "–"));
    const legend = series.map(({ label, tone }, at) => h("span", { class: `legend tone-${tone}` }, h("i"), label, " ", this.now[at]));
    this.title = title;
    this.element = h(
      "figure",
      { class: "card chart" },
      h("figcaption", null, h("h2", null, title), h("span", { class: "legends" }, legend)),
      h("div", { class: "plot", onpointermove: (event) => this.#point(event), onpointerleave: () => this.#leave() }, this.svg, this.tip),
    );
    this.points = [];
    new ResizeObserver(() => this.draw(this.points)).observe(this.svg);
  }

  draw(points) {
    this.points = points;
    const { clientWidth: width, clientHeight: height } = this.svg;
    if (!width) return;
    const end = points.at(-1)?.at ?? Date.now();
    const values = this.series.flatMap(({ name }) => points.map((point) => point[name] ?? 0));
    const most = ceiling(Math.max(this.least, ...values), this.base);
    const age = end - (points[0]?.at ?? end);
    const minutes = SPANS_MIN.find((span) => age < span * 60_000) ?? SPANS_MIN.at(-1);
    this.x = (at) => LEFT + (width - LEFT - RIGHT) * (1 - (end - at) / (minutes * 60_000));
    this.y = (value) => TOP + (height - TOP - BOTTOM) * (1 - value / most);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    fill(this.svg, this.#grid(most, minutes, width, height), this.#marks(height), this.series.map((line) => this.#line(line)));
    const last = points.at(-1);
    this.series.forEach(({ name }, at) => fill(this.now[at], shown(this.format, last?.[name])));
    const said = this.series.map(({ name, label }) => `${label} ${shown(this.format, last?.[name])}`);
    this.svg.setAttribute("aria-label", `${this.title}: ${said.join(", ")}`);
  }

  #grid(most, minutes, width, height) {
    const lines = [0, 0.5, 1].map((share) => {
      const y = Math.round(this.y(most * share)) + 0.5;
      return [
        svg("line", { class: share ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
        svg("text", { class: "label", x: LEFT - 8, y: y + 4, "text-anchor": "end" }, this.format(most * share)),
      ];
    });
    const times = [[`−${minutes} min`, "start", LEFT], [`−${minutes / 2}`, "middle", (LEFT + width - RIGHT) / 2], ["now", "end", width - RIGHT]];
    return [...lines.flat(), ...times.map(([text, anchor, x]) => svg("text", { class: "label", x, y: height - 4, "text-anchor": anchor }, text))];
  }

  #marks(height) {
    if (!this.mark) return [];
    const begun = this.points.filter((point, at) => at && point[this.mark.name] > this.points[at - 1][this.mark.name]);
    return begun.map(({ at }) => svg("line", { class: "mark", x1: this.x(at), x2: this.x(at), y1: TOP, y2: height - BOTTOM }));
  }

  #line({ name, kind, tone }) {
    const runs = [];
    let run = [];
    let before = null;
    for (const point of this.points) {
      const value = point[name];
      if (value === null || (before !== null && point.at - before > GAP_MS)) {
        if (run.length) runs.push(run);
        run = [];
      }
      before = point.at;
      if (value !== null) run.push([this.x(point.at).toFixed(1), this.y(value).toFixed(1)]);
    }
    if (run.length) runs.push(run);
    const floor = this.y(0).toFixed(1);
    const path = runs.map((points) => `M${points.map((pair) => pair.join(" ")).join("L")}`).join("");
    const parts = [];
    if (kind === "area") {
      const area = runs.map((points) => `M${points[0][0]} ${floor}L${points.map((pair) => pair.join(" ")).join("L")}L${points.at(-1)[0]} ${floor}Z`);
      parts.push(svg("path", { class: `area tone-${tone}`, d: area.join("") }));
    }
    parts.push(svg("path", { class: `line tone-${tone}`, d: path }));
    const end = runs.at(-1)?.at(-1);
    if (end && this.points.at(-1)[name] !== null) parts.push(svg("circle", { class: `end tone-${tone}`, cx: end[0], cy: end[1], r: 3 }));
    return parts;
  }

  #point(event) {
    if (!this.points.length || !this.x) return;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    const nearest = this.points.reduce((best, point) => (Math.abs(this.x(point.at) - x) < Math.abs(this.x(best.at) - x) ? point : best));
    this.cursor?.remove();
    const at = this.x(nearest.at);
    this.cursor = svg("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: this.y(0) });
    this.svg.append(this.cursor);
    this.tip.hidden = false;
    fill(this.tip, h("span", null, clock(nearest.at)), this.series.map(({ name, label }) => h("span", null, `${label} `, h("b", null, shown(this.format, nearest[name])))));
    const width = this.tip.offsetWidth;
    this.tip.style.left = `${Math.min(Math.max(0, at - width / 2), this.svg.clientWidth - width)}px`;
  }

  #leave() {
    this.cursor?.remove();
    this.tip.hidden = true;
  }
}

function shown(format, value) {
  return value === null || value === undefined ? "–" : format(value);
}
