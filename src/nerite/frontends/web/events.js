// Server-sent events of a fetch's answer. EventSource can neither post nor send a key.

/** The data of each event, parsed. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const from = Math.max(0, rest.length - 1);
      rest += value;
      for (let end = rest.indexOf("\n\n", from); end >= 0; end = rest.indexOf("\n\n")) {
        const data = dataOf(rest.slice(0, end));
        rest = rest.slice(end + 2);
        if (data && data !== "[DONE]") yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function dataOf(event) {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trim()).join("\n");
}
