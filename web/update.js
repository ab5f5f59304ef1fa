// Updates everything around the rows from the state, and shows messages to the user.

import { $, button, bytes, count, get, input, make, many } from './dom.js';
import { draw } from './grid.js';
import { format, sameQuery } from './address.js';
import { menus } from './menus.js';
import { link, mayLead, page, pageSize, pages, state } from './state.js';
import { request } from './table.js';

/** Shows a message until it is closed; a good one until the next request. @param {string} text @param {'good' | 'bad' | 'lost' | ''} [kind] lost: there is no connection @param {() => void} [again] */
export const note = (text, kind = 'bad', again) => {
  $('note').hidden = !text;
  $('note').className = `note ${kind}`;
  $('note-text').textContent = text;
  button('note-again').hidden = !again;
  button('note-again').onclick = () => { note(''); again?.(); };
};

/** Shows the progress of a long operation; empty text hides it. @param {string} text @param {number} [part] of 1; absent when it is unknown @param {boolean} [stops] whether the user can abort it */
export const work = (text, part, stops = false) => {
  $('work').hidden = !text;
  $('work-text').textContent = text;
  const bar = get('work-bar', HTMLProgressElement);
  if (part === undefined) bar.removeAttribute('value');
  else bar.value = part;
  button('work-stop').hidden = !stops;
};

/** Updates the whole page from the state. */
export const update = () => {
  const { view, own, wanted } = state;
  if (!view) return;
  const rows = own === null ? { ...view, from: (view.page_no - 1) * pageSize() } : state.window;
  if (rows) draw(view, rows, state.facts);
  const total = view.total_number;
  const shown = rows?.data.length ?? 0;
  const first = (rows?.from ?? 0) + 1;

  document.title = `${view.name || 'A table'} · tidings`;
  $('name').textContent = view.name || 'A table';
  const ragged = view.ragged ? ` · ${many(view.ragged, 'ragged row')}` : '';
  const { guessed, lossy, open_quote: openQuote, encoding } = view.dialect ?? {};
  const guess = (guessed ? ` · read as ${encoding}, a guess` : '') + (lossy ? ' · some bytes are invalid' : '') + (openQuote ? ' · a quote is not closed' : '');
  $('about').textContent = view.dialect ? `${many(total, 'row')}${view.filter.length || view.search ? ' found' : ''} · ${bytes(view.size)}${ragged}${guess}` : 'No file yet';
  $('link-text').textContent = `Live · ${count(view.viewers)} viewing`;
  $('range').textContent = shown ? `${count(first)}–${count(first + shown - 1)} of ${count(total)}` : 'No rows';
  $('pages').textContent = `of ${count(pages())}`;
  const field = input('page');
  field.max = String(pages());
  if (!field.dataset.typed) field.value = String(page());
  for (const [id, off] of Object.entries({ first: page() <= 1, previous: page() <= 1, next: page() >= pages(), last: page() >= pages() })) {
    $(id).setAttribute('aria-disabled', String(off));
  }
  const size = get('page-size', HTMLSelectElement);
  if (![...size.options].some(({ value }) => value === String(view.page_size))) size.add(new Option(String(view.page_size)));
  size.value = String(view.page_size);
  const search = input('search-text');
  if (document.activeElement !== search) search.value = view.search;

  const alone = own !== null;
  for (const field of [size, search]) field.disabled = alone || !mayLead();
  $('table').classList.toggle('alone', alone);
  $('own').hidden = alone || !!wanted;
  $('banner').hidden = !alone && !wanted;
  $('show-all').hidden = !mayLead();
  $('banner-text').textContent = wanted
    ? `This link has ${sameQuery(wanted, { ...view, page: 1 }) ? `page ${wanted.page}` : 'another sort, filter or search'}; the others are on page ${count(view.page_no)}.`
    : `Browsing on your own. The others are on page ${count(view.page_no)}.`;

  /** @param {string} text @param {string} label @param {() => void} remove */
  const chip = (text, label, remove) => make('button', { 'aria-label': `Remove ${label}: ${text}`, title: `Remove ${label}`, onclick: remove, disabled: alone || !mayLead() }, `${text} ×`);
  const name = (/** @type {number} */ column) => view.header?.[column] || `Column ${column + 1}`;
  $('chips').replaceChildren(
    ...view.sort.map((sort) => chip(`${name(sort.column)} ${sort.desc ? '↓' : '↑'}`, 'sort', () => request({ sort: view.sort.filter((other) => other !== sort) }))),
    ...view.filter.map((filter) => chip(`${name(filter.column)} ${filter.op} ${filter.value}`, 'filter', () => request({ filter: view.filter.filter((other) => other !== filter) }))),
    ...(state.lock.view ? [make('span', {}, state.owner ? 'You control the view' : 'The owner controls the view')] : []));

  $('empty').hidden = shown > 0 || view.loading || (alone && !state.window);
  const none = view.filter.length || view.search ? 'No row matches the search and the filters.' : 'The file has no rows.';
  $('empty').textContent = view.name ? none : 'Nothing here yet: drop a file, or choose one.';
  const place = wanted ?? { ...view, page: page() };
  const address = link() + format(place);
  if (address !== location.href || history.state?.own !== own) history.replaceState({ own, kept: true }, '', address);
  menus();
};
