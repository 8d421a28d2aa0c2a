// The log of changes since the page was opened: the latest thousand of them.

import { button, fill, h, inNextFrame } from "./dom.js";
import { clock, count, moment, typeName } from "./format.js";
import { preview } from "./item.js";
import { VirtualList } from "./virtual.js";

const MOST = 1000;
const ROW = 36;
const SHOWN = 160;

export class Changes {
  entries = [];
  total = 0;

  /** :param open: called with the key of a change that was chosen; :param pause: called with whether to stop watching. */
  constructor(open, pause) {
    this.open = open;
    this.filter = h("input", { type: "search", placeholder: "Filter by key", "aria-label": "Filter by key", oninput: () => this.draw(), spellcheck: "false" });
    this.toggle = button("pause", "Pause", {
      onclick: () => {
        this.isPaused = !this.isPaused;
        pause(this.isPaused);
        fill(this.toggle, this.isPaused ? "Resume" : "Pause");
      },
    });
    this.summary = h("span", { class: "note", role: "status" });
    this.scroller = h("div", { class: "log", tabindex: "0", role: "region", "aria-label": "Changes, the latest first" });
    this.element = h(
      "section",
      { class: "page changes", "aria-labelledby": "changes-title" },
      h("header", { class: "page-head" }, h("h1", { id: "changes-title" }, "Changes"), this.summary, h("div", { class: "actions" }, this.filter, this.toggle, button(null, "Clear", { onclick: () => this.clear() }))),
      this.scroller,
    );
    this.list = new VirtualList(this.scroller, ROW, (entry) => this.#row(entry));
    this.changed = inNextFrame(() => this.draw());
  }

  add(event) {
    this.total += 1;
    const { kind, key, revision, modified, content_type: type } = event;
    this.entries.push({ kind, key, revision, modified, type, text: kind === "put" ? preview(event, SHOWN) : "" });
    if (this.entries.length > 2 * MOST) this.entries.splice(0, MOST);
    if (this.element.isConnected) this.changed();
  }

  clear() {
    this.entries = [];
    this.total = 0;
    this.draw();
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const found = this.entries.slice(-MOST).filter(({ key }) => !wanted || key?.toLowerCase().includes(wanted));
    this.list.set(found.reverse());
    const shown = found.length < this.total ? `${count(found.length)} of ${count(this.total)}` : count(this.total);
    fill(this.summary, this.total ? `${shown} since this page was opened` : "Nothing has changed since this page was opened");
  }

  #row({ kind, key, revision, modified, type, text }) {
    return h(
      "div",
      { class: "entry" },
      h("span", { class: "when", title: moment(modified) }, clock(modified)),
      h("span", { class: `kind ${kind}` }, kind),
      key === undefined
        ? h("span", { class: "key" }, "every key")
        : h("a", { class: "key", href: `#/browse/${encodeURIComponent(key)}`, title: key }, key),
      h("span", { class: "preview" }, text),
      h("span", { class: "type" }, type ? typeName(type) : ""),
      h("span", { class: "revision" }, count(revision)),
    );
  }
}
