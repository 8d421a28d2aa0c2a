// JSON as it was written. JSON.parse would round 1e400, drop repeated names and sort numeric ones; this keeps the text of
// every number and string, for showing and for indenting.

const SPACE = /[ \t\n\r]*/y;
const SCALAR = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
/** Deeper values are shown as text: nobody unfolds so many levels. */
const DEEPEST = 400;

/**
 * The tree of a JSON text: { kind: "object" | "array", members: [{ name, value }] } or { kind: "string" | "number" |
 * "word", text }, each with `from` and `to`, its place in the text. Names and texts are as written, quotes included.
 *
 * Throws a SyntaxError that names line and column.
 */
export function parse(text) {
  let at = 0;

  const fail = (wanted) => {
    const before = text.slice(0, at).split("\n");
    const found = at < text.length ? `not ${JSON.stringify([...text.slice(at, at + 2)][0])}` : "but the text ends";
    throw new SyntaxError(`line ${before.length}, column ${before.at(-1).length + 1}: ${wanted} is expected, ${found}`);
  };
  const space = () => {
    SPACE.lastIndex = at;
    SPACE.exec(text);
    at = SPACE.lastIndex;
  };
  const scalar = () => {
    SCALAR.lastIndex = at;
    const match = SCALAR.exec(text);
    if (match) at = SCALAR.lastIndex;
    return match?.[0];
  };
  const value = (depth) => {
    if (depth > DEEPEST) throw new SyntaxError("nested too deeply to be shown");
    const opening = text[at];
    if (opening !== "{" && opening !== "[") {
      const written = scalar();
      if (written === undefined) fail("a value");
      const kind = written[0] === '"' ? "string" : /[tfn]/.test(written[0]) ? "word" : "number";
      return { kind, text: written, from: at - written.length, to: at };
    }
    const [kind, closing] = opening === "{" ? ["object", "}"] : ["array", "]"];
    const from = at;
    const members = [];
    at += 1;
    space();
    if (text[at] === closing) {
      at += 1;
      return { kind, members, from, to: at };
    }
    for (;;) {
      let name = null;
      if (kind === "object") {
        if (text[at] !== '"') fail("a name in quotes");
        name = scalar() ?? fail("a name in quotes");
        space();
        if (text[at] !== ":") fail("a colon");
        at += 1;
        space();
      }
      members.push({ name, value: value(depth + 1) });
      space();
      if (text[at] === closing) break;
      if (text[at] !== ",") fail(`a comma or ${closing}`);
      at += 1;
      space();
    }
    at += 1;
    return { kind, members, from, to: at };
  };

  space();
  const found = value(0);
  space();
  if (at < text.length) fail("the end");
  return found;
}

/** The same JSON, indented by two spaces. */
export function indented(node, indent = "") {
  if (!node.members) return node.text;
  const [opening, closing] = node.kind === "object" ? "{}" : "[]";
  if (!node.members.length) return opening + closing;
  const deeper = `${indent}  `;
  const lines = node.members.map(({ name, value }) => `${deeper}${name === null ? "" : `${name}: `}${indented(value, deeper)}`);
  return `${opening}\n${lines.join(",\n")}\n${indent}${closing}`;
}
