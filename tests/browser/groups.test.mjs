// Grouped views of two people: the dialog, the rows of a group, undo, appended rows, sorts, private views, links, and charts.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { cells, eventually, file, fruit, require, secretOf, serve, shot, shows, upload, visit } from './support.mjs';

const { url } = await serve();
const orders = file('orders.tsv', fruit(1234));
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

/** The groups of the file: how many rows, and the sum of their prices in cents. */
const groups = () => {
  const sums = new Map();
  for (const line of fruit(1234).trim().split('\n').slice(1)) {
    const [, article, price] = line.split('\t');
    const [rows, cents] = sums.get(article) ?? [0, 0];
    sums.set(article, [rows + 1, cents + Math.round(Number(price) * 100)]);
  }
  return [...sums].sort(([a], [b]) => (a < b ? -1 : 1)).map(([article, [rows, cents]]) => [article, String(rows), String(cents / 100)]);
};

const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const dialog = (page) => page.getByRole('dialog', { name: 'Group rows' });
const rows = (page, expected) => eventually(`the rows ${JSON.stringify(expected)}`, async () => JSON.stringify(await cells(page)) === JSON.stringify(expected));
/** Groups by article with a sum of prices. */
const group = async (page, chart = '') => {
  await page.getByRole('columnheader', { name: /price/ }).getByText('decimal').waitFor();
  await press(page, 'Group');
  await dialog(page).getByLabel('Column 1 to group by').selectOption({ label: 'article' });
  await dialog(page).getByLabel('Function of measure 2').selectOption('sum');
  await dialog(page).getByLabel('Column of measure 2').selectOption({ label: 'price' });
  await dialog(page).getByLabel('Chart').selectOption(chart);
  await dialog(page).getByRole('button', { name: 'Group', exact: true }).click();
};
/** A table of one person, viewed by another. */
const two = async (t, options) => {
  const ann = await visit(t, url, options);
  const link = await upload(ann, orders);
  const bob = await visit(t, link, options);
  await shows(bob, 1);
  return [ann, bob, link];
};

test('rows are grouped for everyone, sorted, drilled into by a click, and undone', async (t) => {
  const [ann, bob] = await two(t);
  await group(ann);
  for (const page of [ann, bob]) await rows(page, groups());
  await bob.locator('#turned', { hasText: 'grouped the rows by article' }).waitFor();
  assert.deepEqual(await bob.locator('#head .sort').allTextContents(), ['article', 'count', 'sum of price']);
  await bob.getByRole('button', { name: 'count', exact: true }).click();
  await bob.getByRole('button', { name: 'count', exact: true }).click();
  const most = groups().sort(([, a], [, b]) => Number(b) - Number(a))[0];
  await eventually('the largest group first', async () => (await cells(ann))[0]?.[1] === most[1]);
  await ann.locator('.cell', { hasText: 'Figs' }).click();
  await eventually('the rows of figs', async () => { const all = await cells(bob); return all.length > 5 && all.every((row) => row[1] === 'Figs'); });
  await bob.getByRole('button', { name: 'Remove filter: article = Figs' }).waitFor();
  await press(ann, 'Undo');
  await eventually('the groups again', async () => (await cells(bob))[0]?.[1] === most[1]);
  await bob.getByRole('button', { name: 'Remove grouping: by article' }).click();
  await shows(ann, 1);
  assert.equal((await cells(ann))[0].length, 4);
});

test('groups follow appended rows, and a new group appears', async (t) => {
  const [ann, bob, link] = await two(t);
  await group(ann);
  await rows(bob, groups());
  const secret = await secretOf(ann);
  const response = await fetch(`${link}/rows`, { method: 'POST', headers: { Authorization: `Bearer ${secret}` }, body: '1235\tFigs\t1000\t1\n1236\tBananas\t3\t1\n' });
  assert.equal(response.status, 200);
  const expected = groups().map(([name, count, sum]) => (name === 'Figs' ? [name, String(Number(count) + 1), String((Math.round(Number(sum) * 100) + 100_000) / 100)] : [name, count, sum]));
  await rows(bob, [expected[0], ['Bananas', '1', '3'], ...expected.slice(1)]);
});

test('a private view is grouped alone, drilled into by Enter, and opened by its address', async (t) => {
  const [ann, bob] = await two(t);
  await press(bob, 'Browse on my own');
  await group(bob);
  await rows(bob, groups());
  await shows(ann, 1);
  await eventually('the groups in the address', () => new URL(bob.url()).searchParams.get('group') === '1:count,2.sum');
  const eve = await visit(t, bob.url());
  await rows(eve, groups());
  await eve.getByText('Browsing on your own').waitFor();
  await eve.locator('#rows').focus();
  await eve.keyboard.press('ArrowDown');
  await eve.keyboard.press('Enter');
  await eventually('the rows of the first group', async () => { const all = await cells(eve); return all.length > 5 && all.every((row) => row[1] === groups()[0][0]); });
  await eve.keyboard.press('Escape');
  await eve.keyboard.press('Escape');
  await shows(eve, 1);
  await press(bob, 'Show it to everyone');
  await rows(ann, groups());
});

test('a chart is shared, has its values in words, and a click on a bar shows its rows', async (t) => {
  const [ann, bob] = await two(t);
  await group(ann, 'bar');
  const chart = bob.getByRole('img', { name: /^Bar chart: count by article, 7 groups\. From / });
  await chart.waitFor();
  assert.equal(await chart.locator('.bar').count(), 7);
  await bob.getByLabel('Measure of the chart').selectOption({ label: 'sum of price' });
  await bob.getByRole('img', { name: /sum of price by article/ }).waitFor();
  await press(ann, 'Group');
  await dialog(ann).getByLabel('Chart').selectOption('line');
  await dialog(ann).getByRole('button', { name: 'Group', exact: true }).click();
  await bob.getByRole('img', { name: /^Line chart: sum of price by article/ }).waitFor();
  await press(bob, 'Group');
  await dialog(bob).getByLabel('Chart').selectOption('bar');
  await dialog(bob).getByRole('button', { name: 'Group', exact: true }).click();
  await bob.locator('#chart .bar').nth(2).click();
  await eventually('the rows of the third group', async () => { const all = await cells(ann); return all.length > 5 && all.every((row) => row[1] === groups()[2][0]); });
  await bob.locator('#chart').waitFor({ state: 'detached' });
});

for (const [width, height] of [[1280, 800], [390, 844]]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`groups and charts without a violation of axe-core, and screenshots: ${width}×${height}, ${colorScheme}`, async (t) => {
      const page = await visit(t, url, { viewport: { width, height }, colorScheme, bypassCSP: true });
      const check = async (where) => {
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
        assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join('\n')}`), [], where);
        await shot(page, `${where}-${width}-${colorScheme}`);
      };
      await upload(page, orders);
      if (width < 800) await press(page, 'Tools');
      await page.getByRole('columnheader', { name: /price/ }).getByText('decimal').waitFor();
      await press(page, 'Group');
      await dialog(page).getByLabel('Function of measure 1').waitFor();
      await check('group-dialog');
      await page.keyboard.press('Escape');
      await group(page, 'bar');
      await eventually('the groups that fit on the screen', async () => {
        const shown = await cells(page);
        return shown.length > 0 && JSON.stringify(shown) === JSON.stringify(groups().slice(0, shown.length));
      });
      if (width < 800) await page.locator('#chart summary').click();
      await page.locator('#chart svg').waitFor();
      await check('group-bars');
      await press(page, 'Group');
      await dialog(page).getByLabel('Chart').selectOption('line');
      await dialog(page).getByRole('button', { name: 'Group', exact: true }).click();
      await page.getByRole('img', { name: /^Line chart/ }).waitFor();
      await check('group-line');
      // The rows have at least two thirds of the height while the chart is folded.
      if (width < 800) {
        await page.locator('#chart summary').click();
        await press(page, 'Tools');
        const { height: frame } = await page.locator('.frame').boundingBox();
        assert.ok(frame > 0.65 * height, `${frame} of ${height}`);
      }
    });
  }
}
