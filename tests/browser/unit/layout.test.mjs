// The arrangement of columns.
import assert from 'node:assert/strict';
import test from 'node:test';

import { arrange, order, visible } from '../../../web/layout.js';

const plain = { order: [], hidden: [], frozen: 0, widths: {} };

test('columns that were moved come first, and the others follow in the order of the file', () => {
  assert.deepEqual(order(5, { ...plain, order: [3, 0, 9] }), [3, 0, 1, 2, 4]);
  assert.deepEqual(arrange(5, { ...plain, order: [3, 0], hidden: [1] }, new Map(), 1000).shown, [3, 0, 2, 4]);
});

test('widths are those that were set, then those that fit', () => {
  const { left } = arrange(3, { ...plain, widths: { 1: 50 } }, new Map([[0, 90], [1, 70]]), 1000);
  assert.deepEqual([...left], [0, 90, 140, 260]);
});

test('only the columns on screen are visible, of 10,000', () => {
  const layout = arrange(10_000, { ...plain, frozen: 2 }, new Map(), 1000);
  assert.deepEqual([layout.frozen, layout.frozenWidth], [2, 240]);
  assert.deepEqual(visible(layout, 0, 1000), [2, 9]);
  assert.deepEqual(visible(layout, 120 * 5000 + 1, 1000), [5002, 5009]);
  assert.equal(visible(layout, 120 * 9998, 1000)[1], 10_000);
});

test('frozen columns leave room for others', () => {
  assert.equal(arrange(10, { ...plain, frozen: 8 }, new Map(), 300).frozen, 2);
});
