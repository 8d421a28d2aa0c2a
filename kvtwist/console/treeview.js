// Draws the tree, or the results of a search in its place, and moves through it with the keyboard.

import { explain, sizeOf } from "./api.js";
import { ticking } from "./clock.js";
import { button, fill, h, icon, inNextFrame } from "./dom.js";
import { bytes, count, typeName } from "./format.js";
import { Search } from "./search.js";
import { VirtualList } from "./virtual.js";

const ROW = 30;
const PAUSE_MS = 150;
const FLASH_MS = 1600;

export class TreeView {
  /** :param actions: open(key), create(prefix), deletePrefix(prefix), deleteKey(key), edit(). */
  constructor(tree, actions) {
    this.tree = tree;
    this.actions = actions;
    this.search = null;
    this.selected = null;
    this.active = null;
    /** How many keys there are, about; null if that is not known. */
    this.total = null;
    this.changed = inNextFrame(() => this.draw());
    this.input = h("input", {
      type: "search",
      id: "search",
      placeholder: "Search keys",
      "aria-label": "Search keys; a star makes it a pattern",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#asked(),
      onkeydown: (event) => this.#inSearch(event),
    });
    this.scroller = h("div", {
      class: "tree",
      id: "tree",
      role: "tree",
      tabindex: "0",
      "aria-label": "Keys",
      onkeydown: (event) => this.#pressed(event),
      onclick: (event) => this.#clicked(event),
      onfocus: () => this.#activate(this.active ?? this.rows[0], false),
    });
    this.foot = h("div", { class: "foot" });
    this.list = new VirtualList(this.scroller, ROW, (row, index) => this.#row(row, index), (rows) => rows.forEach((row) => this.#near(row)));
    this.measuring = null;
    this.scroller.addEventListener("scroll", () => this.#measureLater(), { passive: true });
    this.element = h(
      "section",
      { class: "side", "aria-label": "Keys" },
      h(
        "div",
        { class: "bar" },
        h("div", { class: "searchbox" }, icon("search"), this.input, h("kbd", { "aria-hidden": "true" }, "/")),
        button("plus", "New", { class: "button primary", onclick: () => this.actions.create(this.#prefix()) }),
      ),
      this.scroller,
      this.foot,
    );
    this.rows = [];
  }

  get source() {
    return this.search ?? this.tree;
  }

  draw() {
    this.rows = this.source.rows();
    this.list.kept = this.active ? this.#indexOf(this.active) : -1;
    this.list.set(this.rows);
    this.scroller.setAttribute("aria-busy", String(Boolean(this.search?.isRunning || this.tree.root.isLoading)));
    this.#drawFoot();
    if (this.measuring === null) this.#measureLater(); // not later and later while changes come in
  }

  select(key) {
    this.selected = key;
    const leaf = key === null ? null : this.tree.find(key);
    if (leaf && !this.search) this.active = leaf;
    this.draw();
    if (leaf && !this.search) this.list.scrollTo(this.rows.indexOf(leaf));
  }

  setTotal(total) {
    if (total === this.total) return;
    this.total = total;
    this.#drawFoot();
  }

  focusSearch() {
    this.input.focus();
    this.input.select();
  }

  focus() {
    this.scroller.focus();
  }

  // --- rows -----------------------------------------------------------------------------------------------------------

  #row(row, index) {
    if (row.more) return this.#moreRow(row, index);
    const isFlat = this.search !== null;
    const siblings = isFlat ? null : row.parent;
    const element = h(
      "div",
      {
        class: `row ${row.isFolder ? "folder" : "leaf"}`,
        id: `row-${index}`,
        role: "treeitem",
        "data-index": index,
        "aria-level": row.depth + 1,
        "aria-expanded": row.isFolder ? String(row.isOpen) : null,
        "aria-selected": String(!row.isFolder && row.key === this.selected),
        "aria-setsize": siblings && !siblings.isComplete ? -1 : null,
        title: row.key,
      },
      row.isFolder ? icon("chevron") : h("span", { class: "dot" }),
      isFlat ? this.#found(row.key) : nameOf(row.name),
      row.isFolder
        ? h("span", { class: "cell total" }, row.isLoaded ? `${count(row.children.length)}${row.isComplete ? "" : "+"}` : "")
        : [
            h("span", { class: "cell expiry" }, ticking("expires", row.expires)),
            h("span", { class: "cell type" }, typeName(row.type)),
            h("span", { class: "cell size" }, row.size === null ? "" : bytes(row.size)),
          ],
    );
    element.style.setProperty("--depth", row.depth);
    if (row === this.active) element.classList.add("active");
    const age = performance.now() - (row.touched ?? -Infinity);
    if (age < FLASH_MS) {
      element.classList.add("fresh");
      element.style.animationDelay = `${-age}ms`;
    }
    return element;
  }

  #moreRow({ more, depth }, index) {
    const text = more.error ? `${explain(more.error)}. Try again` : more.isRunning || more.isLoading ? "Loading…" : "More";
    const properties = { class: "row more", id: `row-${index}`, role: "treeitem", "data-index": index, "aria-level": depth + 1, "aria-selected": "false" };
    const element = h("div", properties, h("span", { class: "dot" }), h("span", { class: "name" }, text));
    element.style.setProperty("--depth", depth);
    if (this.active?.more === more) element.classList.add("active");
    return element;
  }

  /** A key with the part that matches marked. */
  #found(key) {
    const match = this.search.text.includes("*") ? null : this.search.pattern.exec(key);
    if (!match) return h("span", { class: "name" }, key);
    const [start, end] = [match.index, match.index + match[0].length];
    return h("span", { class: "name" }, key.slice(0, start), h("mark", null, key.slice(start, end)), key.slice(end));
  }

  #drawFoot() {
    const active = this.active;
    if (this.search) {
      const { matches, looked, isComplete, isRunning } = this.search;
      const shown = `${count(matches.length)}${isComplete ? "" : "+"} found in ${count(looked)} keys${isRunning ? "…" : ""}`;
      fill(this.foot, h("span", { role: "status" }, shown), button(null, "Clear", { class: "button quiet", onclick: () => this.clear() }));
    } else if (active?.isFolder) {
      const prefix = active.key;
      fill(
        this.foot,
        h("span", { class: "key", title: prefix }, prefix),
        button("plus", `New key below ${prefix}`, { class: "button quiet only-icon", onclick: () => this.actions.create(prefix) }, false),
        button("trash", `Delete all keys below ${prefix}`, { class: "button quiet only-icon", onclick: () => this.actions.deletePrefix(prefix) }, false),
      );
    } else {
      fill(this.foot, h("span", null, this.total === null ? "" : this.total === 1 ? "One key" : `${count(this.total)} keys`));
    }
  }

  // --- loading --------------------------------------------------------------------------------------------------------

  /** Load the rest of a folder before the reader gets there. A search goes on only when it is asked to. */
  #near({ more }) {
    if (more && more !== this.search && !more.error && !more.isLoading) void this.tree.load(more);
  }

  #load(more) {
    if (more === this.search) void more.more();
    else void this.tree.load(more);
  }

  /** Once the reader stops scrolling, ask for the sizes of the rows in sight; a listing has none. */
  #measureLater() {
    clearTimeout(this.measuring);
    this.measuring = setTimeout(() => {
      this.measuring = null;
      void this.#measure();
    }, PAUSE_MS);
  }

  async #measure() {
    const rows = this.list.inSight().filter((row) => !row.more && !row.isFolder && row.size === null && !row.isMeasured);
    const worker = async () => {
      for (let row = rows.shift(); row; row = rows.shift()) {
        const revision = row.revision;
        row.isMeasured = true;
        try {
          const size = await sizeOf(row.key);
          if (row.revision === revision) row.size = size;
        } catch {
          // it stays blank; opening the key will say what is wrong
        }
        row.isMeasured = false;
        const shown = this.scroller.querySelector(`[data-index="${this.rows.indexOf(row)}"] .size`);
        if (shown && row.size !== null) shown.textContent = bytes(row.size);
      }
    };
    await Promise.all([worker(), worker(), worker()]);
  }

  // --- search ---------------------------------------------------------------------------------------------------------

  #asked() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.#find(this.input.value.trim()), PAUSE_MS);
  }

  #find(text) {
    this.search?.stop();
    this.active = null;
    this.search = text ? new Search(text, this.changed) : null;
    this.scroller.scrollTop = 0;
    this.draw();
  }

  clear() {
    this.input.value = "";
    this.#find("");
    this.select(this.selected);
  }

  #inSearch(event) {
    if (event.key === "Escape") {
      this.clear();
      this.focus();
    } else if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      if (this.search?.text !== this.input.value.trim()) this.#find(this.input.value.trim());
      this.focus();
    }
  }

  // --- moving ---------------------------------------------------------------------------------------------------------

  /** The prefix for a new key: that of the folder, or of the folder around the key, that is active. */
  #prefix() {
    const active = this.active;
    if (!active || active.more) return "";
    return active.isFolder ? active.key : active.parent?.key ?? "";
  }

  #indexOf(row) {
    return this.rows.findIndex((known) => known === row || (row.more && known.more === row.more));
  }

  #activate(row, scrolls = true) {
    if (!row) return;
    this.active = row;
    const index = this.#indexOf(row);
    this.list.kept = index;
    if (scrolls) this.list.scrollTo(index);
    this.list.refresh();
    this.scroller.setAttribute("aria-activedescendant", `row-${index}`);
    this.#drawFoot();
  }

  #clicked(event) {
    const index = event.target.closest("[data-index]")?.dataset.index;
    if (index === undefined) return;
    this.#activate(this.list.rows[Number(index)], false);
    this.#enter();
  }

  #enter() {
    const row = this.active;
    if (!row) return;
    if (row.more) this.#load(row.more);
    else if (!row.isFolder) this.actions.open(row.key);
    else if (row.isOpen) this.tree.close(row);
    else this.tree.open(row);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.active;
    const index = row ? this.#indexOf(row) : -1;
    const to = (target) => this.#activate(this.rows[Math.min(this.rows.length - 1, Math.max(0, target))]);
    const moves = {
      ArrowDown: () => to(index + 1),
      ArrowUp: () => to(index - 1),
      PageDown: () => to(index + this.list.pageSize),
      PageUp: () => to(index - this.list.pageSize),
      Home: () => to(0),
      End: () => to(this.rows.length - 1),
      Enter: () => this.#enter(),
      " ": () => this.#enter(),
      ArrowRight: () => {
        if (!row?.isFolder) return;
        if (row.isOpen) to(index + 1);
        else this.tree.open(row);
      },
      ArrowLeft: () => {
        if (row?.isFolder && row.isOpen) this.tree.close(row);
        else if (row?.parent?.parent) this.#activate(row.parent);
      },
      Delete: () => {
        if (!row || row.more) return;
        if (row.isFolder) this.actions.deletePrefix(row.key);
        else this.actions.deleteKey(row.key);
      },
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    moves[event.key]();
  }
}

/** The last part of a key; an empty one is a key that ends with a separator. */
function nameOf(name) {
  return name === "" ? h("span", { class: "name none" }, "(empty)") : h("span", { class: "name" }, name);
}
