// The picture to begin with, cut to the chosen size, and the mask over it.

import { byId } from "./elements.js";
import { percent } from "./format.js";
import { Mask } from "./mask.js";
import { canvasOf, drawCovering, toBlob } from "./pictures.js";

const STRENGTH = 0.8;
const UNDER_MASK = 1;

export class SourceField {
  #image = null; // as it was given, decoded
  #canvas = null;
  #mask = null;

  /** pixels: the size that is chosen now. changed: called when something else is. */
  constructor(pixels, changed) {
    this.pixels = pixels;
    this.changed = changed;
    this.#listenForPictures();
    this.#listenForTools();
  }

  get chosen() {
    return this.#canvas !== null;
  }

  get masked() {
    return this.#mask !== null && !this.#mask.empty;
  }

  get strength() {
    return Number(byId("strength").value);
  }

  async blobs() {
    if (!this.chosen) return { image: null, mask: null };
    const mask = this.masked ? await this.#mask.blob() : null;
    return { image: await toBlob(this.#canvas), mask };
  }

  /** Begin with `blob`; what is no picture is said so. */
  async put(blob, { mask = null, strength = STRENGTH } = {}) {
    try {
      this.#image = await createImageBitmap(blob);
    } catch {
      this.#problem("This is no picture that the browser can read. PNG, JPEG and WebP are fine.");
      return;
    }
    this.#problem("");
    this.fit();
    this.#setStrength(strength);
    this.#useMask(mask !== null);
    if (mask) this.#mask.read(await createImageBitmap(mask));
    this.changed();
  }

  /** Cut the picture anew: the size has changed. A mask of another size is of no use. */
  fit() {
    if (!this.#image) return;
    const [width, height] = this.pixels();
    if (this.#canvas?.width === width && this.#canvas.height === height && !this.#fresh()) return;
    this.#canvas = canvasOf(width, height);
    this.#canvas.setAttribute("role", "img");
    this.#canvas.setAttribute("aria-label", "The picture to begin with");
    drawCovering(this.#canvas, this.#image);
    this.#canvas.of = this.#image;
    byId("mask-frame").replaceChildren(this.#canvas);
    byId("source-chosen").hidden = false;
    byId("drop").hidden = true;
    this.#useMask(this.#mask !== null);
  }

  remove() {
    this.#image = this.#canvas = null;
    this.#useMask(false);
    byId("mask-frame").replaceChildren();
    byId("source-chosen").hidden = true;
    byId("drop").hidden = false;
    byId("file").value = "";
    this.changed();
  }

  /** As if the button had been pressed, and the brush lay ready. */
  beginMask() {
    this.#useMask(true);
    this.#mask.canvas.focus();
  }

  #fresh() {
    return this.#canvas.of !== this.#image;
  }

  #useMask(wanted) {
    this.#mask?.canvas.remove();
    this.#mask?.marker?.remove();
    this.#mask = null;
    if (wanted) {
      this.#mask = new Mask(this.#canvas.width, this.#canvas.height, this.changed);
      this.#mask.brush = Number(byId("brush").value);
      byId("mask-frame").append(this.#mask.canvas);
      this.#setStrength(UNDER_MASK);
    }
    byId("mask-tools").hidden = !wanted;
    byId("mask-toggle").setAttribute("aria-pressed", String(wanted));
    byId("mask-erase").setAttribute("aria-pressed", "false");
  }

  #setStrength(value) {
    byId("strength").value = value;
    byId("strength-shown").textContent = percent(value);
  }

  #problem(text) {
    byId("image-problem").textContent = text;
    byId("image-problem").hidden = !text;
  }

  #listenForPictures() {
    const form = byId("form");
    byId("file").addEventListener("change", () => this.#take(byId("file").files));
    const carries = (event) => [...event.dataTransfer.types].includes("Files");
    // Anywhere on the page: a picture that misses the form must not replace the page.
    document.addEventListener("dragover", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      form.classList.add("over");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) form.classList.remove("over"); // it has left the window
    });
    document.addEventListener("drop", (event) => {
      form.classList.remove("over");
      if (!carries(event)) return;
      event.preventDefault();
      this.#take(event.dataTransfer.files);
    });
    document.addEventListener("paste", (event) => this.#take(event.clipboardData?.files ?? []));
  }

  #take(files) {
    if (files.length) this.put(files[0]);
  }

  #listenForTools() {
    byId("source-remove").addEventListener("click", () => {
      this.remove();
      byId("file").focus();
    });
    byId("mask-toggle").addEventListener("click", () => {
      this.#useMask(this.#mask === null);
      if (!this.#mask) this.#setStrength(STRENGTH);
      this.changed();
    });
    byId("brush").addEventListener("input", () => (this.#mask.brush = Number(byId("brush").value)));
    byId("mask-erase").addEventListener("click", () => {
      this.#mask.erasing = !this.#mask.erasing;
      byId("mask-erase").setAttribute("aria-pressed", String(this.#mask.erasing));
    });
    for (const act of ["undo", "invert", "clear"]) {
      byId(`mask-${act}`).addEventListener("click", () => this.#mask[act]());
    }
    byId("strength").addEventListener("input", () => {
      this.#setStrength(this.strength);
      this.changed();
    });
  }
}
