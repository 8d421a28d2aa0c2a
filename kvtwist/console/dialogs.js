// Modal dialogs on the browser's own <dialog>, which keeps the focus inside, closes on Escape, and gives focus back.

import { button, fill, h } from "./dom.js";

let numbers = 0;

/**
 * Show a dialog and return how it ended: the value of the button, or null.
 *
 * `buttons` are [text, value, class]: the first one only closes and has the focus, unless a field has `autofocus`; the
 * last one is the default of Enter in a field. With `check`, a button other than
 * the first closes the dialog only if `check(value)` returns true; it may be asynchronous.
 */
export function ask({ title, content, buttons, check = () => true, wide = false }) {
  numbers += 1;
  const id = `dialog-${numbers}`;
  const [cancel, ...others] = buttons;
  return new Promise((resolve) => {
    let ended = null;
    const finish = async (value) => {
      if (!(await check(value))) return;
      ended = value;
      dialog.close();
    };
    const close = button("close", "Close", { class: "button only-icon quiet", onclick: () => dialog.close() }, false);
    const form = h(
      "form",
      {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          if (others.length) void finish(others.at(-1)[1]);
          else dialog.close();
        },
      },
      h("header", null, h("h2", { id }, title), close),
      h("div", { class: "content" }, content),
      h(
        "footer",
        null,
        button(null, cancel[0], { onclick: () => dialog.close() }),
        others.map(([text, value, kind], index) =>
          index === others.length - 1
            ? button(null, text, { type: "submit", class: `button ${kind ?? ""}` })
            : button(null, text, { class: `button ${kind ?? ""}`, onclick: () => finish(value) }),
        ),
      ),
    );
    const dialog = h("dialog", { "aria-labelledby": id, class: wide ? "wide" : "" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(ended);
    });
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("[autofocus]") ?? dialog.querySelector("footer button")).focus();
  });
}

/** Show what is wrong inside a dialog, and let screen readers say it. */
export function complain(place, text) {
  fill(place, text);
  return false;
}

const KEYS = [
  ["Anywhere", [["/", "search"], ["n", "new key"], ["1 2 3 4", "the views"], ["t", "dark or light"], ["?", "this help"]]],
  ["In the tree", [["↑ ↓", "move"], ["→ ←", "open, close"], ["Enter", "look at the key"], ["Home End", "first, last"], ["PgUp PgDn", "a page"]]],
  ["At a key", [["e", "edit"], ["Delete", "delete"], ["Ctrl Enter", "save"], ["Esc", "stop editing"]]],
];

/** The keyboard's help. */
export function showHelp() {
  const groups = KEYS.map(([title, rows]) =>
    h(
      "section",
      null,
      h("h3", null, title),
      h("dl", { class: "keys" }, rows.map(([keys, text]) => [h("dt", null, keys.split(" ").map((key) => h("kbd", null, key))), h("dd", null, text)])),
    ),
  );
  const search = h(
    "p",
    { class: "note" },
    "A search finds keys that contain the text. With a star it is a pattern: ",
    h("code", null, "app/*.json"),
    " looks only below ",
    h("code", null, "app/"),
    ".",
  );
  void ask({ title: "Keyboard", content: [h("div", { class: "help" }, groups), search], buttons: [["Close"]] });
}
