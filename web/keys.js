// Keys and their actions, as in pagers.

/** @typedef {'first' | 'last' | 'next' | 'previous' | 'search' | 'follow' | 'up' | 'down' | 'help'} Action */

/** @type {Record<string, Action>} */
const ACTIONS = {
  g: 'first', G: 'last', n: 'next', p: 'previous', '/': 'search', '?': 'help', Escape: 'follow',
  ArrowRight: 'next', ArrowLeft: 'previous', ArrowUp: 'up', ArrowDown: 'down',
};

/**
 * The action of a key; null for other keys, and for keys that the focused element handles.
 * @param {{ key: string, ctrlKey: boolean, altKey: boolean, metaKey: boolean }} pressed
 * @param {{ typing: boolean, menu: boolean, scrolls: boolean }} where typing: in a field; menu: one is open; scrolls:
 *   in an area that scrolls with the arrow keys
 * @returns {Action | null}
 */
export const action = ({ key, ctrlKey, altKey, metaKey }, { typing, menu, scrolls }) => {
  if (ctrlKey || altKey || metaKey || typing || menu) return null;
  if (scrolls && key.startsWith('Arrow')) return null;
  return Object.hasOwn(ACTIONS, key) ? ACTIONS[key] ?? null : null;
};
