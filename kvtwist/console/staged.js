// The changes that wait for POST /commit, and the button that commits them.

import { api, explain } from "./api.js";
import { ask } from "./dialogs.js";
import { button, fill, h, toast } from "./dom.js";
import { clock, count, moment, typeName } from "./format.js";

const DELETION = "application/x-kvtwist-deletion";
const LIMIT = 100;
const SHOWN = 300;

export class Staged {
  /** :param oncommit: called after a commit. */
  constructor(oncommit) {
    this.oncommit = oncommit;
    this.limit = LIMIT;
    this.commit = button("staged", "Commit", { class: "button primary", onclick: () => this.#commit() });
    this.summary = h("span", { class: "note", role: "status" });
    this.body = h("div", { class: "log", tabindex: "0", role: "region", "aria-label": "Waiting changes, by key" });
    this.element = h(
      "section",
      { class: "page staged", "aria-labelledby": "staged-title" },
      h("header", { class: "page-head" }, h("h1", { id: "staged-title" }, "Staged changes"), this.summary, h("div", { class: "actions" }, this.commit)),
      this.body,
    );
  }

  async load() {
    try {
      const { changes, items, next } = await (await api(`/ui/api/staged?limit=${this.limit}`)).json();
      this.#draw(changes, items, next);
    } catch (error) {
      fill(this.body, h("p", { class: "empty" }, explain(error)));
    }
  }

  #draw(changes, items, next) {
    this.count = changes;
    this.commit.disabled = !changes;
    fill(this.summary, changes ? `${count(changes)} waiting; one transaction applies them all` : "");
    if (!items.length) {
      fill(this.body, h("p", { class: "empty" }, "Nothing is staged. POST /set and DELETE /set stage changes, and so does Stage in the editor."));
      return;
    }
    const more = () => {
      this.limit = Math.min(1000, this.limit * 3);
      void this.load();
    };
    fill(
      this.body,
      items.map((item) => this.#row(item)),
      next !== null && h("p", { class: "empty" }, this.limit < 1000 ? button(null, "Show more", { onclick: more }) : `${count(changes - items.length)} more`),
    );
  }

  #row({ key, value, modified, content_type: type }) {
    const kind = type === DELETION ? "delete" : "put";
    const text = kind === "put" ? JSON.stringify(value).slice(0, SHOWN) : "";
    return h(
      "div",
      { class: "entry" },
      h("span", { class: "when", title: moment(modified) }, clock(modified)),
      h("span", { class: `kind ${kind}` }, kind),
      h("a", { class: "key", href: `#/browse/${encodeURIComponent(key)}`, title: key }, key),
      h("span", { class: "preview" }, text),
      h("span", { class: "type" }, kind === "put" ? typeName(type) : ""),
    );
  }

  async #commit() {
    const what = this.count === 1 ? "One change" : `${count(this.count)} changes`;
    const content = h("p", null, `${what} will be applied in one transaction, by everybody who has staged something.`);
    if ((await ask({ title: "Commit?", content, buttons: [["Cancel"], ["Commit", "commit", "primary"]] })) === null) return;
    try {
      await api("/commit", { method: "POST" });
      toast("Committed");
    } catch (error) {
      toast(explain(error), true);
    }
    await this.load();
    this.oncommit();
  }
}
