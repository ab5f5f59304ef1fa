// Following and private browsing; the state in an address; keys.
import assert from 'node:assert/strict';
import test from 'node:test';

import { eventually, file, firstId, fruit, serve, shows, turn, upload, visit } from './support.mjs';

const { url } = await serve();
const orders = file('orders.tsv', fruit(1234));

const two = async (t) => {
  const maker = await visit(t, url);
  const guest = await visit(t, await upload(maker, orders));
  await shows(guest, 1);
  return [maker, guest];
};

test('private browsing leaves the shared view, shows its page, and ends with Esc', async (t) => {
  const [maker, guest] = await two(t);
  await guest.getByRole('button', { name: 'Browse on my own' }).click();
  await turn(guest, 'Next page');
  await shows(guest, 101);
  await turn(guest, 'Next page');
  await shows(guest, 201);
  assert.equal(await firstId(maker), '1');
  await turn(maker, 'Last page');
  await guest.getByText('Browsing on your own. The others are on page 13.').waitFor();
  assert.equal(await firstId(guest), '201');
  await guest.keyboard.press('Escape');
  await shows(guest, 1201);
  await guest.locator('#banner').waitFor({ state: 'hidden' });
});

test('a private page can be shown to all viewers', async (t) => {
  const [maker, guest] = await two(t);
  await guest.getByRole('button', { name: 'Browse on my own' }).click();
  await turn(guest, 'Last page');
  await shows(guest, 1201);
  await guest.getByRole('button', { name: 'Show it to everyone' }).click();
  await shows(maker, 1201);
  await turn(maker, 'First page');
  await shows(guest, 1);
});

test('private browsing has its own order of rows', async (t) => {
  const [maker, guest] = await two(t);
  await guest.getByRole('button', { name: 'Browse on my own' }).click();
  await turn(guest, 'Next page');
  await shows(guest, 101);
  await maker.getByRole('button', { name: 'id', exact: true }).click();
  await eventually('ascending', async () => maker.url().includes('sort=0'));
  await maker.getByRole('button', { name: 'id', exact: true }).click();
  await shows(maker, 1234);
  await turn(guest, 'Next page');
  await shows(guest, 201);
  await guest.keyboard.press('Escape');
  await shows(guest, 1234);
});

test('the address contains page, sort, filter and search', async (t) => {
  const [maker, guest] = await two(t);
  await maker.getByRole('button', { name: 'id', exact: true }).click();
  await maker.getByLabel('Search').fill('s');
  await eventually('a search', async () => maker.url().includes('search=s'));
  await turn(maker, 'Next page');
  for (const page of [maker, guest]) await eventually('the address', async () => new URL(page.url()).search === '?page=2&sort=0&search=s');
});

test('the address of another page opens it privately', async (t) => {
  const [maker, guest] = await two(t);
  await guest.goto(`${maker.url()}?page=3`);
  await shows(guest, 201);
  await guest.getByText('Browsing on your own. The others are on page 1.').waitFor();
  assert.equal(await firstId(maker), '1');
  // The same after a reload.
  await guest.reload();
  await shows(guest, 201);
  assert.equal(await firstId(maker), '1');
  await guest.getByRole('button', { name: 'Follow the others' }).click();
  await shows(guest, 1);
});

test('the address of another order opens privately, and is shown to everyone on request', async (t) => {
  const [maker, guest] = await two(t);
  const link = `${maker.url()}?page=2&sort=-0&filter=1.equals.Figs`;
  await guest.goto(link);
  const first = Array.from({ length: 1234 }, (_, i) => 1234 - i).filter((id) => (id * 5) % 7 === 5)[100];
  await shows(guest, first);
  assert.equal(await firstId(maker), '1');
  assert.equal(guest.url(), link);
  await guest.getByRole('button', { name: 'Show it to everyone' }).click();
  for (const page of [maker, guest]) await shows(page, first);
  await guest.locator('#banner').waitFor({ state: 'hidden' });
});

test('keys turn pages, search and end private browsing', async (t) => {
  const [maker, guest] = await two(t);
  const presses = [['n', 101], ['n', 201], ['p', 101], ['p', 1], ['Shift+G', 1201], ['g', 1]];
  for (const [key, id] of presses) {
    await maker.keyboard.press(key);
    await shows(maker, id);
    await shows(guest, id);
  }
  await maker.keyboard.press('/');
  await maker.keyboard.type('ngn');
  await eventually('a search', async () => maker.url().endsWith('?search=ngn'));
  await maker.keyboard.press('Escape');
  await maker.keyboard.press('?');
  await maker.getByRole('dialog', { name: 'Keys' }).waitFor();
  await maker.keyboard.press('Escape');
  await maker.getByRole('dialog', { name: 'Keys' }).waitFor({ state: 'hidden' });
});
