// The scale and the line of a chart.
import assert from 'node:assert/strict';
import test from 'node:test';

import { ceiling, line } from '../../../web/admin/charts.js';

test('the top of a chart is 1, 2 or 5 times a power of ten', () => {
  assert.deepEqual([0, 0.3, 1, 1.1, 3, 7, 99, 101].map(ceiling), [1, 0.5, 1, 2, 5, 10, 100, 200]);
  assert.equal(line([[0, 0], [10, 5]], 0, 10, 5), '0.0,83.0 320.0,1.0');
});
