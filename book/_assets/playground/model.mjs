// The trained networks, through ONNX Runtime.
//
// The graphs (*.onnx) hold no weights. They point into model.safetensors, the file that
// PyTorch reads too. In pixel space there is no encoder and no decoder.

import { planOf } from "./diffusion.mjs";
import { startNetwork } from "./network.mjs";

/** Opens a model from `known`, what model.json says, and `files`, name -> Uint8Array.
 * `encoder`, if given, is { load, megabytes }: its graph is no file yet, but load()
 * gives it and completes the weights. `runtime` holds the files of ONNX Runtime. */
export async function openModel(runtime, known, files, encoder) {
  if (!known.schedule) throw new Error("this model is an autoencoder alone");
  const weights = files["model.safetensors"];
  const networks = {};
  const start = async (name, graph) => {
    if (!graph || !weights)
      throw new Error(`${graph ? "model.safetensors" : `${name}.onnx`} is missing`);
    networks[name] = await startNetwork(runtime, graph, weights);
  };
  const close = () => Object.values(networks).forEach((network) => network.close());
  const names = Object.keys(known.graphs).filter((name) => name !== "encoder" || !encoder);
  const started = await Promise.allSettled(
    names.map((name) => start(name, files[`${name}.onnx`]))
  );
  const failed = started.find(({ reason }) => reason);
  if (failed) {
    close();
    throw failed.reason;
  }
  let coming = null; // the encoder, once it is asked for
  const withEncoder = () =>
    (coming ||= encoder.load().then((graph) => start("encoder", graph)).catch((error) => {
      coming = null; // the next picture tries again
      throw error;
    }));
  const floats = (data, shape) => ["float32", data, shape];
  const integers = (data) => ["int64", BigInt64Array.from(data, BigInt), [data.length]];

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
      const { prediction } = await networks.denoiser.run(inputs);
      return classes.map((_, i) => prediction.slice(i * inside, (i + 1) * inside));
    },

    /** How many megabytes `encode` will load first. */
    toLoad: () => (networks.encoder ? 0 : encoder?.megabytes ?? 0),

    /** The mean of q(z | x) for an image (3 x size x size). */
    async encode(x) {
      if (encoder && !networks.encoder) await withEncoder();
      if (!networks.encoder) return x;
      return (await networks.encoder.run({ x: floats(x, [1, 3, size, size]) })).mean;
    },

    /** The image (3 x size x size) of a latent. */
    async decode(z) {
      if (!networks.decoder) return z;
      return (await networks.decoder.run({ z: floats(z, [1, channels, height, width]) })).x;
    },

    /** Ends the workers; the model is of no use any more. */
    close,
  };
}
