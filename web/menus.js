// The menus of the file and of each column.

import { $, button, count, get, input, make, place } from './dom.js';
import { drawActions } from './columns.js';
import { grid, redraw } from './grid.js';
import { factsOf, mayLead, name as columnName, shown, state, tableUrl } from './state.js';
import { groups } from './update.js';
import { change, request } from './views.js';

/** @typedef {import('./types').Sort} Sort */
/** @typedef {import('./types').Op} Op */

/** The column of the open menu. */
let open = 0;

/** Whether the file has a delimiter and an encoding. */
const isText = () => (state.view?.dialect?.format ?? 'text') === 'text';

/** Updates the menus from the state, except the field that is edited. */
export const menus = () => {
  const { view, owner, lock } = state;
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
  input('skip').valueAsNumber = view.dialect?.skip ?? 0;
  const { sheet, sheets } = view;
  $('sheet').replaceChildren(...(sheets ?? []).map((name) => new Option(name, name, false, name === sheet)));
  for (const [id, is] of Object.entries({ sheet, delimiter: isText(), encoding: isText() })) /** @type {HTMLElement} */ ($(id).parentElement).hidden = !is;
  $('dialect').hidden = !isText() && !sheet;
  input('header').checked = view.dialect?.header ?? !!view.header;
  input('accents').checked = !!shown()?.ignore_accents;
};

/** Sorts by a column: up, down, not at all. @param {number} column @param {boolean} also adds to the current sorts */
const sortBy = (column, also) => {
  const sorts = shown()?.sort ?? [];
  const now = sorts.find((sort) => sort.column === column);
  const others = also ? sorts.filter((sort) => sort !== now) : [];
  change({ sort: now?.desc ? others : [...others, { column, desc: !!now }] });
};

/** @param {HTMLElement} opener */
const openColumn = (opener) => {
  const view = shown();
  const fact = factsOf(open);
  $('column-name').textContent = columnName(open);
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
  drawActions(open);
  place($('column'), opener);
  $('column').showPopover();
  input('value').focus();
};

/** @param {import('./types').Filter} [filter] instead of that of the open column */
const setFilter = (filter) => {
  const others = (shown()?.filter ?? []).filter(({ column }) => column !== open);
  change({ filter: filter ? [...others, filter] : others });
  $('column').hidePopover();
};

/** Adds the event handlers of the menus. */
export const startMenus = () => {
  button('group-open').onclick = () => groups().then(({ openGroup }) => openGroup());
  $('head').onclick = (event) => {
    const at = /** @type {HTMLElement} */ (event.target);
    const column = at.closest('[data-column]')?.getAttribute('data-column');
    if (!column) return;
    if (at.closest('.more')) {
      open = Number(column);
      openColumn(at);
    } else if (at.closest('.sort')) {
      sortBy(Number(column), event.shiftKey);
    }
  };
  get('filter', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    setFilter({ column: open, op: /** @type {Op} */ (get('op', HTMLSelectElement).value), value: input('value').value });
  };
  button('unfilter').onclick = () => setFilter();
  input('wrap').onchange = () => {
    document.body.classList.toggle('wrap', input('wrap').checked);
    grid.row = input('wrap').checked ? 72 : 30;
    redraw();
  };
  input('accents').onchange = () => change({ ignore_accents: input('accents').checked });
  $('sheet').onchange = () => {
    request({ sheet: get('sheet', HTMLSelectElement).value });
    $('file-menu').hidePopover();
  };
  get('dialect', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    const text = isText() && { delimiter: get('delimiter', HTMLSelectElement).value, encoding: input('encoding').value };
    request({ dialect: { ...text, header: input('header').checked, skip: input('skip').valueAsNumber || 0 } });
    $('file-menu').hidePopover();
  };
};
