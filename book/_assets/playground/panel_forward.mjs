// The forward process: what noise does to an image, and to its latent.

import { classOf, columns, controls, element, figure, latest, origin } from "./controls.mjs";
import { dice } from "./dice.mjs";
import { addNoise, sharesAt } from "./diffusion.mjs";
import { inTime, latentOf } from "./draw.mjs";
import { canvas, drawChannel, drawImage } from "./pictures.mjs";

export const title = "Adding noise";

export function build(root, model, given, ui) {
  const { say, changed } = ui;
  const { T } = model;
  const fields = [
    ...origin(model, { y: 4, seed: 1 }),
    { name: "t", label: "Time t", kind: "range", max: T - 1, value: Math.round(0.3 * T) },
  ];
  const update = latest(run, ui);
  const { values } = controls(root, fields, given, update);
  const formula = element("p");
  const pixels = canvas(model.size, "The noisy image");
  const decoded = canvas(model.size, "The noisy latent, decoded");
  const channels = Array.from({ length: model.channels }, (_, c) =>
    canvas(model.height, `Channel ${c + 1} of the noisy latent`)
  );
  root.append(
    formula,
    columns(240, [
      figure(pixels, "the image, noised", 240),
      figure(decoded, "the latent, noised, then decoded", 240),
    ]),
    columns(108, channels.map((one, c) => figure(one, `channel ${c + 1}`, 108)))
  );

  async function run(stale) {
    changed(values);
    const z0 = await latentOf(model, classOf(model, values.class), values.seed);
    const x0 = await model.decode(z0);
    if (stale()) return;
    const normal = dice(values.seed);
    const z = addNoise(model, z0, normal(z0.length), values.t);
    drawImage(pixels, addNoise(model, x0, normal(x0.length), values.t));
    channels.forEach((one, c) => drawChannel(one, z, c));
    const x = await model.decode(z);
    if (stale()) return;
    drawImage(decoded, x);
    const [signal, noise] = sharesAt(model, values.t).map((one) => Math.round(100 * one));
    const shares = `${signal} % of the signal and ${noise} % of the noise`;
    formula.textContent = `${inTime(model, values.t, 3)}: ${shares} are mixed.`;
    say(`Noised to ${inTime(model, values.t)}.`);
  }

  return update();
}
