// QR codes, decoded by another implementation (jsqr).
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';

import { encode } from '../../../web/qr.js';

const { default: decode } = createRequire(`${process.env.TIDINGS_NODE_MODULES}/`)('jsqr');

/** Decodes the code as an image with its quiet zone. */
const read = (code) => {
  const scale = 3;
  const side = (code.length + 8) * scale;
  const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const dark = code[Math.floor(y / scale) - 4]?.[Math.floor(x / scale) - 4];
      if (dark) pixels.fill(0, (y * side + x) * 4, (y * side + x) * 4 + 3);
    }
  }
  return decode(pixels, side, side)?.data;
};

test('a link of any length is read back', () => {
  const link = `https://example.com/tables/${'aB3-é~'.repeat(80)}`;
  for (let length = 1; length <= 350; length += 7) assert.equal(read(encode(link.slice(0, length))), link.slice(0, length));
});

test('the longest text fills the largest code, and a longer one is refused', () => {
  const longest = encode('x'.repeat(412));
  assert.equal(longest?.length, 77);
  assert.equal(read(longest), 'x'.repeat(412));
  assert.equal(encode('x'.repeat(413)), null);
  assert.equal(encode('é'.repeat(207)), null, 'bytes count, not characters');
});
