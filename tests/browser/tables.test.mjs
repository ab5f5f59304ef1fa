// A table with two viewers: both see every change of either one.
import assert from 'node:assert/strict';
import test from 'node:test';

import { cells, eventually, file, fruit, ids, secretOf, serve, shows, turn, upload, visit } from './support.mjs';

const { url } = await serve();
const orders = file('orders.tsv', fruit(1234));

/** Two viewers of one table; the first has created it. */
const two = async (t) => {
  const maker = await visit(t, url);
  const link = await upload(maker, orders);
  const guest = await visit(t, link);
  await shows(guest, 1);
  return [maker, guest];
};

/** A button in the header of a column. */
const column = (page, name) => page.getByRole('button', { name, exact: true });

test('both viewers see an uploaded file with its number of rows', async (t) => {
  const [maker, guest] = await two(t);
  assert.match(await maker.getByText('is complete').innerText(), /orders\.tsv is complete: 1,234 rows/);
  for (const page of [maker, guest]) {
    assert.equal(await page.getByRole('heading', { name: 'orders.tsv' }).count(), 1);
    const shown = await ids(page);
    assert.ok(shown.length > 10, `${shown.length} rows`);
    assert.deepEqual(shown, shown.map((_, i) => String(i + 1)));
    await page.getByText('1–100 of 1,234').waitFor();
    await page.getByText('2 viewing').waitFor();
    assert.deepEqual(await page.getByRole('columnheader').locator('.sort').allInnerTexts(), ['id', 'article', 'price', 'zip']);
  }
  // Exactly as written.
  assert.equal((await cells(guest))[0].at(-1), '00037');
});

test('a page turn of either viewer applies to both', async (t) => {
  const [maker, guest] = await two(t);
  const both = async (id) => { await shows(maker, id); await shows(guest, id); };
  await turn(maker, 'Next page');
  await both(101);
  await maker.getByText('You turned to page 2.').waitFor();
  await guest.getByText(/^[A-Z]\w+ [A-Z]\w+ turned to page 2\.$/).waitFor();
  await turn(guest, 'Last page');
  await both(1201);
  await turn(maker, 'Previous page');
  await both(1101);
  await turn(guest, 'First page');
  await both(1);
  await guest.getByLabel('Page', { exact: true }).fill('7');
  await guest.keyboard.press('Enter');
  await both(601);
  await maker.getByLabel('Rows per page').selectOption('25');
  await guest.getByText('601–625 of 1,234').waitFor();
});

test('three fast clicks turn three pages', async (t) => {
  const [maker, guest] = await two(t);
  const click = (...names) => maker.evaluate((ids) => { for (const id of ids) document.getElementById(id).click(); }, names);
  await click('next', 'next', 'next');
  for (const page of [maker, guest]) await shows(page, 301);
  await click('next', 'previous', 'previous');
  for (const page of [maker, guest]) await shows(page, 201);
});

test('viewers who join or leave change neither the rows nor a selected text', async (t) => {
  const [maker] = await two(t);
  // The column facts arrive later, and may align numbers to the right.
  await maker.getByRole('columnheader', { name: /price/ }).getByText('decimal').waitFor();
  await maker.locator('#r3c2').evaluate((cell) => getSelection().selectAllChildren(cell));
  const selected = () => maker.evaluate(() => [getSelection().anchorNode.textContent, getSelection().anchorNode.isConnected]);
  const before = await selected();
  assert.match(before[0], /^[A-Z][a-z]+$/);
  const third = await visit(t, maker.url());
  await maker.getByText('3 viewing').waitFor();
  assert.deepEqual(await selected(), before);
  await third.close();
  await maker.getByText('2 viewing').waitFor();
  assert.deepEqual(await selected(), before);
});

test('a file without rows is reported', async (t) => {
  const maker = await visit(t, url);
  await maker.getByLabel('Choose a file').setInputFiles(file('empty.csv', ''));
  await maker.getByText('The file has no rows.').waitFor();
});

test('buttons at the first and the last page are disabled', async (t) => {
  const [maker] = await two(t);
  const off = (name) => maker.getByRole('button', { name, exact: true }).isDisabled();
  assert.deepEqual([await off('First page'), await off('Previous page'), await off('Next page')], [true, true, false]);
  await turn(maker, 'Last page');
  await shows(maker, 1201);
  assert.deepEqual([await off('Next page'), await off('Last page'), await off('First page')], [true, true, false]);
  await maker.getByLabel('Page', { exact: true }).fill('9999');
  await maker.keyboard.press('Enter');
  await eventually('the last page', async () => (await maker.getByLabel('Page', { exact: true }).inputValue()) === '13');
});

test('clicks of either viewer sort a column ascending, descending, and not at all', async (t) => {
  const [maker, guest] = await two(t);
  const prices = async (page) => (await cells(page)).map(([, , price]) => Number(price));
  const order = (page) => page.getByRole('columnheader').nth(3).getAttribute('aria-sort');
  await column(maker, 'price').click();
  await eventually('up', async () => (await order(guest)) === 'ascending');
  assert.deepEqual(await prices(guest), (await prices(guest)).toSorted((a, b) => a - b));
  await column(guest, 'price').click();
  await eventually('down', async () => (await order(maker)) === 'descending');
  assert.deepEqual(await prices(maker), (await prices(maker)).toSorted((a, b) => b - a));
  await column(maker, 'price').click();
  await eventually('back', async () => (await order(guest)) === 'none');
  await shows(guest, 1);
});

test('a filter and a search of either viewer apply to both, and can be removed', async (t) => {
  const [maker, guest] = await two(t);
  await maker.getByRole('button', { name: 'Filter article' }).click();
  await maker.getByLabel('Condition').selectOption('equals');
  await maker.getByLabel('Value').fill('Figs');
  await maker.getByRole('button', { name: 'Filter', exact: true }).click();
  await guest.getByText('1–100 of 177').waitFor();
  await guest.getByLabel('Search').fill('0003');
  await eventually('one row', async () => (await maker.getByText('found').count()) === 1 && (await ids(maker)).length < 5);
  for (const page of [maker, guest]) {
    for (const row of await cells(page)) assert.match(row.join(' '), /Figs.*0003/s);
  }
  await guest.getByRole('button', { name: 'Remove filter: article equals Figs' }).click();
  await guest.getByLabel('Search').fill('');
  await maker.getByText('1–100 of 1,234').waitFor();
});

test('a search ignores accents for everyone when a viewer has chosen so', async (t) => {
  const maker = await visit(t, url);
  await upload(maker, { name: 'places.csv', mimeType: 'text/csv', buffer: Buffer.from('id,place\n1,Zürich\n2,Zurich\n3,Łódź\n') });
  await maker.getByLabel('Search').fill('zurich');
  await maker.getByText('1 row found').waitFor();
  const guest = await visit(t, maker.url());
  await guest.getByText('1 row found').waitFor();
  await guest.getByRole('button', { name: 'File', exact: true }).click();
  await guest.getByLabel('Ignore accents').check();
  for (const page of [maker, guest]) await page.getByText('2 rows found').waitFor();
  await maker.getByLabel('Search').fill('lodz');
  await eventually('the row', async () => (await cells(guest)).some((row) => row.includes('Łódź')));
  const direct = await visit(t, `${maker.url().split('?')[0]}?search=zurich&ignore_accents=1`);
  await direct.getByText('2 rows found').waitFor();
});

test('column facts are in the header and the menu of the column', async (t) => {
  const [maker] = await two(t);
  await maker.getByRole('columnheader', { name: /price/ }).getByText('decimal').waitFor();
  await maker.locator('#head svg').first().waitFor();
  await maker.getByRole('button', { name: 'Filter article' }).click();
  const menu = maker.getByRole('dialog', { name: 'article' });
  assert.match(await menu.innerText(), /Distinct\s+7/);
  await menu.getByRole('button', { name: /^Figs/ }).click();
  await maker.getByText('1–100 of 177').waitFor();
});

test('an upload replaces the file for both, and can be aborted', async (t) => {
  const [maker, guest] = await two(t);
  guest.once('dialog', (dialog) => dialog.dismiss());
  await guest.locator('#file').setInputFiles(file('other.csv', 'name,age\nEve,3\n'));
  await turn(guest, 'Next page');
  await shows(maker, 101);
  const questions = [];
  guest.on('dialog', (dialog) => { questions.push(dialog.message()); dialog.accept(); });
  await guest.locator('#file').setInputFiles(file('other.csv', 'name,age\n"Ada, Countess",36\n<b>Bob</b>,7\n'));
  await maker.getByRole('heading', { name: 'other.csv' }).waitFor();
  for (const page of [maker, guest]) await eventually('rows', async () => (await ids(page)).join('|') === 'Ada, Countess|<b>Bob</b>');
  assert.equal(await maker.locator('#body b').count(), 0, 'a cell became markup');
  assert.deepEqual(questions, ['Replace orders.tsv by other.csv for everyone who views this table?']);

  // Slow enough to be aborted in the middle.
  const big = file('big.tsv', fruit(1_500_000));
  const slow = await guest.context().newCDPSession(guest);
  await slow.send('Network.enable');
  await slow.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 4e6 });
  await guest.locator('#file').setInputFiles(big);
  await guest.getByRole('button', { name: 'Abort' }).click();
  await guest.getByText('The upload was aborted.').waitFor();
  for (const page of [maker, guest]) {
    await eventually('the old table', async () => (await page.getByRole('heading', { name: 'other.csv' }).count()) === 1 && (await ids(page)).length === 2);
    await page.locator('#work').waitFor({ state: 'hidden' });
  }
});

test('appended rows appear marked on the last page', async (t) => {
  const [maker, guest] = await two(t);
  await turn(maker, 'Last page');
  for (const page of [maker, guest]) {
    await shows(page, 1201);
    await page.keyboard.press('Control+End');
    await eventually('the last row', async () => (await ids(page)).includes('1234'));
  }
  // The mark fades, and polling may be late on a busy machine: each page itself records the ids of all marked rows.
  const pages = [maker, guest];
  for (const page of pages) {
    await page.evaluate(() => {
      window.marked = [];
      new MutationObserver(() => {
        const marked = [...document.querySelectorAll('.line.fresh')].map((row) => row.querySelector('.cell').textContent).join();
        if (window.marked.at(-1) !== marked) window.marked.push(marked);
      }).observe(document.querySelector('#body'), { childList: true });
    });
  }
  const secret = await secretOf(maker);
  const answer = await fetch(`${new URL(maker.url()).origin}${new URL(maker.url()).pathname}/rows`, {
    method: 'POST', headers: { authorization: `Bearer ${secret}` }, body: '1235\tKiwis\t1.5\t00001\n',
  });
  assert.ok(answer.ok, await answer.text());
  for (const page of pages) {
    await page.getByText('1,201–1,235 of 1,235', { exact: true }).waitFor();
    // The facts of the longer table are drawn later; the mark outlives that.
    await eventually('facts of the longer table', async () => {
      await page.getByRole('button', { name: 'Filter id' }).click();
      const menu = page.getByRole('dialog', { name: 'id' });
      const text = await menu.innerText();
      await page.keyboard.press('Escape');
      await menu.waitFor({ state: 'hidden' });
      return /Maximum\s+1235/.test(text);
    });
    const marked = await page.evaluate(() => window.marked);
    assert.equal(marked[0], '1235');
    assert.ok(marked.length === 1 || (marked.length === 2 && marked[1] === ''), `marked were ${JSON.stringify(marked)}`);
  }
});

test('a file is read again with another dialect, without a new upload', async (t) => {
  const maker = await visit(t, url);
  await upload(maker, file('semicolons.csv', 'a;b,c\n1;2,3\n4;5,6\n'));
  assert.equal((await cells(maker))[0][0], '1');
  await maker.getByRole('button', { name: 'File', exact: true }).click();
  await maker.getByLabel('Delimiter').selectOption(',');
  await maker.getByLabel('First row names the columns').uncheck();
  await maker.getByRole('button', { name: 'Read again for everyone' }).click();
  await shows(maker, 'a;b');
  assert.deepEqual(await ids(maker), ['a;b', '1;2', '4;5']);
});

test('after a reload the view is the same', async (t) => {
  const [maker, guest] = await two(t);
  await turn(maker, 'Next page');
  await shows(guest, 101);
  await guest.reload();
  await shows(guest, 101);
  await turn(maker, 'Next page');
  await shows(guest, 201);
  await guest.goto(url);
  await guest.getByRole('link', { name: /orders\.tsv/ }).first().click();
  await shows(guest, 201);
});

test('the owner can lock the view and uploads, unlock and delete the table', async (t) => {
  const [maker, guest] = await two(t);
  const share = (page) => page.getByRole('button', { name: 'Share', exact: true }).click();
  await share(guest);
  assert.equal(await guest.getByRole('heading', { name: 'Owner' }).isVisible(), false);
  await guest.keyboard.press('Escape');
  await share(maker);
  await maker.getByLabel('Lock view').check();
  await maker.getByLabel('Lock uploads').check();
  await guest.getByText('The owner controls the view').waitFor();
  await guest.locator('#file:disabled').waitFor({ state: 'attached' });
  await turn(guest, 'Next page');
  await guest.getByText('Browsing on your own').waitFor();
  await shows(guest, 101);
  await shows(maker, 1);
  await maker.keyboard.press('Escape');
  await turn(maker, 'Last page');
  await guest.keyboard.press('Escape');
  await shows(guest, 1201);
  // The browser has the owner secret after a reload too.
  await maker.reload();
  await shows(maker, 1201);
  await share(maker);
  await maker.getByLabel('Lock view').uncheck();
  await guest.getByText('The owner controls the view').waitFor({ state: 'detached' });
  await turn(guest, 'First page');
  await shows(maker, 1);
  maker.once('dialog', (dialog) => dialog.accept());
  await maker.getByRole('button', { name: 'Delete table' }).click();
  for (const page of [maker, guest]) await page.locator('#note').getByText(/deleted/).waitFor();
});

test('the copied link contains no secret, and the owner link transfers it to another browser', async (t) => {
  const maker = await visit(t, url, { permissions: ['clipboard-read', 'clipboard-write'] });
  await upload(maker, orders);
  const copied = () => maker.evaluate(() => navigator.clipboard.readText());
  await maker.getByRole('button', { name: 'Share', exact: true }).click();
  await maker.getByRole('button', { name: 'Copy link', exact: true }).click();
  await eventually('a link', async () => /tables\/[0-9a-f-]{36}$/.test(await copied()));
  await maker.getByRole('button', { name: 'Copy owner link' }).click();
  const owner = await eventually('an owner link', async () => /#owner=.{20,}$/.test(await copied()) && copied());
  const secret = owner.split('=')[1];
  for (const frame of [maker.url(), await maker.content()]) assert.ok(!frame.includes(secret));
  const phone = await visit(t, owner);
  await shows(phone, 1);
  await phone.getByRole('button', { name: 'Share', exact: true }).click();
  await phone.getByRole('heading', { name: 'Owner' }).waitFor();
  assert.ok(!phone.url().includes('owner'), phone.url());
});

test('a missing table is reported', async (t) => {
  const page = await visit(t, `${url}tables/0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a10`);
  await page.locator('#note').getByText(/no such table/).waitFor();
  await page.getByText('Not connected').first().waitFor();
});

test("the article's page works on its own addresses", async (t) => {
  const maker = await visit(t, `${url}parser/`);
  await maker.getByLabel('Choose a file').setInputFiles(orders);
  await maker.waitForURL(/\/parser\/share\/[0-9a-f-]{36}$/);
  const guest = await visit(t, maker.url());
  // On these addresses the header is a row.
  await shows(guest, 'id');
  await turn(maker, 'Next page');
  await shows(guest, 100);
});
