// One painting as it comes to be: previews, progress, and what to do when it fails.

import { say } from "./announce.js";
import { element, icon } from "./elements.js";
import { seconds } from "./format.js";
import { CANCELLED, DONE, FAILED, WAITING } from "./painting.js";
import { explain } from "./problems.js";

export class Easel {
  #painting;
  #frames;
  #urls = [];

  /** acts: what its buttons do: open(frame), again(values), forget(easel). */
  constructor(painting, acts) {
    this.#painting = painting;
    this.acts = acts;
    this.#frames = painting.frames.map((frame) => this.#frame(frame));
    this.state = element("p", { className: "state" });
    this.bar = element("progress", { max: 1 });
    this.bar.setAttribute("aria-label", "Progress");
    this.cancel = element("button", { type: "button", onclick: () => painting.cancel() }, "Cancel");
    const words = element("strong", {}, painting.values.prompt || "Without a prompt");
    this.fault = element("div", { className: "fault", role: "alert", hidden: true });
    this.pictures = element("div", { className: "frames" }, ...this.#frames);
    this.pictures.classList.toggle("one", painting.frames.length === 1);
    const doing = element("div", { className: "words" }, words, this.state);
    this.node = element(
      "article",
      { className: "easel" },
      this.pictures,
      element("div", { className: "doing" }, doing, this.cancel, this.bar),
      this.fault,
    );
    this.node.setAttribute("aria-label", "Painting");
    painting.addEventListener("change", () => this.#show());
    this.#show();
  }

  get ended() {
    return this.#painting.ended;
  }

  /** The shape of its pictures, known before there are any. */
  set ratio(value) {
    this.pictures.style.setProperty("--ratio", value);
  }

  remove() {
    this.node.remove();
    for (const url of this.#urls) URL.revokeObjectURL(url);
  }

  #frame(frame) {
    const blank = element("span", { className: "blank" }, icon("shell"));
    const open = () => frame.finished && this.acts.open(frame);
    return element("button", { type: "button", className: "frame live", onclick: open }, blank);
  }

  #show() {
    const painting = this.#painting;
    painting.frames.forEach((frame, index) => this.#showFrame(frame, index));
    this.state.textContent = this.#words();
    this.cancel.hidden = this.bar.hidden = painting.ended;
    this.#showBar();
    if (painting.state === FAILED && this.fault.hidden) this.#showFault();
    if (painting.state === CANCELLED || painting.state === FAILED) {
      this.pictures.hidden = !painting.frames.some((frame) => frame.finished);
    }
    this.#tell();
  }

  #showFrame(frame, index) {
    const button = this.#frames[index];
    button.disabled = !frame.finished;
    const number = this.#frames.length > 1 ? ` ${index + 1}` : "";
    const name = frame.finished ? `Open picture${number}` : `Picture${number}, not finished`;
    button.setAttribute("aria-label", name);
    button.classList.toggle("live", !frame.finished);
    if (!frame.blob || button.of === frame.blob) return;
    button.of = frame.blob;
    const url = URL.createObjectURL(frame.blob);
    const image = element("img", { src: url, alt: "" });
    image.dataset.finished = frame.finished;
    // The last one stays until the next can be seen, so that nothing flickers.
    image.decode().catch(() => {}).then(() => {
      if (button.of !== frame.blob) return;
      button.replaceChildren(image);
      for (const old of this.#urls.splice(0, this.#urls.length - this.#frames.length)) {
        if (old !== url) URL.revokeObjectURL(old);
      }
    });
    this.#urls.push(url);
  }

  #showBar() {
    const { share } = this.#painting;
    if (share) this.bar.value = share;
    else this.bar.removeAttribute("value"); // it moves without telling how far
  }

  #words() {
    const { state, last, finished, frames, seconds: took } = this.#painting;
    if (state === WAITING) return "Waits for the pictures before it";
    if (state === DONE) return `Painted in ${seconds(took)}`;
    if (state === CANCELLED) return "Cancelled";
    if (state === FAILED) return "Not painted";
    if (!last) return finished ? "Almost done" : "Sent to the server";
    const many = frames.length > 1 ? `${finished} of ${frames.length} pictures done. ` : "";
    if (last.queue_position > 0) return `${many}In the queue: place ${last.queue_position}`;
    if (last.step >= last.steps) return `${many}Almost done`;
    const left = last.eta_seconds > 1 ? `, about ${seconds(last.eta_seconds)} left` : "";
    return `${many}Step ${last.step} of ${last.steps}${left}`;
  }

  /** To screen readers: not every step, only what has changed for good. */
  #tell() {
    const { state, last } = this.#painting;
    const place = last?.queue_position;
    const news = place ? `In the queue, place ${place}` : state;
    if (news === this.told) return;
    this.told = news;
    if (place) say(news);
    else say(this.ended ? this.#words() : "Painting");
  }

  #showFault() {
    const { title, text, help, trace } = explain(this.#painting.error);
    const again = () => this.acts.again(this.#painting.values);
    this.fault.append(
      element("h3", {}, title),
      element("p", {}, text),
      help ? element("p", {}, help) : "",
      trace ? element("p", { className: "small" }, trace) : "",
      element(
        "div",
        { className: "tools" },
        element("button", { type: "button", onclick: again }, icon("again"), "Try again"),
      ),
    );
    this.fault.hidden = false;
    this.cancel.hidden = true;
  }
}
