// A picture of the reader's own: encoded, noised and denoised again, or painted over.

import {
  button,
  calm,
  classOf,
  columns,
  controls,
  element,
  figure,
  latest,
  origin,
} from "./controls.mjs";
import { dice } from "./dice.mjs";
import { addNoise, startOf } from "./diffusion.mjs";
import { inTime, latentOf, path, watch } from "./draw.mjs";
import { canvas, drawImage, fill, imageOf, inWords } from "./pictures.mjs";

export const title = "Your own picture";
const PAPER = 256; // pixels a side of what is drawn on

const MASKS = {
  "": ["everything", null],
  left: ["the left half", (row, column) => column < 0.5],
  right: ["the right half", (row, column) => column > 0.5],
  top: ["the upper half", (row) => row < 0.5],
  bottom: ["the lower half", (row) => row > 0.5],
  middle: ["the middle", (row, column) => Math.max(Math.abs(row - 0.5), Math.abs(column - 0.5)) < 0.26],
  painted: ["what I paint", null],
};

export function build(root, model, given, ui) {
  const { say, changed } = ui;
  const { channels: C, height: H, width: W } = model;
  const fields = [
    ...origin(model, { y: 10, seed: 3 }),
    { name: "from", label: "Noise", kind: "range", min: 0.05, max: 1, step: 0.05, value: 0.6 },
    { name: "steps", label: "Steps", kind: "range", min: 4, max: 60, value: 20 },
    {
      name: "mask",
      label: "Draw anew",
      kind: "choice",
      options: Object.entries(MASKS).map(([name, [text]]) => [name, text]),
      value: "",
    },
    { name: "colour", label: "Brush colour", kind: "colour", value: "#2f5687" },
    { name: "size", label: "Brush size", kind: "range", min: 4, max: 64, step: 4, value: 24 },
  ];
  if (model.classes.length)
    fields.splice(2, 0, {
      name: "guidance",
      label: "Guidance scale",
      kind: "range",
      max: 8,
      step: 0.25,
      value: 3,
    });
  const update = latest(run, ui);
  const { values } = controls(root, fields, given, (name) => {
    if (name === "colour" || name === "size") return;
    shade();
    update(name);
  });

  const paper = canvas(PAPER, "Your picture, to draw on with a pointer");
  const veil = canvas(PAPER, "");
  veil.setAttribute("aria-hidden", "true");
  const pen = paper.getContext("2d", { willReadFrequently: true });
  const painted = new Uint8Array(H * W); // the mask by hand, at the latent's resolution
  const stack = element("div", { className: "playground-stack" }, paper, veil);
  const file = element("input", { type: "file", accept: "image/*" });
  file.addEventListener("change", async () => {
    try {
      fill(paper, await createImageBitmap(file.files[0]));
      update("picture");
    } catch {
      say("This file holds no picture that the browser can read.");
    }
  });

  function stroke(event) {
    const box = veil.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    if (values.mask === "painted") {
      const [row, column] = [Math.floor(y * H), Math.floor(x * W)];
      if (row >= 0 && row < H && column >= 0 && column < W) painted[row * W + column] = 1;
      return shade();
    }
    pen.fillStyle = values.colour;
    pen.beginPath();
    pen.arc(x * PAPER, y * PAPER, values.size / 2, 0, 2 * Math.PI);
    pen.fill();
  }
  let drawing = false;
  veil.addEventListener("pointerdown", (event) => {
    veil.setPointerCapture(event.pointerId);
    drawing = true;
    stroke(event);
  });
  veil.addEventListener("pointermove", (event) => drawing && stroke(event));
  for (const end of ["pointerup", "pointercancel"])
    veil.addEventListener(end, () => {
      drawing = false;
      update("picture");
    });

  const shown = {};
  const results = [];
  for (const [name, caption] of [
    ["back", "encoded and decoded"],
    ["noisy", "its latent, noised, decoded"],
    ["result", "denoised again"],
  ]) {
    shown[name] = canvas(model.size, caption);
    results.push(figure(shown[name], caption, 160));
  }
  root.append(
    element("p", {}, "What you choose or draw stays in this browser; nothing is sent anywhere."),
    element("div", { className: "playground-row" }, figure(stack, "your picture", 256), columns(160, results)),
    element("label", { className: "playground-wide" }, "A picture from your disk ", file),
    button("White paper", () => {
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, PAPER, PAPER);
      update("picture");
    }),
    button("A landscape of the model", () => landscape().then(() => update("picture"))),
    button("Clear the painted mask", () => {
      painted.fill(0);
      shade();
      update("mask");
    })
  );

  /** 1 where the picture is to be drawn anew, or null. */
  function mask() {
    if (values.mask === "painted") return painted.some(Boolean) ? painted : null;
    const inside = MASKS[values.mask][1];
    if (!inside) return null;
    return Uint8Array.from({ length: H * W }, (_, i) =>
      inside((Math.floor(i / W) + 0.5) / H, ((i % W) + 0.5) / W) ? 1 : 0
    );
  }

  function shade() {
    const over = veil.getContext("2d");
    over.clearRect(0, 0, PAPER, PAPER);
    over.fillStyle = "rgba(255, 60, 160, 0.45)";
    const side = [PAPER / W, PAPER / H];
    mask()?.forEach((on, i) => {
      if (on) over.fillRect((i % W) * side[0], Math.floor(i / W) * side[1], ...side);
    });
  }

  async function landscape() {
    const z = await latentOf(model, classOf(model, 5 % (model.noClass || 1)), 2);
    const small = canvas(model.size, "");
    drawImage(small, await model.decode(z));
    fill(paper, small);
  }

  async function run(stale, name) {
    const { colour, size, ...settings } = values;
    changed(settings);
    if (model.toLoad()) say(`Loading the encoder, ${model.toLoad()} MB more …`);
    const z0 = await model.encode(imageOf(paper, model.size));
    drawImage(shown.back, await model.decode(z0));
    if (stale()) return;
    const normal = dice(values.seed);
    const eps = normal(model.inside);
    const { steps, from } = values;
    const [t] = startOf(model, steps, from);
    const z = addNoise(model, z0, eps, t);
    drawImage(shown.noisy, await model.decode(z));
    const where = mask();
    const keep = where && ((z, s) => {
      const own = addNoise(model, z0, eps, s);
      return z.map((value, i) => (where[i % (H * W)] ? value : own[i]));
    });
    const y = classOf(model, values.class);
    const given = { y, guidance: values.guidance ?? 1, normal, z, steps, from, keep };
    let end;
    await watch(model, path(model, given), stale, ({ z }, x) => {
      end = z; // not the last estimate, if what is known was painted back
      if (!calm()) drawImage(shown.result, x);
    });
    if (stale()) return;
    const x = await model.decode(end);
    drawImage(shown.result, x);
    shown.result.setAttribute("aria-label", `Denoised again: ${inWords(x)}`);
    say(`Noised to ${inTime(model, t)}, and denoised again: ${inWords(x)}.`);
  }

  return landscape().then(() => {
    shade();
    return update();
  });
}
