// Columns: resized by their right edge, fitted, hidden, frozen and moved; and the list that jumps to a column.

import { $, beforeOpen, button, count, input, isOpen, make } from './dom.js';
import { draw, grid, measure, reveal } from './grid.js';
import { fitting } from './head.js';
import { NARROWEST, WIDEST, order } from './layout.js';
import { moveTo } from './cursor.js';
import { arrangement, name, shown, state } from './state.js';
import { changeColumns } from './views.js';

/** Most columns in the list; a search finds the others. */
const LISTED = 200;
/** Columns whose names are requested at once. */
const NAMES = 1000;

/** @param {number} column @param {number} width */
const resize = (column, width) => changeColumns({ widths: { ...arrangement().widths, [column]: Math.round(Math.max(NARROWEST, Math.min(width, WIDEST))) } });
/** @param {number} column */
const widthNow = (column) => {
  measure();
  const { shown: columns, left } = grid.layout;
  const index = columns.indexOf(column);
  return (left[index + 1] ?? 0) - (left[index] ?? 0);
};

/** Moves a column among those that are shown. @param {number} column @param {number} by */
const move = (column, by) => {
  const { shown: columns } = grid.layout;
  const index = columns.indexOf(column);
  const neighbour = columns[index + by];
  if (index < 0 || neighbour === undefined) return;
  const all = order(state.width, arrangement());
  const [here, there] = [all.indexOf(column), all.indexOf(neighbour)];
  all.splice(here, 1);
  all.splice(there, 0, column);
  // Columns behind the last one that was moved are in the order of the file.
  let length = all.length;
  while (length > 0 && all[length - 1] === length - 1) length--;
  changeColumns({ order: all.slice(0, length) });
};

/** @param {number} column */
const hide = (column) => {
  if (grid.layout.shown.length > 1) changeColumns({ hidden: [...arrangement().hidden.filter((other) => other !== column), column] });
};

/** The actions of the menu of a column. @param {number} column @returns {HTMLElement[]} */
export const columnActions = (column) => {
  measure();
  const { frozen, shown: columns } = grid.layout;
  const index = columns.indexOf(column);
  const isLast = arrangement().frozen === index + 1;
  /** @type {[string, () => void][]} */
  const actions = [
    ['Fit', () => resize(column, fitting(column))],
    ['Narrower', () => resize(column, widthNow(column) - 40)], ['Wider', () => resize(column, widthNow(column) + 40)],
    ['Move left', () => move(column, -1)], ['Move right', () => move(column, 1)],
    [isLast && frozen ? 'Unfreeze' : 'Freeze up to here', () => changeColumns({ frozen: isLast ? 0 : index + 1 })],
    ['Hide', () => { hide(column); $('column').hidePopover(); }],
  ];
  return actions.map(([label, act]) => make('button', { type: 'button', onclick: () => { act(); drawActions(column); } }, label));
};

/** @param {number} column */
export const drawActions = (column) => {
  const focused = document.activeElement?.textContent;
  const actions = columnActions(column);
  const had = $('column-actions').contains(document.activeElement);
  $('column-actions').replaceChildren(...actions);
  if (had) (actions.find(({ textContent }) => textContent === focused) ?? actions[0])?.focus();
};

/** Scrolls to a column, and puts the cursor on it. @param {number} column */
const jump = (column) => {
  if (arrangement().hidden.includes(column)) changeColumns({ hidden: arrangement().hidden.filter((other) => other !== column) });
  draw();
  requestAnimationFrame(() => {
    const index = grid.layout.shown.indexOf(column);
    reveal(state.cursor?.row ?? grid.rows[0], index);
    moveTo(state.cursor?.row ?? grid.rows[0], index);
    $('rows').focus({ preventScroll: true });
  });
};

/** Requests the names of columns that are not known yet. */
const requestNames = () => {
  if (!shown()?.columns_total) return;
  for (let from = 0; from < state.width; from += NAMES) {
    if (state.names[from] !== undefined && state.names[Math.min(from + NAMES, state.width) - 1] !== undefined) continue;
    state.send({ rows: { from: 0, count: 1, columns: { from, count: NAMES }, ...(state.private && { private: true }) } });
  }
};

/** Updates the list of columns, while it is open. */
export const columnsMenu = () => {
  button('columns-open').hidden = !shown()?.dialect;
  if (!isOpen('columns')) return;
  const wanted = input('column-search').value.trim().toLowerCase();
  const all = order(state.width, arrangement()).filter((column) => name(column).toLowerCase().includes(wanted));
  const hidden = new Set(arrangement().hidden);
  const focused = document.activeElement?.id;
  $('column-list').replaceChildren(...all.slice(0, LISTED).map((column) => {
    const box = make('input', { type: 'checkbox', id: `show-${column}`, checked: !hidden.has(column), 'aria-label': `Show ${name(column)}` });
    box.onchange = () => {
      if (box.checked) changeColumns({ hidden: arrangement().hidden.filter((other) => other !== column) });
      else hide(column);
      columnsMenu();
    };
    return make('li', {}, box, make('button', { class: 'jump', dir: 'auto', onclick: () => { $('columns').hidePopover(); jump(column); } }, name(column)));
  }));
  if (focused?.startsWith('show-')) document.getElementById(focused)?.focus();
  $('column-more').textContent = all.length > LISTED ? `${count(all.length - LISTED)} more: search for their names.` : all.length ? '' : 'No column has this name.';
};

/** Adds the event handlers. */
export const startColumns = () => {
  beforeOpen('columns', () => { requestNames(); columnsMenu(); });
  $('columns').addEventListener('toggle', () => { if (isOpen('columns')) input('column-search').focus(); });
  input('column-search').oninput = columnsMenu;
  input('column-search').onkeydown = (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault();
    /** @type {HTMLElement | null} */ ($('column-list').querySelector('.jump'))?.click();
  };
  button('show-columns').onclick = () => { changeColumns({ hidden: [], order: [], frozen: 0, widths: {} }); columnsMenu(); };
  const header = $('head');
  /** @type {{ column: number, x: number, width: number } | null} */
  let drag = null;
  /** The last press on an edge: a second one within half a second fits the column. */
  let pressed = { column: -1, at: 0 };
  header.addEventListener('pointerdown', (event) => {
    const grip = /** @type {HTMLElement} */ (event.target).closest('.grip');
    if (!grip) return undefined;
    const column = Number(grip.closest('[data-column]')?.getAttribute('data-column'));
    event.preventDefault();
    const isSecond = pressed.column === column && event.timeStamp - pressed.at < 500;
    pressed = { column: isSecond ? -1 : column, at: event.timeStamp };
    if (isSecond) return resize(column, fitting(column));
    drag = { column, x: event.clientX, width: widthNow(column) };
    return header.setPointerCapture(event.pointerId);
  });
  header.addEventListener('pointermove', (event) => {
    if (!drag) return;
    const width = Math.round(Math.max(NARROWEST, Math.min(drag.width + event.clientX - drag.x, WIDEST)));
    const columns = shown()?.columns ?? state.columns;
    state.dragged = { ...columns, widths: { ...columns.widths, [drag.column]: width } };
    draw();
  });
  for (const end of ['pointerup', 'pointercancel']) {
    header.addEventListener(end, () => {
      const width = drag && state.dragged?.widths[drag.column];
      state.dragged = undefined;
      if (drag && width) resize(drag.column, width);
      drag = null;
    });
  }
};
