// Scroll positions of tables that are taller than browsers permit.
import assert from 'node:assert/strict';
import test from 'node:test';

import { TALLEST, afterScroll, contentHeight, toPosition, toScroll } from '../../../web/scroll.js';

const SEEN = 600;
const HUGE = 100_000_000 * 30;

test('a small table scrolls pixel by pixel', () => {
  assert.equal(contentHeight(30_000), 30_000);
  for (const at of [0, 1, 777, 29_400]) assert.equal(toPosition(at, 30_000, SEEN), at);
});

test('the scroll bar reaches the first and the last of 100 million rows, and its positions grow', () => {
  assert.equal(contentHeight(HUGE), TALLEST);
  assert.equal(toPosition(0, HUGE, SEEN), 0);
  assert.equal(toPosition(TALLEST - SEEN, HUGE, SEEN), HUGE - SEEN);
  let before = -1;
  for (let scroll = 0; scroll <= TALLEST - SEEN; scroll += 9973) {
    const position = toPosition(scroll, HUGE, SEEN);
    assert.ok(position > before);
    before = position;
    assert.ok(Math.abs(toScroll(position, HUGE, SEEN) - scroll) < 0.001);
  }
});

test('a wheel scrolls by single rows everywhere in 100 million rows', () => {
  for (const position of [0, 1_999_990, 1_500_000_000, HUGE - SEEN - 5000]) {
    const scroll = toScroll(position, HUGE, SEEN);
    assert.ok(Math.abs(afterScroll(position, scroll, scroll + 100, HUGE, SEEN) - position - 100) < 0.01, String(position));
  }
  assert.equal(afterScroll(50, 50, 0, HUGE, SEEN), 0);
  assert.equal(afterScroll(HUGE - SEEN - 50, TALLEST - SEEN - 50, TALLEST - SEEN, HUGE, SEEN), HUGE - SEEN);
});
