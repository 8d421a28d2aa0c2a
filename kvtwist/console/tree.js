// The keys as a tree, as far as it has been opened. Knows no page: treeview.js draws it.
//
// A folder is a prefix that ends with a separator. It is loaded page by page when it is opened, and jumps over the keys
// below its subfolders, so that a page costs a few requests whatever lies there. Changes keep it as it is on the server.

import { listKeys } from "./api.js";

const SEPARATOR = /[/:]/;
/** Sorts after every key with the same beginning but those that begin with it themselves. */
const LAST = "\u{10FFFF}";
const FIRST_LIMIT = 200;
const LIMIT = 1000;
const AFTER_JUMP = 50;
/** How many requests one page of a folder may take. */
const MOST_REQUESTS = 12;
const SURROGATE = /[\ud800-\udfff]/;

/** The order of keys: that of their UTF-8 bytes, which is the order of code points. */
export function compare(a, b) {
  if (!SURROGATE.test(a) && !SURROGATE.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  const [left, right] = [[...a], [...b]];
  for (let at = 0; at < Math.min(left.length, right.length); at += 1) {
    const difference = left[at].codePointAt(0) - right[at].codePointAt(0);
    if (difference) return difference;
  }
  return left.length - right.length;
}

export class Folder {
  isFolder = true;
  isOpen = false;
  isLoaded = false;
  isComplete = false;
  isLoading = false;
  error = null;
  children = [];
  byName = new Map();
  cursor = null;
  limit = FIRST_LIMIT;

  constructor(name, parent) {
    this.name = name;
    this.parent = parent;
    this.key = parent ? parent.key + name : "";
    this.depth = parent ? parent.depth + 1 : -1;
  }

  add(child) {
    let low = 0;
    let high = this.children.length;
    if (high && compare(this.children[high - 1].name, child.name) < 0) low = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.children[middle].name, child.name) < 0) low = middle + 1;
      else high = middle;
    }
    this.children.splice(low, 0, child);
    this.byName.set(child.name, child);
    return child;
  }

  remove(child) {
    this.byName.delete(child.name);
    this.children.splice(this.children.indexOf(child), 1);
  }

  /** Whether it would show a key, as far as it is loaded. */
  reaches(key) {
    return this.isLoaded && (this.isComplete || (this.cursor !== null && compare(key, this.cursor) <= 0));
  }
}

export class Leaf {
  isFolder = false;
  size = null;

  constructor(name, parent, item) {
    this.name = name;
    this.parent = parent;
    this.depth = parent ? parent.depth + 1 : 0;
    this.update(item);
  }

  update(item) {
    if (item.revision !== this.revision) this.size = null;
    this.key = item.key;
    this.type = item.content_type;
    this.revision = item.revision;
    this.modified = item.modified;
    this.expires = item.expires;
  }
}

/** The first segment of the rest of a key, with its separator if it has one. */
function segment(rest) {
  const at = rest.search(SEPARATOR);
  return at < 0 ? [rest, false] : [rest.slice(0, at + 1), true];
}

export class Tree {
  /** :param onchange: called when rows may have changed. */
  constructor(onchange) {
    this.onchange = onchange;
    this.root = new Folder("", null);
    this.root.isOpen = true;
  }

  /** Load the next page of a folder. */
  async load(folder) {
    if (folder.isLoading || folder.isComplete) return;
    folder.isLoading = true;
    folder.error = null;
    this.onchange();
    try {
      const before = folder.children.length;
      for (let requests = 0; requests < MOST_REQUESTS && !folder.isComplete; requests += 1) {
        await this.#loadPage(folder);
        if (folder.children.length - before >= FIRST_LIMIT) break;
      }
    } catch (error) {
      folder.error = error;
    }
    folder.isLoading = false;
    const [only] = folder.children;
    if (folder.isComplete && folder.children.length === 1 && only.isFolder && folder.parent) this.open(only);
    this.onchange();
  }

  async #loadPage(folder) {
    const page = await listKeys(folder.key, folder.cursor, folder.limit);
    let child = null;
    for (const item of page.items) child = this.#put(folder, item);
    folder.isLoaded = true;
    folder.isComplete = page.next === null;
    if (page.next === null) return;
    folder.cursor = child?.isFolder ? child.key + LAST : page.next;
    folder.limit = child?.isFolder ? AFTER_JUMP : Math.min(LIMIT, folder.limit * 4);
  }

  #put(folder, item) {
    const [name, isFolder] = segment(item.key.slice(folder.key.length));
    const known = folder.byName.get(name);
    if (known) {
      if (!isFolder) known.update(item);
      return known;
    }
    return folder.add(isFolder ? new Folder(name, folder) : new Leaf(name, folder, item));
  }

  open(folder) {
    folder.isOpen = true;
    if (!folder.isLoaded) void this.load(folder);
    this.onchange();
  }

  close(folder) {
    folder.isOpen = false;
    this.onchange();
  }

  /** The server has put a key. */
  put(item) {
    let folder = this.root;
    while (folder?.isFolder && folder.reaches(item.key)) folder = this.#put(folder, item);
    this.onchange();
  }

  /** The server has removed a key. Folders of which that was the last key go with it. */
  delete(key) {
    const leaf = this.find(key);
    if (!leaf) return;
    let node = leaf;
    while (node.parent && (node === leaf || (node.isComplete && !node.children.length))) {
      node.parent.remove(node);
      node = node.parent;
    }
    this.onchange();
  }

  /** The leaf of a key, if it is loaded. */
  find(key) {
    let node = this.root;
    while (node?.isFolder) node = node.byName.get(segment(key.slice(node.key.length))[0]);
    return node;
  }

  /** Open all folders above a key. */
  async reveal(key) {
    let folder = this.root;
    for (;;) {
      if (!folder.isLoaded) await this.load(folder);
      folder.isOpen = true;
      const [name, isFolder] = segment(key.slice(folder.key.length));
      const child = folder.byName.get(name);
      if (!isFolder || !child?.isFolder) break;
      folder = child;
    }
    this.onchange();
  }

  /** Load everything again that is open: changes have been missed. */
  async reload() {
    const root = new Folder("", null);
    root.isOpen = true;
    await this.load(root);
    if (root.error && this.root.isLoaded) {
      this.root.error = root.error;
    } else {
      const wasOpen = this.#openKeys(this.root);
      this.root = root;
      for (const key of wasOpen) await this.#reopen(key);
    }
    this.onchange();
  }

  #openKeys(folder) {
    const open = folder.children.filter((child) => child.isFolder && child.isOpen);
    return open.flatMap((child) => [child.key, ...this.#openKeys(child)]);
  }

  async #reopen(key) {
    let folder = this.root;
    while (folder && folder.key !== key) folder = folder.byName.get(segment(key.slice(folder.key.length))[0]);
    if (!folder) return;
    folder.isOpen = true;
    await this.load(folder);
  }

  /** What a reader sees: open folders with their children, and { more: folder } where a folder goes on. */
  rows() {
    const rows = [];
    const visit = (folder) => {
      for (const child of folder.children) {
        rows.push(child);
        if (child.isFolder && child.isOpen) visit(child);
      }
      if (folder.isLoading || folder.error || (folder.isLoaded && !folder.isComplete)) rows.push({ more: folder, depth: folder.depth + 1 });
    };
    visit(this.root);
    return rows;
  }
}
