// What the looks into a real browser share: Chromium, a server, and what counts as wrong.
//
// The modules playwright-core and axe-core are found through NODE_PATH, the browser
// through CHROMIUM (default: chromium on the PATH).

const fs = require("fs");
const http = require("http");
const os = require("os");
const path = require("path");
const { execSync } = require("child_process");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

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

/** A new Chromium. In a container /dev/shm may hold a few MB only, so it is not used. */
function launch(...more) {
  const found = () => execSync("command -v chromium", { encoding: "utf8" }).trim();
  return chromium.launch({
    executablePath: process.env.CHROMIUM || found(),
    args: ["--no-sandbox", "--disable-dev-shm-usage", ...more],
  });
}

/** A server of a folder, on a port of its own: { server, address }. */
function serve(root) {
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const file = path.join(root, name);
    if (!file.startsWith(root) || !fs.existsSync(file) || fs.statSync(file).isDirectory())
      return response.writeHead(404).end();
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

/**
 * A page in a context of its own, in a theme and at a width; more options are those of
 * the context. Errors and requests that leave `address` are added to `problems`;
 * `page.asked` lists all requests.
 */
async function newPage(browser, address, { width, theme, ...more }, problems) {
  const context = await browser.newContext({
    viewport: { width, height: width < 500 ? 844 : 900 },
    colorScheme: theme,
    deviceScaleFactor: 1,
    hasTouch: width < 500,
    ...more,
  });
  await context.addInitScript((mode) => {
    localStorage.setItem("mode", mode);
    localStorage.setItem("theme", mode);
  }, theme);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.asked = [];
  const wrong = (text) => HARMLESS.test(text) || problems.push(text.slice(0, 240));
  page.on("console", (one) => one.type() === "error" && wrong(`console: ${one.text()}`));
  page.on("pageerror", (error) => wrong(`script: ${error.message}`));
  page.on("requestfailed", (request) => wrong(`failed request ${request.url()}`));
  page.on("request", (request) => {
    const url = request.url();
    page.asked.push(url);
    if (!/^(data|blob):/.test(url) && !url.startsWith(address)) wrong(`leaves the book: ${url}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) wrong(`${response.status()} ${response.url()}`);
  });
  return page;
}

/** What axe finds in the article that is serious, in words; by all its rules, or by some. */
async function serious(page, rules) {
  await page.evaluate(axe);
  return page.evaluate(async (runOnly) => {
    const where = { include: [["article.bd-article"]] };
    const how = { resultTypes: ["violations"], preload: false };
    const report = await window.axe.run(where, runOnly ? { ...how, runOnly } : how);
    return report.violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map((one) => `axe: ${one.id} ×${one.nodes.length}: ${one.nodes[0].html.slice(0, 160)}`);
  }, rules);
}

/** Runs functions, the first ones first, as many side by side as there are cores. */
async function sideBySide(jobs) {
  const waiting = [...jobs];
  const work = async () => {
    while (waiting.length) await waiting.shift()();
  };
  await Promise.all(Array.from({ length: Math.min(4, os.cpus().length) }, work));
}

module.exports = { launch, newPage, serious, serve, sideBySide };
