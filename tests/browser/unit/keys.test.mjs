// Keys and their actions.
import assert from 'node:assert/strict';
import test from 'node:test';

import { action } from '../../../web/keys.js';

const press = (key, more = {}) => ({ key, ctrlKey: false, altKey: false, metaKey: false, ...more });
const nowhere = { typing: false, menu: false, scrolls: false };

test('keys have the actions of pagers', () => {
  const keys = { g: 'first', G: 'last', n: 'next', p: 'previous', '/': 'search', ArrowRight: 'next', ArrowLeft: 'previous', ArrowDown: 'down', ArrowUp: 'up', Escape: 'follow' };
  for (const [key, does] of Object.entries(keys)) assert.equal(action(press(key), nowhere), does, key);
});

test('a key that is typed into a field, or belongs to the browser, is ignored', () => {
  for (const key of ['g', 'n', '/', 'ArrowRight', 'Escape']) {
    assert.equal(action(press(key), { ...nowhere, typing: true }), null);
    assert.equal(action(press(key), { ...nowhere, menu: true }), null);
    for (const modifier of ['ctrlKey', 'altKey', 'metaKey']) assert.equal(action(press(key, { [modifier]: true }), nowhere), null);
  }
  for (const key of ['x', 'Enter', 'Tab', 'toString', '__proto__']) assert.equal(action(press(key), nowhere), null, key);
});

test('the arrows scroll where there is something to scroll', () => {
  assert.equal(action(press('ArrowRight'), { ...nowhere, scrolls: true }), null);
  assert.equal(action(press('n'), { ...nowhere, scrolls: true }), 'next');
});
