// The part of a picture that shall be painted anew: a canvas to paint on, by pointer or by keys.

import { canvasOf, toBlob } from "./pictures.js";

const UNDOS = 20;
const SHADE = "rgb(15 107 104)"; // shown at half strength over the picture
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Mask {
  #pen;
  #before = [];
  #last = null;
  #cursor;

  constructor(width, height, changed) {
    this.canvas = canvasOf(width, height);
    this.canvas.className = "drawing";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "Mask: arrows move the brush, space paints");
    this.canvas.setAttribute("aria-describedby", "mask-hint");
    this.brush = 12; // percent of the shorter side
    this.erasing = false;
    this.changed = changed;
    this.#pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.#cursor = [width / 2, height / 2];
    this.#listen();
  }

  get empty() {
    const { width, height } = this.canvas;
    const { data } = this.#pen.getImageData(0, 0, width, height);
    for (let at = 3; at < data.length; at += 4) if (data[at]) return false;
    return true;
  }

  /** As the API wants it: transparent is painted anew, the rest stays. */
  async blob() {
    const { width, height } = this.canvas;
    const made = canvasOf(width, height);
    const pen = made.getContext("2d");
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "destination-out";
    pen.drawImage(this.canvas, 0, 0);
    return toBlob(made);
  }

  /** What blob() once gave, shown again. */
  read(image) {
    this.#step(() => {
      this.#fill();
      this.#pen.globalCompositeOperation = "destination-out";
      this.#pen.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    });
  }

  clear() {
    this.#step(() => this.#pen.clearRect(0, 0, this.canvas.width, this.canvas.height));
  }

  invert() {
    const was = canvasOf(this.canvas.width, this.canvas.height);
    was.getContext("2d").drawImage(this.canvas, 0, 0);
    this.read(was);
  }

  undo() {
    const before = this.#before.pop();
    if (before) this.#pen.putImageData(before, 0, 0);
    this.changed();
  }

  #step(draw) {
    this.#remember();
    this.#pen.save();
    draw();
    this.#pen.restore();
    this.changed();
  }

  #remember() {
    const { width, height } = this.canvas;
    this.#before.push(this.#pen.getImageData(0, 0, width, height));
    if (this.#before.length > UNDOS) this.#before.shift();
  }

  #fill() {
    const { width, height } = this.canvas;
    this.#pen.fillStyle = SHADE;
    this.#pen.clearRect(0, 0, width, height);
    this.#pen.fillRect(0, 0, width, height);
  }

  get #radius() {
    return (Math.min(this.canvas.width, this.canvas.height) * this.brush) / 200;
  }

  #stroke(from, to) {
    const pen = this.#pen;
    pen.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    pen.strokeStyle = SHADE;
    pen.lineCap = "round";
    pen.lineWidth = 2 * this.#radius;
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(to[0] + 0.01, to[1]); // a line of no length would leave no dot
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
  }

  #listen() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const scale = this.canvas.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.#remember();
      this.#last = at(event);
      this.#stroke(this.#last, this.#last);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.#last) return;
      for (const one of event.getCoalescedEvents?.() ?? [event]) {
        const here = at(one);
        this.#stroke(this.#last, here);
        this.#last = here;
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => {
        this.#last = null;
        this.changed();
      });
    }
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("blur", () => this.marker?.remove());
  }

  #key(event) {
    const arrow = ARROWS[event.key];
    if (arrow) {
      const far = this.#radius * (event.shiftKey ? 3 : 1);
      const limits = [this.canvas.width, this.canvas.height];
      const from = this.#cursor;
      this.#cursor = from.map((value, axis) => clamp(value + arrow[axis] * far, limits[axis]));
    } else if (event.key === " " || event.key === "Enter") {
      this.#step(() => this.#stroke(this.#cursor, this.#cursor));
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      this.undo();
    } else {
      return;
    }
    event.preventDefault();
    this.#mark();
  }

  /** Where the keys' brush is. */
  #mark() {
    this.marker ??= Object.assign(document.createElement("span"), { className: "marker" });
    const share = (value, of) => `${(100 * value) / of}%`;
    this.marker.style.left = share(this.#cursor[0], this.canvas.width);
    this.marker.style.top = share(this.#cursor[1], this.canvas.height);
    this.marker.style.width = share(2 * this.#radius, this.canvas.width);
    this.canvas.after(this.marker);
  }
}

const clamp = (value, limit) => Math.min(limit, Math.max(0, value));
