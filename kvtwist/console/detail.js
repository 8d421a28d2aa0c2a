// One key: its properties, its value, its history, and the form that changes it.

import { explain, hasToken, keyPath, readValue, api } from "./api.js";
import { ticking } from "./clock.js";
import { button, copy, fill, h, toast } from "./dom.js";
import { Editor, removeKey } from "./editor.js";
import { bytes as sizeText, clock, count, moment } from "./format.js";
import { preview, valueText } from "./item.js";
import { ValueView } from "./valueview.js";
import { changesOf } from "./watch.js";

/** More of a value is only shown when the reader asks. */
const MOST = 256 * 1024;
const HISTORY_MS = 3000;
/** Characters of an earlier value. */
const SHOWN = 500;
const WORDS = { put: "written", delete: "deleted", expire: "expired" };
const HISTORY_KEY = /^[A-Za-z0-9]{1,255}$/;

export class Detail {
  /** :param server: what the server is and serves; :param close: called to go back to the tree. */
  constructor(server, close) {
    Object.assign(this, { server, close });
    this.key = null;
    this.element = h("section", { class: "detail", "aria-label": "Key", id: "detail" });
    this.view = new ValueView(() => this.#leaveHistory());
    this.#nothing();
  }

  get isOpen() {
    return this.key !== null;
  }

  #nothing() {
    const keys = [["/", "search"], ["↑ ↓ → ←", "move through the tree"], ["n", "new key"], ["?", "all keys"]];
    fill(
      this.element,
      h(
        "div",
        { class: "welcome" },
        h("h2", null, "Choose a key"),
        h("dl", { class: "keys" }, keys.map(([names, text]) => [h("dt", null, names.split(" ").map((key) => h("kbd", null, key))), h("dd", null, text)])),
      ),
    );
  }

  async open(key) {
    if (this.editor && !this.editor.hasChanged) this.editor = null;
    if (this.editor) {
      const editor = this.editor;
      await editor.cancel();
      if (this.editor === editor) return false;
    }
    this.key = key;
    this.view.chosen = null;
    this.isWhole = false;
    this.shown = null;
    if (key === null) this.#nothing();
    else await this.load();
    return true;
  }

  async load() {
    const key = this.key;
    this.abort?.abort();
    this.abort = new AbortController();
    try {
      const value = await readValue(key, this.isWhole ? null : MOST, this.abort.signal);
      if (key !== this.key || this.editor) return;
      this.shown = value;
      if (value === null) this.#gone("There is no such key.");
      else this.#draw();
    } catch (error) {
      if (error.name !== "AbortError" && key === this.key) this.#gone(explain(error));
    }
  }

  #gone(text) {
    this.shown = null;
    fill(this.element, this.#head(), h("p", { class: "banner" }, text));
  }

  #head(...actions) {
    const parts = this.key.split(/(?<=[/:])/);
    const last = parts.pop();
    return h(
      "header",
      null,
      button("back", "Back to the keys", { class: "button only-icon quiet back", onclick: () => this.close() }, false),
      h("h2", { class: "path", title: this.key }, parts.map((part) => h("span", null, part)), h("b", null, last)),
      button("copy", "Copy the key", { class: "button only-icon quiet copy", onclick: () => copy(this.key) }, false),
      h("div", { class: "actions" }, actions),
    );
  }

  #draw() {
    const value = this.shown;
    const isCut = value.bytes.length < value.size;
    const facts = [
      ["Type", value.type],
      ["Size", `${sizeText(value.size)}${value.size >= 1024 ? ` (${count(value.size)} B)` : ""}`],
      ["Revision", String(value.revision)],
      ["Modified", ticking("ago", value.modified)],
      ["Expires", value.expires === null ? "never" : h("span", { class: "chip" }, "in ", ticking("expires", value.expires))],
    ];
    this.historyButton = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.#showHistory() }, "History");
    this.view.show(value);
    this.tools = h(
      "div",
      { class: "toolbar" },
      h("div", { class: "choices" }, this.view.tabs, h("div", { class: "tabs", role: "group", "aria-label": "Changes" }, this.historyButton)),
      isCut && h("span", { class: "note" }, `the first ${sizeText(value.bytes.length)} `, button(null, "Load all", { class: "button quiet", onclick: () => this.#loadAll() })),
    );
    this.place = h("div", { class: "place" }, this.view.body);
    fill(
      this.element,
      this.#head(
        button("download", "Download", { class: "button only-icon quiet", onclick: () => this.#download() }, false),
        button("trash", "Delete", { class: "button only-icon quiet", onclick: () => this.remove() }, false),
        button("pencil", "Edit", { class: "button primary", "aria-label": "Edit", onclick: () => this.edit() }),
      ),
      h("dl", { class: "facts" }, facts.map(([name, text]) => h("div", null, h("dt", null, name), h("dd", null, text)))),
      this.tools,
      this.place,
    );
    if (this.view.body.classList.contains("as-hex")) this.view.draw(); // now that its width is known
  }

  #loadAll() {
    this.isWhole = true;
    void this.load();
  }

  // --- changes --------------------------------------------------------------------------------------------------------

  /** Somebody, or this page, has changed a key. */
  changed(event) {
    if (this.key === null || (event.kind !== "clear" && event.key !== this.key)) return;
    if (this.editor) {
      if (event.revision > this.editor.revision) this.editor.warn(`Meanwhile the key was ${WORDS[event.kind] ?? "deleted"} (revision ${event.revision}). Saving will show both.`);
    } else if (event.kind !== "put") {
      if (this.shown) this.#gone(`This key was ${WORDS[event.kind] ?? "deleted"} at ${clock(event.modified)}.`);
    } else if (this.shown?.revision !== event.revision) {
      void this.load();
    }
  }

  /** Changes may have been missed. */
  refresh() {
    if (this.key !== null && !this.editor) void this.load();
  }

  async edit(text = null) {
    if (!this.shown || this.editor) return;
    try {
      const value = this.shown.bytes.length < this.shown.size ? await readValue(this.key) : this.shown;
      if (value === null) return;
      this.editor = new Editor(value, this.server.serves("transactional"), () => {
        this.editor = null;
        void this.load().then(() => this.element.querySelector("header .primary")?.focus());
      });
      if (text !== null) this.editor.fields.area.value = text;
      fill(this.element, this.#head(), this.editor.element);
      this.editor.focus();
    } catch (error) {
      toast(explain(error), true);
    }
  }

  async remove() {
    if (this.key === null || this.editor) return;
    try {
      await removeKey(this.key, this.server.serves("transactional"));
    } catch (error) {
      toast(explain(error), true);
    }
  }

  async #download() {
    const name = this.key.split(/[/:]/).at(-1) || "value";
    let href = keyPath(this.key);
    if (hasToken()) href = URL.createObjectURL(await (await api(href)).blob());
    const link = h("a", { href, download: name });
    link.click();
  }

  // --- history --------------------------------------------------------------------------------------------------------

  #leaveHistory() {
    if (this.historyButton.getAttribute("aria-pressed") === "false") return;
    this.historyButton.setAttribute("aria-pressed", "false");
    fill(this.place, this.view.body);
  }

  async #showHistory() {
    const { key, shown } = this;
    this.historyButton.setAttribute("aria-pressed", "true");
    this.view.tabs.querySelectorAll("[aria-pressed]").forEach((tab) => tab.setAttribute("aria-pressed", "false"));
    const place = fill(this.place, h("p", { class: "empty" }, "Loading…"));
    try {
      const { changes, isCut } = await changesOf(key, shown.revision, AbortSignal.timeout(HISTORY_MS));
      const events = this.server.serves("history") && HISTORY_KEY.test(key) ? await (await api(`/${key}/history`)).json() : [];
      if (key !== this.key || place !== this.place) return;
      if (changes[0]?.revision !== shown.revision) changes.unshift({ kind: "put", ...shown });
      fill(
        place,
        h("ol", { class: "history" }, changes.map((change) => this.#version(change, shown))),
        isCut && h("p", { class: "note" }, "The server has no earlier changes: they are kept since the last checkpoint, and in memory while somebody watches."),
        events.length > 0 && [h("h3", null, "By the history profile, in the last two minutes"), h("ol", { class: "history" }, events.map(eventRow))],
      );
    } catch (error) {
      fill(place, h("p", { class: "empty" }, error.name === "TimeoutError" ? "The server did not tell in time. Try again." : explain(error)));
    }
  }

  #version(change, shown) {
    const isNow = change.revision === shown.revision;
    const text = change.text && change.kind === "put" ? preview(change, SHOWN) : "";
    const again = button(null, "Edit from this", { class: "button quiet", onclick: () => this.edit(valueText(change)) });
    return h(
      "li",
      null,
      h("span", { class: `kind ${change.kind}` }, change.kind),
      h("span", { class: "when", title: moment(change.modified) }, clock(change.modified)),
      h("span", { class: "revision" }, `revision ${change.revision}`),
      isNow ? h("span", { class: "now" }, "now") : change.kind === "put" && change.value !== undefined && again,
      text && h("pre", { tabindex: "0", role: "region", "aria-label": `Value at revision ${change.revision}` }, text),
    );
  }
}

function eventRow({ value, timestamp }) {
  const kind = value === null ? "delete" : "put";
  return h("li", null, h("span", { class: `kind ${kind}` }, kind), h("span", { class: "when", title: moment(timestamp) }, clock(timestamp)), value !== null && h("pre", null, value.slice(0, 500)));
}

