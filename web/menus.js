// The menus of a table and of each column.

import { $, button, copy, count, get, input, make, place } from './dom.js';
import { link, mayLead, state, tableUrl } from './state.js';
import { request } from './table.js';
import { note } from './update.js';

/** @typedef {import('./types').Sort} Sort */
/** @typedef {import('./types').Op} Op */

/** The column of the open menu. */
let open = 0;

/** Updates the menus from the state, except the field that is edited. */
export const menus = () => {
  const { view, owner, lock } = state;
  button('owner-open').hidden = !owner;
  input('lock-uploads').checked = lock.uploads;
  input('lock-view').checked = lock.view;
  for (const [id, query] of [['download', ''], ['download-csv', '?view=csv'], ['download-tsv', '?view=tsv']]) {
    get(id ?? '', HTMLAnchorElement).href = `${tableUrl()}/download${query}`;
  }
  for (const control of $('dialect').querySelectorAll('button, input, select')) {
    /** @type {HTMLButtonElement} */ (control).disabled = !mayLead();
  }
  input('file').disabled = (lock.uploads || lock.view) && !owner;
  if ($('file-menu').matches(':popover-open') || !view) return;
  const delimiter = get('delimiter', HTMLSelectElement);
  const current = view.dialect?.delimiter ?? ',';
  if (![...delimiter.options].some(({ value }) => value === current)) delimiter.add(new Option(current, current));
  delimiter.value = current;
  input('encoding').value = view.dialect?.encoding ?? '';
  input('header').checked = view.dialect?.header ?? !!view.header;
};

/** Sorts by a column: up, down, not at all. @param {number} column @param {boolean} also adds to the current sorts */
const sortBy = (column, also) => {
  const sorts = state.view?.sort ?? [];
  const now = sorts.find((sort) => sort.column === column);
  const others = also ? sorts.filter((sort) => sort !== now) : [];
  request({ sort: now?.desc ? others : [...others, { column, desc: !!now }] });
};

/** @param {HTMLElement} opener */
const openColumn = (opener) => {
  const { view, facts } = state;
  const fact = facts[open];
  const name = view?.header?.[open] || `Column ${open + 1}`;
  $('column-name').textContent = name;
  const round = (/** @type {number} */ n) => n.toLocaleString('en', { maximumSignificantDigits: 6 });
  /** @type {[string, string][]} */
  const lines = fact ? [
    ['Type', fact.type], ['Empty', count(fact.empty)], ['Distinct', `${fact.exact ? '' : 'about '}${count(fact.distinct)}`],
    ['Minimum', fact.min ?? ''], ['Maximum', fact.max ?? ''], ['Mean', typeof fact.mean === 'number' ? round(fact.mean) : ''],
  ] : [];
  $('column-facts').replaceChildren(...lines.filter(([, value]) => value).flatMap(([term, value]) => [make('dt', {}, term), make('dd', {}, value)]));
  $('top').replaceChildren(...(fact && fact.distinct <= 100 ? fact.top.slice(0, 8) : []).map(([value, n]) => make('button', {
    type: 'button', title: 'Show only these rows', onclick: () => setFilter({ column: open, op: 'equals', value }),
  }, `${value} · ${count(n)}`)));
  const filter = view?.filter.find(({ column }) => column === open);
  get('op', HTMLSelectElement).value = filter?.op ?? 'contains';
  input('value').value = String(filter?.value ?? '');
  button('unfilter').hidden = !filter;
  place($('column'), opener);
  $('column').showPopover();
  input('value').focus();
};

/** @param {import('./types').Filter} [filter] instead of that of the open column */
const setFilter = (filter) => {
  const others = (state.view?.filter ?? []).filter(({ column }) => column !== open);
  request({ filter: filter ? [...others, filter] : others });
  $('column').hidePopover();
};

const drawCode = async () => {
  const { encode } = await import('./qr.js');
  const code = encode(link());
  $('qr-text').textContent = code ? link() : 'The link is too long for a QR code.';
  if (!code) return;
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const side = code.length + 8;
  svg.setAttribute('viewBox', `-4 -4 ${side} ${side}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', 'QR code of the link');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  path.setAttribute('d', code.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ''))).join(''));
  svg.append(path);
  $('qr-code').replaceChildren(svg);
};

/** Adds the event handlers of the menus. */
export const startMenus = () => {
  button('copy').onclick = () => copy(button('copy'), link());
  button('copy-owner').onclick = () => copy(button('copy-owner'), `${link()}#owner=${state.owner}`);
  $('qr').addEventListener('beforetoggle', (event) => { if (/** @type {ToggleEvent} */ (event).newState === 'open') drawCode(); });
  $('head').onclick = (event) => {
    const at = /** @type {HTMLElement} */ (event.target);
    const column = at.closest('th')?.dataset.column;
    if (column === undefined) return;
    if (at.closest('.more')) {
      open = Number(column);
      openColumn(at);
    } else if (state.own === null) {
      sortBy(Number(column), event.shiftKey);
    } else {
      note('All viewers share the order; follow them to change it.', '');
    }
  };
  get('filter', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    setFilter({ column: open, op: /** @type {Op} */ (get('op', HTMLSelectElement).value), value: input('value').value });
  };
  button('unfilter').onclick = () => setFilter();
  input('wrap').onchange = () => { document.body.classList.toggle('wrap', input('wrap').checked); };
  get('dialect', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    request({ dialect: { delimiter: get('delimiter', HTMLSelectElement).value, header: input('header').checked, encoding: input('encoding').value } });
    $('file-menu').hidePopover();
  };
  for (const id of ['lock-uploads', 'lock-view']) {
    input(id).onchange = () => request({ lock: { uploads: input('lock-uploads').checked, view: input('lock-view').checked } });
  }
  button('delete').onclick = () => {
    if (confirm(`Delete ${state.view?.name || 'this table'} for everyone?`)) request({ delete: {} });
  };
};
