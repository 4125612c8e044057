/**
 * Drives headless Chromium: commands as JSON lines on stdin, answers on stdout, until stdin ends.
 *
 * Each page is named by the command's `page`. `goto` opens one; the others act on it. `problems` tells what
 * went wrong in it. `FANOUT_CHROMIUM` names the browser; it is never downloaded.
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serveLines } from "./lines.mjs";

const browser = await chromium.launch({
  executablePath: process.env.FANOUT_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const pages = new Map();

// A folder (this one, or the one in the argument) over HTTP on loopback: pages of another origin than fanout's.
const folder = process.argv[2] ?? fileURLToPath(new URL(".", import.meta.url));
const types = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };
const files = createServer(async ({ url }, response) => {
  const path = normalize(new URL(url, "http://localhost").pathname);
  try {
    const body = await readFile(join(folder, path));
    response.writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => files.listen(0, "127.0.0.1", resolve));

const commands = {
  /** Opens a page: of any server by its `url`, or of the folder by its `file`. */
  async goto({ page: name, file, url = `http://127.0.0.1:${files.address().port}/${file}`, context: options = {} }) {
    const context = await browser.newContext({ viewport: { width: 1000, height: 750 }, ...options });
    const page = await context.newPage();
    const problems = [];
    const asked = [];
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("request", (request) => asked.push(request.url()));
    pages.set(name, { page, problems, asked });
    await page.goto(url);
  },
  /** Opens the page of agent.html; `agent` hands it a command. */
  async openAgent({ page: name }) {
    await commands.goto({ page: name, file: "agent.html" });
    await pages.get(name).page.waitForFunction(() => window.agent);
  },
  async agent({ page, argument }) {
    const reply = await pages.get(page).page.evaluate(async (command) => {
      try {
        return { result: await window.agent[command.op](command) };
      } catch ({ message, code }) {
        return { failure: { message, code } };
      }
    }, argument);
    if (reply.failure) throw Object.assign(new Error(reply.failure.message), { code: reply.failure.code });
    return reply.result;
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
files.close();
