/**
 * Drives headless Chromium: commands as JSON lines on stdin, answers on stdout, until stdin ends.
 *
 * Each page is named by the command's `page`. `goto` opens one; the others act on it. What the pages' consoles say goes
 * to stderr. `FANOUT_CHROMIUM` names the browser; it is never downloaded.
 */

import { chromium } from "playwright-core";
import { serveLines } from "./lines.mjs";

const browser = await chromium.launch({
  executablePath: process.env.FANOUT_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const pages = new Map();

const commands = {
  async goto({ page: name, url, width = 1000, height = 750, dark = false }) {
    const context = await browser.newContext({
      viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce",
    });
    const page = await context.newPage();
    const problems = [];
    const asked = [];
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("request", (request) => asked.push(request.url()));
    pages.set(name, { page, problems, asked });
    await page.goto(url);
  },
  problems: ({ page }) => pages.get(page).problems,
  requests: ({ page }) => pages.get(page).asked,
  evaluate: ({ page, script, argument }) => pages.get(page).page.evaluate(new Function("argument", script), argument),
  fill: ({ page, selector, text }) => pages.get(page).page.fill(selector, text),
  press: ({ page, selector, key }) => pages.get(page).page.press(selector, key),
  click: ({ page, selector }) => pages.get(page).page.click(selector),
  reload: ({ page }) => pages.get(page).page.reload(),
  texts: ({ page, selector }) => pages.get(page).page.locator(selector).allInnerTexts(),
  wait: ({ page, script, argument, timeout }) =>
    pages.get(page).page.waitForFunction(new Function("argument", script), argument, { timeout }).then(() => null),
  screenshot: ({ page, path }) => pages.get(page).page.screenshot({ path }).then(() => null),
};

await serveLines((command) => commands[command.op](command));
await browser.close();
