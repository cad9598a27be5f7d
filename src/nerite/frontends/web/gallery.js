// The pictures of the history as a grid, newest first.

import { note, sure } from "./announce.js";
import { byId, element } from "./elements.js";

const PAGE = 48;

export class Gallery {
  #history;
  #items = new Map(); // id → {record, node, url}
  #oldest = null;

  /** open: what a click on a picture does with its record. */
  constructor(history, open) {
    this.#history = history;
    this.open = open;
    byId("older").addEventListener("click", () => this.more());
    byId("clear-history").addEventListener("click", () => this.#clear());
  }

  /** The records that are shown, newest first. */
  get records() {
    return [...this.#items.values()].map((item) => item.record).sort((a, b) => b.id - a.id);
  }

  async more() {
    const records = await this.#history.page(PAGE, this.#oldest);
    for (const record of records) byId("pictures").append(this.#item(record));
    this.#oldest = records.at(-1)?.id ?? this.#oldest;
    byId("older").hidden = records.length < PAGE;
    this.#hint();
  }

  async add(record) {
    const stored = await this.#history.add(record);
    byId("pictures").prepend(this.#item(stored));
    this.#hint();
    return stored;
  }

  async remove(record) {
    await this.#history.remove(record.id);
    this.#drop(record.id);
    note("The picture is deleted.", "Undo", () => this.#restore(record));
  }

  focus(record) {
    this.#items.get(record.id)?.node.firstElementChild.focus();
  }

  #drop(id) {
    const item = this.#items.get(id);
    if (!item) return;
    item.node.remove();
    URL.revokeObjectURL(item.url);
    this.#items.delete(id);
    this.#hint();
  }

  async #restore(record) {
    await this.#history.restore(record);
    const node = this.#item(record);
    const after = [...byId("pictures").children].find((one) => Number(one.dataset.id) < record.id);
    byId("pictures").insertBefore(node, after ?? null);
    this.#hint();
  }

  #item(record) {
    const url = URL.createObjectURL(record.blob);
    const image = element("img", { src: url, loading: "lazy", alt: record.settings.prompt });
    const open = () => this.open(record);
    const looks = { type: "button", className: "picture", title: record.settings.prompt };
    const button = element("button", { ...looks, onclick: open }, image);
    const node = element("li", {}, button);
    node.dataset.id = record.id;
    this.#items.set(record.id, { record, node, url });
    return node;
  }

  #hint() {
    byId("clear-history").hidden = this.#items.size === 0;
    byId("gallery-hint").hidden = this.#items.size > 0;
  }

  async #clear() {
    const text = "All pictures in this browser's history, for good. Downloaded files stay.";
    if (!(await sure("Delete all pictures?", text, "Delete all"))) return;
    await this.#history.clear();
    for (const id of [...this.#items.keys()]) this.#drop(id);
    byId("older").hidden = true;
    this.#oldest = null;
    note("All pictures are deleted.");
  }
}
