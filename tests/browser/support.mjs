// Support for the tests of the page: the program, a browser, files, and waiting for conditions.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';

export const require = createRequire(`${process.env.TIDINGS_NODE_MODULES}/`);
const { chromium } = require('playwright-core');

/** Longest wait for a condition; far longer than necessary, because the machine may be busy. */
export const PATIENCE = 30_000;

/** The temporary folder of this test file. */
export const folder = mkdtempSync(join(tmpdir(), 'tidings-browser-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Waits until `look` returns a truthy value, and returns it. */
export const eventually = async (what, look) => {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) assert.fail(`${what}: not in ${PATIENCE / 1000} s`);
    await new Promise((wake) => { setTimeout(wake, 20); });
  }
};

/** Ends a process and waits for its exit. */
const end = (child) => new Promise((ended) => {
  if (child.exitCode !== null || child.signalCode !== null) return ended();
  child.on('exit', ended);
  child.kill('SIGTERM');
  setTimeout(() => child.kill('SIGKILL'), 12_000).unref();
});

/** Starts the program on a free port; returns its address and a function that stops it. It ends with the test. */
export const serve = async (...options) => {
  // The program reads every TIDINGS_… variable as an option.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDINGS_')));
  const child = spawn(process.env.TIDINGS_BIN, ['serve', '--tcp', '127.0.0.1:0', '--http', '127.0.0.1:0', '--data-dir', 'off', ...options], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', (text) => { log += text; });
  const stop = () => end(child);
  after(stop);
  let url;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith('http ')) url = line.slice(5);
    if (line === 'ready') return { url, stop, pid: child.pid, log: () => log };
  }
  assert.fail(`the program has ended: ${log}`);
};

/** Runs another server (nginx) until the test ends. */
export const run = (command, args) => {
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  after(() => end(child));
  return child;
};

/** A free port. */
export const freePort = () => new Promise((found) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => found(port));
  });
});

/** A proxy to `target` with connections that can be cut. */
export const cable = async (target) => {
  const { hostname, port } = new URL(target);
  const sockets = new Set();
  let isCut = false;
  const server = createServer((near) => {
    if (isCut) return near.destroy();
    const far = connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => { sockets.delete(one); other.destroy(); });
      one.pipe(other);
    }
    return undefined;
  });
  await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
  after(() => { server.close(); for (const socket of sockets) socket.destroy(); });
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    cut: () => { isCut = true; for (const socket of sockets) socket.destroy(); },
    mend: () => { isCut = false; },
  };
};

/** The browser of the tests of a file. */
export const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
after(() => browser.close());

/**
 * Opens an address in a new browser context, without stored data. Errors and warnings of the browser fail the test, except
 * those in `allow`, and so does a request to another host. `prepare` gets the context before the page is opened.
 */
export const visit = async (t, address, options = {}) => {
  const { allow = [], host = new URL(address).host, prepare, ...rest } = options;
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...rest });
  await prepare?.(context);
  context.setDefaultTimeout(PATIENCE);
  const complaints = [];
  context.on('console', (message) => { if (['error', 'warning'].includes(message.type())) complaints.push(message.text()); });
  context.on('weberror', (error) => complaints.push(String(error.error().stack)));
  context.on('request', (request) => {
    if (!request.url().startsWith('data:') && new URL(request.url()).host !== host) complaints.push(`requested ${request.url()}`);
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((text) => !allow.some((pattern) => pattern.test(text))), []);
  });
  const page = await context.newPage();
  await page.goto(address);
  return page;
};

/** Messages of the browser about a lost connection. */
export const LOST = /WebSocket connection to .* failed|ERR_INTERNET_DISCONNECTED|ERR_CONNECTION/;

/** The text of a table with this number of rows: a number, a fruit, a price, a zip code. */
export const fruit = (rows, delimiter = '\t') => {
  const names = ['Apples', 'Pears', 'Plums', 'Quinces', 'Cherries', 'Figs', 'Medlars'];
  const lines = [['id', 'article', 'price', 'zip'].join(delimiter)];
  for (let id = 1; id <= rows; id++) {
    lines.push([id, names[(id * 5) % 7], ((id * 7919) % 10_000) / 100, String((id * 37) % 99_999).padStart(5, '0')].join(delimiter));
  }
  return `${lines.join('\n')}\n`;
};

/** Writes a file for an upload. */
export const file = (name, text) => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

/** Uploads a file from home, and waits until its table is complete; returns its address. */
export const upload = async (page, path) => {
  await page.getByLabel('Choose a file').setInputFiles(path);
  await page.waitForURL(/\/tables\/[0-9a-f-]{36}$/);
  await page.getByText(/is complete: /).waitFor();
  return page.url();
};

/** The cells on screen, row by row. */
export const cells = (page) => page.locator('#rows').evaluate((area) => {
  const { top, bottom } = area.querySelector('#body').getBoundingClientRect();
  return [...area.querySelectorAll('#body .line')].flatMap((line) => {
    const { top: from, bottom: to } = line.getBoundingClientRect();
    return from >= top - 1 && to <= bottom + 1 ? [[...line.querySelectorAll('.cell')].map(({ textContent }) => textContent)] : [];
  });
});
/** The first cells of the rows on screen. */
export const ids = async (page) => (await cells(page)).map(([id]) => id);
export const firstId = async (page) => (await ids(page))[0];
/** Waits until the first row on screen begins with `id`; or, at the end of the table, any row. */
export const shows = (page, id) => eventually(`row ${id}`, async () => {
  const seen = await ids(page);
  const isAtEnd = await page.locator('#rows').evaluate((area) => area.scrollTop + area.clientHeight > area.scrollHeight - 2);
  return isAtEnd ? seen.includes(String(id)) : seen[0] === String(id);
});
export const turn = (page, name) => page.getByRole('button', { name, exact: true }).click();

/** The owner's secret of the table that this browser has opened last. */
export const secretOf = (page) => page.evaluate(() => Object.values(localStorage).flatMap((kept) => (kept.startsWith('[') ? JSON.parse(kept) : []))[0].owner);

/** Saves a screenshot. */
export const shot = async (page, name) => {
  const folder = process.env.TIDINGS_SHOTS ?? 'target/browser';
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
};
