// One request for pictures while it is under way: what is known of it, and how to cancel it.

import { pathOf, streamed } from "./body.js";
import { fromBase64 } from "./pictures.js";

export const WAITING = "waiting"; // in this page
export const RUNNING = "running"; // at the server: queued there or painted
export const DONE = "done";
export const FAILED = "failed";
export const CANCELLED = "cancelled";

/** Says "change" whenever there is something new, and "picture" with each finished one. */
export class Painting extends EventTarget {
  #abort = new AbortController();
  #began = 0;

  constructor(values) {
    super();
    this.values = values;
    this.state = WAITING;
    // told: {step, steps, queue_position, eta_seconds}, once the server has said so
    const frame = () => ({ blob: null, finished: false, told: null });
    this.frames = Array.from({ length: clamp(values.n ?? 1) }, frame);
    this.error = null;
    this.seconds = 0;
  }

  get ended() {
    return this.state !== WAITING && this.state !== RUNNING;
  }

  get finished() {
    return this.frames.filter((frame) => frame.finished).length;
  }

  /** Of all pictures together, from 0 to 1; null while nothing is known. */
  get share() {
    if (this.frames.every((frame) => !frame.told && !frame.finished)) return null;
    const shares = this.frames.map(({ finished, told }) =>
      finished ? 1 : told ? told.step / Math.max(1, told.steps) : 0,
    );
    return shares.reduce((sum, one) => sum + one, 0) / shares.length;
  }

  /** What was told of the picture that is furthest from its end. */
  get last() {
    const told = this.frames.filter((one) => !one.finished && one.told).map((one) => one.told);
    const left = (one) => one.queue_position * 1e6 + one.steps - one.step;
    return told.sort((one, other) => left(other) - left(one))[0] ?? null;
  }

  async run(server) {
    if (this.ended) return;
    this.#began = performance.now();
    this.#become(RUNNING);
    try {
      const body = await streamed(this.values);
      for await (const event of server.stream(pathOf(this.values), body, this.#abort.signal)) {
        this.#take(event);
      }
      if (this.finished < this.frames.length) throw new Error("The answer ended too early.");
      this.#become(DONE);
    } catch (error) {
      if (this.ended) return; // cancelled
      this.error = error;
      this.#become(FAILED);
    }
  }

  cancel() {
    if (this.ended) return;
    this.#become(CANCELLED);
    this.#abort.abort();
  }

  #take(event) {
    const [, kind] = event.type.split(".");
    const frame = this.frames[event.image_index ?? 0];
    if (kind === "progress" && frame) {
      frame.told = event;
    } else if (kind === "partial_image" && frame && !frame.finished) {
      frame.blob = fromBase64(event.b64_json, typeOf(event));
    } else if (kind === "completed" && frame) {
      this.#finish(frame, event);
    }
    this.dispatchEvent(new Event("change"));
  }

  #finish(frame, event) {
    Object.assign(frame, { blob: fromBase64(event.b64_json, typeOf(event)), finished: true });
    this.seconds = (performance.now() - this.#began) / 1000;
    const detail = { frame, event, seconds: this.seconds };
    this.dispatchEvent(new CustomEvent("picture", { detail }));
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}

// Of a number that the server will refuse there is nothing to show.
const clamp = (count) => (count >= 1 && count <= 10 ? Math.floor(count) : 1);

const typeOf = (event) => `image/${event.output_format ?? "png"}`;
