// A meeting of three people about one big file: they upload it, point, browse alone, show, undo and group, while a feed changes rows.
// TIDINGS_MEETING_MB is the size of the file in megabytes: 20, and 1,000 in `make test-meeting`.
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import { cells, eventually, folder, firstId, secretOf, serve, shot, shows, turn, visit } from './support.mjs';

const server = await serve();
const MEGABYTES = Number(process.env.TIDINGS_MEETING_MB ?? 20);
/** Bounds of the documentation that apply to this meeting (docs/bounds.md): keys, one grouped view, queries and pages; and the program itself. */
const MEMORY = (256 + 64 + 64 + 128 + 64) * 2 ** 20;
/** The longest pause between two frames of a page, and of a response of the server: far above what a person notices, because other tests may run. */
const FROZEN = 3_000;

const ARTICLES = ['Apples', 'Pears', 'Plums', 'Quinces', 'Cherries', 'Figs', 'Medlars'];
const article = (id) => ARTICLES[(id * 5) % 7];
const cents = (id) => (id * 7919) % 10_000;
const note = 'Delivered to the market hall in the morning; the crates go back with the next tour. '.repeat(5);

/** Writes the file of the meeting. Returns its path and its number of rows. */
const write = () => {
  const path = join(folder, 'orders.tsv');
  const out = openSync(path, 'w');
  let [rows, size, lines] = [0, 0, 'id\tarticle\tprice\tnote\n'];
  while (size < MEGABYTES * 1e6) {
    rows += 1;
    lines += `${rows}\t${article(rows)}\t${cents(rows) / 100}\t${note}${rows % 1000}\n`;
    if (rows % 1000 === 0) {
      size += writeSync(out, lines);
      lines = '';
    }
  }
  size += writeSync(out, lines);
  closeSync(out);
  return { path, rows };
};

/** Sets the key of a table. */
const setKey = (page, address) => page.evaluate((url) => new Promise((keyed, failed) => {
  const socket = new WebSocket(url);
  socket.onopen = () => socket.send('{"key":["id"]}');
  socket.onmessage = ({ data }) => {
    const { key, error } = JSON.parse(data);
    if (error) failed(new Error(error.message));
    if (key) { socket.close(); keyed(); }
  };
}), address);

/** Changes prices without a pause until it is stopped. Returns the newest prices in cents, by id. */
const feed = (link, secret, rows) => {
  const prices = new Map();
  let [stopped, request] = [false, 0];
  const run = async () => {
    while (!stopped) {
      const changes = Array.from({ length: 20 }, (_, i) => ((request * 20 + i) * 37) % rows + 1).map((id) => [id, cents(id + request)]);
      const body = JSON.stringify(changes.map(([id, price]) => ({ id: String(id), article: article(id), price: String(price / 100), note: `changed by request ${request}` })));
      const headers = { authorization: `Bearer ${secret}`, 'content-type': 'application/json' };
      const response = await fetch(`${link}/rows?mode=upsert`, { method: 'POST', headers, body });
      assert.equal(response.status, 200, await response.text());
      for (const [id, price] of changes) prices.set(id, price);
      request += 1;
    }
    return prices;
  };
  const running = run();
  running.catch(() => {});
  return { prices, requests: () => request, stop: () => { stopped = true; return running; } };
};

/** Observes what a page says about changes, and the longest pause between its frames. */
const observe = (page) => page.evaluate(() => {
  window.said = [];
  new MutationObserver(() => window.said.push(document.getElementById('turned').textContent)).observe(document.getElementById('turned'), { childList: true, characterData: true, subtree: true });
  let last = performance.now();
  window.frozen = 0;
  const frame = () => {
    const now = performance.now();
    window.frozen = Math.max(window.frozen, now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
});

/** The greatest memory of a process, without pages of files. */
const memory = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssAnon:\s+(\d+) kB$/m)[1]) * 1024;

test('three people hold a meeting over a big file while a feed changes its rows', async (t) => {
  const { path, rows } = write();
  const watch = { memory: 0, slowest: 0, ended: false };
  const watching = (async () => {
    while (!watch.ended) {
      const asked = performance.now();
      const { ok } = await fetch(`${server.url}health`);
      assert.ok(ok, 'the server is healthy');
      watch.slowest = Math.max(watch.slowest, performance.now() - asked);
      watch.memory = Math.max(watch.memory, memory(server.pid));
      await new Promise((wake) => { setTimeout(wake, 50); });
    }
  })();

  // Ann uploads; Bob and Eve open the link.
  const ann = await visit(t, server.url);
  await ann.getByLabel('Choose a file').setInputFiles(path);
  await ann.waitForURL(/\/tables\/[0-9a-f-]{36}$/);
  const link = ann.url();
  await shows(ann, 1);
  const [bob, eve] = [await visit(t, link), await visit(t, link)];
  const all = [ann, bob, eve];
  await Promise.all(all.map((page) => shows(page, 1)));
  await ann.getByText(/is complete: /).waitFor({ timeout: 600_000 });
  for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob'], [eve, 'Eve']]) {
    await page.locator('#people-open').click();
    await page.getByLabel('Your name').fill(name);
    await page.getByRole('button', { name: 'Save' }).click();
  }
  await Promise.all(all.map((page) => page.getByRole('button', { name: '3 viewing' }).waitFor()));
  await setKey(bob, `${link.replace('http', 'ws').replace('/tables/', '/tables/ws/')}`);
  await Promise.all(all.map(observe));
  const changes = feed(link, await secretOf(ann), rows);
  const isFed = (before) => eventually('further changes', () => changes.requests() > before + 1);
  await isFed(0);

  // Bob points.
  await bob.locator('#r3c2').click();
  for (const page of [ann, eve]) await page.locator('#marks .theirs', { hasText: 'Bob' }).waitFor();
  await isFed(changes.requests());

  // Eve browses figs alone, and shows them.
  await eve.getByRole('button', { name: 'Browse on my own' }).click();
  await eve.getByText('Browsing on your own. The others are on page 1.').waitFor();
  await eve.getByLabel('Search').fill('Figs');
  const isFiltered = (page) => eventually('figs alone', async () => { const found = await cells(page); return found.length > 5 && found.every((row) => row[1] === 'Figs'); });
  await isFiltered(eve);
  await turn(eve, 'Next page');
  const figs = Array.from({ length: 800 }, (_, i) => i + 1).filter((id) => article(id) === 'Figs');
  await shows(eve, figs[100]);
  for (const page of [ann, bob]) assert.equal(await firstId(page), '1');
  await eve.getByRole('button', { name: 'Show it to everyone' }).click();
  await Promise.all(all.map((page) => shows(page, figs[100])));
  await isFed(changes.requests());

  // Ann undoes it.
  await ann.getByRole('button', { name: 'Undo', exact: true }).click();
  await Promise.all(all.map((page) => shows(page, 1)));

  // Bob groups, with a chart.
  await bob.getByRole('columnheader', { name: /price/ }).getByText('decimal').waitFor({ timeout: 600_000 });
  await bob.getByRole('button', { name: 'Group', exact: true }).click();
  const dialog = bob.getByRole('dialog', { name: 'Group rows' });
  await dialog.getByLabel('Column 1 to group by').selectOption({ label: 'article' });
  await dialog.getByLabel('Function of measure 2').selectOption('sum');
  await dialog.getByLabel('Column of measure 2').selectOption({ label: 'price' });
  await dialog.getByLabel('Chart').selectOption('bar');
  await dialog.getByRole('button', { name: 'Group', exact: true }).click();
  for (const page of all) {
    const chart = page.getByRole('img', { name: /^Bar chart: count by article, 7 groups\. From / });
    await chart.waitFor();
    assert.equal(await chart.locator('.bar').count(), 7);
  }
  // Bob has pointed at a cell of the rows, and at none of the groups.
  for (const page of [ann, eve]) await eventually('no cursor among the groups', async () => await page.locator('#marks .theirs').count() === 0);
  await isFed(changes.requests());
  await shot(ann, 'meeting');

  // The sums follow the feed.
  await changes.stop();
  const sums = new Map(ARTICLES.map((name) => [name, [0, 0]]));
  for (let id = 1; id <= rows; id++) {
    const sum = sums.get(article(id));
    sum[0] += 1;
    sum[1] += changes.prices.get(id) ?? cents(id);
  }
  const expected = JSON.stringify([...sums].sort().map(([name, [count, sum]]) => [name, String(count), String(sum / 100)]));
  for (const page of all) await eventually('the sums of the newest prices', async () => JSON.stringify(await cells(page)) === expected);

  // Without the groups, the newest rows are there.
  await eve.getByRole('button', { name: 'Remove grouping: by article' }).click();
  for (const page of all) {
    await shows(page, 1);
    await eventually('the newest price of the first row', async () => (await cells(page))[0][2] === String((changes.prices.get(1) ?? cents(1)) / 100));
  }

  // No message was false, no page and no request was blocked, and the server has kept its bound of memory.
  const said = [
    [ann, ['Eve searched for “Figs”.', 'You ended the search.', 'Bob grouped the rows by article.', 'Eve showed the rows.']],
    [bob, ['Eve searched for “Figs”.', 'Ann ended the search.', 'You grouped the rows by article.', 'Eve showed the rows.']],
    [eve, ['You searched for “Figs”.', 'Ann ended the search.', 'Bob grouped the rows by article.', 'You showed the rows.']],
  ];
  for (const [page, expected] of said) {
    assert.deepEqual(await page.evaluate(() => window.said), expected);
    const frozen = await page.evaluate(() => window.frozen);
    assert.ok(frozen < FROZEN, `a page was frozen for ${frozen} ms`);
  }
  watch.ended = true;
  await watching;
  assert.ok(watch.slowest < FROZEN, `the server has not responded for ${watch.slowest} ms`);
  assert.ok(watch.memory < MEMORY, `${watch.memory} bytes of memory`);
  t.diagnostic(`${rows} rows, ${changes.requests() * 20} changes, at most ${Math.round(watch.memory / 1e6)} MB of memory, ${Math.round(watch.slowest)} ms until a response`);
});
