// The seed's front-end snippets, run as written in a real Chromium, on a page of the product's own origin.
//
// stdin: first a JSON line {base, page, username, password, token, chromium}; end of input closes the browser.
// stdout, a JSON line each:
//   {kind: "signed_in", status, user} | {kind: "ready"} | {kind: "call", name, args} | {kind: "state", state}
//   | {kind: "page_error", message} | {kind: "response", method, url, status}
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const esbuild = require("esbuild");
const { chromium } = require("playwright-core");

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // The page comes out of this script; Chromium takes it for one from the internet and would keep it from localhost.
  "--disable-features=LocalNetworkAccessChecks",
];
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

// The snippets as they stand; only the port is replaced where 5000 was not free, and names are exported for the page.
const asWritten = (base) => ({
  name: "seed",
  setup(build) {
    build.onLoad({ filter: /seed[\\/].*\.js$/ }, ({ path: file }) => {
      const source = fs.readFileSync(file, "utf8").replaceAll("http://localhost:5000", base);
      const hook = /^function (use\w+)/m.exec(source);
      return { contents: hook ? `${source}\nexport { ${hook[1]} };` : source, loader: "js" };
    });
  },
});

// Two snippets of the seed continue one another (`socket` of the first is used in the second): one file, then.
async function bundle(page, base) {
  const source = fs.readFileSync(path.join(__dirname, "pages", page), "utf8");
  const include = (_, name) => fs.readFileSync(path.join(__dirname, "seed", name), "utf8");
  const result = await esbuild.build({
    stdin: {
      contents: source.replace(/^\/\/ include (\S+)$/gm, include).replaceAll("http://localhost:5000", base),
      resolveDir: path.join(__dirname, "pages"),
    },
    bundle: true,
    write: false,
    format: "iife",
    define: { "process.env.NODE_ENV": '"production"' },
    // Free names that the seed's second hook expects to be in scope.
    inject: [path.join(__dirname, "pages", "scope.js")],
    plugins: [asWritten(base)],
    logLevel: "error",
  });
  return result.outputFiles[0].text;
}

// Runs inside the page: a browser signs in to the session endpoint, CSRF and all.
async function signIn({ username, password }) {
  await fetch("/api/auth/session");
  const csrf = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie);
  const response = await fetch("/api/auth/session", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrf ? csrf[1] : "" },
    body: JSON.stringify({ username, password }),
  });
  return { status: response.status, user: await response.json() };
}

async function run(job) {
  const browser = await chromium.launch({ executablePath: job.chromium, args: FLAGS });
  const context = await browser.newContext();
  await context.grantPermissions(["notifications"], { origin: job.base });
  const page = await context.newPage();
  page.on("pageerror", (error) => say({ kind: "page_error", message: String(error) }));
  page.on("response", (response) => {
    const { pathname } = new URL(response.url());
    if (!pathname.startsWith("/api/")) return;
    say({ kind: "response", method: response.request().method(), url: pathname, status: response.status() });
  });
  await page.route(`${job.base}/__seed__`, (route) =>
    route.fulfill({ contentType: "text/html", body: "<!doctype html><title>seed</title><div id=root></div>" }),
  );
  await page.exposeFunction("report", say);
  await page.goto(`${job.base}/__seed__`);
  if (job.username) say({ kind: "signed_in", ...(await page.evaluate(signIn, job)) });
  await page.evaluate((token) => (window.token = token), job.token || "");
  await page.addScriptTag({ content: await bundle(job.page, job.base) });
  say({ kind: "ready" });
  return browser;
}

let browser;
const lines = readline.createInterface({ input: process.stdin });
lines.once("line", (line) => {
  browser = run(JSON.parse(line)).catch((error) => {
    say({ kind: "page_error", message: String(error) });
  });
});
lines.on("close", async () => {
  const running = await browser;
  if (running) await running.close();
  process.exit(0);
});
