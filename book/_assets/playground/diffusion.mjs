// Diffusion in one short file: schedule, forward process, guidance, samplers.
//
// These are the equations of ldm_tutorial/{schedule,diffusion,guidance,samplers}.py,
// under the same names; tests/book/test_playground.py holds them to the library's
// numbers. An array (z_t, eps ...) is a Float32Array of one image; alphaBar[t] is what
// is left of the signal's variance at time t.

// --- the schedule -------------------------------------------------------------------

/** alpha_bar (T) of a schedule as model.json describes it. */
export function alphaBarOf(config) {
  const { name, num_train_timesteps: T, beta_start, beta_end } = config;
  const even = (first, last) =>
    Array.from({ length: T }, (_, t) => first + ((last - first) * t) / (T - 1));
  let beta;
  if (name === "linear") beta = even(beta_start, beta_end); // Ho et al. 2020
  else if (name === "scaled_linear") // Rombach et al. 2022
    beta = even(Math.sqrt(beta_start), Math.sqrt(beta_end)).map((root) => root ** 2);
  else if (name === "cosine") {
    // Nichol & Dhariwal 2021, eq. 17
    const f = (t) => Math.cos(((t / T + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
    beta = Array.from({ length: T }, (_, t) => Math.min(1 - f(t + 1) / f(t), 0.999));
  } else throw new Error(`the schedule ${name} is unknown here`);
  let left = 1;
  const alphaBar = beta.map((one) => (left *= 1 - one));
  if (!config.zero_terminal_snr) return alphaBar;
  const root = alphaBar.map(Math.sqrt); // Lin et al. 2024, algorithm 1
  const [first, last] = [root[0], root[T - 1]];
  return root.map((one) => (((one - last) * first) / (first - last)) ** 2);
}

/** `steps` times, evenly spaced and falling from T - 1 (Lin et al. 2024, table 2). */
export function timesteps(T, steps) {
  return Array.from({ length: steps }, (_, i) => roundEven((T * (steps - i)) / steps) - 1);
}

/** Rounds to the nearest whole number, halves to the even one, as Python does. */
function roundEven(x) {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 ? down + 1 : down;
}

// --- the forward process ------------------------------------------------------------

/** a * x + b * y, element by element. */
export const mix = (a, x, b, y) => x.map((value, i) => a * value + b * y[i]);

/** z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps (Ho et al. 2020, eq. 4). */
export const addNoise = (z0, eps, a) => mix(Math.sqrt(a), z0, Math.sqrt(1 - a), eps);

/** Estimates of z_0 and eps that the network's prediction implies. */
export function splitPrediction(prediction, z, a, type) {
  const [signal, noise] = [Math.sqrt(a), Math.sqrt(1 - a)];
  if (type === "eps")
    return { z0: mix(1 / signal, z, -noise / signal, prediction), eps: prediction };
  if (type === "v")
    return { z0: mix(signal, z, -noise, prediction), eps: mix(noise, z, signal, prediction) };
  if (type === "x0")
    return { z0: prediction, eps: mix(1 / noise, z, -signal / noise, prediction) };
  throw new Error(`the prediction type ${type} is unknown here`);
}

// --- guidance -----------------------------------------------------------------------

/**
 * Classifier-free guidance (Ho & Salimans 2022): uncond + scale * (cond - uncond).
 * `predict(z, t, classes)` gives one prediction for each of `classes`.
 */
export function guided(predict, y, noClass, scale) {
  if (y === null || scale === 1)
    return async (z, t) => (await predict(z, t, [y ?? noClass]))[0];
  return async (z, t) => {
    const [cond, uncond] = await predict(z, t, [y, noClass]);
    return mix(1 - scale, uncond, scale, cond);
  };
}

// --- samplers -----------------------------------------------------------------------

/** z_s from q(z_s | z_t, z_0), s < t (Ho et al. 2020, eqs. 6 and 7). */
function ddpmStep(z, z0, a, aNext, normal) {
  const alpha = a / aNext;
  const beta = 1 - alpha;
  const fromZ0 = (Math.sqrt(aNext) * beta) / (1 - a);
  const fromZ = (Math.sqrt(alpha) * (1 - aNext)) / (1 - a);
  const deviation = Math.sqrt((beta * (1 - aNext)) / (1 - a));
  return mix(1, mix(fromZ0, z0, fromZ, z), deviation, normal(z.length));
}

/** z_s from the estimates at t (Song et al. 2021, eqs. 12 and 16). */
function ddimStep(z0, eps, a, aNext, eta, normal) {
  const variance = ((1 - aNext) / (1 - a)) * (1 - a / aNext);
  const z = mix(Math.sqrt(aNext), z0, Math.sqrt(1 - aNext - eta ** 2 * variance), eps);
  return eta > 0 ? mix(1, z, eta * Math.sqrt(variance), normal(z.length)) : z;
}

/** The time of DPM-Solver: log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)). */
const halfLogSnr = (a) => 0.5 * Math.log(Math.max(a, 2 ** -24) / (1 - a));

/** The exact solution from t to s if z_0 were `z0` all the way (Lu et al. 2022, eq. 9). */
function dpmStep(z, z0, a, aNext) {
  const shrink = Math.sqrt((1 - aNext) / (1 - a));
  return mix(shrink, z, Math.sqrt(aNext) - shrink * Math.sqrt(a), z0);
}

export const SAMPLERS = ["ddim", "dpm-solver++", "ddpm"];

/**
 * From noise to data, one call of the denoiser a step.
 *
 * `denoise(z, t)` gives the prediction; `normal(n)` gives n standard normal numbers, for
 * the samplers that add noise. `from` starts at a later time than the noisiest, with `z`
 * noised to the first time that is yielded (see `startOf`). `keep(z, aNext)` may change
 * the array after each step: it paints back what is known, in inpainting.
 *
 * Yields { t, z, z0 }: the array after the step, and the estimate of z_0 behind it.
 */
export async function* sample(denoise, model, z, options) {
  const { sampler = "ddim", steps = 20, eta = 0, from = 1, normal, keep } = options;
  const { alphaBar, predictionType, clip } = model;
  const times = startOf(alphaBar.length, steps, from);
  let before = null; // the estimate of z_0 one step ago, and how far that step went
  for (const [i, t] of times.entries()) {
    const a = alphaBar[t];
    const aNext = i + 1 < times.length ? alphaBar[times[i + 1]] : 1;
    let { z0, eps } = splitPrediction(await denoise(z, t), z, a, predictionType);
    if (clip) {
      z0 = z0.map((value) => Math.min(Math.max(value, -clip), clip));
      eps = mix(1 / Math.sqrt(1 - a), z, -Math.sqrt(a / (1 - a)), z0);
    }
    if (sampler === "ddpm") z = ddpmStep(z, z0, a, aNext, normal);
    else if (sampler === "ddim") z = ddimStep(z0, eps, a, aNext, eta, normal);
    else {
      // DPM-Solver++(2M), Lu et al. 2022, algorithm 2: the last step is of first order
      const h = halfLogSnr(aNext) - halfLogSnr(a);
      const r = before && aNext < 1 ? h / (2 * before.h) : 0;
      z = dpmStep(z, r ? mix(1 + r, z0, -r, before.z0) : z0, a, aNext);
      before = { z0, h };
    }
    if (keep) z = keep(z, aNext);
    yield { t, z, z0 };
  }
}

/** The times of a sampler that starts at the share `from` of its way, at least one. */
export function startOf(T, steps, from) {
  const times = timesteps(T, steps);
  return times.slice(Math.min(steps - 1, Math.round(steps * (1 - from))));
}

// --- walks --------------------------------------------------------------------------

export const lerp = (a, b, t) => mix(1 - t, a, t, b);

/** Spherical interpolation from a (t = 0) to b (t = 1). */
export function slerp(a, b, t) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (Math.sin(angle) < 1e-6) return lerp(a, b, t);
  const sine = Math.sin(angle);
  return mix(Math.sin((1 - t) * angle) / sine, a, Math.sin(t * angle) / sine, b);
}
