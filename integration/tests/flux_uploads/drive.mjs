// Fills in the upload form of a Flux in a real browser, for flux_uploads.rs, and prints one JSON line of what it found.
//
//   node drive.mjs PLAYWRIGHT CHROMIUM FLUX KEY NAMESPACE FILE [SCREENSHOTS]

import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [playwright, executablePath, flux, key, namespace, file, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const profile = mkdtempSync(join(tmpdir(), "tributary-upload-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
context.setDefaultTimeout(60000);

const complaints = [];
const foreign = [];
try {
  const page = await context.newPage();
  page.on("console", (message) => {
    // A refusal is one on purpose; neither has the page an icon.
    const expected = message.text().includes("401") || message.location().url.endsWith("/favicon.ico");
    if (["error", "warning"].includes(message.type()) && !expected) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith(`http://${flux}/`)) foreign.push(request.url()); });
  await page.goto(`http://${flux}/flux/upload_data`);
  await page.fill("[name=key]", "a key that nobody knows");
  await page.fill("[name=parent_metric_namespace]", namespace);
  await page.setInputFiles("[name=data_file]", file);
  await page.fill("[name=columns_to_metrics]", "date,roof,floor");
  await page.fill("[name=skip_rows]", "5");
  await page.fill("[name=timezone]", "GMT");
  await page.click("button");
  await page.waitForSelector("#state.failed");
  const refused = await page.textContent("#state");

  await page.fill("[name=key]", key);
  await page.click("button");
  await page.waitForSelector("#state.complete");
  const state = await page.textContent("#state");
  const rows = await page.$$eval("#said tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));

  const wide = {};
  for (const [look, colorScheme, width, height] of [["light", "light", 1200, 900], ["dark", "dark", 1200, 900], ["narrow", "light", 390, 844]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height });
    wide[look] = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (screenshots) await page.screenshot({ path: join(screenshots, `upload-${look}.png`), fullPage: true });
  }
  console.log(JSON.stringify({ refused, state, rows, wide, complaints, foreign }));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exit(0);
