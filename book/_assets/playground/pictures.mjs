// Arrays as pictures, and pictures as arrays. Images are 3 x size x size in [-1, 1].

/** A canvas of size x size array elements, with a text. */
export function canvas(size, label) {
  const made = document.createElement("canvas");
  made.width = made.height = size;
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  return made;
}

function put(canvas, colourOf) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    pixels.data.set(colourOf(i), 4 * i);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** An image. Values beyond [-1, 1] are cut. */
export function drawImage(canvas, x) {
  const n = canvas.width * canvas.height;
  const byte = (value) => (value + 1) * 127.5; // ImageData rounds, and cuts the rest
  put(canvas, (i) => [byte(x[i]), byte(x[n + i]), byte(x[2 * n + i])]);
}

const [BLUE, WHITE, RED] = [[33, 102, 172], [247, 247, 247], [178, 24, 43]];

/** One channel of a latent: blue is -3, white 0, red 3. */
export function drawChannel(canvas, z, channel) {
  const n = canvas.width * canvas.height;
  put(canvas, (i) => {
    const value = Math.min(1, Math.abs(z[channel * n + i]) / 3);
    const end = z[channel * n + i] < 0 ? BLUE : RED;
    return WHITE.map((white, c) => white + value * (end[c] - white));
  });
}

/** Fills a canvas with a picture of any size: with its middle, as a square. */
export function fill(canvas, source) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const side = Math.min(source.width, source.height);
  const [left, top] = [(source.width - side) / 2, (source.height - side) / 2];
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left, top, side, side, 0, 0, canvas.width, canvas.height);
}

/** What a canvas of any size shows, as an image of this many pixels a side. */
export function imageOf(source, size) {
  const small = canvas(size, "");
  fill(small, source);
  const { data } = small.getContext("2d").getImageData(0, 0, size, size);
  const n = size * size;
  return Float32Array.from({ length: 3 * n }, (_, i) => {
    return data[4 * (i % n) + Math.floor(i / n)] / 127.5 - 1;
  });
}

/** The average colour of an image in words, for those who do not see it. */
export function inWords(x) {
  const n = x.length / 3;
  const mean = [0, 1, 2].map((c) => x.slice(c * n, (c + 1) * n).reduce((a, b) => a + b) / n);
  const light = (mean[0] + mean[1] + mean[2]) / 3;
  const word = light < -0.5 ? "dark" : light < 0 ? "dim" : light < 0.4 ? "bright" : "very bright";
  const strongest = mean.indexOf(Math.max(...mean));
  const spread = Math.max(...mean) - Math.min(...mean);
  const hue = spread < 0.12 ? "grey" : ["reddish", "greenish", "bluish"][strongest];
  return `${word}, ${hue}`;
}
