// Writes keys: a form for the value, its media type and its expiry. Every write is a compare-and-set; when somebody was
// faster, both versions are shown, and the reader decides.

import { api, deleteKey, explain, readValue, writeValue } from "./api.js";
import { textOf } from "./bytes.js";
import { ask, complain } from "./dialogs.js";
import { sideBySide } from "./diff.js";
import { button, fill, h, toast } from "./dom.js";
import { bytes as sizeText, duration } from "./format.js";
import { indented, parse } from "./json.js";

const TYPES = ["application/json", "text/plain", "text/html", "text/csv", "application/octet-stream"];
const UNITS = [["seconds", 1], ["minutes", 60], ["hours", 3600], ["days", 86400]];
const CHECK_MS = 200;

/**
 * The fields for a value.
 *
 * :param value: the value to begin with, as `readValue` returns it; null for a new key.
 */
class Fields {
  constructor(value) {
    const text = value === null ? "" : textOf(value.bytes);
    this.file = text === null ? value.bytes : null;
    this.ttlLeft = value?.expires ? value.ttl : null;
    this.type = h("input", { id: "type", list: "types", value: value?.type ?? "application/json", autocomplete: "off", spellcheck: "false", oninput: () => this.#checkSoon() });
    this.area = h("textarea", { id: "text", "aria-label": "Value", spellcheck: "false", autocapitalize: "off", oninput: () => this.#checkSoon() });
    this.area.value = text ?? "";
    this.expiry = h(
      "select",
      { id: "expiry", onchange: () => this.#drawExpiry() },
      this.ttlLeft === null ? null : h("option", { value: "keep" }, `in ${duration(this.ttlLeft)}, as now`),
      h("option", { value: "never" }, "never"),
      h("option", { value: "in" }, "in…"),
    );
    this.amount = h("input", { type: "number", min: "1", value: "10", "aria-label": "How long", class: "amount" });
    this.unit = h("select", { "aria-label": "Unit" }, UNITS.map(([name, seconds]) => h("option", { value: seconds, selected: name === "minutes" }, name)));
    this.upload = h("input", { type: "file", class: "hidden", tabindex: "-1", "aria-hidden": "true", onchange: () => this.#uploaded() });
    this.state = h("span", { class: "state", role: "status" });
    this.format = button(null, "Indent", { class: "button quiet", onclick: () => this.#indent() });
    this.body = h("div", { class: "input" });
    this.bar = h(
      "div",
      { class: "fields" },
      h("label", { for: "type" }, "Type"),
      this.type,
      h("datalist", { id: "types" }, TYPES.map((type) => h("option", { value: type }))),
      h("label", { for: "expiry" }, "Expires"),
      h("span", { class: "group" }, this.expiry, this.amount, this.unit),
    );
    this.tools = h("div", { class: "tools" }, this.state, this.format, button(null, "From a file", { class: "button quiet", onclick: () => this.upload.click() }), this.upload);
    this.#drawExpiry();
    this.#drawBody();
    this.#check();
  }

  get content() {
    return this.file ?? this.area.value;
  }

  get isJSON() {
    return /^application\/json\b/.test(this.type.value.trim());
  }

  /** Seconds, or null for ever. */
  get ttl() {
    if (this.expiry.value === "keep") return Math.max(1, this.ttlLeft - Math.floor((Date.now() - this.started) / 1000));
    return this.expiry.value === "in" ? Math.max(1, Math.round(Number(this.amount.value) * Number(this.unit.value))) : null;
  }

  started = Date.now();

  #drawExpiry() {
    const isHidden = this.expiry.value !== "in";
    this.amount.hidden = isHidden;
    this.unit.hidden = isHidden;
  }

  #drawBody() {
    this.format.hidden = this.file !== null;
    if (this.file === null) {
      fill(this.body, this.area);
      return;
    }
    const asText = button(null, "Write text instead", { class: "button", onclick: () => this.#clearFile() });
    fill(this.body, h("p", { class: "empty" }, `${sizeText(this.file.length)} that are not text. A file can replace them.`), h("p", { class: "empty" }, asText));
  }

  #clearFile() {
    this.file = null;
    this.#drawBody();
    this.#check();
    this.area.focus();
  }

  async #uploaded() {
    const [file] = this.upload.files;
    if (!file) return;
    const content = new Uint8Array(await file.arrayBuffer());
    const text = textOf(content);
    this.file = text === null ? content : null;
    if (text !== null) this.area.value = text;
    if (file.type) this.type.value = file.type;
    this.#drawBody();
    this.#check();
  }

  #indent() {
    try {
      this.area.value = indented(parse(this.area.value));
    } catch {
      // the line below says what is wrong
    }
    this.#check();
  }

  #checkSoon() {
    clearTimeout(this.checking);
    this.checking = setTimeout(() => this.#check(), CHECK_MS);
  }

  /** Say what the server would refuse. */
  #check() {
    let error = null;
    if (this.isJSON && this.file === null && this.area.value) {
      try {
        parse(this.area.value);
      } catch (problem) {
        error = problem.message;
      }
    }
    this.state.classList.toggle("error", error !== null);
    fill(this.state, error ?? (this.isJSON && this.area.value ? "Valid JSON" : sizeText(new Blob([this.content]).size)));
  }
}

/**
 * The form that edits a key in place.
 *
 * :param value: the whole value as it is now.
 * :param canStage: whether changes can be staged.
 * :param done: called when the form is finished, with whether anything was written.
 */
export class Editor {
  constructor(value, canStage, done) {
    Object.assign(this, { value, done, revision: value.revision });
    this.fields = new Fields(value);
    this.notice = h("p", { class: "banner", role: "status", hidden: true });
    this.save = button(null, "Save", { type: "submit", class: "button primary" });
    this.element = h(
      "form",
      {
        class: "editor",
        onsubmit: (event) => {
          event.preventDefault();
          void this.write();
        },
        onkeydown: (event) => {
          if (event.key === "Escape") this.cancel();
          else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void this.write();
          else return;
          event.preventDefault();
        },
      },
      this.notice,
      this.fields.bar,
      this.fields.body,
      h(
        "footer",
        null,
        this.fields.tools,
        h(
          "div",
          { class: "actions" },
          button(null, "Cancel", { onclick: () => this.cancel() }),
          canStage && button(null, "Stage", { title: "Keep the change until Commit", onclick: () => this.#stage() }),
          this.save,
        ),
      ),
    );
  }

  focus() {
    this.fields.area.focus();
    this.fields.area.setSelectionRange(0, 0);
  }

  get hasChanged() {
    return this.fields.file === null ? this.fields.area.value !== textOf(this.value.bytes) : this.fields.file !== this.value.bytes;
  }

  async cancel() {
    const buttons = [["Keep editing"], ["Discard", "discard", "danger"]];
    if (this.hasChanged && (await ask({ title: "Discard your changes?", content: h("p", null, this.value.key), buttons })) === null) return;
    this.done(false);
  }

  /** Somebody has changed the key meanwhile. */
  warn(text) {
    this.notice.hidden = false;
    fill(this.notice, text);
  }

  async write() {
    this.save.disabled = true;
    try {
      const { key } = this.value;
      const { content, ttl } = this.fields;
      if (await writeValue(key, content, this.fields.type.value.trim(), ttl, this.revision)) {
        toast("Saved");
        this.done(true);
      } else {
        await this.#conflict();
      }
    } catch (error) {
      toast(explain(error), true);
    }
    this.save.disabled = false;
  }

  async #conflict() {
    const theirs = await readValue(this.value.key);
    const mine = this.fields.file === null ? this.fields.area.value : null;
    const stored = theirs === null ? "Deleted meanwhile" : `Stored now: revision ${theirs.revision}`;
    const sides = sideBySide(["Yours", stored], [mine, theirs === null ? "" : textOf(theirs.bytes)]);
    const answer = await ask({
      title: "Somebody was faster",
      content: [h("p", null, `${this.value.key} has changed since you began to edit it. Nothing was written.`), sides],
      buttons: [
        ["Keep editing", null],
        ["Take theirs", "theirs", ""],
        [theirs === null ? "Create it again" : "Overwrite with yours", "mine", "danger"],
      ],
      wide: true,
    });
    if (answer === "theirs") {
      this.done(true);
      return;
    }
    // What was shown is what may be overwritten: another change would be another conflict.
    this.revision = theirs?.revision ?? 0;
    this.warn(theirs === null ? "The key was deleted; saving creates it again." : `Based on revision ${theirs.revision} now.`);
    if (answer === "mine") await this.write();
  }

  async #stage() {
    if (this.fields.file !== null || !this.fields.isJSON) {
      toast("Only JSON can be staged", true);
      return;
    }
    try {
      await stage(this.value.key, this.fields.area.value);
      toast("Staged; it waits for Commit");
      this.done(false);
    } catch (error) {
      toast(explain(error), true);
    }
  }
}

/** Stage a value, which is JSON as it was written. */
async function stage(key, text) {
  await api("/set", { method: "POST", body: `{${JSON.stringify(key)}:${text}}` });
}

/** Ask for a new key and create it, unless there is one; returns the key, or null. */
export async function createKey(prefix) {
  const name = h("input", { id: "new-key", value: prefix, required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
  const fields = new Fields(null);
  const error = h("p", { class: "error", role: "alert" });
  const check = async () => {
    if (!name.value) return complain(error, "The key is empty.");
    try {
      const type = fields.type.value.trim();
      return (await writeValue(name.value, fields.content, type, fields.ttl, 0)) || complain(error, "There is such a key already. Open it to change it.");
    } catch (problem) {
      return complain(error, explain(problem));
    }
  };
  const content = [h("label", { for: "new-key" }, "Key"), name, fields.bar, fields.body, fields.tools, error];
  const answer = await ask({ title: "New key", content, buttons: [["Cancel"], ["Create", "create", "primary"]], check, wide: true });
  if (answer === null) return null;
  toast("Created");
  return name.value;
}

/** Ask, and delete a key if it still is what was shown; returns whether it is gone. */
export async function removeKey(key, canStage) {
  let value = await readValue(key, 1);
  if (value === null) return true;
  const error = h("p", { class: "error", role: "alert" });
  const check = async (answer) => {
    try {
      if (answer === "stage") {
        await api("/set", { method: "DELETE", body: JSON.stringify(key) });
        return true;
      }
      if ((await deleteKey(key, value.revision)) !== "changed") return true;
      value = (await readValue(key, 1)) ?? value;
      return complain(error, `The key has just changed (revision ${value.revision}). Delete it all the same?`);
    } catch (problem) {
      return complain(error, explain(problem));
    }
  };
  const buttons = [["Cancel"], ...(canStage ? [["Stage the deletion", "stage", ""]] : []), ["Delete", "delete", "danger"]];
  const content = [h("p", { class: "key" }, key), h("p", { class: "note" }, `Revision ${value.revision}, ${sizeText(value.size)}`), error];
  const answer = await ask({ title: "Delete this key?", content, buttons, check });
  if (answer === "stage") toast("The deletion is staged; it waits for Commit");
  return answer === "delete";
}

/** Ask, and delete all keys with a prefix. */
export async function removePrefix(prefix) {
  const typed = h("input", { id: "typed", autocomplete: "off", spellcheck: "false", autofocus: true });
  const error = h("p", { class: "error", role: "alert" });
  const check = async () => {
    if (typed.value !== prefix) return complain(error, "This is not the prefix.");
    try {
      const response = await api(`/v1/kv?${new URLSearchParams({ prefix })}`, { method: "DELETE" });
      const { deleted } = await response.json();
      toast(deleted === 1 ? "One key deleted" : `${deleted} keys deleted`);
      return true;
    } catch (problem) {
      return complain(error, explain(problem));
    }
  };
  const content = [
    h("p", null, "Every key that begins with ", h("strong", { class: "key" }, prefix), " will be gone. There is no way back."),
    h("label", { for: "typed" }, "Type the prefix to confirm"),
    typed,
    error,
  ];
  await ask({ title: "Delete all these keys?", content, buttons: [["Cancel"], ["Delete all", "delete", "danger"]], check });
}
