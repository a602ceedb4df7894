// Uses the GraphiQL page at URL in a real browser: enters a payload, subscribes, waits for an event, and looks at the
// schema's documentation. Prints what it saw as JSON; fails if the page broke its own policy or asked another host.
//
//   node graphiql.mjs URL SCREENSHOT EXECUTABLE
import { chromium } from 'playwright-core';

const [url, screenshot, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
const complaints = [];
page.on('console', (m) => m.type() === 'error' && complaints.push(m.text()));
page.on('pageerror', (e) => complaints.push(String(e)));
page.on('request', (r) => {
  const at = new URL(r.url());
  if (at.protocol !== 'data:' && at.host !== new URL(url).host) complaints.push(`request to ${r.url()}`);
});

await page.goto(url);
await page.getByLabel('connection_init payload').fill('{"tenantId": "acme"}');
await page.getByRole('button', { name: 'Reconnect' }).click();
await page.locator('.graphiql-execute-button').click();
const event = page.locator('.result-window').getByText('paid');
await event.waitFor();
const status = await page.locator('.connection output').textContent();
await page.getByRole('button', { name: 'Show Documentation Explorer' }).click();
await page.getByRole('link', { name: 'Subscription', exact: true }).click();
await page.getByText('Every change of an order.').waitFor();
await page.screenshot({ path: screenshot });
await browser.close();
console.log(JSON.stringify({ status, complaints }));
process.exit(complaints.length ? 1 : 0);
