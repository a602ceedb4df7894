// The list in a page of Chromium: node browser.mjs URL EXECUTABLE. What it tells comes out; a line of input is "reload", or
// an id, as follow.mjs has it.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [url, executablePath] = process.argv.slice(2);
const say = (line) => process.stdout.write(line + '\n');
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const page = await browser.newPage();
page.on('console', (m) => m.type() === 'log' && say(m.text())); // refused connections are logged as errors
page.on('pageerror', (err) => say(JSON.stringify({ type: 'changed', status: 'error', error: String(err) })));
await page.goto(url);
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'reload') await page.reload();
  else await page.evaluate((id) => window.want(id), line);
}
await browser.close();
