// Shows openapi.json, without anything from elsewhere: paths, parameters, bodies and answers.

const place = document.getElementById("api");

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolve(api, schema) {
  if (!schema?.$ref) return schema ?? {};
  return schema.$ref.slice(2).split("/").reduce((node, key) => node[key], api);
}

function kind(api, given) {
  const schema = resolve(api, given);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) {
    return choices.filter((one) => one.type !== "null").map((one) => kind(api, one)).join(" or ");
  }
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `array of ${kind(api, schema.items)}`;
  const limits = [];
  const low = schema.minimum ?? schema.minLength;
  const high = schema.maximum ?? schema.maxLength;
  if (low !== undefined) limits.push(`from ${low}`);
  if (high !== undefined) limits.push(`to ${high}`);
  return [schema.format === "binary" ? "file" : schema.type, ...limits].filter(Boolean).join(" ");
}

function table(heads, rows) {
  const head = element("tr", "", ...heads.map((text) => element("th", text)));
  const lines = rows.map((cells) => element("tr", "", ...cells.map((text) => element("td", text))));
  const made = element("table", "", element("thead", "", head), element("tbody", "", ...lines));
  const wide = element("div", "", made);
  wide.className = "wide";
  return wide;
}

function fields(api, given) {
  const schema = resolve(api, given);
  const needed = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, one]) => [
    name,
    kind(api, one),
    needed.has(name) ? "required" : "",
    one.description ?? resolve(api, one).description ?? "",
  ]);
  return rows.length ? table(["field", "type", "", ""], rows) : element("p", kind(api, schema));
}

function operation(api, path, method, found) {
  const word = element("span", method.toUpperCase());
  word.className = "method";
  const summary = element("summary", "", word, element("code", path), ` ${found.summary ?? ""}`);
  const made = element("details", "", summary);
  if (found.description) made.append(element("p", found.description));
  const named = (found.parameters ?? []).map((one) => [
    one.name, one.in, kind(api, one.schema), one.description ?? "",
  ]);
  if (named.length) made.append(element("h3", "Parameters"), table(["name", "in", "type", ""], named));
  for (const [type, content] of Object.entries(found.requestBody?.content ?? {})) {
    made.append(element("h3", `Body: ${type}`), fields(api, content.schema));
  }
  const answers = Object.entries(found.responses ?? {}).map(([status, one]) => [
    status, one.description ?? "", Object.keys(one.content ?? {}).join(", "),
  ]);
  made.append(element("h3", "Answers"), table(["status", "", "type"], answers));
  return made;
}

async function show() {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  const api = await answer.json();
  const parts = [];
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, found] of Object.entries(methods)) {
      parts.push(operation(api, path, method, found));
    }
  }
  place.replaceChildren(element("p", api.info.description ?? ""), ...parts);
}

show().catch((error) => { place.textContent = `The description could not be read: ${error.message}`; });
