// The shipped model's weights, as the build has packed them (book/_ext/playground.py):
//
//     length of the header (8 bytes), header of the safetensors file
//     for each tensor, in the file's order: its float16, or, if it is large, a factor
//     for each row (float32) and the tensor divided by them, as whole numbers (int8)
//
// Here they become that safetensors file again.

const ENCODER = "codec.vae.encoder."; // packed by themselves, since few readers need them
const LARGE = 2048; // numbers from which on a matrix or more is packed

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** The bits of the float16 that is nearest to x; what is half-way goes to the even one. */
function half(x) {
  float[0] = Math.abs(x);
  const exponent = Math.max((bits[0] >>> 23) - 127, -14);
  const steps = float[0] / 2 ** (exponent - 10);
  const down = Math.floor(steps);
  const up = steps - down === 0.5 ? down % 2 : Math.round(steps - down);
  return ((exponent + 14) << 10) + down + up + (x < 0 ? 0x8000 : 0);
}

/** The bytes of the safetensors file; the encoder's are 0 until `addEncoder`. */
export function unpackWeights(packed) {
  const start = endOfHeader(packed);
  const ends = tensorsOf(packed).map(({ data_offsets }) => data_offsets[1]);
  const made = new Uint8Array(Math.max(...ends));
  made.set(packed.subarray(0, start));
  fill(made, packed.subarray(start), (name) => !name.startsWith(ENCODER));
  return made;
}

/** Fills in the encoder, which is packed in a file of its own without a header. */
export function addEncoder(made, packed) {
  fill(made, packed, (name) => name.startsWith(ENCODER));
}

function endOfHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return 8 + Number(view.getBigUint64(0, true));
}

/** The tensors that the header at the start of `bytes` lists, in the file's order. */
function tensorsOf(bytes) {
  const end = endOfHeader(bytes);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, end)));
  return Object.entries(header)
    .filter(([, one]) => one.data_offsets)
    .map(([name, { shape, data_offsets }]) => ({
      name,
      shape,
      data_offsets: data_offsets.map((one) => end + one),
    }))
    .sort((a, b) => a.data_offsets[0] - b.data_offsets[0]);
}

function fill(made, packed, isWanted) {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const out = new DataView(made.buffer);
  let place = 0; // in what is packed
  for (const { name, shape, data_offsets } of tensorsOf(made)) {
    if (!isWanted(name)) continue;
    const [first, end] = data_offsets;
    const count = (end - first) / 2;
    if (shape.length < 2 || count < LARGE) {
      made.set(packed.subarray(place, place + end - first), first);
      place += end - first;
      continue;
    }
    const [rows, columns] = [shape[0], count / shape[0]];
    for (let row = 0; row < rows; row++) {
      const factor = view.getFloat32(place + 4 * row, true);
      const known = Array.from({ length: 256 }, (_, i) => half(factor * (i - 128)));
      const from = place + 4 * rows + row * columns;
      for (let i = 0; i < columns; i++)
        out.setUint16(first + 2 * (row * columns + i), known[view.getInt8(from + i) + 128], true);
    }
    place += 4 * rows + count;
  }
}
