// The admin page: login, search and disconnect of a connection, channels with history, live tail and publish, two nodes.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import test from 'node:test';

import { eventually, freePort, require, run, serve, shot, visit } from './support.mjs';

const password = 'correct horse battery staple';
const hash = spawnSync(process.env.TIDINGS_BIN, ['admin', 'hash-password'], { input: `${password}\n`, encoding: 'utf8' }).stdout.trim();
const set = (...options) => options.flatMap((option) => ['--set', option]);
const history = ['channel.without_namespace.history_size=1000', 'channel.without_namespace.history_ttl=1h', 'channel.without_namespace.presence=true'];

const redisPort = await freePort();
run('redis-server', ['--port', String(redisPort), '--save', '', '--appendonly', 'no', '--loglevel', 'warning']);
await eventually('Redis', () => new Promise((done) => {
  const socket = connect(redisPort, '127.0.0.1', () => { socket.destroy(); done(true); });
  socket.on('error', () => done(false));
}));
const broker = `redis://127.0.0.1:${redisPort}`;
/** Two nodes of a workbench, and one server with a password. */
const [ann, bob] = [await serve('--broker', broker, ...set('node.name=ann', ...history)), await serve('--broker', broker, ...set('node.name=bob', ...history))];
const locked = await serve(...set(`admin.password_hash=${hash}`));
// The WebSocket of Node 20 is no global.
const WebSocket = require('../../sdk-node/node_modules/ws');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** A client of the client protocol in a page of the browser: connected, and subscribed to channels. */
const client = async (server, ...channels) => {
  const socket = new WebSocket(new URL('connection/websocket', server.url).href.replace('http', 'ws'));
  const lines = [];
  socket.onmessage = ({ data }) => lines.push(...String(data).split('\n').filter(Boolean));
  let isClosed = false;
  socket.onclose = () => { isClosed = true; };
  await new Promise((open) => { socket.onopen = open; });
  socket.send(JSON.stringify({ id: 1, connect: {} }));
  channels.forEach((channel, at) => socket.send(JSON.stringify({ id: at + 2, subscribe: { channel } })));
  await eventually('subscribed', () => lines.filter((line) => JSON.parse(line).id).length === channels.length + 1);
  return { id: JSON.parse(lines[0]).connect.client, isClosed: () => isClosed, close: () => socket.close() };
};

const api = async (server, method, body) => {
  const response = await fetch(new URL(`api/${method}`, server.url), { method: 'POST', body: JSON.stringify(body) });
  const { result, error } = await response.json();
  assert.equal(error, undefined, JSON.stringify(error));
  return result;
};

const open = (t, server, section = '', options = {}) => visit(t, `${server.url}admin/#/${section}`, options);
const logIn = async (page, text = password) => {
  await page.getByLabel('Password of the admin page').fill(text);
  await page.getByRole('button', { name: 'Log in' }).click();
};
const check = async (page, where) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ''}`).join('\n')}`), [], where);
};

test('a login opens the page, and the logout closes it', async (t) => {
  const page = await open(t, locked, '', { allow: [/401/] });
  await page.getByLabel('Password of the admin page').waitFor();
  assert.equal(await page.getByRole('navigation').isVisible(), false);
  await logIn(page, 'guess');
  await page.getByText('the password is wrong').waitFor();
  await logIn(page);
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict']);
  assert.equal(await page.evaluate(() => document.cookie), '', 'no script reads the session');
  await page.reload();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Password of the admin page').waitFor();
  assert.equal((await page.request.get(`${locked.url}admin/api/overview`)).status(), 401);
});

test('a session that ends while the page is open leads to the login', async (t) => {
  const page = await open(t, locked, 'channels', { allow: [/401/] });
  await logIn(page);
  await page.getByRole('heading', { name: 'Channels' }).waitFor();
  await page.context().clearCookies();
  await page.getByRole('searchbox').press('Enter');
  await page.getByLabel('Password of the admin page').waitFor();
});

test('too many wrong passwords are refused for a while', async (t) => {
  const server = await serve(...set(`admin.password_hash=${hash}`));
  const page = await open(t, server, '', { allow: [/401|429/] });
  for (let n = 0; n < 5; n++) {
    await logIn(page, `guess ${n}`);
    await page.getByText('the password is wrong').waitFor();
    await page.evaluate(() => { document.getElementById('login-error').textContent = ''; });
  }
  await logIn(page);
  await page.getByText(/too many attempts to log in; try again in \d+ s/).waitFor();
});

test('both nodes are shown, with charts of their rates', async (t) => {
  const clients = [await client(ann, 'news'), await client(bob, 'news')];
  t.after(() => clients.forEach((one) => one.close()));
  const page = await open(t, ann);
  const nodes = page.getByRole('table').locator('tbody tr');
  await eventually('two nodes', async () => (await nodes.count()) === 2);
  assert.match(await nodes.first().innerText(), /^ann \(this one\)/);
  assert.match(await nodes.nth(1).innerText(), /bob/);
  await eventually('a chart', async () => /Connections: now \d/.test(await page.getByRole('img', { name: /^Connections/ }).getAttribute('aria-label')));
  await eventually('its line', async () => (await page.locator('.chart .path').nth(2).getAttribute('points'))?.includes(' '));
});

test('a connection on another node is found, shown and disconnected', async (t) => {
  const [target, other] = [await client(bob, 'news', 'chat'), await client(ann, 'news')];
  t.after(() => other.close());
  const page = await open(t, ann, 'connections');
  await page.getByLabel('Search', { exact: true }).fill(target.id.slice(3, 20));
  await page.getByRole('button', { name: 'Search' }).click();
  await page.getByText('1 connection', { exact: true }).waitFor();
  await page.getByRole('button', { name: /^Details of/ }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(target.id).waitFor();
  await dialog.getByText('127.0.0.1').waitFor();
  await dialog.getByRole('link', { name: 'chat' }).waitFor();
  await dialog.getByText('bob').waitFor();
  await dialog.getByRole('button', { name: 'Disconnect' }).click();
  assert.equal(target.isClosed(), false, 'the first press asks');
  await dialog.getByRole('button', { name: 'Press again to disconnect' }).click();
  await eventually('the disconnect', target.isClosed);
  assert.equal(other.isClosed(), false);
  await page.getByLabel('Search', { exact: true }).fill('');
  await page.getByLabel('in channel').fill('news');
  // The node may list the connection for a moment after its end, and the list is not refreshed by itself.
  await eventually('the other one is left', async () => {
    await page.getByRole('button', { name: 'Search' }).click();
    return (await page.getByRole('button', { name: /^Details of/ }).count()) === 1;
  });
});

test('connections are listed by node', async (t) => {
  const clients = [await client(ann, 'by-node'), await client(bob, 'by-node'), await client(bob, 'by-node')];
  t.after(() => clients.forEach((one) => one.close()));
  const page = await open(t, ann, 'connections?channel=by-node');
  await page.getByText('3 connections', { exact: true }).waitFor();
  await page.getByLabel('on node').selectOption('bob');
  await page.getByText('2 connections', { exact: true }).waitFor();
  assert.deepEqual(await page.getByRole('region', { name: 'Connections' }).locator('tbody tr td:last-child').allInnerTexts(), ['bob', 'bob']);
  await page.getByLabel('on node').selectOption('all');
  await page.getByText('3 connections', { exact: true }).waitFor();
});

test('a channel is found, followed with a filter, published to, and its history is paged', async (t) => {
  const name = 'live <b>1</b>/é?';
  for (let n = 1; n <= 45; n++) await api(ann, 'publish', { channel: name, data: { n } });
  const one = await client(bob, name);
  t.after(() => one.close());
  const page = await open(t, ann, 'channels');
  await page.getByRole('searchbox').fill('LIVE*');
  await page.getByRole('searchbox').press('Enter');
  await page.getByText('0 of 0').waitFor();
  await page.getByRole('searchbox').fill('live');
  await page.getByRole('searchbox').press('Enter');
  await page.getByRole('link', { name }).click();
  await page.getByRole('heading', { name }).waitFor();
  await page.getByText('1 subscriber', { exact: false }).first().waitFor();
  // The history, the newest first.
  const offsets = () => page.getByRole('region', { name: 'History' }).locator('tbody td:first-of-type').allInnerTexts();
  await eventually('a page of the history', async () => (await offsets()).length === 20);
  assert.equal((await offsets())[0], '45');
  const older = page.getByRole('button', { name: 'Older' });
  await older.click();
  await eventually('the second page', async () => (await offsets()).length === 40);
  await older.click();
  await eventually('the last page', async () => (await offsets()).length === 45);
  assert.equal((await offsets()).at(-1), '1');
  await older.waitFor({ state: 'hidden' });
  // The live tail, and publish.
  await page.getByRole('button', { name: 'Start' }).click();
  await page.getByText(/Following: 0 received/).waitFor();
  await page.getByLabel('Filter').fill('SCARF');
  for (const text of ['{"a":"red scarf"}', 'a hat', '<img src=x onerror=alert(1)> scarf']) {
    await page.getByLabel('Data').fill(text);
    await page.getByRole('button', { name: 'Publish' }).click();
    await page.getByText(/Published at offset/).waitFor();
    await eventually('the field is empty', async () => (await page.getByLabel('Data').inputValue()) === '');
  }
  const shown = page.getByRole('log').locator('p');
  await eventually('two matches', async () => (await shown.count()) === 2);
  assert.match((await shown.allInnerTexts()).join('\n'), /red scarf.*onerror/s);
  await page.getByText(/Following: 3 received, 2 of the last 3 match/).waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('Stopped.').waitFor();
  // The client is in the presence.
  await page.getByRole('region', { name: 'Presence' }).getByText(one.id).waitFor();
});

test('the list of slow consumers names a node on which not all connections were examined', async (t) => {
  const page = await open(t, ann, 'connections');
  await page.route('**/admin/api/connections', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), incomplete: ['bob'] } });
  });
  await page.getByLabel('Slow consumers, longest queues first').check();
  await page.getByText('not all connections were examined within 2 s on bob').waitFor();
});

test('options of namespaces, and warnings of all nodes', async (t) => {
  const page = await open(t, ann, 'namespaces');
  await page.getByText('Channels without a namespace').waitFor();
  await page.getByText('history_size').waitFor();
  await page.getByRole('link', { name: 'Log' }).click();
  await page.getByText(/this is a workbench/).first().waitFor();
  await page.getByLabel('Filter').fill('no line has this');
  await page.getByText(/^0 of the last/).waitFor();
});

test('a table is deleted for its viewers', async (t) => {
  const server = await serve();
  const body = new FormData();
  body.append('file', new Blob(['a\tb\n1\t2\n']), 'orders.tsv');
  const viewer = await visit(t, server.url);
  await viewer.getByLabel('Choose a file').setInputFiles({ name: 'orders.tsv', mimeType: 'text/plain', buffer: Buffer.from('a\tb\n1\t2\n') });
  await viewer.waitForURL(/\/tables\//);
  await viewer.getByText(/is complete: /).waitFor();
  const page = await open(t, server, 'tables');
  const openTables = page.getByRole('region', { name: 'Open tables' });
  await openTables.getByText('orders.tsv').waitFor();
  const stored = page.getByRole('region', { name: 'Stored tables' });
  await stored.getByText('orders.tsv').waitFor();
  assert.match(await stored.locator('tbody tr').innerText(), new RegExp(`orders.tsv.*${viewer.url().match(/[0-9a-f-]{36}/)[0]}.* kB.* s ago`, 's'));
  await openTables.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('button', { name: 'Press again' }).click();
  await page.getByText(/^0 open/).waitFor();
  await page.getByText(/^0 stored/).waitFor();
  await viewer.getByText(/deleted this table/).waitFor();
});

test('every section is reached and used by the keyboard alone', async (t) => {
  const one = await client(ann, 'news');
  t.after(() => one.close());
  const page = await open(t, ann);
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') || document.activeElement?.textContent || document.activeElement?.id);
  const path = [];
  for (let i = 0; i < 7; i++) {
    await page.keyboard.press('Tab');
    path.push(await focused());
  }
  assert.deepEqual(path, ['tidings admin, overview', 'Overview', 'Connections', 'Channels', 'Namespaces', 'Tables', 'Log']);
  await page.getByRole('link', { name: 'Connections' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Connections' }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'view', 'the focus follows to the section');
  await page.keyboard.press('Tab');
  await page.keyboard.type(one.id);
  await page.keyboard.press('Enter');
  await page.getByText('1 connection', { exact: true }).waitFor();
  const details = page.getByRole('button', { name: /^Details of/ });
  await details.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await eventually('the focus returns', async () => /^Details of/.test(await focused()));
});

for (const [width, height] of [[1280, 800], [390, 844]]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`no violation of axe-core, and screenshots: ${width}×${height}, ${colorScheme}`, async (t) => {
      const clients = [];
      for (let n = 0; n < 12; n++) clients.push(await client(n % 2 ? ann : bob, 'news', `scores:${n}`));
      t.after(() => clients.forEach((one) => one.close()));
      for (let n = 0; n < 30; n++) await api(ann, 'publish', { channel: 'news', data: { headline: `Match day: goal ${n}`, n } });
      const page = await open(t, ann, '', { viewport: { width, height }, colorScheme, bypassCSP: true });
      const picture = (name) => shot(page, `admin-${name}-${width}-${colorScheme}`);
      await eventually('two nodes', async () => (await page.getByRole('table').locator('tbody tr').count()) === 2);
      await eventually('a line', async () => (await page.locator('.chart .path').first().getAttribute('points'))?.includes(' '));
      await check(page, 'overview');
      await picture('overview');
      for (const [section, ready] of [['connections', '12 connections'], ['channels', /of \d+ channels/], ['channel/news', /publications, the newest first/], ['namespaces', 'history_size'], ['tables', /open; tables/], ['log', /of the last/]]) {
        await page.goto(`${ann.url}admin/#/${section}`);
        await page.getByText(ready).first().waitFor();
        if (section === 'channel/news') {
          await page.getByRole('button', { name: 'Start' }).click();
          await page.getByText(/Following/).waitFor();
          await api(ann, 'publish', { channel: 'news', data: { headline: 'Final score' } });
          await page.getByRole('log').getByText('Final score').waitFor();
        }
        await check(page, section);
        await picture(section.replace('/', '-'));
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${section} fits into the window`);
      }
      await page.goto(`${ann.url}admin/#/connections`);
      await page.getByRole('button', { name: /^Details of/ }).first().click();
      await page.getByRole('dialog').getByText('Client id').waitFor();
      await check(page, 'the details of a connection');
      await picture('details');
      const login = await open(t, locked, '', { viewport: { width, height }, colorScheme, bypassCSP: true, allow: [/401/] });
      await login.getByLabel('Password of the admin page').waitFor();
      await check(login, 'the login');
      await shot(login, `admin-login-${width}-${colorScheme}`);
    });
  }
}

test('the picture of the documentation', async (t) => {
  const server = await serve('--broker', broker, ...set('node.name=tidings-3'));
  const clients = [];
  for (let n = 0; n < 20; n++) clients.push(await client(n % 2 ? ann : server, 'news'));
  let isDone = false;
  t.after(() => { isDone = true; clients.forEach((one) => one.close()); });
  const publishing = (async () => {
    for (let n = 0; !isDone; n++) await api(ann, 'publish', { channel: 'news', data: { n } });
  })();
  const page = await open(t, ann, '', { viewport: { width: 1000, height: 640 }, colorScheme: 'light' });
  await eventually('some samples', async () => ((await page.locator('.chart .path').first().getAttribute('points')) ?? '').split(' ').length > 8);
  await shot(page, 'admin-docs');
  isDone = true;
  await publishing;
  const picture = join(process.env.TIDINGS_SHOTS ?? 'target/browser', 'admin-docs.png');
  assert.ok(statSync(picture).size < 100_000, 'the documentation stays light');
});
