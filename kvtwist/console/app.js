// Puts the page together: views by the address after #, one watch for all of them, and the keys of the keyboard.

import { explain } from "./api.js";
import { Changes } from "./changes.js";
import { Dashboard } from "./dashboard.js";
import { Detail } from "./detail.js";
import { showHelp } from "./dialogs.js";
import { button, fill, h, icon, inNextFrame, toast } from "./dom.js";
import { createKey, removeKey, removePrefix } from "./editor.js";
import { Figures } from "./figures.js";
import { count } from "./format.js";
import { Staged } from "./staged.js";
import { Tree } from "./tree.js";
import { TreeView } from "./treeview.js";
import { Watch } from "./watch.js";

const STATES = { live: "Live", connecting: "Connecting", paused: "Paused" };
/** The tree is shown by then even if the watch is refused. */
const PATIENCE_MS = 1500;

const server = {
  profiles: [],
  serves(profile) {
    return this.profiles.includes(profile);
  },
};

const goTo = (view, key) => {
  location.hash = key === undefined ? `#/${view}` : `#/${view}/${encodeURIComponent(key)}`;
};
const guarded = (work) => async (...given) => {
  try {
    return await work(...given);
  } catch (error) {
    toast(explain(error), true);
  }
};

// --- views ------------------------------------------------------------------------------------------------------------

const tree = new Tree(() => treeView.changed());
const treeView = new TreeView(tree, {
  open: (key) => goTo("browse", key),
  create: guarded(async (prefix) => {
    const key = await createKey(prefix);
    if (key !== null) goTo("browse", key);
  }),
  deleteKey: guarded((key) => removeKey(key, server.serves("transactional"))),
  deletePrefix: guarded(removePrefix),
});
const detail = new Detail(server, () => goTo("browse"));
const browse = h("div", { class: "browse" }, h("h1", { class: "unseen" }, "Keys"), treeView.element, detail.element);
const changes = new Changes(
  (key) => goTo("browse", key),
  (isPaused) => watch.pause(isPaused),
);
const staged = new Staged(() => figures.read());
const figures = new Figures(
  () => onFigures(),
  (error) => showState("connecting", explain(error)),
);
const dashboard = new Dashboard(figures);

const VIEWS = {
  browse: { title: "Browse", element: browse, show: () => treeView.draw() },
  changes: { title: "Changes", element: changes.element, show: () => changes.draw() },
  staged: { title: "Staged", element: staged.element, show: () => staged.load() },
  dashboard: { title: "Dashboard", element: dashboard.element, show: () => dashboard.draw() },
};
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const badge = h("span", { class: "badge" });
let current = null;

function shownViews() {
  return Object.keys(VIEWS).filter((name) => name !== "staged" || server.serves("transactional"));
}

function drawNav() {
  fill(
    nav,
    shownViews().map((name) =>
      h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, icon(name), h("span", null, VIEWS[name].title), name === "staged" && badge),
    ),
  );
}

async function route() {
  const [, name = "browse", encoded] = /^#\/([a-z]+)(?:\/(.*))?$/.exec(location.hash) ?? [];
  const view = VIEWS[name] ?? VIEWS.browse;
  const key = name === "browse" && encoded ? decoded(encoded) : null;
  if (current !== name) {
    current = name;
    fill(main, view.element);
    drawNav();
    view.show();
  }
  if (view !== VIEWS.browse || key === detail.key) return;
  if (!(await detail.open(key))) {
    goTo("browse", detail.key);
    return;
  }
  browse.classList.toggle("has-key", key !== null);
  document.title = key === null ? "kvtwist" : `${key} – kvtwist`;
  if (key !== null && tree.root.isLoaded) await tree.reveal(key);
  treeView.select(key);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// --- the bar at the top -----------------------------------------------------------------------------------------------

const pill = h("span", { class: "pill", role: "status" });
const revision = h("span", { class: "revision", title: "The store's latest revision seen" });

function showState(state, title = "") {
  pill.className = `pill ${state}`;
  pill.title = title;
  fill(pill, h("i"), h("span", null, STATES[state]));
}

function toggleTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("kvtwist.theme", root.dataset.theme);
}

fill(
  document.getElementById("status"),
  revision,
  pill,
  button("moon", "Dark or light", { class: "button only-icon quiet", onclick: toggleTheme }, false),
  button("help", "Keyboard help", { class: "button only-icon quiet", onclick: showHelp }, false),
);

// --- what comes from the server ---------------------------------------------------------------------------------------

let latest = 0;
const drawRevision = inNextFrame(() => fill(revision, `r${count(latest)}`));

function onEvent(event) {
  latest = Math.max(latest, event.revision);
  drawRevision();
  changes.add(event);
  for (const source of [tree, treeView.search]) {
    if (!source) continue;
    if (event.kind === "put") source.put(event);
    else if (event.kind !== "clear") source.delete(event.key);
  }
  if (event.kind === "put") {
    const leaf = tree.find(event.key);
    if (leaf && !leaf.isFolder) leaf.touched = performance.now();
  }
  if (event.kind === "clear") void tree.reload();
  detail.changed(event);
}

async function load() {
  await tree.reload();
  detail.refresh();
  if (detail.key !== null) {
    await tree.reveal(detail.key);
    treeView.select(detail.key);
  }
}

function onFigures() {
  server.profiles = figures.latest.profiles;
  if (nav.childElementCount !== shownViews().length) drawNav();
  const waiting = figures.raw.staged;
  fill(badge, waiting ? count(waiting) : "");
  badge.hidden = !waiting;
  treeView.setTotal(figures.raw.keyspaces.data?.records ?? 0);
  if (current === "dashboard") dashboard.draw();
  if (current === "staged" && (waiting !== staged.seen || waiting)) void staged.load();
  staged.seen = waiting;
}

const patience = setTimeout(load, PATIENCE_MS);
const watch = new Watch({
  onfresh: (from) => {
    clearTimeout(patience);
    latest = Math.max(latest, from);
    drawRevision();
    void load();
  },
  onevent: onEvent,
  onstate: showState,
});

// --- the keyboard -----------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const view = shownViews()[Number(event.key) - 1];
  const actions = {
    "/": () => {
      goTo("browse", detail.key ?? undefined);
      void route().then(() => treeView.focusSearch());
    },
    "?": showHelp,
    t: toggleTheme,
    n: () => treeView.actions.create(""),
    e: () => void detail.edit(),
    Delete: () => void detail.remove(),
  };
  if (view) goTo(view);
  else if (actions[event.key]) actions[event.key]();
  else return;
  event.preventDefault();
});

addEventListener("hashchange", () => void route());
showState("connecting");
drawNav();
void figures.start();
void route();
