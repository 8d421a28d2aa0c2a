// What bytes are: UTF-8, an image, or neither; and bytes as hex.

const IMAGES = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
];

/**
 * The text of bytes; null if they are not UTF-8.
 *
 * :param isCut: the bytes are the beginning of more, so the last character may be incomplete.
 */
export function textOf(bytes, isCut = false) {
  for (let cut = 0; cut <= (isCut ? 3 : 0); cut += 1) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, bytes.length - cut));
    } catch {
      // try again without the last byte
    }
  }
  return null;
}

/** The media type of an image: what the writer said, or what the first bytes say; null if it is none. */
export function imageType(type, bytes) {
  if (/^image\//i.test(type)) return type;
  return IMAGES.find(([, start]) => start.every((byte, at) => bytes[at] === byte))?.[0] ?? null;
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** One line of a hex dump: offset, bytes, and those that can be printed. */
export function hexLine(bytes, offset, width) {
  const part = [...bytes.subarray(offset, offset + width)];
  const pairs = part.map((byte) => byte.toString(16).padStart(2, "0"));
  const printed = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
  return [offset.toString(16).padStart(8, "0"), pairs.join(" ").padEnd(width * 3 - 1), printed];
}
