// The same request for pictures as commands and programs, to be copied and run.

import { pathOf, settingsOf } from "./body.js";

const OPENAI = ["model", "prompt", "n", "size"];
const TENSORS = {
  prompt: "BYTES",
  negative_prompt: "BYTES",
  seed: "INT64",
  steps: "INT32",
  guidance_scale: "FP32",
  scheduler: "BYTES",
  strength: "FP32",
};
const NUMPY = { BYTES: "object", INT64: "int64", INT32: "int32", FP32: "float32" };

/** A word that a POSIX shell takes as it is. */
export const shell = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`;

/** A literal of Python: JSON's strings and numbers are ones. */
const python = (value) => JSON.stringify(value);

/** [title, text] of each way to ask `server` for `values`; keyed: whether it wants a key. */
export function snippets(server, values, keyed) {
  const asked = { prompt: "", ...settingsOf(values) };
  const from = { url: server, picture: Boolean(values.image), mask: Boolean(values.mask), keyed };
  if (!from.picture) delete asked.strength;
  return [
    ["curl", curl(asked, from)],
    ["Python, openai", openai(asked, from)],
    ["Python, tritonclient", triton(asked, from)],
    ["nerite", nerite(asked, from)],
  ];
}

const DECODE = `python3 -c 'import base64, json, sys
for number, image in enumerate(json.load(sys.stdin)["data"]):
    with open(f"painted-{number}.png", "wb") as file:
        file.write(base64.b64decode(image["b64_json"]))'`;

function curl(asked, from) {
  const lines = [`curl -s ${shell(`${from.url}/${pathOf({ image: from.picture })}`)}`];
  if (from.keyed) lines.push('-H "Authorization: Bearer $NERITE_API_KEY"');
  if (from.picture) {
    lines.push("-F image=@picture.png");
    if (from.mask) lines.push("-F mask=@mask.png");
    // --form-string: a value that begins with @ or < is not a file's name.
    for (const [name, value] of Object.entries(asked)) {
      lines.push(`--form-string ${shell(`${name}=${value}`)}`);
    }
  } else {
    lines.push("-H 'Content-Type: application/json'");
    lines.push(`-d ${shell(JSON.stringify(asked))}`);
  }
  return `${lines.join(" \\\n  ")} \\\n| ${DECODE}`;
}

function openai(asked, from) {
  const theirs = Object.entries(asked).filter(([name]) => OPENAI.includes(name));
  const ours = Object.fromEntries(Object.entries(asked).filter(([name]) => !OPENAI.includes(name)));
  const wanted = theirs.map(([name, value]) => `    ${name}=${python(value)},`);
  if (!asked.model) wanted.unshift('    model="gpt-image-1",');
  if (from.picture) wanted.unshift('    image=open("picture.png", "rb"),');
  if (from.mask) wanted.push('    mask=open("mask.png", "rb"),');
  if (Object.keys(ours).length) wanted.push(`    extra_body=${python(ours)},`);
  const key = from.keyed ? 'os.environ["NERITE_API_KEY"]' : '"none"';
  return [
    "import base64",
    ...(from.keyed ? ["import os"] : []),
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${python(`${from.url}/v1`)}, api_key=${key})`,
    `answer = client.images.${from.picture ? "edit" : "generate"}(`,
    ...wanted,
    ")",
    "for number, image in enumerate(answer.data):",
    '    with open(f"painted-{number}.png", "wb") as file:',
    "        file.write(base64.b64decode(image.b64_json))",
  ].join("\n");
}

function triton(asked, from) {
  const { protocol, host, pathname } = new URL(from.url);
  const where = python(host + pathname.replace(/\/$/, ""));
  const tls = protocol === "https:" ? ", ssl=True" : "";
  const known = [...tensorsOf(asked), ...(from.picture ? pictureTensors(from) : [])];
  const headers = from.keyed ? ', headers={"x-api-key": os.environ["NERITE_API_KEY"]}' : "";
  return [
    ...(from.mask ? ["import io"] : []),
    ...(from.keyed ? ["import os"] : []),
    ...(from.mask || from.keyed ? [""] : []),
    "import numpy as np",
    "import tritonclient.http as triton",
    from.mask ? "from PIL import Image, ImageOps" : "from PIL import Image",
    "",
    ...(from.mask ? WHITE : []),
    "asked = [",
    ...known.map((line) => `    ${line},`),
    "]",
    "inputs = []",
    "for name, datatype, dtype, value in asked:",
    "    tensor = triton.InferInput(name, [1], datatype)",
    "    tensor.set_data_from_numpy(np.array([value], dtype=dtype))",
    "    inputs.append(tensor)",
    `client = triton.InferenceServerClient(${where}, network_timeout=600${tls})`,
    `answer = client.infer(${python(asked.model ?? "")}, inputs${headers})`,
    'pictures = answer.as_numpy("generated_image")',
    "for number, pixels in enumerate(pictures.reshape(-1, *pictures.shape[-3:])):",
    '    Image.fromarray(pixels).save(f"painted-{number}.png")',
  ].join("\n");
}

// Of a model's mask white is painted anew; of the file, as OpenAI has it, what is transparent.
const WHITE = [
  "mask = io.BytesIO()",
  'ImageOps.invert(Image.open("mask.png").getchannel("A")).save(mask, "PNG")',
  "",
];

function tensorsOf(asked) {
  const wanted = Object.entries(asked).filter(([name]) => name in TENSORS);
  const lines = wanted.map(([name, value]) => tensor(name, TENSORS[name], text(name, value)));
  if (asked.n > 1) lines.push(tensor("num_images", "INT32", asked.n));
  if (asked.size) {
    const [width, height] = asked.size.split("x").map(Number);
    lines.push(tensor("width", "INT32", width), tensor("height", "INT32", height));
  }
  return lines;
}

const text = (name, value) =>
  TENSORS[name] === "BYTES" ? `${python(value)}.encode()` : python(value);

const tensor = (name, datatype, value) =>
  `("${name}", "${datatype}", "${NUMPY[datatype]}", ${value})`;

function pictureTensors(from) {
  const lines = [tensor("image", "BYTES", 'open("picture.png", "rb").read()')];
  if (from.mask) lines.push(tensor("mask", "BYTES", "mask.getvalue()"));
  return lines;
}

const FLAGS = {
  model: "--model",
  negative_prompt: "--negative-prompt",
  n: "--n",
  size: "--size",
  steps: "--steps",
  guidance_scale: "--guidance-scale",
  scheduler: "--scheduler",
  seed: "--seed",
  strength: "--strength",
};

function nerite(asked, from) {
  const words = [];
  for (const [name, flag] of Object.entries(FLAGS)) {
    // With "=": a value may begin with a dash.
    if (asked[name] !== undefined) words.push(`${flag}=${shell(String(asked[name]))}`);
  }
  if (from.picture) words.push("--image=picture.png");
  if (from.mask) words.push("--mask=mask.png");
  words.push(`--url=${shell(from.url)}`, "-o painted.png");
  const dash = asked.prompt.startsWith("-") ? "-- " : "";
  return ["nerite generate", ...words, `${dash}${shell(asked.prompt)}`].join(" \\\n  ");
}
