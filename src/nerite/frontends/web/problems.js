// What an error means to a person: a heading, the server's own words, and what may help.

const FIELDS = new Map([
  ["num_inference_steps", "steps"],
  ["images", "image"],
]);

/** The field of the form that an error is about, or null. */
export function fieldOf(error) {
  const name = String(error.param ?? "").replace(/[[.].*$/, "");
  return FIELDS.get(name) ?? (name || null);
}

const MEANINGS = new Map([
  [0, ["The server cannot be reached", "Start it with “nerite serve”, then try again."]],
  [401, ["The server asks for an API key", "Whoever runs the server can give you one."]],
  [403, ["The server does not allow this", "Whoever runs the server decides that."]],
  [404, ["That is not there", "The Models view shows what the server has."]],
  [408, ["It took too long", "Try again, with fewer steps or a smaller size."]],
  [413, ["That is too large", "A smaller picture or a shorter prompt will do."]],
  [429, ["The server has enough to do", ""]],
  [503, ["The server cannot do this now", "Try again in a moment."]],
]);

const REFUSED = ["The server refused this", "Change it and try again."];

export function explain(error) {
  if (!("status" in error)) {
    return { title: "Something went wrong", text: error.message, help: "", status: -1 };
  }
  const { status, retryAfter } = error;
  let [title, help] = MEANINGS.get(status) ?? REFUSED;
  if (status === 429 && retryAfter) help = `Try again in ${retryAfter} s.`;
  else if (status === 429) help = "Try again in a moment.";
  else if (status >= 500 && !MEANINGS.has(status)) {
    [title, help] = ["The server failed", "This is not your fault; the server's log says more."];
  }
  const trace = error.requestId ? `Request ${error.requestId}` : "";
  return { title, text: error.message, help, trace, status };
}
