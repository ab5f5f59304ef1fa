// The selection, and the cursors of other people, above the cells.

import { $, make } from './dom.js';
import { grid } from './grid.js';
import { state } from './state.js';

/** @typedef {import('./types').Cursor} Cursor */

/** A selection as rows and indexes of columns; null if one of its columns is hidden.
 * @param {Cursor} cursor */
export const area = ({ row, column, to_row: toRow, to_column: toColumn }) => {
  const { shown } = grid.layout;
  const [one, other] = [shown.indexOf(column), shown.indexOf(toColumn ?? column)];
  if (one < 0 || other < 0) return null;
  return {
    top: Math.min(row, toRow ?? row), bottom: Math.max(row, toRow ?? row), first: Math.min(one, other), last: Math.max(one, other),
  };
};

/** @param {number} row @param {number} index */
export const isSelected = (row, index) => {
  const it = selected;
  return !!it && row >= it.top && row <= it.bottom && index >= it.first && index <= it.last;
};

/** The selection of this viewer. @type {ReturnType<typeof area>} */
let selected = null;

/** Computes the selection again, after the cursor or the columns have changed. */
export const select = () => {
  selected = state.cursor && area(state.cursor);
  return selected;
};

/** Where an area is on screen, without the parts under row numbers and frozen columns; null if nothing of it is visible.
 * @param {{ top: number, bottom: number, first: number, last: number }} cells */
const box = ({ top, bottom, first, last }) => {
  const { layout: { left, frozen, frozenWidth }, row, x, y, numbers, width, height } = grid;
  const across = (/** @type {number} */ index, /** @type {boolean} */ isFrozen) => numbers + (isFrozen ? (left[index] ?? 0) : Math.max(frozenWidth, (left[index] ?? 0) - x));
  const start = across(first, first < frozen);
  const end = Math.min(across(last + 1, last < frozen), width);
  const from = Math.max(-2, top * row - y);
  const to = Math.min((bottom + 1) * row - y, height);
  return end > start && to > from ? { start, end, from, to } : null;
};

/** @param {string} kind @param {NonNullable<ReturnType<typeof box>>} where @param {string} [color] @param {string} [label] */
const rectangle = (kind, { start, end, from, to }, color, label) => {
  const made = make('div', { class: kind }, ...(label ? [make('span', {}, label)] : []));
  Object.assign(made.style, { left: `${start}px`, top: `${from}px`, width: `${end - start}px`, height: `${to - from}px` });
  if (color) made.style.setProperty('--color', color);
  if (label && from < 18) made.classList.add('below');
  return made;
};

let drawn = '';

/** Draws all selections. */
export const drawMarks = () => {
  select();
  const { cursor } = state;
  const made = [];
  const where = selected && box(selected);
  if (where && cursor) {
    const isOne = selected?.top === selected?.bottom && selected?.first === selected?.last;
    if (!isOne) made.push(/** @type {const} */ (['range', where]));
    const one = area({ ...cursor, to_row: cursor.row, to_column: cursor.column });
    const cell = one && box(one);
    if (cell) made.push(/** @type {const} */ (['cursor', cell]));
  }
  for (const { id, name, color, cursor: theirs } of state.private ? [] : state.people.values()) {
    if (id === state.me || !theirs) continue;
    const cells = area(theirs);
    const at = cells && box(cells);
    if (at) made.push(/** @type {const} */ (['theirs', at, color, name]));
  }
  const key = JSON.stringify(made);
  if (key !== drawn) {
    drawn = key;
    $('marks').replaceChildren(...made.map(([kind, at, color, label]) => rectangle(kind, at, color, label)));
  }
  const id = cursor ? `r${cursor.row + 1}c${cursor.column + 1}` : '';
  if (id && document.getElementById(id)) $('rows').setAttribute('aria-activedescendant', id);
  else $('rows').removeAttribute('aria-activedescendant');
};
