// Two texts side by side: the lines between their common beginning and their common end are marked.

import { h } from "./dom.js";

/** The two texts as elements; :param texts: a text, or null for what is none. */
export function sideBySide(titles, texts) {
  const lines = texts.map((text) => (text === null ? [] : text.split("\n")));
  const shortest = Math.min(lines[0].length, lines[1].length);
  let start = 0;
  while (start < shortest && lines[0][start] === lines[1][start]) start += 1;
  let end = 0;
  while (end < shortest - start && lines[0].at(-1 - end) === lines[1].at(-1 - end)) end += 1;
  const sides = lines.map((side, number) =>
    h(
      "section",
      { class: "versus", "aria-label": titles[number] },
      h("h3", null, titles[number]),
      texts[number] === null
        ? h("p", { class: "empty" }, "There is no text to show.")
        : h(
            "pre",
            { tabindex: "0", role: "region", "aria-label": `Text: ${titles[number]}` },
            side.slice(0, start).join("\n") + (start ? "\n" : ""),
            h("mark", { class: number ? "theirs" : "mine" }, side.slice(start, side.length - end).join("\n")),
            (end ? "\n" : "") + side.slice(side.length - end).join("\n"),
          ),
    ),
  );
  return h("div", { class: "sides" }, sides);
}
