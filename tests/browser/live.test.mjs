// Rows that are replaced and removed by key while people look at them.
import assert from 'node:assert/strict';
import test from 'node:test';

import { eventually, file, firstId, fruit, secretOf, serve, shot, shows, turn, upload, visit } from './support.mjs';

const { url } = await serve();
const orders = file('orders.tsv', fruit(1234));

/** A table with the key `id`, its maker and a guest, and a function that changes its rows. */
const live = async (t) => {
  const maker = await visit(t, url);
  const link = await upload(maker, orders);
  const guest = await visit(t, link);
  await shows(guest, 1);
  const uuid = new URL(link).pathname.split('/').pop();
  await guest.evaluate((address) => new Promise((keyed) => {
    const socket = new WebSocket(address);
    socket.onopen = () => socket.send('{"key":["id"]}');
    socket.onmessage = ({ data }) => {
      if (!JSON.parse(data).key) return;
      socket.close();
      keyed();
    };
  }), `${url.replace('http', 'ws')}tables/ws/${uuid}`);
  const authorization = `Bearer ${await secretOf(maker)}`;
  const change = async (method, body, query = '') => {
    const headers = { authorization, 'content-type': 'application/json' };
    const response = await fetch(`${url}tables/${uuid}/rows${query}`, { method, headers, body: JSON.stringify(body) });
    assert.equal(response.status, 200, await response.text());
  };
  return { maker, guest, upsert: (rows) => change('POST', rows, '?mode=upsert'), remove: (keys) => change('DELETE', keys) };
};
const text = (page, row, column, wanted) => eventually(`${wanted} in row ${row}`, async () => (await page.locator(`#r${row}c${column}`).textContent()) === wanted);

test('cells flash as their rows change, on the shared page and where a person has scrolled to', async (t) => {
  const { maker, guest, upsert } = await live(t);
  await guest.locator('#rows').evaluate((rows) => { rows.scrollTop = 500 * 30; });
  await eventually('rows far below', async () => (await guest.locator('[id^="r5"][id$="c1"]').count()) > 3);
  const away = Number((await guest.locator('[id^="r5"][id$="c1"]').nth(2).getAttribute('id')).match(/\d+/)[0]);
  for (const page of [maker, guest]) {
    await page.evaluate(() => {
      window.flashed = new Set();
      new MutationObserver(() => document.querySelectorAll('.cell.flash').forEach((cell) => window.flashed.add(`${cell.id} ${cell.textContent}`)))
        .observe(document.body, { subtree: true, attributes: true, childList: true, characterData: true });
    });
  }
  const row = async (page, id) => {
    const [price, zip] = await Promise.all([3, 4].map((column) => page.locator(`#r${id}c${column}`).textContent()));
    return { id, article: 'Sloes', price, zip };
  };
  // The first change has another author than the upload, so it is a view; the following ones are cells.
  await upsert([await row(maker, 4)]);
  await text(maker, 4, 2, 'Sloes');
  await upsert([await row(maker, 2), await row(guest, away)]);
  await text(maker, 2, 2, 'Sloes');
  await text(guest, away, 2, 'Sloes');
  const flashed = (page, cell) => eventually(`a flash of ${cell}`, () => page.evaluate((name) => window.flashed.has(name), cell));
  await flashed(maker, 'r2c2 Sloes');
  await flashed(guest, `r${away}c2 Sloes`);
  assert.deepEqual(await maker.evaluate(() => [...window.flashed].filter((name) => name.startsWith('r3'))), []);
  await shot(maker, 'live-cells');
});

test('a sorted view moves changed rows, and removed rows leave it', async (t) => {
  const { maker, guest, upsert, remove } = await live(t);
  await maker.getByRole('button', { name: 'id', exact: true }).click();
  await eventually('ascending', async () => guest.url().includes('sort=0'));
  await maker.getByRole('button', { name: 'id', exact: true }).click();
  await shows(guest, 1234);
  await upsert([{ id: '5000', article: 'Sloes' }]);
  await shows(guest, 5000);
  await remove(['5000', '1234']);
  await shows(guest, 1233);
  assert.equal(await firstId(maker), '1233');
});

test('a person at the end stays there while rows are appended, another one receives their number', async (t) => {
  const { maker, guest, upsert } = await live(t);
  await turn(maker, 'Last page');
  await shows(maker, 1201);
  await maker.locator('#rows').press('Control+End');
  await eventually('the last row', async () => (await maker.locator('#r1234c1').count()) === 1);
  await guest.locator('#rows').evaluate((rows) => { rows.scrollTop = 0; });
  await eventually('the first row', async () => (await guest.locator('#r1c1').count()) === 1);
  await upsert([{ id: '9001', article: 'Sloes' }, { id: '9002', article: 'Sloes' }]);
  await eventually('the new last row', async () => (await maker.locator('#r1236c1').count()) === 1);
  await guest.getByRole('button', { name: '2 new rows ↓' }).waitFor();
});

test('rows far from the page of a private view are requested again when the view has a higher version', async (t) => {
  const maker = await visit(t, url);
  const link = await upload(maker, orders);
  // Of a large table with many private views, rows far from the page change without a change of the page. A proxy on the connection
  // does so: after `announce`, the view has a higher version, and the rows below the first page have another article.
  let [view, version, hasChanged, announce] = [null, 0, false, () => {}];
  const prepare = (context) => context.routeWebSocket(/\/tables\/ws\//, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((message) => server.send(message));
    server.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.private) [view, version] = [message, Math.max(version, message.private.version)];
      if (message.private) message.private.version = version;
      if (message.rows?.private) message.rows.version = version;
      if (message.rows?.private && hasChanged) for (const row of message.rows.data) row[1] = 'Sloes';
      socket.send(JSON.stringify(message));
    });
    announce = () => {
      hasChanged = true;
      version += 1;
      view.private.version = version;
      socket.send(JSON.stringify(view));
    };
  });
  const guest = await visit(t, link, { prepare });
  await shows(guest, 1);
  await guest.getByRole('button', { name: 'Browse on my own' }).click();
  await eventually('a private view', () => view?.private);
  await guest.locator('#rows').evaluate((rows) => { rows.scrollTop = 600 * 30; });
  await text(guest, 610, 1, '610');
  const article = await guest.locator('#r610c2').textContent();
  assert.notEqual(article, 'Sloes');
  announce();
  await text(guest, 610, 2, 'Sloes');
  await shot(guest, 'live-far-rows');
});
