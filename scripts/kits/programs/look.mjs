// Looks at pages in a headless browser. Reads a job as JSON: {chromium, axe, looks: [{name, url,
// width, dark, file, password?, refreshed?}]}; writes a line of JSON for each look.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const job = JSON.parse(readFileSync(0, "utf8"));
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const TALLEST = 6000;
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});

function overflowing() {
  const wide = document.documentElement.clientWidth;
  const beyond = (one) => {
    const box = one.getBoundingClientRect();
    const seen = box.width > 0 && getComputedStyle(one).clipPath === "none";
    return seen && !one.closest("thead") && (box.right > wide + 1 || box.left < -1);
  };
  const found = [...document.querySelectorAll("body *")].filter(beyond).map((one) => one.outerHTML);
  const page = document.documentElement.scrollWidth > wide ? ["the page is wider than its window"] : [];
  return [...page, ...found.map((html) => html.slice(0, 120))];
}

async function shifted(page, wait) {
  // What moves while the page puts fresh figures in their place.
  await page.evaluate(() => {
    window.moved = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.moved += entry.value;
    }).observe({ type: "layout-shift", buffered: false });
  });
  await page.waitForTimeout(600);
  const answered = page.waitForResponse((answer) => answer.request().resourceType() === "fetch", {
    timeout: wait,
  });
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await answered;
  await page.waitForTimeout(600);
  return page.evaluate(() => window.moved);
}

for (const look of job.looks) {
  const context = await browser.newContext({
    viewport: { width: look.width, height: 900 },
    colorScheme: look.dark ? "dark" : "light",
    bypassCSP: false,
    ...(look.password ? { httpCredentials: { username: "any", password: look.password } } : {}),
  });
  const page = await context.newPage();
  const said = [];
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  const foreign = [];
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith("data:") && new URL(url).origin !== new URL(look.url).origin) foreign.push(url);
  });
  const answer = await page.goto(look.url, { waitUntil: "load" });
  const bytes = (await answer.body()).length;
  if (look.opened) {
    await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  }
  const found = { name: look.name, status: answer.status(), bytes, said, foreign };
  found.overflow = await page.evaluate(overflowing);
  if (look.refreshed) found.shift = await shifted(page, 20000);
  const tall = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: look.width, height: Math.min(Math.max(tall, 900), TALLEST) });
  await page.screenshot({ path: look.file });
  // Evaluated by the debugger, so that the page's policy stands as it is.
  await page.evaluate(axe);
  const checked = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  found.violations = checked.violations.map((one) => ({
    id: one.id,
    help: one.help,
    nodes: one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)),
  }));
  console.log(JSON.stringify(found));
  await context.close();
}
await browser.close();
