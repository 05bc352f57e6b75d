// What every panel asks of the model: the latent of a class and a seed.

import { dice } from "./dice.mjs";
import { guided, sample } from "./diffusion.mjs";

const USUAL = { steps: 20, guidance: 2 };

/** The sampler of a panel: yields { t, z, z0 } as `sample` does. */
export function path(model, { y, guidance, rescale, normal, z, ...options }) {
  const denoise = guided(model.predict, y, model.noClass, guidance, rescale);
  return sample(denoise, model, z, { normal, ...options });
}

/** Calls see(step, x) for every step of a sampler, x being its estimate of z_0 decoded.
 * While one is decoded, the denoiser goes on. Ends early once stale() is true. */
export async function watch(model, steps, stale, see) {
  let seen = null; // when the last step is
  for await (const step of steps) {
    await seen;
    if (stale()) return;
    seen = model.decode(step.z0).then((x) => stale() || see(step, x));
  }
  await seen;
}

/** What a time of a model is called, and how much noise there is then. */
export const inTime = (model, t, digits = 2) =>
  model.flow
    ? `t = ${(t / model.T).toFixed(3)}`
    : `t = ${t}, ᾱ = ${model.alphaBar[t].toPrecision(digits)}`;

const known = new WeakMap(); // model -> latents by class and seed

/** z_0 of a class and a seed, with the usual settings; drawn once. */
export function latentOf(model, y, seed) {
  if (!known.has(model)) known.set(model, new Map());
  const drawn = known.get(model);
  const key = `${y} ${seed}`;
  if (!drawn.has(key)) drawn.set(key, run(model, y, seed));
  return drawn.get(key);
}

async function run(model, y, seed) {
  const normal = dice(seed);
  let end;
  const sampler = model.flow ? "heun" : "dpm-solver++";
  const start = { y, normal, z: normal(model.inside), sampler };
  const guidance = model.classes.length ? USUAL.guidance : 1;
  for await (const step of path(model, { ...start, steps: USUAL.steps, guidance })) end = step;
  return end.z;
}
