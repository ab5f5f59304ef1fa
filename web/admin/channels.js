// The channels with subscribers on any node.

import { count, make } from '../dom.js';
import { post } from './api.js';
import { attempt, channelAddress, channelLink, missingNodes, table } from './parts.js';

/** Channels on one page. */
const PAGE = 100;

/** @param {HTMLElement} view @param {import('./parts').Visit} visit */
export const channels = async (view, visit) => {
  const search = make('input', { type: 'search', id: 'text', placeholder: 'Part of a name, or a pattern such as news:*', autocomplete: 'off', spellcheck: false });
  const open = make('button', { type: 'button' }, 'Open by name');
  const results = make('div', { class: 'results' });
  const status = make('p', { class: 'quiet', role: 'status' });
  const more = make('button', { hidden: true }, 'More');
  const form = make('form', { class: 'row', role: 'search' }, make('label', { htmlFor: 'text' }, 'Search'), search, make('button', { class: 'main' }, 'Search'), open);
  view.replaceChildren(make('h1', {}, 'Channels'), form, status, results, make('p', {}, more));

  /** @type {[string, number][]} */
  let rows = [];
  /** @type {string | null} */
  let after = null;
  let number = 0;

  const load = async (isNext = false) => {
    const request = ++number;
    status.textContent = 'Searching…';
    const page = await post('channels', { text: search.value.trim(), after: isNext ? after : '', limit: PAGE });
    if (request !== number || !visit.isCurrent()) return;
    rows = isNext ? [...rows, ...page.channels] : page.channels;
    after = page.next;
    more.hidden = after === null;
    // A channel with subscribers on several nodes is counted by each of them, so their sum is a bound.
    const total = after === null ? rows.length : Math.max(page.total, rows.length);
    const bound = after === null || page.is_exact ? '' : 'at most ';
    status.textContent = `${count(rows.length)} of ${bound}${count(total)} channels with subscribers`;
    results.replaceChildren(missingNodes(page.missing), rows.length ? table('Channels', ['Channel', '#Subscribers'], rows.map(([name, subscribers]) => [channelLink(name), count(subscribers)])) : '');
  };

  form.onsubmit = (event) => {
    event.preventDefault();
    attempt(load);
  };
  open.onclick = () => {
    const name = search.value.trim();
    if (name) location.hash = channelAddress(name);
    else search.focus();
  };
  more.onclick = () => attempt(() => load(true));
  await attempt(load);
};
