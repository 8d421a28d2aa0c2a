// Shows a value in the form that suits it: JSON, text, image or hex; the reader can choose another one.

import { hexLine, imageType, textOf } from "./bytes.js";
import { fill, h } from "./dom.js";
import { bytes as sizeText } from "./format.js";
import { parse } from "./json.js";
import { jsonView } from "./jsonview.js";
import { VirtualList } from "./virtual.js";

const HEX_ROW = 20;
const FORMS = { json: "JSON", text: "Text", image: "Image", hex: "Hex" };

/** Text and tree of a value, and its forms: the first one suits it best. */
export function read(value) {
  const isCut = value.bytes.length < value.size;
  const text = textOf(value.bytes, isCut);
  const image = isCut ? null : imageType(value.type, value.bytes);
  let tree = null;
  let error = null;
  if (text !== null && !isCut && (/json/i.test(value.type) || /^\s*[[{]/.test(text))) {
    try {
      tree = parse(text);
    } catch (problem) {
      error = problem.message;
    }
  }
  const forms = [tree && "json", image && "image", text !== null && "text", "hex"].filter(Boolean);
  return { text, image, tree, error, forms };
}

/** Tabs for the forms of a value, and the form that is chosen. */
export class ValueView {
  constructor(onchoice = () => {}) {
    this.onchoice = onchoice;
    this.chosen = null;
    this.url = null;
    this.tabs = h("div", { class: "tabs", role: "group", "aria-label": "Shown as" });
    this.body = h("div", { class: "value", id: "value" });
  }

  show(value) {
    this.value = value;
    this.known = read(value);
    this.draw();
  }

  draw() {
    const { forms } = this.known;
    const form = forms.includes(this.chosen) ? this.chosen : forms[0];
    fill(
      this.tabs,
      forms.map((name) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": String(name === form),
            onclick: () => {
              this.chosen = name;
              this.onchoice();
              this.draw();
            },
          },
          FORMS[name],
        ),
      ),
    );
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
    this.body.className = `value as-${form}`;
    fill(this.body, this.#drawn(form));
    if (form === "hex") this.#hex();
  }

  #drawn(form) {
    const { text, tree, image, error } = this.known;
    if (form === "json") return jsonView(tree);
    if (form === "image") return this.#image(image);
    if (form === "hex") return [];
    if (text === "") return h("p", { class: "empty" }, "The value is empty.");
    return [error && h("p", { class: "note" }, `Not JSON: ${error}`), h("pre", { tabindex: "0", role: "region", "aria-label": "Value" }, text)];
  }

  #image(type) {
    this.url = URL.createObjectURL(new Blob([this.value.bytes], { type }));
    const caption = h("figcaption", null, "…");
    const image = h("img", {
      src: this.url,
      alt: `The image under ${this.value.key}`,
      onload: () => fill(caption, `${image.naturalWidth} × ${image.naturalHeight}, ${sizeText(this.value.size)}`),
      onerror: () => fill(caption, `The browser cannot show this ${type}.`),
    });
    return h("figure", null, image, caption);
  }

  #hex() {
    const { bytes } = this.value;
    const width = this.body.clientWidth < 560 ? 8 : 16;
    const scroller = h("div", { class: "hex", tabindex: "0", role: "region", "aria-label": "Bytes" });
    this.body.append(scroller);
    const draw = (offset) => {
      const [at, pairs, printed] = hexLine(bytes, offset, width);
      return h("div", { class: "hexline" }, h("span", { class: "offset" }, at), h("span", null, pairs), h("span", { class: "printed" }, printed));
    };
    const list = new VirtualList(scroller, HEX_ROW, draw);
    list.set(Array.from({ length: Math.ceil(bytes.length / width) }, (_, row) => row * width));
  }
}
