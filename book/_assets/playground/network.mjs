// A network in a worker of its own: the page stays free, and while the decoder makes a
// picture of one step, the denoiser computes the next.

/** Starts a network: its graph and its weights are bytes, and so are the files of
 * `runtime`, ONNX Runtime Web. `run(inputs)` takes lists of a type, numbers and a shape
 * by name and resolves to numbers by name; calls are answered one after the other. */
export async function startNetwork(runtime, graph, weights) {
  const script = new Blob([runtime["ort.wasm.min.js"], `\n(${work})();`]);
  const url = URL.createObjectURL(script);
  const worker = new Worker(url);
  const asked = []; // resolve and reject of every question without an answer
  worker.onmessage = ({ data: { error, answer } }) => {
    const [resolve, reject] = asked.shift();
    error ? reject(new Error(error)) : resolve(answer);
  };
  worker.onerror = ({ message }) => {
    for (const [, reject] of asked.splice(0))
      reject(new Error(message || "this browser starts no worker"));
  };
  const ask = (question) =>
    new Promise((...both) => {
      asked.push(both);
      worker.postMessage(question);
    });
  const close = () => worker.terminate();
  const binary = runtime["ort-wasm-simd-threaded.wasm"];
  const module = runtime["ort-wasm-simd-threaded.mjs"];
  try {
    await ask({ binary, module, graph, weights });
  } catch (error) {
    close();
    throw error;
  } finally {
    URL.revokeObjectURL(url);
  }
  return { run: ask, close };
}

/** What the worker does. It is its text that goes there, behind the runtime's, so it
 * knows nothing of this module. */
function work() {
  const { ort } = self;
  let session;

  async function open({ binary, module, graph, weights }) {
    const mjs = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    ort.env.wasm.numThreads = 1; // more need headers that a disk does not send
    ort.env.wasm.wasmPaths = { mjs };
    ort.env.wasm.wasmBinary = binary;
    const externalData = [{ path: "model.safetensors", data: weights }];
    session = await ort.InferenceSession.create(graph, { externalData });
  }

  async function run(inputs) {
    const tensor = ([name, given]) => [name, new ort.Tensor(...given)];
    const outputs = await session.run(Object.fromEntries(Object.entries(inputs).map(tensor)));
    return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
  }

  let turn = Promise.resolve(); // a session takes one call at a time
  self.onmessage = ({ data }) => {
    turn = turn
      .then(() => (session ? run(data) : open(data)))
      .then((answer) => self.postMessage({ answer }))
      .catch((error) => self.postMessage({ error: error.message }));
  };
}
