// The page: its parts, and who tells whom.

import { ApiView } from "./api.js";
import { settingsOf } from "./body.js";
import { Catalog } from "./catalog.js";
import { Easel } from "./easel.js";
import { byId } from "./elements.js";
import { Form } from "./form.js";
import { Gallery } from "./gallery.js";
import { History } from "./history.js";
import { KeyRing } from "./key.js";
import { ModelsView } from "./models.js";
import { MonitorView } from "./monitor.js";
import { FAILED } from "./painting.js";
import { explain, fieldOf } from "./problems.js";
import { Server } from "./server.js";
import { Studio } from "./studio.js";
import { Viewer } from "./viewer.js";
import { Views } from "./views.js";
import { unable, welcome } from "./welcome.js";

const server = new Server(new KeyRing());
const catalog = new Catalog(server);
const form = new Form(catalog);
const studio = new Studio(server);
const history = new History();
const gallery = new Gallery(history, (record) => viewer.show(record));
const viewer = new Viewer(gallery, { paint: (values) => studio.start(values), write });
const records = new Map(); // a finished frame → its record in the history
const AGAIN = 2000; // ms
let easels = [];

async function write(values, mask) {
  await form.write(values);
  if (mask) form.source.beginMask();
  else byId("prompt").focus();
}

/** The fields of a finished picture that the history keeps. */
async function recordOf(painting, { frame, event, seconds }) {
  const { width, height } = await createImageBitmap(frame.blob);
  const { values } = painting;
  const { steps, guidance_scale, scheduler } = event;
  return {
    settings: settingsOf(values),
    source: values.image ?? null,
    mask: values.mask ?? null,
    model: event.model ?? values.model ?? "",
    seed: event.seed ?? values.seed ?? null,
    used: { steps, guidance_scale, scheduler },
    created: Date.now(),
    blob: frame.blob,
    width,
    height,
    seconds,
  };
}

function hang(painting) {
  for (const old of easels.filter((one) => one.ended)) old.remove();
  const easel = new Easel(painting, {
    open: (frame) => records.has(frame) && viewer.show(records.get(frame)),
    again: (values) => studio.start(values),
  });
  const [width, height] = form.size.pixels;
  easel.ratio = width / height;
  easels = [easel, ...easels.filter((one) => !one.ended)];
  byId("easels").replaceChildren(...easels.map((one) => one.node));
}

studio.addEventListener("start", ({ detail: painting }) => {
  hang(painting);
  painting.addEventListener("picture", async ({ detail }) => {
    const record = await gallery.add(await recordOf(painting, detail));
    records.set(detail.frame, record);
    form.lastSeed = record.seed;
  });
  painting.addEventListener("change", () => {
    if (painting.state === FAILED) complain(painting.error);
  });
});

/** At the field that an error is about, if there is one; the easel has it in any case. */
function complain(error) {
  const { text, help } = explain(error);
  form.complain(fieldOf(error), `${text} ${error.param ? "" : help}`.trim());
}

form.addEventListener("paint", async () => {
  form.forgive();
  studio.start(await form.read());
  if (matchMedia("(max-width: 56rem)").matches) {
    byId("easels").scrollIntoView({ block: "center" });
  }
});

async function begin() {
  new Views({
    paint: { show() {}, hide() {} },
    models: new ModelsView(server, catalog),
    monitor: new MonitorView(server, catalog),
    api: new ApiView(server, form),
  }).begin();
  await history.open();
  await gallery.more();
  form.lastSeed = gallery.records[0]?.seed ?? null;
  await lookForModels();
}

/** Until there is a model that paints; they may still be loading. */
async function lookForModels() {
  const problem = await catalog.refresh().then(() => null, explain);
  if (!catalog.ready.length) {
    if (!document.hidden) showNobodyPaints(problem);
    if (problem?.status !== 401) setTimeout(lookForModels, AGAIN);
  } else if (!easels.length) {
    byId("easels").replaceChildren(welcome(tryIdea));
  }
}

function showNobodyPaints(problem) {
  const text = "None that paints is loaded: it may still be on its way, or have failed.";
  const { title, text: said, help } = problem ?? { title: "No model here paints", text, help: "" };
  const act = problem?.status === 401 ? ["Enter the key", lookForModels] : null;
  byId("easels").replaceChildren(unable(title, `${said} ${help}`, act));
}

function tryIdea(prompt) {
  byId("prompt").value = prompt;
  byId("form").requestSubmit();
}

begin();
