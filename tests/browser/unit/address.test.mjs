// A table's state in an address.
import assert from 'node:assert/strict';
import test from 'node:test';

import { OPS, format, formatCell, parse, parseCell, sameQuery } from '../../../web/address.js';

const plain = { page: 1, sort: [], filter: [], search: '' };

test('the first page of all rows needs no query', () => {
  assert.equal(format(plain), '');
  assert.deepEqual(parse(''), plain);
});

test('addresses round-trip for every value', () => {
  for (const value of ['', 'x', 'a.b,c', '&?#=%', '1,5 €', 'two\nlines', '+', '"<b>']) {
    for (const op of OPS) {
      const place = {
        page: 12, search: value,
        sort: [{ column: 0, desc: true }, { column: 3, desc: false }],
        filter: [{ column: 2, op, value }, { column: 0, op: 'contains', value: 'y' }],
      };
      assert.deepEqual(parse(format(place)), place);
      assert.deepEqual(new URL(`http://x/${format(place)}`).hash, '');
    }
  }
});

test('a search that ignores accents round-trips', () => {
  const place = { ...plain, search: 'cafe', ignore_accents: true };
  assert.equal(format(place), '?search=cafe&ignore_accents=1');
  assert.deepEqual(parse(format(place)), place);
  assert.ok(!sameQuery(place, { ...plain, search: 'cafe' }));
});

test('groups round-trip, and invalid ones are ignored', () => {
  const group = { by: [0, 2], measures: [{ column: 3, fn: 'sum' }, { fn: 'count' }], chart: 'bar' };
  assert.equal(decodeURIComponent(format({ ...plain, group })), '?group=0,2:3.sum,count:bar');
  for (const place of [{ ...plain, group }, { ...plain, group: { by: [1], measures: [] } }]) assert.deepEqual(parse(format(place)), place);
  assert.deepEqual(parse('?group=1:2.median,x.sum,2.max:pie').group, { by: [1], measures: [{ column: 2, fn: 'max' }] });
  for (const bad of ['', 'x', '1,', '-1', ':count']) assert.deepEqual(parse(`?group=${bad}`), plain, bad);
});

test('invalid parts are ignored', () => {
  for (const page of ['0', '-1', '1.5', 'x', '1e99', '']) assert.equal(parse(`?page=${page}`).page, 1, page);
  assert.deepEqual(parse('?sort=x,1,,--2,-3&filter=1.like.x&filter=1&filter=x.equals.y&other=1'), {
    ...plain, sort: [{ column: 1, desc: false }, { column: 3, desc: true }],
  });
});

test('two pages of the same rows are the same query', () => {
  const sorted = { ...plain, sort: [{ column: 0, desc: true }] };
  assert.ok(sameQuery(sorted, { ...sorted, page: 5 }));
  assert.ok(!sameQuery(sorted, plain));
});

test('a fragment names a cell by its row and column as they are shown', () => {
  assert.deepEqual(parseCell('#r120c4'), { row: 119, column: 3, to_row: 119, to_column: 3 });
  assert.equal(formatCell({ row: 119, column: 3 }), '#r120c4');
  for (const bad of ['', '#', '#r0c1', '#r1c0', '#r1', '#owner=x', '#r1c2x']) assert.equal(parseCell(bad), null, bad);
});
