// A line over the last minutes, with its last value in words.

import { drawn, element } from "./elements.js";

const WIDTH = 300;
const HEIGHT = 88;

export class Chart {
  #values = [];

  /** words: value → [number, unit]; ceiling: what the top stands for, else the largest value. */
  constructor(title, points, words, ceiling = null) {
    this.points = points;
    this.words = words;
    this.ceiling = ceiling;
    this.now = element("p", { className: "now" }, "–");
    this.area = drawn("path", { class: "area" });
    this.line = drawn("path", { class: "line" });
    const base = drawn("path", { class: "base", d: `M0 ${HEIGHT}H${WIDTH}` });
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
    const picture = drawn("svg", { ...box, "aria-hidden": "true" }, base, this.area, this.line);
    this.least = element("span", {}, "");
    this.most = element("span", {}, "");
    const more = element("p", { className: "more" }, this.least, this.most);
    const heading = element("h2", {}, title);
    this.node = element("section", { className: "chart" }, heading, this.now, picture, more);
    this.node.setAttribute("aria-label", title);
  }

  /** value: null where there was nothing to measure; the line then holds its height. */
  add(value, top = this.ceiling) {
    this.ceiling = top;
    const held = value ?? this.#values.at(-1) ?? null;
    this.#values = [...this.#values, held].slice(-this.points);
    this.#draw(value);
  }

  #draw(value) {
    const [number, unit] = value === null ? ["–", ""] : this.words(value);
    this.now.replaceChildren(number, " ", element("small", {}, unit));
    const known = this.#values.filter((one) => one !== null);
    const top = this.ceiling ?? Math.max(...known, 1e-9);
    const step = WIDTH / (this.points - 1);
    const from = this.points - this.#values.length;
    const corners = this.#values.flatMap((one, index) => {
      if (one === null) return [];
      const height = HEIGHT - 2 - (HEIGHT - 6) * Math.min(1, one / top);
      return [`${((from + index) * step).toFixed(1)} ${height.toFixed(1)}`];
    });
    if (!corners.length) return;
    const begin = corners[0].split(" ")[0];
    this.line.setAttribute("d", `M${corners.join("L")}`);
    this.area.setAttribute("d", `M${begin} ${HEIGHT}L${corners.join("L")}V${HEIGHT}Z`);
    this.most.textContent = `most ${this.words(Math.max(...known)).join(" ")}`;
  }
}
