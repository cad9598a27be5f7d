// The size of the picture: what suits the model, or one's own numbers.

import { byId, element } from "./elements.js";

const OWN = "own";
// Of the model's own side: how wide, how high, and what people call it.
const SHAPES = [
  [1, 1, "square"],
  [1, 1.5, "upright"],
  [1.5, 1, "wide"],
  [2, 2, "large square"],
];

export class SizeField {
  #size = [512, 512];

  constructor(changed) {
    this.changed = changed;
    byId("size").addEventListener("change", () => this.#show());
    for (const id of ["width", "height"]) byId(id).addEventListener("change", changed);
  }

  /** Offer what `model` can do, with `size` chosen; what was chosen stays. */
  offer(model, size = this.value) {
    this.#size = model?.size ?? [512, 512];
    const limits = model?.sizes ?? { multiple: 8, min: 64, max: 2048 };
    const [width, height] = this.#size;
    const options = [element("option", { value: "" }, `${width} × ${height}, the model's own`)];
    for (const [across, up, name] of SHAPES) {
      const [w, h] = [across * width, up * height].map((side) => round(side, limits.multiple));
      const fits = Math.min(w, h) >= limits.min && Math.max(w, h) <= limits.max;
      if (fits && (w !== width || h !== height)) {
        options.push(element("option", { value: `${w}x${h}` }, `${w} × ${h}, ${name}`));
      }
    }
    options.push(element("option", { value: OWN }, "Another size…"));
    byId("size").replaceChildren(...options);
    for (const id of ["width", "height"]) {
      Object.assign(byId(id), { min: limits.min, max: limits.max, step: limits.multiple });
    }
    this.value = size;
  }

  /** "WxH", or "" for the model's own. */
  get value() {
    const chosen = byId("size").value;
    return chosen === OWN ? `${byId("width").value}x${byId("height").value}` : chosen;
  }

  set value(wanted) {
    const size = wanted === this.#size.join("x") ? "" : wanted;
    const field = byId("size");
    const known = [...field.options].some((one) => one.value === size && size !== OWN);
    field.value = known ? size : OWN;
    if (!known) [byId("width").value, byId("height").value] = size.split("x");
    this.#show();
  }

  /** In pixels, whatever was chosen. */
  get pixels() {
    const sides = this.value.split("x").map(Number);
    return sides.length === 2 && sides.every((side) => side > 0) ? sides : this.#size;
  }

  #show() {
    const own = byId("size").value === OWN;
    byId("size-own").hidden = !own;
    if (own && !byId("width").value) [byId("width").value, byId("height").value] = this.#size;
    this.changed();
  }
}

const round = (side, multiple) => Math.round(side / multiple) * multiple;
