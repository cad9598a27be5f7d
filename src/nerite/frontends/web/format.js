// Numbers and times as people read them.

export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

export function milliseconds(value) {
  return value < 1000 ? `${value.toFixed(value < 10 ? 1 : 0)} ms` : seconds(value / 1000);
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at += 1) value /= 1000;
  return `${value.toFixed(value < 10 && at ? 1 : 0)} ${units[at]}`;
}

export function rate(value) {
  return value === 0 || value >= 10 ? value.toFixed(0) : value.toFixed(value < 1 ? 2 : 1);
}

export const percent = (value) => `${Math.round(value * 100)} %`;

/** A name for a file, of the words of a prompt. */
export function fileName(prompt, seed, suffix) {
  const words = prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
  const name = words.join("-").slice(0, 60).replace(/-+$/, "");
  return `${name}${seed === null || seed === undefined ? "" : `-${seed}`}.${suffix}`;
}
