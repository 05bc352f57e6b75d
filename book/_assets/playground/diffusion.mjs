// Diffusion in one short file: schedule, forward process, guidance, samplers.
//
// These are the equations of ldm_tutorial/{schedule,diffusion,guidance,samplers,flow}.py,
// under the same names; tests/book/test_playground.py holds them to the library's
// numbers. An array (z_t, eps ...) is a Float32Array of one image; alphaBar[t] is what
// is left of the signal's variance at time t. A flow has no alphaBar: its times run from
// T, all noise, to 0, the data, and need not be whole numbers.

// --- the schedule -------------------------------------------------------------------

/** What a model's schedule, as model.json describes it, is to the functions below: the
 * number of times T, and alphaBar, or flow with a flow's own settings. */
export function planOf(config) {
  const T = config.num_train_timesteps;
  return config.name === "flow" ? { T, flow: config } : { T, alphaBar: alphaBarOf(config) };
}

/** alpha_bar (T) of a diffusion's schedule. */
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

/** A flow's times, `steps` of them, falling from T; the last step goes on to 0. They are
 * spaced evenly, then moved towards the noise (Esser et al. 2024, eq. 23). */
function flowTimes({ num_train_timesteps: T, shift, last }, steps) {
  const end = last ?? 1 / steps;
  return Array.from({ length: steps }, (_, i) => {
    const t = i ? 1 + ((end - 1) * i) / (steps - 1) : 1;
    return (T * shift * t) / (1 + (shift - 1) * t);
  });
}

/** The times of a sampler that starts at the share `from` of its way, at least one. */
export function startOf(plan, steps, from) {
  const times = plan.flow ? flowTimes(plan.flow, steps) : timesteps(plan.T, steps);
  return times.slice(Math.min(steps - 1, Math.round(steps * (1 - from))));
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

/** The factors of z_0 and of eps in z_t: the roots of alpha_bar_t and 1 - alpha_bar_t
 * (Ho et al. 2020, eq. 4), or a straight line (Lipman et al. 2023). Null is clean. */
export function sharesAt({ T, alphaBar, flow }, t) {
  if (t === null) return [1, 0];
  if (flow) return [1 - t / T, t / T];
  return [Math.sqrt(alphaBar[t]), Math.sqrt(1 - alphaBar[t])];
}

/** z_t of clean z0 and noise eps. */
export function addNoise(plan, z0, eps, t) {
  const [signal, noise] = sharesAt(plan, t);
  return mix(signal, z0, noise, eps);
}

/** Estimates of z_0 and eps that the network's prediction implies. */
function splitPrediction(prediction, z, a, type) {
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
 * `predict(z, t, classes)` gives one prediction for each of `classes`. `rescale` is how
 * far the spread of the result is brought back to that of the conditional prediction
 * (Lin et al. 2024, eqs. 15 and 16).
 */
export function guided(predict, y, noClass, scale, rescale = 0) {
  if (y === null || scale === 1)
    return async (z, t) => (await predict(z, t, [y ?? noClass]))[0];
  return async (z, t) => {
    const [cond, uncond] = await predict(z, t, [y, noClass]);
    const mixed = mix(1 - scale, uncond, scale, cond);
    if (!rescale) return mixed;
    const factor = 1 - rescale + (rescale * spread(cond)) / spread(mixed);
    return mixed.map((value) => factor * value);
  };
}

/** Standard deviation of all numbers of an array. */
function spread(x) {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  return Math.sqrt(x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length);
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

/** Names of the samplers that a model can be drawn with, the usual one first. */
export const samplersOf = ({ flow }) =>
  flow ? ["euler", "heun"] : ["ddim", "dpm-solver++", "ddpm"];

/**
 * From noise to data, one call of the denoiser a step. `plan` is what `planOf` gives, with
 * the model's predictionType and clip.
 *
 * `denoise(z, t)` gives the prediction; `normal(n)` gives n standard normal numbers, for
 * the samplers that add noise. `from` starts at a later time than the noisiest, with `z`
 * noised to the first time that is yielded (see `startOf`). `keep(z, s)` may change the
 * array after each step, which has brought it to time s (null: clean): it paints back
 * what is known, in inpainting.
 *
 * Yields { t, z, z0 }: the array after the step, and the estimate of z_0 behind it.
 */
export function sample(denoise, plan, z, options) {
  return (plan.flow ? sampleFlow : sampleDiffusion)(denoise, plan, z, options);
}

async function* sampleDiffusion(denoise, plan, z, options) {
  const { sampler = "ddim", steps = 20, eta = 0, from = 1, normal, keep } = options;
  const { alphaBar, predictionType, clip } = plan;
  const times = startOf(plan, steps, from);
  let before = null; // the estimate of z_0 one step ago, and how far that step went
  for (const [i, t] of times.entries()) {
    const a = alphaBar[t];
    const s = times[i + 1] ?? null;
    const aNext = s === null ? 1 : alphaBar[s];
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
    if (keep) z = keep(z, s);
    yield { t, z, z0 };
  }
}

/** Along the speed u = eps - z_0 that a flow predicts: Euler's method, which is its DDIM,
 * or Heun's, with a second call at the end of all steps but the last. */
async function* sampleFlow(denoise, plan, z, options) {
  const { sampler = "euler", steps = 20, from = 1, keep } = options;
  const { T, clip } = plan;
  const times = startOf(plan, steps, from);
  const velocity = async (z, t) => {
    const u = await denoise(z, t);
    if (!clip) return u;
    const inside = (value) => Math.min(Math.max(value, -clip), clip);
    return z.map((value, i) => (value - inside(value - (t / T) * u[i])) / (t / T));
  };
  for (const [i, t] of times.entries()) {
    const s = times[i + 1] ?? null;
    const step = ((s ?? 0) - t) / T;
    let u = await velocity(z, t);
    if (sampler === "heun" && s !== null)
      u = mix(0.5, u, 0.5, await velocity(mix(1, z, step, u), s));
    const z0 = mix(1, z, -t / T, u);
    z = mix(1, z, step, u);
    if (keep) z = keep(z, s);
    yield { t, z, z0 };
  }
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
