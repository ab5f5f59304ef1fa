// The picture of the README: target/browser/readme-table.png, copied to docs/images/table.png when the page has changed.
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';

import { file, serve, shot, upload, visit } from './support.mjs';

const { url } = await serve();
const cities = ['Lisbon', 'Zürich', 'São Paulo', 'Osaka', 'Reykjavík'];
const articles = ['Apples', 'Pears', 'Plums', 'Quinces', 'Cherries', 'Figs', 'Medlars'];
/** A number below `count` that looks random, always the same for an id (Lehmer's generator). */
const pick = (id, count) => ((id * 48_271 * 16_807) % 2_147_483_647) % count;
const row = (id) => [id, articles[pick(id, 7)], (pick(id + 1, 9_900_000) / 100 + 1).toFixed(2), cities[pick(id, 5)], `2026-0${1 + pick(id, 9)}-1${pick(id + 2, 10)}`].join('\t');
const lines = ['id\tarticle\tprice\tcity\tordered', ...Array.from({ length: 123_456 }, (_, at) => row(at + 1))];
const orders = file('orders.tsv', `${lines.join('\n')}\n`);

test('a shared table, sorted and searched by one of two viewers', async (t) => {
  const page = await visit(t, url, { viewport: { width: 1000, height: 520 }, colorScheme: 'light' });
  const link = await upload(page, orders);
  await page.getByRole('columnheader', { name: /price/ }).getByText('decimal').waitFor();
  const guest = await visit(t, link);
  await page.getByText('2 viewing').waitFor();
  await guest.getByRole('button', { name: 'price', exact: true }).click();
  await guest.getByLabel('Search').fill('Lisbon');
  await page.getByText('found').waitFor();
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  await shot(page, 'readme-table');
  const picture = join(process.env.TIDINGS_SHOTS ?? 'target/browser', 'readme-table.png');
  assert.ok(statSync(picture).size < 150_000, 'the README stays light');
});
