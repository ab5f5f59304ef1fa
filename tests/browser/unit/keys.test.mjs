// Keys and their actions.
import assert from 'node:assert/strict';
import test from 'node:test';

import { action } from '../../../web/keys.js';

const press = (key, more = {}) => ({ key, ctrlKey: false, altKey: false, metaKey: false, shiftKey: false, ...more });
const nowhere = { typing: false, menu: false, isGrid: false };

test('keys have the actions of pagers', () => {
  const keys = { g: 'first', G: 'last', n: 'next', p: 'previous', '/': 'search', '?': 'help', Escape: 'follow' };
  for (const [key, does] of Object.entries(keys)) assert.equal(action(press(key), nowhere), does, key);
});

test('a key that is typed into a field, or belongs to the browser, is ignored', () => {
  for (const key of ['g', 'n', '/', 'Escape']) {
    assert.equal(action(press(key), { ...nowhere, typing: true }), null);
    assert.equal(action(press(key), { ...nowhere, menu: true }), null);
    for (const modifier of ['ctrlKey', 'altKey', 'metaKey']) assert.equal(action(press(key, { [modifier]: true }), nowhere), null);
  }
  for (const key of ['x', 'Enter', 'Tab', 'toString', '__proto__']) assert.equal(action(press(key), nowhere), null, key);
});

test('the keys of the cell cursor work from everywhere but a field', () => {
  for (const key of ['ArrowRight', 'PageDown', 'Home']) {
    assert.equal(action(press(key), nowhere), 'grid', key);
    assert.equal(action(press(key), { ...nowhere, isGrid: true }), null, key);
    assert.equal(action(press(key), { ...nowhere, typing: true }), null, key);
  }
});

test('undo and redo have the keys of editors', () => {
  for (const modifier of ['ctrlKey', 'metaKey']) {
    assert.equal(action(press('z', { [modifier]: true }), nowhere), 'undo');
    assert.equal(action(press('Z', { [modifier]: true, shiftKey: true }), nowhere), 'redo');
    assert.equal(action(press('y', { [modifier]: true }), nowhere), 'redo');
    assert.equal(action(press('z', { [modifier]: true }), { ...nowhere, typing: true }), null);
  }
});
