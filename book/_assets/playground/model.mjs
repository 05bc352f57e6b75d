// The trained networks, through ONNX Runtime.
//
// The graphs (*.onnx) hold no weights. They point into model.safetensors, the file that
// PyTorch reads too. In pixel space there is no encoder and no decoder.

import { planOf } from "./diffusion.mjs";

/** Opens a model from `known`, what model.json says, and `files`, name -> Uint8Array.
 * `encoder`, if given, is { load, megabytes }: its graph is no file yet, but load()
 * gives it and completes the weights. */
export async function openModel(ort, known, files, encoder) {
  if (!known.schedule) throw new Error("this model is an autoencoder alone");
  const weights = files["model.safetensors"];
  const externalData = [{ path: "model.safetensors", data: weights }];
  const sessions = {};
  const create = async (name, graph) => {
    if (!graph || !weights)
      throw new Error(`${graph ? "model.safetensors" : `${name}.onnx`} is missing`);
    sessions[name] = await ort.InferenceSession.create(graph, { externalData });
  };
  for (const name of Object.keys(known.graphs))
    if (name !== "encoder" || !encoder) await create(name, files[`${name}.onnx`]);
  let coming = null; // the encoder, once it is asked for
  const withEncoder = () =>
    (coming ||= encoder.load().then((graph) => create("encoder", graph)).catch((error) => {
      coming = null; // the next picture tries again
      throw error;
    }));
  let turn = Promise.resolve(); // a session takes one call at a time
  const run = (name, inputs) =>
    (turn = turn.catch(() => {}).then(() => sessions[name].run(inputs)));
  const floats = (data, shape) => new ort.Tensor("float32", data, shape);
  const integers = (data) =>
    new ort.Tensor("int64", BigInt64Array.from(data, BigInt), [data.length]);

  const plan = planOf(known.schedule);
  const [channels, height, width] = known.latent_shape;
  const size = known.image_size;
  const inside = channels * height * width;
  return {
    channels,
    height,
    width,
    size,
    inside, // numbers in a latent
    classes: known.classes,
    noClass: known.classes.length,
    ...plan,
    predictionType: known.prediction_type,
    clip: known.clip,

    /** One prediction for each of `classes`, all for the same z and t. */
    async predict(z, t, classes) {
      const B = classes.length;
      const z_t = new Float32Array(B * inside);
      for (let i = 0; i < B; i++) z_t.set(z, i * inside);
      const inputs = { z_t: floats(z_t, [B, channels, height, width]) };
      const times = Array(B).fill(t);
      inputs.t = plan.flow ? floats(times, [B]) : integers(times);
      if (known.classes.length) inputs.y = integers(classes);
      const { data } = (await run("denoiser", inputs)).prediction;
      return classes.map((_, i) => data.slice(i * inside, (i + 1) * inside));
    },

    /** How many megabytes `encode` will load first. */
    toLoad: () => ("encoder" in sessions ? 0 : encoder?.megabytes ?? 0),

    /** Mean and standard deviation of q(z | x) for an image (3 x size x size). */
    async encode(x) {
      if (encoder && !sessions.encoder) await withEncoder();
      if (!sessions.encoder) return { mean: x, std: new Float32Array(inside) };
      const { mean, std } = await run("encoder", { x: floats(x, [1, 3, size, size]) });
      return { mean: mean.data, std: std.data };
    },

    /** The image (3 x size x size) of a latent. */
    async decode(z) {
      if (!sessions.decoder) return z;
      const given = { z: floats(z, [1, channels, height, width]) };
      return (await run("decoder", given)).x.data;
    },
  };
}
