// The server's time, by which records expire, and texts that follow it: countdowns and "3s ago".

import { h } from "./dom.js";
import { ago, duration, moment } from "./format.js";

let offset = 0;

/** Take the server's time, in milliseconds. */
export function setServerTime(ms) {
  offset = ms - Date.now();
}

export function serverNow() {
  return Date.now() + offset;
}

/** A text that counts down to a time, or up from it; null for no time. */
export function ticking(kind, ms) {
  if (ms === null || Number.isNaN(ms)) return null;
  return drawn(h("time", { "data-tick": kind, "data-at": ms, title: moment(ms), class: `tick ${kind}` }));
}

function drawn(element) {
  const [kind, at] = [element.dataset.tick, Number(element.dataset.at)];
  const left = (at - serverNow()) / 1000;
  element.textContent = kind === "ago" ? ago(at, serverNow()) : duration(left);
  if (kind === "expires") element.classList.toggle("soon", left < 60);
  return element;
}

setInterval(() => document.querySelectorAll("time[data-tick]").forEach(drawn), 1000);
