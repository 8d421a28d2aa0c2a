// The value of an item, as listings and events have it, as text.

import { bytes } from "./format.js";
import { parse } from "./json.js";

/** The text of a value, exactly as it was written; undefined if it is not text. */
export function valueText(item) {
  if (item.value === undefined) return undefined;
  if (item.content_type !== "application/json") return item.value;
  const { name, value } = parse(item.text).members[1];
  return name === '"value"' ? item.text.slice(value.from, value.to) : undefined;
}

/** The beginning of a value. */
export function preview(item, most) {
  if (item.value_base64 !== undefined) return `${bytes((item.value_base64.length * 3) / 4)} that are not text`;
  if (item.text.length > 1e6) return bytes(item.text.length);
  const text = valueText(item);
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
