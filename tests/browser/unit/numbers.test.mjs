// Numbers in cells, and statistics of a selection.
import assert from 'node:assert/strict';
import test from 'node:test';

import { Statistics, parseNumber } from '../../../web/numbers.js';

test('numbers are read as they are written in either convention', () => {
  const written = { '1234.5': 1234.5, '1,234.5': 1234.5, '1 234.5': 1234.5, "1'234.5": 1234.5, '$5': 5, '-$5': -5, '5 €': 5, 'EUR 5': 5, '5%': 5, '(5)': -5, '\u22125': -5, '6e3': 6000, '.5': 0.5 };
  for (const [text, value] of Object.entries(written)) assert.equal(parseNumber(text), value, text);
  assert.equal(parseNumber('1.234,5', ','), 1234.5);
  assert.equal(parseNumber('5,0', ','), 5);
});

test('text is no number', () => {
  for (const text of ['', 'x', '1-2', '2024-01-02', '12:30', '1.2.3', 'N/A', '5 apples']) assert.equal(parseNumber(text), undefined, text);
});

test('statistics count all filled cells, and compute with the numbers', () => {
  const sums = new Statistics();
  for (const text of ['1', '', '2.5', 'x']) sums.add(text);
  assert.equal(sums.text, 'Count 3 · Numbers 2 · Sum 3.5 · Mean 1.75 · Min 1 · Max 2.5');
});
