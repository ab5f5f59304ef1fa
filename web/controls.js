// The controls around the rows: pages, search, following, and keys.

import { $, button, get, input } from './dom.js';
import { deselect } from './cursor.js';
import { scrollToEnd, scrollToRow } from './grid.js';
import { action } from './keys.js';
import { page, pageSize, pages, place, shown, state } from './state.js';
import { abort } from './table.js';
import { note, update } from './update.js';
import { browseAlone, change, follow, redo, restore, showAll, turn, undo } from './views.js';

/** Leaves a field, ends following a person or a selection, or follows the shared view again: the first that applies. */
const escape = () => {
  if (state.follows) {
    state.follows = '';
    return update();
  }
  if (state.alone || state.wanted) return follow();
  return deselect();
};

/** Adds the event handlers of the controls. */
export const startControls = () => {
  const toTop = () => scrollToRow((page() - 1) * pageSize());
  const clicks = {
    first: () => turn(1), previous: () => turn(place() - 1), next: () => turn(place() + 1), last: () => turn(pages()),
    follow, 'show-all': showAll, 'note-close': () => note(''), own: browseAlone, 'work-stop': abort, undo, redo, restore,
    back: toTop, unseen: scrollToEnd,
    bring: () => turn(Number($('bring').dataset.page)),
    tools: () => {
      const isOpen = $('table').classList.toggle('tools-open');
      button('tools').setAttribute('aria-expanded', String(isOpen));
    },
  };
  for (const [id, act] of Object.entries(clicks)) button(id).onclick = () => button(id).getAttribute('aria-disabled') !== 'true' && act();
  const field = input('page');
  field.oninput = () => { field.dataset.typed = 'yes'; };
  field.onblur = () => { delete field.dataset.typed; };
  get('go', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    delete field.dataset.typed;
    turn(Math.round(Number(field.value)) || 1);
  };
  get('page-size', HTMLSelectElement).onchange = (event) => change({ page_size: Number(/** @type {HTMLSelectElement} */ (event.target).value) });
  /** @type {number | undefined} */
  let typing;
  const search = () => {
    clearTimeout(typing);
    typing = undefined;
    if (input('search-text').value !== shown()?.search) change({ search: input('search-text').value });
  };
  input('search-text').oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(search, 350);
  };
  input('search-text').onblur = () => { if (typing !== undefined) search(); };
  get('search', HTMLFormElement).onsubmit = (event) => { event.preventDefault(); search(); };
  addEventListener('keydown', (event) => {
    const at = /** @type {HTMLElement} */ (event.target);
    const menu = !!document.querySelector(':popover-open');
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName);
    const does = document.body.dataset.page === 'table' && action(event, { typing: isTyping, menu, isGrid: at === $('rows') });
    if (isTyping && event.key === 'Escape' && !menu) {
      // Without this some browsers would also empty the field.
      event.preventDefault();
      at.blur();
    }
    if (!does) return;
    event.preventDefault();
    if (does === 'search') {
      $('table').classList.add('tools-open');
      input('search-text').focus();
    } else if (does === 'follow') {
      escape();
    } else if (does === 'help') {
      $('help').showPopover();
    } else if (does === 'grid') {
      // Buttons have no use for these keys.
      $('rows').focus({ preventScroll: true });
      $('rows').dispatchEvent(new KeyboardEvent('keydown', { key: event.key, shiftKey: event.shiftKey, ctrlKey: event.ctrlKey, metaKey: event.metaKey }));
    } else if (!button(does).hidden) {
      button(does).click();
    }
  });
};
