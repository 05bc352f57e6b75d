// The latent itself: four channels to paint on, and the decoded picture beside them.

import { button, classOf, controls, element, figure, latest, origin } from "./controls.mjs";
import { dice } from "./dice.mjs";
import { lerp, mix, slerp } from "./diffusion.mjs";
import { latentOf } from "./draw.mjs";
import { canvas, drawChannel, drawImage, inWords } from "./pictures.mjs";

export const title = "The latent";
const PER_PIXEL = 1 / 40; // how far a number goes when it is dragged by one pixel
const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export function build(root, model, given, ui) {
  const { say, changed } = ui;
  const { channels: C, height: H, width: W } = model;
  const edits = new Map(); // place in z -> value that was painted there
  for (const one of (given.edits || "").split("_").filter(Boolean)) {
    const [place, value] = one.split("!").map(Number);
    if (place < model.inside && Number.isFinite(value)) edits.set(place, value);
  }
  const pairs = [];
  for (let a = 0; a < C; a++) for (let b = a + 1; b < C; b++) pairs.push([a, b]);
  const fields = [
    ...origin(model, { suffix: "A", of: " of A", y: 5, seed: 2 }),
    ...origin(model, { suffix: "B", of: " of B", y: 11, seed: 4 }),
    { name: "blend", label: "From A to B", kind: "range", max: 1, step: 0.05, value: 0 },
    {
      name: "way",
      label: "Way",
      kind: "choice",
      options: [["slerp", "slerp (sphere)"], ["lerp", "lerp (straight)"]],
      value: "slerp",
    },
    {
      name: "swap",
      label: "Swap channels",
      kind: "choice",
      options: [["", "none"], ...pairs.map(([a, b]) => [`${a}-${b}`, `${a + 1} and ${b + 1}`])],
      value: "",
    },
    { name: "noise", label: "Added noise", kind: "range", max: 2, step: 0.05, value: 0 },
    {
      name: "tool",
      label: "Pointer",
      kind: "choice",
      options: [["drag", "drags"], ["paint", "paints"]],
      value: "drag",
    },
    { name: "brush", label: "Brush", kind: "range", min: -3, max: 3, step: 0.25, value: 3 },
  ];
  const update = latest(run, ui);
  const { values } = controls(root, fields, given, update);
  const big = canvas(model.size, "The decoded picture");
  const maps = Array.from({ length: C }, (_, c) => canvas(W, ""));
  let z = new Float32Array(model.inside);
  let spot = 0; // the number that the keyboard is at

  const at = (c, row, column) => (c * H + row) * W + column;
  const whereIs = (place) =>
    [place / (H * W), (place / W) % H, place % W].map(Math.floor); // channel, row, column
  const read = () => {
    const [c, row, column] = whereIs(spot).map((i) => i + 1);
    say(`Channel ${c}, row ${row}, column ${column}: ${z[spot].toFixed(2)}`);
  };
  const write = (place, value) => {
    edits.set(place, Math.round(100 * value) / 100);
    spot = place;
    update();
  };

  maps.forEach((map, c) => {
    map.tabIndex = 0;
    map.setAttribute("role", "application");
    map.setAttribute(
      "aria-label",
      `Channel ${c + 1}: arrow keys choose a number, plus and minus change it, 0 gives it back`
    );
    let held = null; // the number that is dragged: its place, height and value then
    const under = (event) => {
      const box = map.getBoundingClientRect();
      const share = (from, length, n) =>
        Math.min(n - 1, Math.max(0, Math.floor((from / length) * n)));
      return at(
        c,
        share(event.clientY - box.top, box.height, H),
        share(event.clientX - box.left, box.width, W)
      );
    };
    map.addEventListener("pointerdown", (event) => {
      map.setPointerCapture(event.pointerId);
      const place = under(event);
      held = { place, y: event.clientY, value: z[place] };
      spot = place;
      if (values.tool === "paint") write(place, values.brush);
      else update();
    });
    map.addEventListener("pointermove", (event) => {
      if (!held) return;
      if (values.tool === "paint") return write(under(event), values.brush);
      write(held.place, held.value + (held.y - event.clientY) * PER_PIXEL);
    });
    for (const end of ["pointerup", "pointercancel"])
      map.addEventListener(end, () => {
        held = null;
        read();
      });
    for (const change of ["focus", "blur"]) map.addEventListener(change, paint);
    map.addEventListener("keydown", (event) => {
      const [, row, column] = whereIs(spot);
      spot = at(c, row, column);
      if (KEYS[event.key]) {
        const [down, right] = KEYS[event.key];
        spot = at(c, (row + down + H) % H, (column + right + W) % W);
        paint();
        read();
      } else if (["+", "=", "-"].includes(event.key)) {
        write(spot, z[spot] + (event.key === "-" ? -0.25 : 0.25));
      } else if (event.key === "0") {
        edits.delete(spot);
        update();
      } else return;
      event.preventDefault();
    });
  });

  const row = (...children) => element("div", { className: "playground-row" }, ...children);
  root.append(
    row(
      figure(big, "the decoded picture", 256),
      row(...maps.map((map, c) => figure(map, `channel ${c + 1}`, 128)))
    ),
    element("p", {}, "Blue is −3, white is 0, red is 3. Drag a number up or down, or paint; by keyboard: arrows, plus and minus."),
    button("Undo what was painted", () => {
      edits.clear();
      update();
    })
  );

  function paint() {
    maps.forEach((map, c) => {
      drawChannel(map, z, c);
      const [channel, row, column] = whereIs(spot);
      if (channel !== c || map !== document.activeElement) return;
      const pen = map.getContext("2d");
      pen.fillStyle = "#000"; // a dot in the number that the keyboard is at
      pen.fillRect(column + 0.3, row + 0.3, 0.4, 0.4);
    });
  }

  async function run(stale, name) {
    const kept = [...edits].map(([place, value]) => `${place}!${value}`).join("_");
    changed({ ...values, edits: kept });
    const a = await latentOf(model, classOf(model, values.classA), values.seedA);
    const b = values.blend
      ? await latentOf(model, classOf(model, values.classB), values.seedB)
      : a;
    if (stale()) return;
    const [first, second] = (values.swap || "0-0").split("-").map(Number);
    const between = (values.way === "slerp" ? slerp : lerp)(a, b, values.blend);
    const swapped = between.slice();
    const channel = (c) => between.slice(c * H * W, (c + 1) * H * W);
    swapped.set(channel(second), first * H * W);
    swapped.set(channel(first), second * H * W);
    const noisy = mix(1, swapped, values.noise, dice(0)(model.inside));
    for (const [place, value] of edits) noisy[place] = value;
    z = noisy;
    paint();
    const x = await model.decode(z);
    if (stale()) return;
    drawImage(big, x);
    big.setAttribute("aria-label", `The decoded picture: ${inWords(x)}`);
    if (name) say(`Decoded: ${inWords(x)}; ${edits.size} numbers painted.`);
  }

  return update();
}
