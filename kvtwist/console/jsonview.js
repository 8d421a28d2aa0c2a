// Draws JSON folded, on the browser's own <details>, and only what has been unfolded.

import { button, h } from "./dom.js";
import { count } from "./format.js";

const OPEN_MEMBERS = 60;
const OPEN_DEPTH = 3;
const SHOWN = 200;

export function jsonView(node) {
  return h("div", { class: "json" }, drawn(node, null, 0));
}

function drawn(node, name, depth) {
  const label = name === null ? null : [h("span", { class: "j-name" }, name), ": "];
  if (!node.members) return h("div", { class: "j-line" }, label, h("span", { class: `j-${node.kind}` }, node.text));
  const [opening, closing] = node.kind === "object" ? "{}" : "[]";
  const total = node.members.length;
  if (!total) return h("div", { class: "j-line" }, label, h("span", { class: "j-mark" }, opening + closing));
  const what = node.kind === "object" ? "member" : "element";
  const summary = h(
    "summary",
    null,
    label,
    h("span", { class: "j-mark" }, opening),
    h("span", { class: "j-count" }, `${count(total)} ${what}${total === 1 ? "" : "s"}`),
    h("span", { class: "j-mark closing" }, closing),
  );
  const body = h("div", { class: "j-body" });
  const details = h("details", { open: depth < OPEN_DEPTH && total <= OPEN_MEMBERS }, summary, body, h("span", { class: "j-mark end" }, closing));
  const draw = () => {
    if (details.open && !body.childNodes.length) more(body, node, 0, depth);
  };
  details.addEventListener("toggle", draw);
  draw();
  return details;
}

function more(body, node, from, depth) {
  const members = node.members.slice(from, from + SHOWN);
  body.append(...members.map(({ name, value }) => drawn(value, name, depth + 1)));
  const rest = node.members.length - from - members.length;
  if (!rest) return;
  const next = button(null, `${count(rest)} more`, {
    class: "button quiet",
    onclick: () => {
      next.remove();
      more(body, node, from + SHOWN, depth);
    },
  });
  body.append(next);
}
