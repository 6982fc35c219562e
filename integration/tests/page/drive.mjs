// Opens the pages of a proxy and a global in a real browser, for page.rs. Prints one JSON line of what it found, waits for a line on standard
// input (the proxy is gone by then), and prints another.
//
//   node drive.mjs PLAYWRIGHT CHROMIUM PROXY GLOBAL [SCREENSHOTS]

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [playwright, executablePath, proxy, global, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const profile = mkdtempSync(join(tmpdir(), "tributary-page-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
context.setDefaultTimeout(45000);

const complaints = [];
const foreign = [];
async function open(address) {
  const page = await context.newPage();
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(`${address}: ${message.text()}`); });
  page.on("pageerror", (error) => complaints.push(`${address}: ${error}`));
  page.on("dialog", (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith(`http://${address}/`)) foreign.push(request.url()); });
  await page.goto(`http://${address}/`);
  await page.waitForSelector("#state.live");
  return page;
}

const texts = (page, selector) => page.$$eval(selector, (found) => found.map((element) => element.textContent.replace(/\s+/g, " ").trim()));
// Whether the page is wider than its window: it must not scroll sideways as a whole.
const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

async function looks(page, name) {
  const wide = {};
  for (const [look, colorScheme, width, height] of [["light", "light", 1200, 900], ["dark", "dark", 1200, 900], ["narrow", "light", 390, 844]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    wide[look] = await overflow(page);
    if (screenshots) await page.screenshot({ path: join(screenshots, `${name}-${look}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1200, height: 900 });
  return wide;
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
try {
  const globalPage = await open(global);
  // Counted names come with a flush, timers with their first points; the label says so when it is live.
  await globalPage.waitForSelector("#timers figure polyline", { state: "attached" });
  await globalPage.waitForFunction(() => document.querySelector("#top-note").textContent.startsWith("of "));
  await globalPage.waitForFunction(() => [...document.querySelectorAll("#by-series th[scope=row]")].some((cell) => cell.textContent.includes("<script>")));
  // Without anybody's doing the numbers change: what the sink has written grows with each flush.
  const written = await globalPage.textContent("#sinks tbody td:nth-child(5)");
  await globalPage.waitForFunction((before) => document.querySelector("#sinks tbody td:nth-child(5)").textContent !== before, written);
  const proxyPage = await open(proxy);
  await proxyPage.waitForSelector("#destinations tbody tr:nth-child(3) td.good");
  await proxyPage.waitForSelector("#charts figure polyline", { state: "attached" });
  await proxyPage.waitForFunction(() => [...document.querySelectorAll("#destinations td")].some((cell) => /[1-9].*\/s/.test(cell.textContent)));
  const found = {
    global: {
      title: await globalPage.title(), headings: await texts(globalPage, "h1, h2"), tiles: await texts(globalPage, "#tiles dt"),
      timers: await texts(globalPage, "#timers figcaption"), lines: await texts(globalPage, "#timers figure:first-child li"),
      sinks: await texts(globalPage, "#sinks tbody th"), names: await texts(globalPage, "#by-series tbody th"),
      tags: await texts(globalPage, "#by-series tbody td.tag"), losses: await texts(globalPage, "#losses tbody tr"),
      executed: await globalPage.evaluate(() => window.executed ?? null), scripts: await globalPage.$$eval("main script, main img", (all) => all.length),
      overflow: await looks(globalPage, "aggregator"),
    },
    proxy: {
      headings: await texts(proxyPage, "h1, h2"), tiles: await texts(proxyPage, "#tiles dt"), ring: (await texts(proxyPage, "#ring span")).length,
      destinations: await texts(proxyPage, "#destinations tbody tr"), changes: await texts(proxyPage, "#changes tbody tr"),
      overflow: await looks(proxyPage, "proxy"),
    },
    complaints: [...complaints], foreign,
  };
  console.log(JSON.stringify(found));
  await lines.next();
  await proxyPage.waitForSelector("#state.gone");
  const gone = await texts(proxyPage, "#state");
  if (screenshots) await proxyPage.screenshot({ path: join(screenshots, "proxy-gone.png") });
  console.log(JSON.stringify({ gone }));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exit(0);
