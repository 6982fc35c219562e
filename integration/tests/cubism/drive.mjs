// Opens the Cubism page of an aggregator in a real browser, for cubism.rs, and prints one JSON line of what it found.
//
//   node drive.mjs PLAYWRIGHT CHROMIUM AGGREGATOR [SCREENSHOTS]

import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [playwright, executablePath, aggregator, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const profile = mkdtempSync(join(tmpdir(), "tributary-cubism-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
context.setDefaultTimeout(90000);

const complaints = [];
const foreign = [];
const asked = [];
async function open(query) {
  const page = await context.newPage();
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(`${query}: ${message.text()}`); });
  page.on("pageerror", (error) => complaints.push(`${query}: ${error}`));
  page.on("dialog", (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!request.url().startsWith(`http://${aggregator}/`) && request.url() !== "about:blank") foreign.push(request.url());
    asked.push(decodeURIComponent(request.url()));
  });
  await page.goto(`http://${aggregator}/cubism?${new URLSearchParams(query)}`);
  return page;
}

/** Of each chart: its title, the values that Cubism has, how many of them are what the API says of that time, and how much is painted. */
async function charts(page, expressions, step) {
  // A canvas is painted and the values of some steps are there, of which the last may still change.
  await page.waitForFunction((count) => {
    const metrics = window.tributary?.metrics ?? [];
    const size = window.tributary?.context.size();
    const known = (metric) => [...Array(size).keys()].filter((place) => Number.isFinite(metric.valueAt(place))).length;
    return metrics.length === count && metrics.every((metric) => known(metric) >= 4);
  }, expressions.length);
  return page.evaluate(async ({ expressions, step }) => {
    const { context, metrics } = window.tributary;
    const found = [];
    for (const [number, metric] of metrics.entries()) {
      const [start] = context.scale.domain();
      const values = [...Array(context.size()).keys()].map((place) => [Math.round(start / 1000) + place * step, metric.valueAt(place)]).filter(([, value]) => Number.isFinite(value));
      const query = new URLSearchParams({ format: "json", from: "-10min", target: expressions[number] });
      const [answer] = await (await fetch(`render?${query}`)).json();
      const told = new Map(answer.datapoints.map(([value, time]) => [time, value]));
      // Of the last steps either side may have been asked before they were complete.
      const settled = values.slice(0, -2);
      const canvas = document.querySelectorAll(".horizon canvas")[number];
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      let painted = 0;
      for (let place = 3; place < pixels.length; place += 4) painted += pixels[place] > 0;
      found.push({
        title: document.querySelectorAll(".horizon .title")[number].textContent,
        values: values.map(([, value]) => value), settled: settled.length,
        same: settled.filter(([time, value]) => told.get(time) === value).length, painted,
      });
    }
    return found;
  }, { expressions, step });
}

const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

try {
  const waiting = await open({ pattern: "nothing.*.here", step: 1 });
  await waiting.waitForFunction(() => document.querySelector("#note").textContent.includes("nothing.*.here"));
  const none = await waiting.textContent("#note");
  await waiting.close();

  const fine = await open({ pattern: "cpu.load.host.*", step: 1, size: 240, by: "avg" });
  const hosts = ["cpu.load.host.db_1", "cpu.load.host.web1", "cpu.load.host.web2"];
  const single = await charts(fine, hosts, 1);
  await fine.close();

  const coarse = await open({ pattern: "clock", step: 2, size: 120, by: "max" });
  const clock = await charts(coarse, ["summarize(clock,'2sec','max')"], 2);
  await coarse.close();

  const grown = await open({ pattern: "*jobs*", step: 1, size: 240, by: "sum", counter: 1, total: 1 });
  const total = await charts(grown, ["sumSeries(nonNegativeDerivative(*jobs*))"], 1);
  await grown.close();

  const wide = {};
  const page = await open({ pattern: "cpu.load.host.*", step: 1 });
  await charts(page, hosts, 1);
  for (const [look, colorScheme, width, height] of [["light", "light", 1200, 500], ["dark", "dark", 1200, 500], ["narrow", "light", 390, 844]]) {
    // A page that is there draws anew when the look changes.
    await page.goto("about:blank");
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    await page.goto(`http://${aggregator}/cubism?pattern=cpu.load.host.*&step=1`);
    await charts(page, hosts, 1);
    wide[look] = await overflow(page);
    if (screenshots) await page.screenshot({ path: join(screenshots, `cubism-${look}.png`) });
  }
  await page.goto(`http://${aggregator}/cubism?pattern=cpu.load.host.*&step=1&size=2000`);
  await charts(page, hosts, 1);
  wide.long = await overflow(page);
  wide.newest = await page.evaluate(() => { const charts = document.querySelector("#charts"); return charts.scrollWidth - charts.clientWidth - charts.scrollLeft; });
  // What is quoted in a name of a series stays a name.
  const odd = await open({ pattern: "odd*.*", step: 1, size: 120 });
  await odd.waitForFunction(() => (window.tributary?.metrics ?? []).length === 1);
  await odd.waitForFunction(() => [...Array(120).keys()].some((place) => window.tributary.metrics[0].valueAt(place) === 7));
  const title = await odd.textContent(".horizon .title");
  const executed = await odd.evaluate(() => window.executed ?? null);
  const renders = asked.filter((url) => url.includes("/render?format=raw")).length;
  console.log(JSON.stringify({ none, single, clock, total, wide, odd: title, executed, renders, complaints, foreign }));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exit(0);
