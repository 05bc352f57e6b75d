// The playground in a real browser: node playground_page.js FOLDER PICTURES OWN CASES
//
// FOLDER holds the built pages, PICTURES gets screenshots, OWN is a JSON object, folders
// that `ldm-tutorial export --format onnx` wrote -> settings to draw with, and CASES a
// JSON list of settings, as in an address. Modules and browser are found as by pages.js. Prints one JSON object:
//
//     problems   what went wrong, in words
//     times      {over: {load, steps}} in ms: click to picture; 20 steps of the sampler
//     pictures   {over: {settings: RGB bytes of what is drawn}}
//     own        {folder: {status, classes, samplers, picture}} of the models in OWN
//     embedded   {page: panels} of the other pages, all of which were opened

const fs = require("fs");
const http = require("http");
const path = require("path");
const { execSync } = require("child_process");
const { pathToFileURL } = require("url");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [root, pictures] = process.argv.slice(2, 4).map((one) => path.resolve(one));
const [owned, cases] = process.argv.slice(4, 6).map((one) => JSON.parse(one));
const executablePath =
  process.env.CHROMIUM || execSync("command -v chromium", { encoding: "utf8" }).trim();
const HARMLESS = /THEBE_JS_URL.*has already been declared/;
const PATIENCE = 300_000; // ms, for a machine that has other things to do
const TYPES = { ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml" };
const PANEL = ".playground-panel";
const FIXED = ["tool", "brush", "colour", "size"]; // these change nothing by themselves

function serve() {
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const file = path.join(root, name);
    if (!file.startsWith(root) || !fs.existsSync(file)) return response.writeHead(404).end();
    const type = TYPES[path.extname(file)] || "application/octet-stream";
    response.writeHead(200, { "Content-Type": type });
    fs.createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

const drawn = (page) =>
  page.waitForSelector(`${PANEL}[aria-busy=false]`, { state: "attached" });

/** What all canvases of a panel show, as one text. */
const seen = (page) =>
  page.$$eval(`${PANEL} canvas`, (all) => all.map((one) => one.toDataURL()).join());

const bytes = (page) =>
  page.$eval(`${PANEL} canvas`, (one) => {
    const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
    return [...data].filter((_, i) => i % 4 < 3);
  });

async function open(browser, address, options, problems, name = "playground.html") {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  await context.addInitScript((mode) => {
    localStorage.setItem("mode", mode);
    localStorage.setItem("theme", mode);
  }, options.colorScheme || "light");
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const wrong = (text) => HARMLESS.test(text) || problems.push(text);
  page.on("console", (one) => one.type() === "error" && wrong(`console: ${one.text()}`));
  page.on("pageerror", (error) => wrong(`script: ${error.message}`));
  page.asked = [];
  page.on("request", (request) => {
    const url = request.url();
    page.asked.push(url);
    if (!/^(data|blob):/.test(url) && !url.startsWith(address)) problems.push(`leaves: ${url}`);
  });
  await page.goto(address + name, { waitUntil: "load" });
  return page;
}

async function click(page, problems) {
  const before = page.asked.filter((url) => /static\/playground\//.test(url));
  const early = before.filter((url) => !/\/(load\.js|playground\.css)(\?|$)/.test(url));
  if (early.length) problems.push(`loaded before the click: ${early}`);
  const began = Date.now();
  await page.click(".playground-bar button");
  await drawn(page);
  return Date.now() - began;
}

async function go(page, hash) {
  await page.evaluate((to) => (location.hash = to), hash);
  await page.waitForTimeout(50);
  await drawn(page);
}

/** Every control of a panel changes what is seen, and the address. */
async function controls(page, name, problems) {
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
    await page.waitForTimeout(50);
    await drawn(page);
    if (/Pointer|Brush/.test(label) || !changed) continue;
    if (page.url() === address) problems.push(`${name}: the address ignores "${label}"`);
    if (/Way|of B|mask/.test(label)) continue; // seen in a blend only: tested by hand below
    if ((await seen(page)) === before) problems.push(`${name}: "${label}" changes nothing`);
  }
}

/** The latent by mouse and by keyboard; blending on both ways. */
async function latent(page, problems) {
  await go(page, "#latent?blend=0.5&way=slerp");
  const round = await seen(page);
  await go(page, "#latent?blend=0.5&way=lerp");
  if ((await seen(page)) === round) problems.push("slerp and lerp are the same");
  const map = await page.$(`${PANEL} canvas[role=application]`);
  const number = async () => (await page.textContent(".playground-status")).match(/-?\d+\.\d+$/)?.[0];
  await map.focus();
  await page.keyboard.press("ArrowRight");
  const first = Number(await number());
  await page.keyboard.press("+");
  await drawn(page);
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowLeft");
  if (Math.abs(Number(await number()) - first - 0.25) > 0.011) problems.push("plus does not add");
  await map.scrollIntoViewIfNeeded();
  const box = await map.boundingBox();
  const before = await seen(page);
  await page.mouse.move(box.x + 10, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + 10, box.y - 20, { steps: 4 });
  await page.mouse.up();
  await drawn(page);
  if ((await seen(page)) === before) problems.push("dragging a number changes nothing");
  if (!/edits=\d/.test(page.url())) problems.push("the address forgets what was painted");
  const [now, link] = [await bytes(page), page.url()];
  await page.click(`${PANEL} button:has-text("Undo")`);
  await drawn(page);
  await go(page, `#${link.split("#")[1]}`);
  if (String(await bytes(page)) !== String(now)) problems.push("a link does not bring back what was painted");
}

/** A file, a stroke of the brush, a painted mask. */
async function own(page, problems) {
  await go(page, "#own?steps=4&from=0.3");
  const states = [await seen(page)];
  const check = async (what) => {
    await page.waitForTimeout(50);
    await drawn(page);
    states.push(await seen(page));
    if (states.at(-1) === states.at(-2)) problems.push(`own: ${what} changes nothing`);
  };
  await page.setInputFiles(`${PANEL} input[type=file]`, path.join(root, "_images", "samples.jpg"));
  await page.waitForTimeout(500);
  await check("a file");
  const veil = await page.$(".playground-stack canvas:last-child");
  const stroke = async () => {
    await veil.scrollIntoViewIfNeeded();
    const box = await veil.boundingBox();
    await page.mouse.move(box.x + 40, box.y + 40);
    await page.mouse.down();
    await page.mouse.move(box.x + 120, box.y + 90, { steps: 5 });
    await page.mouse.up();
  };
  await stroke();
  await check("the brush");
  await go(page, "#own?steps=4&from=0.9&mask=painted");
  states.push(await seen(page));
  await page.waitForSelector(".playground-stack canvas:last-child");
  const again = await page.$(".playground-stack canvas:last-child");
  await again.scrollIntoViewIfNeeded();
  const box = await again.boundingBox();
  await page.mouse.move(box.x + 40, box.y + 40);
  await page.mouse.down();
  await page.mouse.move(box.x + 120, box.y + 90, { steps: 5 });
  await page.mouse.up();
  await check("a painted mask");
}

async function serious(page, where, problems) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const where = { include: [["article.bd-article"]] };
    const report = await window.axe.run(where, { resultTypes: ["violations"], preload: false });
    return report.violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`);
  });
  problems.push(...found.map((one) => `axe, ${where}: ${one}`));
  const wide = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth
  );
  if (wide > 0) problems.push(`${where} scrolls sideways by ${wide}`);
}

/** A model of the reader's own: its files chosen, a picture drawn, all panels opened. */
async function ownModel(page, folder, settings, problems) {
  const status = () => page.textContent("#playground-model ~ [role=status]");
  await page.evaluate(() => (document.querySelector("#playground-model ~ [role=status]").textContent = ""));
  const files = fs.readdirSync(folder).map((name) => path.join(folder, name));
  await page.setInputFiles("#playground-model", files);
  await page.waitForSelector("text=/Your model is open|These files are no model/");
  await drawn(page);
  const choices = async (label) =>
    page.$$eval(
      `${PANEL} .playground-controls > div`,
      (all, label) => {
        const one = all.find((field) => field.textContent.startsWith(label));
        return one ? [...one.querySelectorAll("option")].map((option) => option.text) : null;
      },
      label
    );
  const told = { status: await status() };
  for (const name of ["latent", "own", "forward", "sample"]) {
    await go(page, `#${name}?steps=4`);
    const said = await page.textContent(".playground-status");
    if (/went wrong/.test(said)) problems.push(`${folder}, ${name}: ${said}`);
  }
  told.classes = await choices("Class");
  told.samplers = await choices("Sampler");
  await go(page, `#sample?${settings}`);
  told.picture = await bytes(page);
  return told;
}

/** Pages that hold panels: each opens below what is shown, draws, and leaves the address
 * alone. All of a page run one model, which the first click has loaded. */
async function embedded(browser, address, options, problems) {
  const opened = {};
  for (const name of fs.readdirSync(root).filter((one) => one.endsWith(".html"))) {
    const text = fs.readFileSync(path.join(root, name), "utf8");
    if (name === "playground.html" || !text.includes('class="playground"')) continue;
    const page = await open(browser, address, options, problems, name);
    const wide = page.viewportSize().width;
    const boxes = await page.$$(".playground");
    opened[name] = [];
    for (const [i, box] of boxes.entries()) {
      if (!i) await click(page, problems);
      else {
        const asked = page.asked.filter((url) => url.startsWith(address)).length;
        const button = await box.$(".playground-bar button");
        if (/MB/.test(await button.textContent())) problems.push(`${name} would load twice`);
        await button.click();
        await box.waitForSelector(`${PANEL}[aria-busy=false]`);
        if (page.asked.filter((url) => url.startsWith(address)).length > asked)
          problems.push(`${name} loads anew`);
      }
      const first = await box.$("canvas");
      const colours = await first.evaluate((one) => {
        const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
        return new Set(data).size;
      });
      if (colours < 20) problems.push(`${name}: panel ${i + 1} draws nothing`);
      await box.screenshot({ path: path.join(pictures, `playground-in-${name}-${i + 1}-${wide}.png`) });
      opened[name].push(await box.getAttribute("data-panel"));
    }
    await serious(page, name, problems);
    if (new URL(page.url()).hash) problems.push(`${name}: a panel changes the address`);
    await page.context().close();
  }
  return opened;
}

async function main() {
  const report = { problems: [], times: {}, pictures: {} };
  const { problems } = report;
  const server = await serve();
  const places = {
    file: `${pathToFileURL(root).href}/`,
    http: `http://127.0.0.1:${server.address().port}/`,
  };
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    for (const [over, address] of Object.entries(places)) {
      const page = await open(browser, address, {}, problems);
      const load = await click(page, problems);
      report.pictures[over] = {};
      for (const settings of cases) {
        await go(page, `#sample?${settings}`);
        report.pictures[over][settings] = await bytes(page);
      }
      const began = Date.now();
      await go(page, "#sample?class=3&seed=9&steps=20&guidance=1");
      report.times[over] = { load, steps: Date.now() - began };
      if (over === "http") break;
      for (const [name, start] of [["sample", "steps=4"], ["latent", "blend=0.4"], ["own", "steps=4"], ["forward", ""]]) {
        await go(page, `#${name}?${start}`);
        await controls(page, name, problems);
        await serious(page, name, problems);
        await page.screenshot({ path: path.join(pictures, `playground-${name}-1280-light.png`), fullPage: true });
      }
      await latent(page, problems);
      await own(page, problems);
      report.own = {};
      await page.click("summary:has-text('A model of your own')");
      for (const [folder, settings] of Object.entries(owned))
        report.own[folder] = await ownModel(page, folder, settings, problems);
    }
    report.embedded = await embedded(browser, places.file, {}, problems);
    const phone = { viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true, reducedMotion: "reduce" };
    const page = await open(browser, places.file, phone, problems);
    await click(page, problems);
    for (const name of ["sample", "latent", "own", "forward"]) {
      await go(page, `#${name}?steps=4`);
      await serious(page, `${name} on a phone`, problems);
      await page.screenshot({ path: path.join(pictures, `playground-${name}-390-dark.png`), fullPage: true });
    }
    await embedded(browser, places.http, phone, problems);
  } finally {
    await browser.close();
    server.close();
  }
  console.log(JSON.stringify(report));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
