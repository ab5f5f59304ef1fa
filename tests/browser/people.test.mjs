// Three people at one table: names, cursors, following; private views; undo; replaced files; shared columns.
import assert from 'node:assert/strict';
import test from 'node:test';

import { LOST, cable, cells, eventually, file, firstId, fruit, ids, secretOf, serve, shot, shows, turn, upload, visit } from './support.mjs';

const server = await serve();
const { url } = server;
const orders = file('orders.tsv', fruit(1234));

const rename = async (page, name) => {
  await page.locator('#people-open').click();
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Save' }).click();
};
/** Ann has made the table; Bob and Eve view it. */
const three = async (t, options) => {
  const ann = await visit(t, url, options);
  const link = await upload(ann, orders);
  const [bob, eve] = [await visit(t, link, options), await visit(t, link, options)];
  for (const [page, name] of [[ann, 'Ann'], [bob, 'Bob'], [eve, 'Eve']]) {
    await shows(page, 1);
    await rename(page, name);
  }
  for (const page of [ann, bob, eve]) await page.getByRole('button', { name: '3 viewing' }).waitFor();
  return [ann, bob, eve];
};
const turned = (page, text) => eventually(text, async () => (await page.locator('#turned').textContent()) === text);
const theirs = (page, name) => page.locator('#marks .theirs', { hasText: name });

test('each person has a name, which stays in the browser, and the list says who is where', async (t) => {
  const [ann, bob] = await three(t);
  await bob.locator('#r3c2').click();
  await ann.locator('#people-open').click();
  const list = ann.locator('#people-list li');
  await eventually('three names', async () => (await list.allInnerTexts()).join('|').replace(/\n+/g, ' ').match(/Ann.*you.*owner.*\|.*(Bob.*row 3, article.*Eve|Eve.*Bob.*row 3, article)/s));
  await ann.keyboard.press('Escape');
  await bob.reload();
  await shows(bob, 1);
  await bob.locator('#people-open').click();
  await eventually('the same name', async () => (await bob.getByLabel('Your name').inputValue()) === 'Bob');
  const fresh = await visit(t, ann.url());
  await fresh.locator('#people-open').click();
  await eventually('a friendly name', async () => /^[A-Z]\w+ [A-Z]\w+$/.test(await fresh.getByLabel('Your name').inputValue()));
});

test('cursors and selections of others are shown with their names, and a click on a name follows it', async (t) => {
  const [ann, bob, eve] = await three(t);
  await bob.locator('#r2c1').click();
  await bob.keyboard.press('Shift+ArrowDown');
  await bob.keyboard.press('Shift+ArrowRight');
  for (const page of [ann, eve]) {
    await theirs(page, 'Bob').waitFor();
    await eventually('two rows of two columns', async () => { const { width, height } = await theirs(page, 'Bob').boundingBox(); return height === 60 && width > 150; });
  }
  assert.equal(await theirs(bob, 'Bob').count(), 0);
  await bob.keyboard.press('Control+ArrowDown');
  await theirs(ann, 'Bob').waitFor({ state: 'detached' });
  await ann.locator('#people-open').click();
  await ann.getByRole('button', { name: /^Bob/ }).click();
  await ann.getByText('Following Bob').waitFor();
  await theirs(ann, 'Bob').waitFor();
  assert.ok((await ids(ann)).includes('1234'));
  await bob.keyboard.press('Control+ArrowUp');
  await shows(ann, 1);
  assert.equal(await firstId(eve), '1');
  await ann.getByRole('button', { name: 'Stop' }).click();
  await bob.keyboard.press('Control+ArrowDown');
  await theirs(eve, 'Bob').waitFor({ state: 'detached' });
  await shows(ann, 1);
  await bob.close();
  await ann.getByRole('button', { name: '2 viewing' }).waitFor();
});

test('a change names its author, and an append is no page turn', async (t) => {
  const [ann, bob, eve] = await three(t);
  await turn(bob, 'Next page');
  await turned(ann, 'Bob turned to page 2.');
  await turned(eve, 'Bob turned to page 2.');
  await turned(bob, 'You turned to page 2.');
  await eve.getByRole('button', { name: 'price', exact: true }).click();
  await turned(ann, 'Eve sorted.');
  await eve.keyboard.press('Control+z');
  await eventually('unsorted', async () => !ann.url().includes('sort'));
  const secret = await secretOf(ann);
  const answer = await fetch(`${ann.url().split('?')[0]}/rows`, { method: 'POST', headers: { authorization: `Bearer ${secret}` }, body: '1235\tKiwis\t1\t1\n1236\tKiwis\t1\t1\n' });
  assert.ok(answer.ok, await answer.text());
  for (const page of [ann, bob, eve]) await turned(page, '2 new rows.');
});

test('a private view has its own sort, filter and page, and can be shown to everyone', async (t) => {
  const [ann, bob, eve] = await three(t);
  await eve.getByRole('button', { name: 'Browse on my own' }).click();
  await eve.getByText('Browsing on your own. The others are on page 1.').waitFor();
  await eve.getByRole('button', { name: 'id', exact: true }).click();
  await eventually('sorted', async () => eve.url().includes('sort=0'));
  await eve.getByRole('button', { name: 'id', exact: true }).click();
  await shows(eve, 1234);
  await eve.getByLabel('Search').fill('Figs');
  await eve.getByText('1–100 of 177').waitFor();
  await turn(eve, 'Next page');
  const figs = Array.from({ length: 1234 }, (_, i) => 1234 - i).filter((id) => (id * 5) % 7 === 5);
  await shows(eve, figs[100]);
  await eve.locator('#rows').press('Control+End');
  await eventually('its last row', async () => (await ids(eve)).at(-1) === String(figs.at(-1)));
  for (const page of [ann, bob]) assert.equal(await firstId(page), '1');
  await bob.locator('#people-open').click();
  await bob.locator('#people-list li', { hasText: 'browses alone' }).waitFor();
  await bob.keyboard.press('Escape');
  // A reload keeps it.
  await eve.reload();
  await shows(eve, figs[100]);
  await eve.getByRole('button', { name: 'Show it to everyone' }).click();
  for (const page of [ann, bob, eve]) await shows(page, figs[100]);
  await eve.locator('#banner').waitFor({ state: 'hidden' });
  await turn(bob, 'First page');
  await shows(eve, figs[0]);
  // Undo leads back to the rows of before.
  await ann.getByRole('button', { name: 'Undo', exact: true }).click();
  await shows(bob, figs[100]);
  await ann.getByRole('button', { name: 'Undo', exact: true }).click();
  for (const page of [ann, bob, eve]) await shows(page, 1);
  await bob.getByRole('button', { name: 'Redo', exact: true }).click();
  for (const page of [ann, bob, eve]) await shows(page, figs[100]);
});

test('a private view is dropped with Esc, and a link with a query opens as one', async (t) => {
  const [ann, bob] = await three(t);
  await bob.goto(`${ann.url()}?page=2&sort=-0&filter=1.equals.Figs`);
  const figs = Array.from({ length: 1234 }, (_, i) => 1234 - i).filter((id) => (id * 5) % 7 === 5);
  await shows(bob, figs[100]);
  assert.equal(await firstId(ann), '1');
  await bob.getByText('Browsing on your own').waitFor();
  await bob.keyboard.press('Escape');
  await shows(bob, 1);
  assert.equal(new URL(bob.url()).search, '');
});

test('a private view and the cursors come back after a lost connection', async (t) => {
  const line = await cable(url);
  const ann = await visit(t, url);
  const link = await upload(ann, orders);
  const bob = await visit(t, link.replace(url, line.url), { allow: [LOST] });
  await shows(bob, 1);
  await bob.getByRole('button', { name: 'Browse on my own' }).click();
  await bob.getByRole('button', { name: 'id', exact: true }).click();
  await eventually('sorted', async () => bob.url().includes('sort=0'));
  await bob.getByRole('button', { name: 'id', exact: true }).click();
  await shows(bob, 1234);
  line.cut();
  await bob.getByText(/Reconnecting/).first().waitFor();
  line.mend();
  await ann.getByRole('button', { name: '2 viewing' }).waitFor();
  await turn(bob, 'Next page');
  await shows(bob, 1134);
  assert.equal(await firstId(ann), '1');
});

test('a replaced file can be restored by everyone', async (t) => {
  const [ann, bob] = await three(t);
  bob.once('dialog', (dialog) => dialog.accept());
  await bob.locator('#file').setInputFiles(file('other.csv', 'name,age\nAda,36\n'));
  await eventually('the other file', async () => (await cells(ann))[0]?.join() === 'Ada,36');
  await turned(ann, 'Bob uploaded a file.');
  await ann.getByRole('button', { name: 'Restore orders.tsv' }).click();
  for (const page of [ann, bob]) await shows(page, 1);
  await bob.getByRole('heading', { name: 'orders.tsv' }).waitFor();
});

test('a file that is no text is refused with the reason, and read all the same on request', async (t) => {
  const page = await visit(t, url);
  await upload(page, orders);
  page.on('dialog', (dialog) => dialog.accept());
  await page.locator('#file').setInputFiles('/usr/bin/ls');
  await page.getByText(/NUL/).waitFor();
  await shows(page, 1);
  await page.getByRole('button', { name: 'Read it as text anyway' }).click();
  await page.getByRole('heading', { name: 'ls', exact: true }).waitFor();
  await page.getByText('is complete').waitFor();
});

test('the arrangement of columns is shared, and private in a private view', async (t) => {
  const [ann, bob] = await three(t);
  const names = (page) => page.locator('#head .sort').allInnerTexts();
  const menu = async (page, column, action) => {
    await page.getByRole('button', { name: `Filter ${column}`, exact: true }).click();
    await page.getByRole('button', { name: action, exact: true }).click();
    if (action !== 'Hide') await page.keyboard.press('Escape');
    await page.getByRole('dialog', { name: column }).waitFor({ state: 'hidden' });
  };
  await menu(ann, 'article', 'Move left');
  for (const page of [ann, bob]) await eventually('moved', async () => (await names(page)).join() === 'article,id,price,zip');
  await menu(bob, 'zip', 'Hide');
  for (const page of [ann, bob]) await eventually('hidden', async () => (await names(page)).join() === 'article,id,price');
  await turned(ann, 'Bob arranged the columns.');
  await bob.getByRole('button', { name: 'Browse on my own' }).click();
  await bob.getByText('Browsing on your own.').waitFor();
  await menu(bob, 'price', 'Hide');
  await eventually('hidden', async () => (await names(bob)).join() === 'article,id');
  assert.equal((await names(ann)).join(), 'article,id,price');
  await bob.keyboard.press('Escape');
  await eventually('shared again', async () => (await names(bob)).join() === 'article,id,price');
  await ann.getByRole('button', { name: '1 hidden column ×' }).click();
  await eventually('shown', async () => (await names(bob)).join() === 'article,id,price,zip');
});

for (const [width, height] of [[1280, 800], [390, 844]]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`screenshots of people at ${width}×${height}, ${colorScheme}`, async (t) => {
      const [ann, bob, eve] = await three(t, { viewport: { width, height }, colorScheme });
      await bob.locator('#r4c2').click();
      await bob.keyboard.press('Shift+ArrowDown');
      await eve.locator('#r9c1').click();
      await theirs(ann, 'Eve').waitFor();
      await shot(ann, `people-${width}-${colorScheme}`);
      await ann.locator('#people-open').click();
      await shot(ann, `people-list-${width}-${colorScheme}`);
    });
  }
}
