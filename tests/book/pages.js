// Look at every page of the built book in a real browser.
//
//     node tests/book/pages.js FOLDER [PICTURES [PAGE ...]]
//
// FOLDER holds the built pages (_build/html). PICTURES, if given and not empty, gets a
// screenshot of every page. PAGE, e.g. 02_kl.html, limits the work. As many pages as the
// machine has cores are looked at side by side, each in a browser of its own; should it
// die, another one takes its place, once. What is seen is told on stderr as it is seen.
//
// Prints one JSON object: {pages: [{page, width, theme, over, problems: [...], ...}]}.

const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const { launch, newPage, serious, serve, sideBySide } = require("./browser.js");
const unfit = require("./fit.js");

const root = path.resolve(process.argv[2]);
const pictures = process.argv[3];
const wanted = process.argv.slice(4);
const AT_MOST = 300_000; // ms for one look

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

async function look(browser, { address, name, width, theme, axe }) {
  const over = address.split(":")[0];
  const problems = [];
  const page = await newPage(browser, address, { width, theme }, problems);
  await page.addInitScript(() => {
    window.shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries())
        if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  await page.goto(address + name, { waitUntil: "load" });
  await page.evaluate(async () => {
    if (window.MathJax) await window.MathJax.startup.promise;
    await document.fonts.ready;
  });
  problems.push(...(await page.evaluate(inside)));
  const shown = await page.evaluate(() => document.documentElement.dataset.theme);
  if (shown !== theme) problems.push(`theme ${shown} where ${theme} was asked for`);
  if (axe) problems.push(...(await serious(page, axe === "all" ? null : [axe])));
  const shift = await page.evaluate(() => window.shifted);
  if (shift > 0.1) problems.push(`the page shifts while it loads: ${shift.toFixed(2)}`);
  if (pictures && over === "file") {
    const file = path.join(pictures, `${path.parse(name).name}-${width}-${theme}.jpg`);
    await page.screenshot({ path: file, type: "jpeg", quality: 80, fullPage: true });
  }
  const { found, count } = await sliders(page);
  problems.push(...found);
  problems.push(...(await page.evaluate(unfit, width < 500)));
  await page.context().close();
  return { page: name, width, theme, over, problems, sliders: count, shift };
}

/** The ways to look at a page. axe takes most of the time and judges no node twice: what
 * depends on the width is seen at both, and colours, which do not, in both themes. */
const waysOf = (name, { file, http }) => [
  { address: file, name, width: 1280, theme: "light", axe: "all" },
  { address: file, name, width: 1280, theme: "dark", axe: "color-contrast" },
  { address: file, name, width: 390, theme: "light" },
  { address: file, name, width: 390, theme: "dark", axe: "all" },
  { address: http, name, width: 1280, theme: "light" },
];

/** All looks at one page. One that fails is repeated in a new browser, once. */
async function lookAtAll(name, places) {
  const seen = [];
  let browser = await launch();
  for (const way of waysOf(name, places)) {
    const began = Date.now();
    const { width, theme } = way;
    const over = way.address.split(":")[0];
    const told = (text) => console.error(`${name} ${width} ${theme} ${over}: ${text}`);
    for (let attempt = 1; ; attempt++) {
      let alarm;
      const late = new Promise((_, reject) => {
        alarm = setTimeout(() => reject(new Error("it takes too long")), AT_MOST);
      });
      try {
        seen.push(await Promise.race([look(browser, way), late]));
        told(`${seen.at(-1).problems.length} problems, ${(Date.now() - began) / 1000} s`);
        break;
      } catch (error) {
        told(`attempt ${attempt}: ${error.message}`);
        await browser.close().catch(() => {});
        browser = await launch();
        if (attempt === 1) continue;
        const problems = [`could not be looked at: ${error.message}`];
        seen.push({ page: name, width, theme, over, problems, sliders: 0, shift: 0 });
        break;
      } finally {
        clearTimeout(alarm);
      }
    }
  }
  await browser.close();
  return seen;
}

async function main() {
  const names = fs
    .readdirSync(root)
    .filter((name) => name.endsWith(".html") && !/^(genindex|search)\./.test(name))
    .filter((name) => !wanted.length || wanted.includes(name));
  const { server, address } = await serve(root);
  const places = { file: pathToFileURL(root).href + "/", http: address };
  // The longest pages first, so that nobody waits for one at the end.
  const length = (name) => fs.statSync(path.join(root, name)).size;
  names.sort((a, b) => length(b) - length(a));
  const pages = [];
  try {
    await sideBySide(
      names.map((name) => async () => pages.push(...(await lookAtAll(name, places))))
    );
  } finally {
    server.close();
  }
  console.log(JSON.stringify({ pages }, null, 1));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
