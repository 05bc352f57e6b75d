// Sampling: from noise to a picture, and every step on the way.

import {
  button,
  calm,
  classOf,
  controls,
  element,
  figure,
  latest,
  origin,
} from "./controls.mjs";
import { dice } from "./dice.mjs";
import { samplersOf } from "./diffusion.mjs";
import { inTime, path, watch } from "./draw.mjs";
import { canvas, drawImage, inWords } from "./pictures.mjs";

export const title = "Sampling";
const THUMBNAILS = 20;

export function build(root, model, given, ui) {
  const { say, changed } = ui;
  const fields = [
    ...origin(model, { y: 11, seed: 4 }),
    { name: "steps", label: "Steps", kind: "range", min: 1, max: 100, value: 20 },
    {
      name: "sampler",
      label: "Sampler",
      kind: "choice",
      options: samplersOf(model).map((name) => [name, name]),
      value: samplersOf(model)[0],
    },
  ];
  const share = { kind: "range", max: 1, step: 0.05, value: 0 };
  if (!model.flow) fields.push({ name: "eta", label: "η, noise of DDIM", ...share });
  if (model.classes.length)
    fields.push(
      { name: "guidance", label: "Guidance scale", kind: "range", max: 8, step: 0.25, value: 2 },
      { name: "rescale", label: "Guidance rescale", ...share }
    );
  const draw = latest(run, ui);
  const { values, set, inputOf } = controls(root, fields, given, update);
  root.append(
    button("Another seed", () => {
      set("seed", Math.floor(Math.random() * 10_000));
      update();
    })
  );

  const big = canvas(model.size, "The picture");
  const caption = element("figcaption");
  const slider = element("input", { type: "range", min: 1, value: 1, "aria-label": "Step" });
  const strip = element("div", { className: "playground-strip" });
  const code = element("code");
  root.append(
    element(
      "div",
      { className: "playground-row" },
      figure(big, caption, 256),
      element(
        "div",
        { className: "playground-beside" },
        element("label", {}, "Look back, step by step", slider),
        strip
      )
    ),
    element("details", {}, element("summary", {}, "The same in Python"), element("pre", {}, code))
  );
  let seen = []; // { t, x } of every step
  slider.addEventListener("input", () => show(Number(slider.value) - 1));

  function show(i) {
    const { t, x } = seen[i];
    drawImage(big, x);
    const text = `Step ${i + 1} of ${values.steps}, ${inTime(model, t)}`;
    caption.textContent = i + 1 < seen.length ? `${text}: the estimate so far` : text;
    slider.value = i + 1;
    slider.setAttribute("aria-valuetext", text);
    big.setAttribute("aria-label", `The estimate after step ${i + 1}: ${inWords(x)}`);
  }

  function update() {
    if (!model.flow) inputOf("eta").disabled = values.sampler !== "ddim";
    changed(values);
    const eta = values.sampler === "ddim" && values.eta ? `eta=${values.eta}, ` : "";
    const y = model.classes.length ? `y="${model.classes[values.class]}", ` : "";
    let scale = model.classes.length ? `guidance_scale=${values.guidance}, ` : "";
    if (values.rescale) scale += `guidance_rescale=${values.rescale}, `;
    code.textContent =
      `model.sample(1, ${y}steps=${values.steps}, sampler="${values.sampler}", ` +
      `${eta}${scale}generator=torch.Generator().manual_seed(${values.seed}))`;
    return draw();
  }

  async function run(stale) {
    const normal = dice(values.seed);
    const z = normal(model.inside);
    const y = classOf(model, values.class);
    const { steps, sampler } = values;
    const eta = sampler === "ddim" ? values.eta : 0;
    const { guidance = 1, rescale = 0 } = values;
    const began = performance.now();
    const drawn = [];
    const given = { y, guidance, rescale, normal, z, steps, sampler, eta };
    await watch(model, path(model, given), stale, ({ t }, x) => {
      drawn.push({ t, x }); // a sampler ends in its last estimate
      if (!calm()) drawImage(big, x);
    });
    if (stale()) return;
    seen = drawn;
    slider.max = seen.length;
    show(seen.length - 1);
    const gap = Math.max(1, seen.length / THUMBNAILS);
    const chosen = new Set(seen.map((_, i) => Math.round(Math.ceil((i + 1) / gap) * gap) - 1));
    strip.replaceChildren(
      ...[...chosen].filter((i) => i < seen.length).map((i) => {
        const small = canvas(model.size, "");
        drawImage(small, seen[i].x);
        small.setAttribute("aria-hidden", "true");
        const one = button("", () => show(i));
        one.setAttribute("aria-label", `Step ${i + 1}`);
        one.append(small);
        return one;
      })
    );
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const name = y === null ? "" : `${model.classes[y]}, `;
    say(`${name}seed ${values.seed}: drawn in ${steps} steps, ${seconds} s; ${inWords(seen.at(-1).x)}.`);
  }

  return update();
}
