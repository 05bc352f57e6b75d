// The playground's own equations, for tests/book/test_playground.py: reads a JSON list of
// cases [name, arguments ...] and prints what each gives.

import { readFileSync } from "fs";
import * as d from "../../book/_assets/playground/diffusion.mjs";
import { createHash } from "crypto";
import { addEncoder, unpackWeights } from "../../book/_assets/playground/weights.mjs";
import { dice } from "../../book/_assets/playground/dice.mjs";
import { watch } from "../../book/_assets/playground/draw.mjs";

const array = (list) => Float32Array.from(list);

// Denoisers for which the library's test has the same formula.
const toy = (z, t) => z.map((value, i) => 0.4 * value + t / 2000 + (i % 3) / 10);
const toyClasses = async (z, t, classes) =>
  classes.map((y) => toy(z, t).map((value, i) => value + (y * (i % 5)) / 4));

const known = {
  alphaBar: (config) => d.alphaBarOf(config),
  timesteps: (T, steps) => d.timesteps(T, steps),
  dice(seed, sizes) {
    const normal = dice(seed);
    return sizes.map((n) => [...normal(n)]);
  },
  addNoise: (config, z0, eps, t) => [
    ...d.addNoise(d.planOf(config), array(z0), array(eps), t),
  ],
  async sample(config, predictionType, clip, z, seed, options) {
    const model = { ...d.planOf(config), predictionType, clip };
    const normal = dice(seed);
    const steps = [];
    for await (const step of d.sample(toy, model, array(z), { normal, ...options }))
      steps.push([...step.z]);
    return steps;
  },
  guided: async (y, noClass, scale, rescale, z, t) => [
    ...(await d.guided(toyClasses, y, noClass, scale, rescale)(array(z), t)),
  ],
  slerp: (a, b, t) => [...d.slerp(array(a), array(b), t)],
  unpacked(first, encoder) {
    const packed = (path) => new Uint8Array(readFileSync(path));
    const made = unpackWeights(packed(first));
    addEncoder(made, packed(encoder));
    return createHash("sha256").update(made).digest("hex");
  },
  async watch(n, enough) {
    const happened = [];
    const rest = () => new Promise((resolve) => setTimeout(resolve, 2));
    const steps = async function* () {
      for (let i = 0; i < n; i++) {
        happened.push(`denoise ${i}`);
        await rest();
        yield { t: i, z0: 10 * i };
      }
    };
    const decode = async (z0) => {
      happened.push(`decode ${z0}`);
      await rest();
      return z0 + 1;
    };
    const seen = ({ t }, x) => happened.push(`see ${t}: ${x}`);
    const stale = () => happened.includes(enough);
    await watch({ decode }, steps(), stale, seen);
    return happened;
  },
  lerp: (a, b, t) => [...d.lerp(array(a), array(b), t)],
  startOf: (config, steps, from) => d.startOf(d.planOf(config), steps, from),
};

const cases = JSON.parse(readFileSync(0, "utf8"));
const results = [];
for (const [name, ...given] of cases) results.push(await known[name](...given));
console.log(JSON.stringify(results));
