// Look at every page of the built book in a real browser.
//
//     node tests/book/pages.js FOLDER [PICTURES [PAGE ...]]
//
// FOLDER holds the built pages (_build/html). PICTURES, if given and not empty, gets a
// screenshot of every page. PAGE, e.g. 02_kl.html, limits the work. The modules
// playwright-core and axe-core are found through NODE_PATH, the browser through CHROMIUM
// (default: chromium on the PATH).
//
// Prints one JSON object: {pages: [{page, width, theme, over, problems: [...], ...}]}.

const fs = require("fs");
const http = require("http");
const path = require("path");
const { execSync } = require("child_process");
const { pathToFileURL } = require("url");
const { chromium } = require("playwright-core");
const unfit = require("./fit.js");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const root = path.resolve(process.argv[2]);
const pictures = process.argv[3];
const wanted = process.argv.slice(4);
const executablePath =
  process.env.CHROMIUM || execSync("command -v chromium", { encoding: "utf8" }).trim();

// The theme declares this on every page; nothing depends on it.
const HARMLESS = /THEBE_JS_URL.*has already been declared/;
const PATIENCE = 180_000; // ms, for a machine that has other things to do
const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".jpg": "image/jpeg",
  ".js": "text/javascript",
  ".json": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".woff": "font/woff",
  ".woff2": "font/woff2",
};

function serve() {
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const file = path.join(root, name);
    if (!file.startsWith(root) || !fs.existsSync(file) || fs.statSync(file).isDirectory()) {
      response.writeHead(404).end();
      return;
    }
    const type = TYPES[path.extname(file)] || "application/octet-stream";
    response.writeHead(200, { "Content-Type": type });
    fs.createReadStream(file).pipe(response);
  });
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () =>
      resolve({ server, address: `http://127.0.0.1:${server.address().port}/` })
    )
  );
}

// What can be seen from inside the page.
function inside() {
  const found = [];
  const article = document.querySelector("article.bd-article");
  if (!article) found.push("no article");
  const wide = document.documentElement;
  if (wide.scrollWidth > wide.clientWidth)
    found.push(`the page scrolls sideways: ${wide.scrollWidth} > ${wide.clientWidth}`);
  for (const image of document.images)
    if (image.getClientRects().length && !(image.complete && image.naturalWidth))
      found.push(`broken image ${image.src.slice(0, 80)}`);
  const sources = document.querySelectorAll(".math").length;
  const typeset = document.querySelectorAll(".math mjx-container").length;
  if (sources && !typeset) found.push("no formula is typeset");
  for (const wrong of document.querySelectorAll("mjx-merror, .math merror"))
    found.push(`formula: ${wrong.getAttribute("title") || wrong.textContent}`);
  const prose = document.createElement("div");
  prose.innerHTML = article ? article.innerHTML : "";
  prose.querySelectorAll("code, pre, script, .math").forEach((one) => one.remove());
  const raw = prose.textContent.match(/\{\{\w+|\{term\}|\$\$|\\begin\{/);
  if (raw) found.push(`markup is shown: ${raw[0]}`);
  return found;
}

// Every slider of a moving figure changes what is seen, without a kernel.
async function sliders(page) {
  const found = [];
  const all = await page.$$("article.bd-article input[type=range]");
  for (const [number, slider] of all.entries()) {
    const frame = await slider.evaluateHandle((one) => {
      const holds = (e) => e && !e.querySelector("img, svg, canvas");
      let box = one.parentElement;
      while (holds(box) && box.parentElement) box = box.parentElement;
      return box;
    });
    const state = () =>
      frame.evaluate((box) =>
        [...box.querySelectorAll("img, svg, canvas")]
          .map((e) => `${e.getClientRects().length > 0} ${e.src || ""} ${e.alt || ""}`)
          .join("|")
      );
    await slider.scrollIntoViewIfNeeded();
    await slider.focus();
    await page.keyboard.press("Home");
    const first = await state();
    await page.keyboard.press("ArrowRight");
    const second = await state();
    if (first === second) found.push(`slider ${number + 1} does not move by keyboard`);
    const box = await slider.boundingBox();
    if (!box) {
      found.push(`slider ${number + 1} is not visible`);
      continue;
    }
    await page.mouse.click(box.x + box.width - 4, box.y + box.height / 2);
    if ((await state()) === second) found.push(`slider ${number + 1} does not move by mouse`);
  }
  return { found, count: all.length };
}

async function look(browser, address, name, width, theme) {
  const over = address.split(":")[0];
  const context = await browser.newContext({
    viewport: { width, height: width < 500 ? 844 : 900 },
    colorScheme: theme,
    deviceScaleFactor: 1,
    hasTouch: width < 500,
  });
  await context.addInitScript((mode) => {
    localStorage.setItem("mode", mode);
    localStorage.setItem("theme", mode);
    window.shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries())
        if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  }, theme);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const problems = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !HARMLESS.test(message.text()))
      problems.push(`console: ${message.text().slice(0, 200)}`);
  });
  page.on("pageerror", (error) => {
    if (!HARMLESS.test(error.message)) problems.push(`script: ${error.message}`);
  });
  page.on("requestfailed", (request) =>
    problems.push(`failed request ${request.url().slice(0, 120)}`)
  );
  page.on("request", (request) => {
    const url = request.url();
    if (!/^(data|blob):/.test(url) && !url.startsWith(address))
      problems.push(`leaves the book: ${url.slice(0, 120)}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) problems.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(address + name, { waitUntil: "load" });
  await page.evaluate(async () => {
    if (window.MathJax) await window.MathJax.startup.promise;
    await document.fonts.ready;
  });
  problems.push(...(await page.evaluate(inside)));
  const shown = await page.evaluate(() => document.documentElement.dataset.theme);
  if (shown !== theme) problems.push(`theme ${shown} where ${theme} was asked for`);
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const where = { include: [["article.bd-article"]] };
    const report = await window.axe.run(where, {
      resultTypes: ["violations"],
      preload: false,
    });
    return report.violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map((one) => `${one.id} ×${one.nodes.length}: ${one.nodes[0].html.slice(0, 160)}`);
  });
  problems.push(...violations.map((one) => `axe: ${one}`));
  const shift = await page.evaluate(() => window.shifted);
  if (shift > 0.1) problems.push(`the page shifts while it loads: ${shift.toFixed(2)}`);
  if (pictures && over === "file") {
    const file = `${path.parse(name).name}-${width}-${theme}.png`;
    await page.screenshot({ path: path.join(pictures, file), fullPage: true });
  }
  const { found, count } = await sliders(page);
  problems.push(...found);
  problems.push(...(await page.evaluate(unfit, width < 500)));
  await context.close();
  return { page: name, width, theme, over, problems, sliders: count, shift };
}

async function main() {
  const names = fs
    .readdirSync(root)
    .filter((name) => name.endsWith(".html") && !/^(genindex|search)\./.test(name))
    .filter((name) => !wanted.length || wanted.includes(name));
  const { server, address } = await serve();
  const browser = await chromium.launch({
    executablePath,
    args: ["--no-sandbox"],
  });
  const pages = [];
  try {
    const file = pathToFileURL(root).href + "/";
    for (const name of names) {
      for (const width of [1280, 390])
        for (const theme of ["light", "dark"])
          pages.push(await look(browser, file, name, width, theme));
      pages.push(await look(browser, address, name, 1280, "light"));
    }
  } finally {
    await browser.close();
    server.close();
  }
  console.log(JSON.stringify({ pages }, null, 1));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
