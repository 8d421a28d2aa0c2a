// Finds keys that contain a text or match a pattern. The server lists by prefix only, so pages of keys are looked through
// here: only those below the part of a pattern before its first star. Keys that begin with the text come first.

import { listKeys } from "./api.js";
import { Leaf } from "./tree.js";

const PAGE = 1000;
const FIRST = 100;
/** How many matches are found before the reader has to ask for more. */
export const ENOUGH = 500;

/** A regular expression for a search, and the prefix that all matches have. */
export function matcher(text) {
  const literal = (part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  if (!text.includes("*")) return { prefix: "", pattern: new RegExp(literal(text), "iu") };
  const parts = text.split("*").map(literal);
  return { prefix: text.slice(0, text.indexOf("*")), pattern: new RegExp(`^${parts.join("[^]*")}$`, "u") };
}

export class Search {
  matches = [];
  looked = 0;
  isComplete = false;
  isRunning = false;
  error = null;
  #after = null;
  #known = new Set();
  #abort = new AbortController();

  constructor(text, onchange) {
    this.text = text;
    this.onchange = onchange;
    Object.assign(this, matcher(text));
    void this.more();
  }

  stop() {
    this.#abort.abort();
  }

  /** Look on until there are enough further matches. */
  async more() {
    if (this.isRunning || this.isComplete) return;
    this.isRunning = true;
    this.error = null;
    const enough = this.matches.length + ENOUGH;
    try {
      if (!this.looked) await this.#beginnings();
      while (!this.isComplete && this.matches.length < enough && !this.#abort.signal.aborted) {
        const page = await listKeys(this.prefix, this.#after, PAGE, this.#abort.signal);
        for (const item of page.items) {
          if (this.pattern.test(item.key) && !this.#known.has(item.key)) this.matches.push(new Leaf(item.key, null, item));
        }
        this.looked += page.items.length;
        this.#after = page.next;
        this.isComplete = page.next === null;
        this.onchange();
      }
    } catch (error) {
      this.error = error;
    }
    this.isRunning = false;
    this.onchange();
  }

  /** What is found at once: the first keys that begin with the text. */
  async #beginnings() {
    if (this.prefix || this.text.includes("*")) return;
    const page = await listKeys(this.text, null, FIRST, this.#abort.signal);
    this.matches = page.items.map((item) => new Leaf(item.key, null, item));
    this.#known = new Set(page.items.map(({ key }) => key));
    this.onchange();
  }

  put(item) {
    const known = this.matches.find((leaf) => leaf.key === item.key);
    if (!known) return;
    known.update(item);
    this.onchange();
  }

  delete(key) {
    const at = this.matches.findIndex((leaf) => leaf.key === key);
    if (at < 0) return;
    this.matches.splice(at, 1);
    this.onchange();
  }

  rows() {
    return this.isComplete ? this.matches : [...this.matches, { more: this, depth: 0 }];
  }
}
