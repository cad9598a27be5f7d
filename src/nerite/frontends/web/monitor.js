// A small monitor: what the server's own metrics say, every two seconds while it is looked at.

import { Chart } from "./chart.js";
import { byId, element } from "./elements.js";
import { bytes, milliseconds, percent, rate } from "./format.js";
import { growth, latency, Reading } from "./metrics.js";
import { explain } from "./problems.js";

const EVERY = 2000;
const POINTS = 90; // three minutes
const SMOOTH = 5; // readings that a rate looks back upon

const halves = (text) => text.split(" ");

export class MonitorView {
  #server;
  #catalog;
  #readings = [];
  #timer = 0;
  #charts = {};

  constructor(server, catalog) {
    this.#server = server;
    this.#catalog = catalog;
    document.addEventListener("visibilitychange", () => {
      if (this.#shown && !document.hidden) this.#look();
    });
  }

  get #shown() {
    return !byId("view-monitor").hidden;
  }

  show() {
    if (!byId("charts").children.length) this.#hang();
    this.#look();
  }

  hide() {
    clearTimeout(this.#timer);
  }

  #hang() {
    this.#charts = {
      rate: new Chart("Pictures a second", POINTS, (value) => [rate(value), "/ s"]),
      queue: new Chart("In the queue", POINTS, (value) => [String(value), ""]),
      latency: new Chart("Time of a request", POINTS, (value) => halves(milliseconds(value))),
      memory: new Chart("Memory", POINTS, (value) => halves(bytes(value))),
    };
    byId("charts").append(...Object.values(this.#charts).map((chart) => chart.node));
  }

  async #look() {
    clearTimeout(this.#timer);
    try {
      const [text, held] = await Promise.all([this.#server.text("metrics"), this.#held()]);
      this.#take(new Reading(text, performance.now()), held);
      byId("monitor-notice").hidden = true;
    } catch (error) {
      this.#problem(error);
    }
    if (this.#shown && !document.hidden) this.#timer = setTimeout(() => this.#look(), EVERY);
  }

  #problem(error) {
    const { title, text, help } = explain(error);
    const off = "This server counts nothing: it was started with --allow-metrics=false.";
    byId("monitor-notice").textContent = error.status === 404 ? off : `${title}. ${text} ${help}`;
    byId("monitor-notice").hidden = false;
  }

  /** What the models' own processes hold, where the server may tell. */
  async #held() {
    try {
      const { model_stats: models } = await this.#server.json("v2/models/stats");
      const held = models.flatMap((one) => one.memory_usage ?? []);
      return held.reduce((all, one) => all + Number(one.byte_size), 0);
    } catch {
      return 0;
    }
  }

  #take(now, held) {
    const before = this.#readings.at(-SMOOTH) ?? this.#readings[0];
    this.#readings = [...this.#readings, now].slice(-SMOOTH);
    const { rate: pictures, queue, latency: time, memory } = this.#charts;
    queue.add(now.sum("nv_inference_pending_request_count"));
    memory.add(...memoryOf(now, held));
    if (before) {
      pictures.add(this.#rate(before, now));
      time.add(latency(before, now));
    }
    this.#table(now);
  }

  /** Of the models that paint; where none is known, of all. */
  #rate(before, now) {
    const painters = this.#catalog.models.map((one) => one.id);
    const models = painters.length ? painters : [null];
    const count = (model) => growth(before, now, "nv_inference_count", model);
    const total = models.reduce((sum, model) => sum + count(model), 0);
    return (1000 * total) / (now.at - before.at);
  }

  #table(now) {
    const heads = ["Model", "Done", "Failed", "Cancelled", "Queue", "On average"];
    const rows = now.models.map((model) => {
      const failures = (now.families.get("nv_inference_request_failure") ?? []).filter(
        (row) => row.labels.model === model,
      );
      const count = (wanted) =>
        failures.filter(wanted).reduce((total, row) => total + row.value, 0);
      const cancelled = (row) => row.labels.reason === "CANCELED";
      const done = now.sum("nv_inference_request_success", model);
      const spent = now.sum("nv_inference_request_duration_us", model);
      return [
        model,
        done,
        count((row) => !cancelled(row)),
        count(cancelled),
        now.sum("nv_inference_pending_request_count", model),
        done ? milliseconds(spent / done / 1000) : "–",
      ];
    });
    const head = element("tr", {}, ...heads.map((one) => element("th", { scope: "col" }, one)));
    const lines = rows.map(([name, ...cells]) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, name),
        ...cells.map((cell) => element("td", {}, String(cell))),
      ),
    );
    const caption = element("caption", {}, "Since the server began");
    const [top, body] = [element("thead", {}, head), element("tbody", {}, ...lines)];
    const table = element("table", {}, caption, top, body);
    byId("monitor-models").replaceChildren(table);
    byId("monitor-models").hidden = rows.length === 0;
  }
}

/** Of the GPUs where there are any, of the models' processes, else of the machine; and the most
 * there could be. */
function memoryOf(now, held) {
  for (const kind of ["gpu", "cpu"]) {
    if (kind === "cpu" && held) return [held];
    const total = now.sum(`nv_${kind}_memory_total_bytes`);
    if (total) return [now.sum(`nv_${kind}_memory_used_bytes`), total];
  }
  return [null];
}
