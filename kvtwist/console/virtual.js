// A list of which only the rows in sight are in the document: it scrolls through 100,000 rows as through ten.

import { h, inNextFrame } from "./dom.js";

const MARGIN = 8;
const AHEAD = 300;
/** Browsers cannot make an element of any height; no more rows than this are shown. */
const MOST_ROWS = 500_000;

export class VirtualList {
  /**
   * :param scroller: the element that scrolls; it is filled with rows.
   * :param rowHeight: in pixels.
   * :param draw: makes the element of a row and its index.
   * :param onrange: called with the rows that are drawn and those that come next.
   */
  constructor(scroller, rowHeight, draw, onrange = () => {}) {
    Object.assign(this, { scroller, rowHeight, draw, onrange });
    this.rows = [];
    this.shown = new Map();
    /** The index of a row that is kept in the document even out of sight, for aria-activedescendant. */
    this.kept = -1;
    this.space = h("div", { class: "space", role: "none" });
    scroller.append(this.space);
    const update = inNextFrame(() => this.#update(false));
    scroller.addEventListener("scroll", update, { passive: true });
    new ResizeObserver(update).observe(scroller);
    this.#holdWhilePressed();
  }

  /** A row that is replaced while a button is held on it would never be clicked. */
  #holdWhilePressed() {
    this.isHeld = false;
    const release = () => {
      setTimeout(() => {
        this.isHeld = false;
        if (this.isDue) this.set(this.next);
      });
    };
    this.space.addEventListener("pointerdown", () => {
      this.isHeld = true;
      addEventListener("pointerup", release, { once: true });
      addEventListener("pointercancel", release, { once: true });
    });
  }

  /** Show these rows. */
  set(rows) {
    this.next = rows;
    this.isDue = this.isHeld;
    if (this.isHeld) return;
    this.rows = rows.length > MOST_ROWS ? rows.slice(0, MOST_ROWS) : rows;
    this.space.style.height = `${this.rows.length * this.rowHeight}px`;
    this.#update(true);
  }

  /** Draw the rows in sight again. */
  refresh() {
    this.set(this.next ?? []);
  }

  /** The rows in sight. */
  inSight() {
    const [first, last] = this.#range(0);
    return this.rows.slice(first, last);
  }

  /** How many whole rows fit. */
  get pageSize() {
    return Math.max(1, Math.floor(this.scroller.clientHeight / this.rowHeight));
  }

  scrollTo(index) {
    const top = index * this.rowHeight;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.rowHeight > scrollTop + clientHeight) this.scroller.scrollTop = top + this.rowHeight - clientHeight;
    this.#update(false);
  }

  #range(margin) {
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - margin);
    return [first, Math.min(this.rows.length, Math.ceil((scrollTop + clientHeight) / this.rowHeight) + margin)];
  }

  #update(isNew) {
    const [first, last] = this.#range(MARGIN);
    const wanted = new Set();
    for (let index = first; index < last; index += 1) wanted.add(index);
    if (this.kept >= 0 && this.kept < this.rows.length) wanted.add(this.kept);
    for (const [index, element] of this.shown) {
      if (!isNew && wanted.has(index)) continue;
      element.remove();
      this.shown.delete(index);
    }
    const order = [...wanted].sort((a, b) => a - b);
    const added = document.createDocumentFragment();
    for (const index of order) {
      if (this.shown.has(index)) continue;
      const element = this.draw(this.rows[index], index);
      element.style.transform = `translateY(${index * this.rowHeight}px)`;
      this.shown.set(index, element);
      added.append(element);
    }
    this.space.append(added);
    this.onrange(this.rows.slice(first, last + AHEAD));
  }
}
