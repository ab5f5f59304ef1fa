// The page behind Debian's nginx with the shipped configuration, at the root and under a path.
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import { PATIENCE, eventually, file, folder, freePort, fruit, run, serve, shows, turn, upload, visit } from './support.mjs';

const server = await serve();
const shipped = readFileSync(new URL('../../deploy/proxies/nginx.conf', import.meta.url), 'utf8');

/** Replaces a text of the configuration; fails without it. */
const put = (text, from, to) => {
  assert.ok(text.includes(from), `${from} is not in the configuration`);
  return text.replace(from, to);
};

/** Starts nginx with the shipped configuration, changed as its comments describe; returns its address and its log. */
const nginx = async (path = '/') => {
  const port = await freePort();
  const log = join(folder, `access${port}.log`);
  let site = put(shipped, 'server 127.0.0.1:8000;', `server ${new URL(server.url).host};`);
  site = put(site, 'listen 80;', `listen 127.0.0.1:${port};`);
  site = put(site, '/var/log/nginx/tidings.log', log);
  if (path !== '/') {
    site = put(site, 'location / {', `location ${path} {`);
    site = put(site, 'proxy_pass http://tidings;', 'proxy_pass http://tidings/;');
  }
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind}${port};`).join(' ');
  const all = `daemon off; master_process off; pid ${folder}/${port}.pid; error_log stderr; events { } http { ${places}\n${site}\n}\n`;
  const configuration = join(folder, `nginx${port}.conf`);
  writeFileSync(configuration, all);
  run('/usr/sbin/nginx', ['-p', folder, '-e', 'stderr', '-c', configuration]);
  const url = `http://127.0.0.1:${port}${path}`;
  await eventually('nginx', () => fetch(url).then((answer) => answer.ok, () => false));
  return { url, log: () => readFileSync(log, 'utf8') };
};

for (const path of ['/', '/live/']) {
  test(`viewers behind nginx share a table under ${path}`, async (t) => {
    const { url, log } = await nginx(path);
    const maker = await visit(t, url);
    const link = await upload(maker, file('orders.tsv', fruit(1234)));
    assert.ok(link.startsWith(`${url}tables/`), link);
    const guest = await visit(t, link);
    await shows(guest, 1);
    await turn(guest, 'Last page');
    await shows(maker, 1201);
    // As the owner again, from the list on home; no address contains the secret.
    await maker.goto(url);
    await maker.getByRole('link', { name: /orders\.tsv/ }).click();
    await shows(maker, 1201);
    await maker.getByRole('button', { name: 'Share', exact: true }).click();
    await maker.getByRole('heading', { name: 'Owner' }).waitFor();
    await maker.keyboard.press('Escape');
    const [download] = await Promise.all([guest.waitForEvent('download'), (async () => {
      await guest.getByRole('button', { name: 'File', exact: true }).click();
      await guest.getByRole('link', { name: 'the file' }).click();
    })()]);
    assert.equal(readFileSync(await download.path(), 'utf8'), fruit(1234));
    await guest.close();
    await maker.close();
    await eventually('the log of a WebSocket', () => /tables\/ws\/[0-9a-f-]{36} HTTP/.test(log()));
    assert.doesNotMatch(log(), /owner/);
  });
}

test('a file of 200 MB goes through nginx, and its first page shows before its end', async (t) => {
  const { url } = await nginx();
  const path = join(folder, 'big.tsv');
  const rows = fruit(100_000).split('\n').slice(1).join('\n');
  const big = openSync(path, 'w');
  writeSync(big, 'id\tarticle\tprice\tzip\n');
  let size = 22;
  let times = 0;
  for (; size < 200e6; times++) size += writeSync(big, rows);
  closeSync(big);
  const maker = await visit(t, url);
  await maker.getByLabel('Choose a file').setInputFiles(path);
  await maker.waitForURL(/\/tables\//);
  const guest = await visit(t, maker.url());
  await shows(guest, 1);
  const end = new RegExp(`big\\.tsv is complete: ${(times * 100_000).toLocaleString('en')} rows, 20\\d MB`);
  for (const page of [maker, guest]) {
    await page.getByText(end).waitFor({ timeout: 4 * PATIENCE });
    // Closed before nginx ends.
    await page.close();
  }
});
