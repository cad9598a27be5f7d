// One picture in full, what it was made of, and what can be done with it.

import { settingsOf } from "./body.js";
import { copy } from "./clipboard.js";
import { byId, element, icon } from "./elements.js";
import { fileName, percent, seconds } from "./format.js";
import { suffixOf } from "./pictures.js";

const ACTED = "acted"; // it was left for something to be done elsewhere
const SLIGHTLY = 0.45; // the strength of a variation

export class Viewer {
  #gallery;
  #record = null;
  #url = null;

  /** acts: paint(values) at once, or write(values, mask) into the form first. */
  constructor(gallery, acts) {
    this.#gallery = gallery;
    this.acts = acts;
    this.dialog = byId("viewer");
    this.dialog.addEventListener("close", () => this.#left());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.#turn(-1);
      if (event.key === "ArrowRight") this.#turn(1);
    });
  }

  show(record) {
    this.#record = record;
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(record.blob);
    this.dialog.replaceChildren(
      element("div", { className: "viewing" }, this.#stage(record), this.#about(record)),
    );
    if (!this.dialog.open) this.dialog.showModal();
  }

  #stage(record) {
    const image = element("img", { src: this.#url, alt: record.settings.prompt });
    const [scale] = [Math.min(4, 1024 / Math.max(record.width, record.height))];
    image.style.width = `${Math.round(record.width * Math.max(1, scale))}px`;
    const turn = (name, label, by) =>
      this.#button("round turn " + name, icon(by < 0 ? "left" : "right"), () => this.#turn(by), {
        "aria-label": label,
        disabled: !this.#beside(by),
      });
    const close = this.#button("round close", icon("close"), () => this.dialog.close(), {
      "aria-label": "Close",
    });
    return element(
      "div",
      { className: "stage" },
      image,
      close,
      turn("before", "Newer picture", -1),
      turn("after", "Older picture", 1),
    );
  }

  #about(record) {
    const facts = factsOf(record).flatMap(([name, value]) => [
      element("dt", {}, name),
      element("dd", {}, value),
    ]);
    return element(
      "div",
      { className: "about" },
      element("h2", { id: "viewer-title", className: "unseen" }, "Picture"),
      element("p", { className: "prompt" }, record.settings.prompt || "Without a prompt"),
      element("dl", {}, ...facts),
      this.#keeping(record),
      this.#painting(record),
      this.#button("quiet", [icon("trash"), "Delete"], () => this.#delete()),
    );
  }

  #keeping(record) {
    const name = fileName(record.settings.prompt ?? "", record.seed, suffixOf(record.blob));
    const link = { href: this.#url, download: name, className: "button" };
    return element(
      "div",
      { className: "tools" },
      element("a", link, icon("download"), "Download"),
      this.#button("", [icon("copy"), "Copy settings"], () => this.#copy()),
    );
  }

  #painting(record) {
    const { settings } = record;
    const same = { ...settings, image: record.source ?? null, mask: record.mask ?? null, n: 1 };
    const from = { ...settings, seed: undefined, image: record.blob, mask: null, n: 1 };
    const size = `${record.width}x${record.height}`;
    const acts = [
      ["another seed", () => this.#paint({ ...same, seed: undefined })],
      ["small changes", () => this.#paint({ ...from, size, strength: SLIGHTLY })],
      ["other settings", () => this.#write({ ...same, seed: record.seed })],
      ["this to begin with", () => this.#write({ ...from, size })],
      ["a part repainted", () => this.#write({ ...from, size }, true)],
    ];
    const buttons = acts.map(([name, run]) => this.#button("", name, run));
    const group = element("div", { className: "tools", role: "group" }, ...buttons);
    group.setAttribute("aria-labelledby", "again-title");
    const title = element("h3", { id: "again-title" }, "Paint again with…");
    return element("div", {}, title, group);
  }

  #button(className, inside, run, more = {}) {
    const properties = { type: "button", className, onclick: run, ...more };
    return element("button", properties, ...[inside].flat());
  }

  #paint(values) {
    this.dialog.close(ACTED);
    this.acts.paint(values);
  }

  #write(values, mask = false) {
    this.dialog.close(ACTED);
    this.acts.write(values, mask);
  }

  #copy() {
    const { settings: asked, seed } = this.#record;
    const settings = { ...settingsOf(asked), seed, n: undefined };
    copy(JSON.stringify(settings, null, 2), "Settings");
  }

  #beside(by) {
    const records = this.#gallery.records;
    const at = records.findIndex((one) => one.id === this.#record.id);
    return at < 0 ? null : records[at + by];
  }

  #turn(by) {
    const other = this.#beside(by);
    if (!other) return;
    this.show(other);
    const name = by < 0 ? ".before" : ".after";
    const button = this.dialog.querySelector(name);
    (button.disabled ? this.dialog.querySelector(".close") : button).focus();
  }

  #delete() {
    const record = this.#record;
    this.dialog.close();
    this.#gallery.remove(record);
  }

  #left() {
    this.dialog.replaceChildren();
    URL.revokeObjectURL(this.#url);
    this.#url = null;
    if (this.dialog.returnValue !== ACTED) this.#gallery.focus(this.#record);
    this.dialog.returnValue = "";
  }
}

function factsOf({ settings, seed, width, height, model, created, seconds: took, used, ...more }) {
  const shown = [
    ["Left out", settings.negative_prompt],
    ["Model", model],
    ["Size", `${width} × ${height}`],
    ["Steps", settings.steps ?? used?.steps],
    ["Guidance", settings.guidance_scale ?? used?.guidance_scale],
    ["Sampler", settings.scheduler ?? used?.scheduler],
    ["Seed", seed],
    ["Began with", more.source && (more.mask ? "a picture, in part" : "a picture")],
    ["Change", more.source && percent(settings.strength)],
    ["Painted", `${new Date(created).toLocaleString()}, in ${seconds(took)}`],
  ];
  const known = shown.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return known.map(([name, value]) => [name, String(value)]);
}
