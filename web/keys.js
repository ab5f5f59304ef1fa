// Keys of the page and their actions, as in pagers. The keys of the cell cursor are in cursor.js.

/** @typedef {'first' | 'last' | 'next' | 'previous' | 'search' | 'follow' | 'grid' | 'help' | 'undo' | 'redo'} Action */

/** @type {Record<string, Action>} */
const ACTIONS = {
  g: 'first', G: 'last', n: 'next', p: 'previous', '/': 'search', '?': 'help', Escape: 'follow',
  ArrowUp: 'grid', ArrowDown: 'grid', ArrowLeft: 'grid', ArrowRight: 'grid', PageUp: 'grid', PageDown: 'grid', Home: 'grid', End: 'grid',
};

/**
 * The action of a key; null for other keys, and for keys that the focused element handles.
 * @param {{ key: string, ctrlKey: boolean, altKey: boolean, metaKey: boolean, shiftKey: boolean }} pressed
 * @param {{ typing: boolean, menu: boolean, isGrid: boolean }} where typing: in a field; menu: one is open; isGrid: the grid
 *   has the focus, and handles its keys itself
 * @returns {Action | null}
 */
export const action = ({ key, ctrlKey, altKey, metaKey, shiftKey }, { typing, menu, isGrid }) => {
  if (typing || menu || altKey) return null;
  const isCommand = ctrlKey || metaKey;
  if (isCommand && key.toLowerCase() === 'z') return shiftKey ? 'redo' : 'undo';
  if (isCommand && key.toLowerCase() === 'y') return 'redo';
  const does = Object.hasOwn(ACTIONS, key) ? ACTIONS[key] ?? null : null;
  if (does === 'grid') return isGrid ? null : 'grid';
  return isCommand ? null : does;
};
