// The controls around the rows: pages, search, following, and keys.

import { $, button, get, input } from './dom.js';
import { action } from './keys.js';
import { pages, place, state } from './state.js';
import { abort, browseAlone, follow, request, showAll, turn } from './table.js';
import { note } from './update.js';

/** Adds the event handlers of the controls. */
export const startControls = () => {
  const clicks = {
    first: () => turn(1), previous: () => turn(place() - 1), next: () => turn(place() + 1), last: () => turn(pages()),
    follow, 'show-all': showAll, 'note-close': () => note(''),
    own: browseAlone, 'work-stop': abort,
  };
  for (const [id, act] of Object.entries(clicks)) button(id).onclick = act;
  const field = input('page');
  field.oninput = () => { field.dataset.typed = 'yes'; };
  field.onblur = () => { delete field.dataset.typed; };
  get('go', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    delete field.dataset.typed;
    turn(Math.round(Number(field.value)) || 1);
  };
  get('page-size', HTMLSelectElement).onchange = (event) => request({ page_size: Number(/** @type {HTMLSelectElement} */ (event.target).value) });
  /** @type {number | undefined} */
  let typing;
  const search = () => {
    clearTimeout(typing);
    typing = undefined;
    if (input('search-text').value !== state.view?.search) request({ search: input('search-text').value });
  };
  input('search-text').oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(search, 350);
  };
  input('search-text').onblur = () => { if (typing !== undefined) search(); };
  get('search', HTMLFormElement).onsubmit = (event) => { event.preventDefault(); search(); };
  addEventListener('keydown', (event) => {
    const at = /** @type {HTMLElement} */ (event.target);
    const area = $('rows');
    const scrolls = at === area && (event.key.length < 9 || area.scrollWidth > area.clientWidth);
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName);
    const does = document.body.dataset.page === 'table' && action(event, { typing, menu: !!document.querySelector(':popover-open'), scrolls });
    if (typing && event.key === 'Escape' && !document.querySelector(':popover-open')) {
      // Without this some browsers would also empty the field.
      event.preventDefault();
      at.blur();
    }
    if (!does) return;
    event.preventDefault();
    if (does === 'search') input('search-text').focus();
    else if (does === 'follow') follow();
    else if (does === 'help') $('help').showPopover();
    else if (does === 'up' || does === 'down') area.scrollBy(0, does === 'up' ? -64 : 64);
    else button(does).click();
  });
};
