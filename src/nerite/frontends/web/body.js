// The bodies of the API's requests, made of what the form holds.

import { toDataUrl } from "./pictures.js";

const PREVIEWS = 12;
const OURS = ["negative_prompt", "seed", "steps", "guidance_scale", "scheduler", "strength"];
const THEIRS = ["model", "prompt", "n", "size"];

/** The settings alone, as the API names them. */
export function settingsOf(values) {
  const names = [...THEIRS, ...OURS].filter((name) => values[name] !== undefined);
  return Object.fromEntries(names.map((name) => [name, values[name]]));
}

export const pathOf = (values) => (values.image ? "v1/images/edits" : "v1/images/generations");

/** With previews and progress on the way; pictures ride along as data URLs. */
export async function streamed(values) {
  const body = {
    prompt: "", // its absence is the server's to explain
    ...settingsOf(values),
    output_format: "png",
    stream: true,
    progress: true,
    previews: PREVIEWS,
  };
  if (values.image) body.images = [{ image_url: await toDataUrl(values.image) }];
  if (values.mask) body.mask = { image_url: await toDataUrl(values.mask) };
  return body;
}
