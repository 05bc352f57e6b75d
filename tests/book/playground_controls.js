// What every control of the playground says it does, tried by hand.
//
// Each function gets a page whose playground is open, and a function that notes what is
// wrong. Pictures are compared as they are on the canvases, so all of this holds in any
// theme and at any width.

const fs = require("fs");
const path = require("path");

const PANEL = ".playground-panel";
const NUMBER = /-?\d+\.\d+$/;

const drawn = (page) =>
  page.waitForSelector(`${PANEL}[aria-busy=false]`, { state: "attached" });

/** After a gesture: its drawing has begun and is done. */
const settled = async (page) => {
  await page.waitForTimeout(50);
  await drawn(page);
};

/** What all canvases of a panel show, as one text. */
const seen = (page) =>
  page.$$eval(`${PANEL} canvas`, (all) => all.map((one) => one.toDataURL()).join());

/** What one canvas shows: the first, or the one that is named. */
const shown = (page, which = `${PANEL} canvas`) =>
  page.$eval(which, (one) => one.toDataURL());

const said = (page) => page.textContent(".playground-status");

async function go(page, hash) {
  await page.evaluate((to) => (location.hash = to), hash);
  await settled(page);
}

/** Sets a control, by the beginning of its label. */
async function set(page, label, value) {
  await page.$$eval(
    `${PANEL} .playground-controls :is(input, select)`,
    (all, [label, value]) => {
      const one = all.find((input) => input.labels[0].textContent.startsWith(label));
      one.value = value;
      one.dispatchEvent(new Event("input", { bubbles: true }));
    },
    [label, value]
  );
  await settled(page);
}

const press = async (page, text) => {
  await page.click(`${PANEL} button:has-text("${text}")`);
  await settled(page);
};

/** A stroke of the pointer over a canvas, between points that are shares of it. */
async function drag(page, canvas, from, to) {
  await canvas.scrollIntoViewIfNeeded();
  const box = await canvas.boundingBox();
  const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
  await page.mouse.move(...at(from));
  await page.mouse.down();
  await page.mouse.move(...at(to), { steps: 5 });
  await page.mouse.up();
  await settled(page);
}

/** Every control of a panel changes what is seen, and the address. */
async function all(page, wrong) {
  const inputs = await page.$$(`${PANEL} .playground-controls :is(input, select)`);
  for (const input of inputs) {
    const label = await input.evaluate((one) => one.labels[0].textContent);
    const [before, address] = [await seen(page), page.url()];
    const changed = await input.evaluate((one) => {
      if (one.disabled) return false;
      if (one.tagName === "SELECT") one.selectedIndex = (one.selectedIndex + 1) % one.options.length;
      else if (one.type === "color") one.value = "#ff0000";
      else one.value = Number(one.value) === Number(one.max) ? one.min : Number(one.value) + 3 * Number(one.step);
      one.dispatchEvent(new Event("input", { bubbles: true }));
      return true;
    });
    await settled(page);
    if (/Pointer|Brush/.test(label) || !changed) continue;
    if (page.url() === address) wrong(`the address ignores "${label}"`);
    if (/Way|of B|Draw anew/.test(label)) continue; // seen in a blend, or when painted
    if ((await seen(page)) === before) wrong(`"${label}" changes nothing`);
  }
}

/** Seeds, looking back, the line of Python, the link, η. */
async function sample(page, wrong) {
  await go(page, "#sample?class=15&seed=7&steps=6&sampler=ddim&eta=0.5&guidance=2");
  const [end, link] = [await shown(page), await page.getAttribute(".playground > p a", "href")];
  if (link !== new URL(page.url()).hash) wrong(`the link ${link} is not the address`);
  if (!/^night sea, seed 7: drawn in 6 steps/.test(await said(page)))
    wrong(`it does not say what is drawn, but: ${await said(page)}`);
  const code = await page.textContent(`${PANEL} pre`);
  for (const part of ['y="night sea"', "steps=6", 'sampler="ddim"', "eta=0.5", "guidance_scale=2", "seed(7)"])
    if (!code.includes(part)) wrong(`the Python lacks ${part}: ${code}`);
  const slider = await page.$("input[aria-label=Step]");
  const strip = await page.$$(".playground-strip button");
  if (strip.length !== 6) wrong(`${strip.length} pictures of 6 steps`);
  await slider.focus();
  await page.keyboard.press("Home");
  const first = await shown(page);
  if (first !== (await shown(page, ".playground-strip canvas"))) wrong("Home is not step 1");
  if (!/^Step 1 of 6/.test(await page.textContent(`${PANEL} figcaption`))) wrong("step 1 is not named");
  await page.keyboard.press("End");
  if ((await shown(page)) !== end) wrong("the end does not come back");
  await strip[0].click();
  if ((await shown(page)) !== first) wrong("the strip does not lead to step 1");
  await press(page, "Another seed");
  if (/seed 7:/.test(await said(page))) wrong("another seed is the same");
  if ((await shown(page)) === end) wrong("another seed draws the same");
  await set(page, "Sampler", "dpm-solver++");
  const eta = `${PANEL} .playground-controls > div:has-text("η") input`;
  if (!(await page.isDisabled(eta))) wrong("η is there for DPM-Solver++");
  await set(page, "Sampler", "ddim");
  if (await page.isDisabled(eta)) wrong("there is no η for DDIM");
  await go(page, link);
  if ((await shown(page)) !== end) wrong("the link does not bring the picture back");
}

/** The latent by mouse and by keyboard, the brush, undoing; blending in both ways. */
async function latent(page, wrong) {
  await go(page, "#latent?blend=0.5&way=slerp");
  const round = await seen(page);
  await go(page, "#latent?blend=0.5&way=lerp");
  if ((await seen(page)) === round) wrong("slerp and lerp are the same");
  const map = await page.$(`${PANEL} canvas[role=application]`);
  const number = async () => Number((await said(page)).match(NUMBER)?.[0]);
  await map.focus();
  await page.keyboard.press("ArrowRight");
  const first = await number();
  const again = async () => {
    await settled(page);
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowLeft");
    return number();
  };
  await page.keyboard.press("+");
  if (Math.abs((await again()) - first - 0.25) > 0.011) wrong("plus does not add");
  await page.keyboard.press("-");
  if (Math.abs((await again()) - first) > 0.011) wrong("minus does not take away");
  await page.keyboard.press("+");
  await page.keyboard.press("0");
  if (Math.abs((await again()) - first) > 0.011) wrong("0 does not give a number back");
  const before = await seen(page);
  await drag(page, map, [0.1, 0.5], [0.1, -0.1]);
  if ((await seen(page)) === before) wrong("dragging a number changes nothing");
  if (!/edits=\d+%21-?[\d.]+(&|$)/.test(page.url())) wrong("not one number was dragged");
  const [now, link] = [await shown(page), page.url()];
  await press(page, "Undo");
  if ((await shown(page)) === now) wrong("undoing undoes nothing");
  await go(page, `#${link.split("#")[1]}`);
  if ((await shown(page)) !== now) wrong("a link does not bring back what was painted");
  await set(page, "Pointer", "paint");
  await set(page, "Brush", "-3");
  await drag(page, await page.$(`${PANEL} canvas[role=application]`), [0.1, 0.9], [0.9, 0.9]);
  const lows = (page.url().match(/%21-3/g) || []).length;
  if (lows < 4) wrong(`a stroke of the brush painted ${lows} numbers`);
  await press(page, "Undo");
  if (/edits=\d/.test(page.url())) wrong("the address keeps what was undone");
}

/** A file, a stroke of the brush, a painted mask, paper, landscape; nothing is sent. */
async function own(page, wrong, { picture }) {
  await go(page, "#own?steps=4&from=0.3");
  const asked = page.asked.length;
  const at = (words) => shown(page, `${PANEL} canvas[aria-label^="${words}"]`);
  const paper = () => at("Your picture");
  const sparse = () =>
    page.$eval(`${PANEL} canvas`, (one) => {
      const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
      return [...data].filter((_, i) => i % 997 === 0); // a few of its numbers
    });
  const off = (a, b) => Math.max(...a.map((one, i) => Math.abs(one - b[i]))); // rounding
  const landscape = await sparse();
  let before = await seen(page);
  const check = async (what) => {
    const now = await seen(page);
    if (now === before) wrong(`${what} changes nothing`);
    before = now;
  };
  const file = `${PANEL} input[type=file]`;
  await page.setInputFiles(file, picture);
  await page.waitForTimeout(500);
  await settled(page);
  await check("a file");
  await page.setInputFiles(file, __filename);
  await page.waitForSelector(".playground-status:has-text('holds no picture')");
  const veil = () => page.$(".playground-stack canvas:last-child");
  await set(page, "Brush colour", "#ff0000");
  await set(page, "Brush size", "64");
  await drag(page, await veil(), [0.2, 0.2], [0.6, 0.4]);
  await check("the brush");
  const colours = () =>
    page.$eval(`${PANEL} canvas`, (one) => {
      const pixel = (x, y) => [...one.getContext("2d").getImageData(x, y, 1, 1).data].join();
      return [pixel(0.2 * one.width, 0.2 * one.height + 28), pixel(one.width - 4, one.height - 4)];
    });
  if ((await colours())[0] !== "255,0,0,255") wrong("the brush is not red, or not 64 wide");
  await press(page, "White paper");
  await check("white paper");
  if ((await colours()).some((one) => one !== "255,255,255,255")) wrong("white paper is not white");
  await press(page, "A landscape");
  await check("a landscape");
  if (off(await sparse(), landscape) > 2) wrong("the landscape is another one");
  await go(page, "#own?steps=4&from=0.9&mask=painted");
  const [whole, kept] = [await at("Denoised"), await paper()];
  await drag(page, await veil(), [0.2, 0.2], [0.6, 0.4]);
  if ((await at("Denoised")) === whole) wrong("a painted mask changes nothing");
  if ((await paper()) !== kept) wrong("a painted mask paints the picture");
  await press(page, "Clear the painted mask");
  if ((await at("Denoised")) !== whole) wrong("clearing the mask does not clear it");
  await set(page, "Draw anew", "left");
  if ((await at("Denoised")) === whole) wrong("half a mask changes nothing");
  const sent = page.asked.slice(asked).filter((url) => !/^(data|blob):|favicon/.test(url));
  if (sent.length) wrong(`something is sent: ${sent}`);
}

/** t and what it says of alpha_bar. */
async function forward(page, wrong, { known }) {
  for (const t of [0, 300, 999]) {
    await go(page, `#forward?t=${t}`);
    const wanted = `t = ${t}, ᾱ = ${known.alpha_bar[t].toPrecision(3)}`;
    const text = await page.textContent(`${PANEL} > p`);
    if (!text.startsWith(wanted)) wrong(`it says ${text} where ${wanted} is true`);
  }
}

/** The tabs by keyboard. */
async function tabs(page, wrong) {
  await go(page, "#sample?steps=2");
  const chosen = () => page.textContent("[role=tab][aria-selected=true]");
  await page.focus("[role=tab][aria-selected=true]");
  for (const wanted of ["The latent", "Your own picture", "Adding noise", "Sampling"]) {
    await page.keyboard.press("ArrowRight");
    await settled(page);
    if ((await chosen()) !== wanted) wrong(`the arrow key leads to ${await chosen()}, not ${wanted}`);
  }
}

/** Files that are no model: a line says so, and the model that was open stays. */
async function noModel(page, wrong) {
  await page.evaluate(() => {
    document.querySelector("#playground-model").closest("details").open = true;
  });
  await page.setInputFiles("#playground-model", __filename);
  await page.waitForSelector("text=/These files are no model that runs here: model.json is missing/");
  await go(page, "#sample?steps=2&seed=5");
  if (!/seed 5: drawn/.test(await said(page))) wrong("the model is gone");
}

/** All of it, panel by panel; `picture` is a file to choose. */
async function everything(page, note, picture) {
  const model = path.join(__dirname, "../../book/_playground/model.json");
  const known = JSON.parse(fs.readFileSync(model, "utf8"));
  const panels = { sample: "steps=4", latent: "blend=0.4", own: "steps=4", forward: "" };
  for (const [name, start] of Object.entries(panels)) {
    await go(page, `#${name}?${start}`);
    const wrong = (text) => note(`${name}: ${text}`);
    await all(page, wrong);
    await { sample, latent, own, forward }[name](page, wrong, { known, picture });
  }
  await tabs(page, note);
  await noModel(page, note);
}

module.exports = { PANEL, drawn, everything, go };
