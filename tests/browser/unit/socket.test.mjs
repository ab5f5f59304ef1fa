// The delay before a reconnect.
import assert from 'node:assert/strict';
import test from 'node:test';

import { longest } from '../../../web/socket.js';

test('waits grow with every failure, to a bound', () => {
  assert.deepEqual([0, 1, 2, 3].map(longest), [500, 1000, 2000, 4000]);
  assert.equal(longest(20), 15_000);
  assert.equal(longest(2000), 15_000);
});
