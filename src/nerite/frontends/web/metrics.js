// Prometheus' text, and what two readings of it say about the time between them.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** name → [{labels, value}] */
export function parse(text) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const [, name, written, value] = found;
    const labels = {};
    for (const [, key, quoted] of (written ?? "").matchAll(LABEL)) labels[key] = quoted;
    if (!families.has(name)) families.set(name, []);
    families.get(name).push({ labels, value: Number(value) });
  }
  return families;
}

/** One look at the server: when, and what it counted until then. */
export class Reading {
  constructor(text, at) {
    this.at = at; // ms
    this.families = parse(text);
  }

  has(name) {
    return this.families.has(name);
  }

  /** The sum of a family, of one model where it is named. */
  sum(name, model = null) {
    const rows = this.families.get(name) ?? [];
    const counted = rows.filter((row) => model === null || row.labels.model === model);
    return counted.reduce((total, row) => total + row.value, 0);
  }

  get models() {
    const rows = this.families.get("nv_inference_request_success") ?? [];
    return [...new Set(rows.map((row) => row.labels.model))];
  }
}

/** How much a counter has grown; one that begins anew has not gone backwards. */
export function growth(before, now, name, model = null) {
  return Math.max(0, now.sum(name, model) - before.sum(name, model));
}

/** Of a request that ended between the two, on average, in ms; null when none did. */
export function latency(before, now, model = null) {
  const count = growth(before, now, "nv_inference_request_success", model);
  const total = growth(before, now, "nv_inference_request_duration_us", model);
  return count ? total / count / 1000 : null;
}
