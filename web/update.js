// Updates everything around the rows from the state, and shows messages to the user.

import { $, button, bytes, count, get, input, make, many } from './dom.js';
import { draw, grid, isAtEnd, pageOnScreen } from './grid.js';
import { format, sameQuery } from './address.js';
import { columnsMenu } from './columns.js';
import { statistics } from './cursor.js';
import { menus } from './menus.js';
import { people } from './people.js';
import { share } from './share.js';
import { arrangement, fileName, link, mayLead, name, page, pageSize, pages, shown, state } from './state.js';
import { change, changeColumns, isModern } from './views.js';

/** Shows a message until it is closed; a good one until the next request. @param {string} text @param {'good' | 'bad' | 'lost' | ''} [kind] lost: there is no connection @param {() => void} [again] @param {string} [label] of the button that calls `again` */
export const note = (text, kind = 'bad', again, label = 'Try again') => {
  $('note').hidden = !text;
  $('note').className = `note ${kind}`;
  $('note-text').textContent = text;
  button('note-again').hidden = !again;
  button('note-again').textContent = label;
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

/** Updates the title, the facts on the file and the connection. @param {import('./types').View} view */
const top = (view) => {
  document.title = `${view.name || 'A table'} · tidings`;
  $('name').textContent = view.name || 'A table';
  const ragged = view.ragged ? ` · ${many(view.ragged, 'ragged row')}` : '';
  const { guessed, lossy, open_quote: openQuote, encoding, skip } = view.dialect ?? {};
  const guess = (guessed ? ` · read as ${encoding}, a guess` : '') + (lossy ? ' · some bytes are invalid' : '') + (openQuote ? ' · a quote is not closed' : '');
  $('about').textContent = view.dialect ? `${many(view.total_number, view.group ? 'group' : 'row')}${view.filter.length || view.search ? ' found' : ''} · ${bytes(view.size)}${skip ? ` · ${many(skip, 'line')} above the header` : ''}${ragged}${guess}` : 'No file yet';
  $('link-text').textContent = state.people.size ? 'Live' : `Live · ${count(view.viewers)} viewing`;
};

/** Updates the footer. @param {import('./types').View} view */
const footer = (view) => {
  const total = view.total_number;
  const first = (page() - 1) * pageSize() + 1;
  $('range').textContent = total ? `${count(first)}–${count(Math.min(first + pageSize() - 1, total))} of ${count(total)}` : 'No rows';
  $('pages').textContent = `of ${count(pages())}`;
  const field = input('page');
  field.max = String(pages());
  if (!field.dataset.typed) field.value = String(page());
  for (const [id, off] of Object.entries({ first: page() <= 1, previous: page() <= 1, next: page() >= pages(), last: page() >= pages() })) {
    $(id).setAttribute('aria-disabled', String(off));
  }
  const size = get('page-size', HTMLSelectElement);
  if (![...size.options].some(({ value }) => value === String(view.page_size))) size.add(new Option(`${view.page_size} a page`, String(view.page_size)));
  size.value = String(view.page_size);
};

/** Updates what depends on the scroll position. */
const scrolled = () => {
  const { rows: [from, to] } = grid;
  const first = (page() - 1) * pageSize();
  const isAway = to > from && (to <= first || from >= first + pageSize());
  $('away').hidden = !isAway;
  if (isAway) {
    $('away-text').textContent = `You see page ${count(pageOnScreen())}.`;
    $('back').textContent = `Back to ${count(page())}`;
    $('bring').textContent = state.alone ? `Turn to ${count(pageOnScreen())}` : `Show ${count(pageOnScreen())} to everyone`;
    $('bring').hidden = !state.alone && !mayLead();
    $('bring').dataset.page = String(pageOnScreen());
  }
  if (isAtEnd()) state.unseen = 0;
  $('unseen').hidden = !state.unseen;
  $('unseen').textContent = `${many(state.unseen, 'new row')} ↓`;
};
grid.onDraw = scrolled;

/** The chips: sorts, filters, hidden columns, locks. @param {import('./types').View} view @param {boolean} isFixed */
const chips = (view, isFixed) => {
  /** @param {string} text @param {string} label @param {() => void} remove @param {boolean} [disabled] */
  const chip = (text, label, remove, disabled = isFixed) => make('button', { 'aria-label': `Remove ${label}: ${text}`, title: `Remove ${label}`, onclick: remove, disabled }, `${text} ×`);
  const hidden = arrangement().hidden.length;
  $('chips').replaceChildren(
    ...(view.group ? [chip(`by ${view.group.by.map(fileName).join(', ')}`, 'grouping', () => change({ group: null, ...(state.alone && { sort: [] }) }))] : []),
    ...view.sort.map((sort) => chip(`${name(sort.column)} ${sort.desc ? '↓' : '↑'}`, 'sort', () => change({ sort: view.sort.filter((other) => other !== sort) }))),
    ...view.filter.map((filter) => chip(`${fileName(filter.column)} ${filter.op === 'same' ? '=' : filter.op} ${filter.value}`, 'filter', () => change({ filter: view.filter.filter((other) => other !== filter) }))),
    ...(hidden ? [make('button', { onclick: () => changeColumns({ hidden: [] }), title: 'Show all columns' }, `${many(hidden, 'hidden column')} ×`)] : []),
    ...(state.lock.view ? [make('span', {}, state.owner ? 'You control the view' : 'The owner controls the view')] : []));
};

/** Updates undo, redo and the file that can be restored. @param {import('./types').View} view */
const past = ({ history, previous }) => {
  for (const [id, n] of /** @type {const} */ ([['undo', history?.undo], ['redo', history?.redo]])) {
    button(id).hidden = !history || state.alone;
    button(id).setAttribute('aria-disabled', String(!n || !mayLead()));
  }
  $('restore').hidden = !previous || previous.until * 1000 < Date.now();
  if (previous) $('restore').textContent = `Restore ${previous.name || 'the previous file'}`;
};

/** The module of groups and charts, which few views need. */
export const groups = () => import('./group.js');
/** Whether this page has shown groups. */
let hasGroups = false;

/** @type {number | undefined} */
let addressing;
/** Updates the address. It is a task of its own, because it takes browsers many milliseconds. */
const showAddress = () => {
  const { alone, wanted } = state;
  const view = shown();
  if (!view) return;
  const place = wanted ?? { ...view, page: page() };
  const address = link() + format(place) + (/^#r\d+c\d+$/.test(location.hash) ? location.hash : '');
  if (address !== location.href || history.state?.alone !== alone) history.replaceState({ alone, kept: true }, '', address);
};

/** Updates the whole page from the state. */
export const update = () => {
  const { view: shared, alone, wanted } = state;
  const view = shown();
  if (!view || !shared) return;
  draw();
  top(view);
  footer(view);
  past(shared);
  const search = input('search-text');
  if (document.activeElement !== search) search.value = view.search;
  const isFixed = alone ? !isModern() : !mayLead();
  for (const field of [get('page-size', HTMLSelectElement), search]) field.disabled = isFixed;
  $('table').classList.toggle('alone', alone);
  $('table').classList.toggle('grouped', !!view.group);
  button('group-open').hidden = !view.dialect || !isModern();
  if (view.group || hasGroups) groups().then(({ drawGroups }) => drawGroups());
  hasGroups ||= !!view.group;
  $('own').hidden = alone || !!wanted;
  $('banner').hidden = !alone && !wanted;
  $('show-all').hidden = !mayLead();
  $('banner-text').textContent = wanted
    ? `This link has ${sameQuery(wanted, { ...view, page: 1 }) ? `page ${wanted.page}` : 'another sort, filter or search'}; the others are on page ${count(shared.page_no)}.`
    : `Browsing on your own. The others are on page ${count(shared.page_no)}.`;
  chips(view, isFixed);
  $('empty').hidden = view.total_number > 0 || view.loading;
  const none = view.filter.length || view.search ? 'No row matches the search and the filters.' : 'The file has no rows.';
  $('empty').textContent = view.name ? none : 'Nothing here yet: drop a file, or choose one.';
  $('rows').setAttribute('aria-label', `Rows of ${view.name || 'the table'}`);
  clearTimeout(addressing);
  addressing = setTimeout(showAddress);
  menus();
  columnsMenu();
  people();
  share();
  statistics();
};
