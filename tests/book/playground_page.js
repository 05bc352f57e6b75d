// The playground in a real browser: node playground_page.js FOLDER PICTURES OWN CASES
//
// FOLDER holds the built pages, PICTURES gets screenshots, OWN is a JSON object, folders
// that `ldm-tutorial export --format onnx` wrote -> settings to draw with, and CASES a
// JSON list of settings, as in an address. Prints one JSON object:
//
//     problems   what went wrong, in words
//     times      {over: {load, steps, megabytes}}: ms from the click to the picture, and
//                for 20 steps
//     pictures   {over: {settings: RGB bytes of what is drawn}}
//     own        {folder: {status, classes, samplers, picture}} of the models in OWN
//     embedded   {page: panels} of the other pages, all of which were opened
//     tried      [way] in which every control was tried, as in 1280-light

const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const { launch, newPage, serious, serve, sideBySide } = require("./browser.js");
const { PANEL, drawn, everything, go } = require("./playground_controls.js");

const [root, pictures] = process.argv.slice(2, 4).map((one) => path.resolve(one));
const [owned, cases] = process.argv.slice(4, 6).map((one) => JSON.parse(one));
const DESK = { width: 1280, theme: "light" };
const PHONE = { width: 390, theme: "dark", reducedMotion: "reduce" };
const WAYS = [DESK, PHONE, { ...DESK, theme: "dark" }, { ...PHONE, theme: "light" }];
const BUTTON = ".playground-bar button";

const bytes = (page) =>
  page.$eval(`${PANEL} canvas`, (one) => {
    const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
    return [...data].filter((_, i) => i % 4 < 3);
  });

async function open(browser, address, options, problems, name = "playground.html") {
  const page = await newPage(browser, address, options, problems);
  await page.goto(address + name, { waitUntil: "load" });
  return page;
}

async function click(page, problems) {
  const before = page.asked.filter((url) => /static\/playground\//.test(url));
  const early = before.filter((url) => !/\/(load\.js|playground\.css)(\?|$)/.test(url));
  if (early.length) problems.push(`loaded before the click: ${early}`);
  const began = Date.now();
  await page.click(BUTTON);
  await drawn(page);
  return Date.now() - began;
}

/** Nothing serious for axe, and nothing that scrolls sideways. */
async function fits(page, where, problems) {
  problems.push(...(await serious(page)).map((one) => `${where}: ${one}`));
  const wide = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth
  );
  if (wide > 0) problems.push(`${where} scrolls sideways by ${wide}`);
}

/** Milliseconds from a change of the address to its last picture, by the page's clock. */
const timed = (page, hash) =>
  page.evaluate(
    (to) =>
      new Promise((resolve) => {
        const began = performance.now();
        const watcher = new MutationObserver((changes) => {
          const done = ({ target }) =>
            target.isConnected && target.getAttribute("aria-busy") === "false";
          if (!changes.some(done)) return;
          watcher.disconnect();
          resolve(performance.now() - began);
        });
        watcher.observe(document, { attributeFilter: ["aria-busy"], subtree: true });
        location.hash = to;
      }),
    hash
  );

/** How long the first picture takes, and 20 steps, the best of three; all the cases. */
async function measure(browser, address, problems) {
  const page = await open(browser, address, DESK, problems);
  const promised = Number((await page.textContent(BUTTON)).match(/loads (\d+) MB/)[1]);
  const before = page.asked.length;
  const load = await click(page, problems);
  const files = page.asked.slice(before).filter((url) => /static\/playground\//.test(url));
  const sizes = files.map((url) => fs.statSync(path.join(root, url.slice(address.length))).size);
  const megabytes = sizes.reduce((sum, one) => sum + one, 0) / 1e6;
  if (Math.round(megabytes) !== promised)
    problems.push(`the button says ${promised} MB, the click loads ${megabytes}`);
  const steps = [];
  for (const seed of [1, 2, 3])
    steps.push(await timed(page, `#sample?class=3&seed=${seed}&steps=20&guidance=2`));
  const drawings = {};
  for (const settings of cases) {
    await go(page, `#sample?${settings}`);
    drawings[settings] = await bytes(page);
  }
  await page.context().close();
  return { times: { load, steps: Math.min(...steps), megabytes }, drawings };
}

/** Every control in one way of looking; a picture of every panel. */
async function tryAll(browser, address, way, problems) {
  const name = `${way.width}-${way.theme}`;
  const found = [];
  const page = await open(browser, address, way, found);
  await click(page, found);
  await everything(page, (text) => found.push(text), path.join(root, "_images", "samples.jpg"));
  const panels = { sample: "steps=20", latent: "blend=0.4", own: "steps=20", forward: "" };
  for (const [panel, settings] of Object.entries(panels)) {
    await go(page, `#${panel}?${settings}`);
    await fits(page, panel, found);
    const file = `playground-${panel}-${name}.png`;
    await page.screenshot({ path: path.join(pictures, file), fullPage: true });
  }
  problems.push(...found.map((one) => `${name}: ${one}`));
  await page.context().close();
  return name;
}

/** What a reader is told where it cannot run, and that a second click mends a first. */
async function failures(browser, address, problems) {
  const told = (page, words) => page.waitForSelector(`.playground-bar >> text=${words}`);
  const old = await newPage(browser, address, DESK, problems);
  await old.addInitScript(() => delete window.DecompressionStream);
  await old.goto(`${address}playground.html`, { waitUntil: "load" });
  await old.click(BUTTON);
  await told(old, "The model cannot run here: this browser is too old");
  await old.context().close();
  const idle = await newPage(browser, address, DESK, []); // its error is in the console
  await idle.addInitScript(() => {
    const Known = window.Worker;
    window.Worker = function () {
      return new Known("data:text/javascript,throw Error('no workers today')");
    };
  });
  await idle.goto(`${address}playground.html`, { waitUntil: "load" });
  await idle.click(BUTTON);
  await told(idle, "/The model cannot run here: .*no workers today/");
  await idle.context().close();
  const expected = []; // the request that is cut off here
  const page = await open(browser, address, DESK, expected);
  await page.route(/model\.int8-02/, (route) => route.abort());
  await page.click(BUTTON);
  await told(page, "The model cannot run here: model.int8-02.js could not be loaded");
  await page.unroute(/model\.int8-02/);
  await page.click(BUTTON);
  await page.waitForSelector(".playground-bar progress[aria-label][value]");
  await drawn(page);
  await page.context().close();
  const odd = expected.filter((one) => !/model\.int8-02|ERR_FAILED/.test(one));
  problems.push(...odd.map((one) => `after a failure: ${one}`));
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
    await fits(page, name, problems);
    if (new URL(page.url()).hash) problems.push(`${name}: a panel changes the address`);
    await page.context().close();
  }
  return opened;
}

async function main() {
  const report = { problems: [], times: {}, pictures: {}, own: {}, tried: [] };
  const { problems } = report;
  const { server, address } = await serve(root);
  const places = { file: `${pathToFileURL(root).href}/`, http: address };
  // Alone, since it is timed.
  for (const [over, place] of Object.entries(places)) {
    const browser = await launch();
    const { times, drawings } = await measure(browser, place, problems);
    [report.times[over], report.pictures[over]] = [times, drawings];
    await browser.close();
  }
  const jobs = WAYS.map((way, i) => async (browser) => {
    const place = i % 2 ? places.http : places.file;
    report.tried.push(await tryAll(browser, place, way, problems));
  });
  jobs.push(async (browser) => {
    report.embedded = await embedded(browser, places.file, DESK, problems);
  });
  jobs.push((browser) => embedded(browser, places.http, PHONE, problems));
  jobs.push((browser) => failures(browser, places.http, problems));
  jobs.push(async (browser) => {
    const page = await open(browser, places.file, DESK, problems);
    await click(page, problems);
    await page.click("summary:has-text('A model of your own')");
    for (const [folder, settings] of Object.entries(owned))
      report.own[folder] = await ownModel(page, folder, settings, problems);
  });
  await sideBySide(
    jobs.map((job) => async () => {
      const browser = await launch();
      await job(browser).catch((error) => problems.push(`it stopped: ${error.stack}`));
      await browser.close().catch(() => {});
    })
  );
  server.close();
  console.log(JSON.stringify(report));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
