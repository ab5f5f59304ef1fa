// The header of the grid: names, sort order, types and histograms of the columns on screen, and the widths that fit them.

import { $, count, make } from './dom.js';
import { grid, tiles } from './grid.js';
import { factsOf, name, shown, state, width } from './state.js';

/** The height of the header, in pixels; the same as in the style. */
export const HEAD = 50;
/** Matches numbers, for the alignment of columns without facts. */
const NUMBER = /^\s*[-+]?[\d.,\u00a0' ]*\d(e[-+]?\d+)?\s*%?\s*$/i;
/** The narrowest and the widest column that was not resized. */
const FIT = [80, 340];
/** The narrowest column of numbers: its histogram is visible. */
const NUMERIC = 126;

/** @type {Map<number, { element: HTMLElement, key: string }>} */
const cells = new Map();
/** Columns whose cells were measured. @type {Set<number>} */
const fitted = new Set();
/** @type {CanvasRenderingContext2D | null | undefined} */
let canvas;

/** The width of a text in a cell, without its padding. @param {string} text */
const textWidth = (text) => {
  canvas ??= document.createElement('canvas').getContext('2d');
  if (!canvas) return text.length * 7.5;
  canvas.font ||= '';
  const style = getComputedStyle($('rows'));
  const font = `${style.fontSize} ${style.fontFamily}`;
  if (canvas.font !== font) canvas.font = font;
  return canvas.measureText(text.slice(0, 200)).width;
};

/** The width that shows a name and some cells of a column. @param {number} column @param {number} from @param {number} to @param {number} most */
const widthOf = (column, from, to, most) => {
  let widest = textWidth(name(column)) * 1.06 + 42;
  for (let row = from; row < to; row++) {
    const text = tiles.cell(row, column);
    if (text) widest = Math.max(widest, textWidth(text.split('\n', 1)[0] ?? ''));
  }
  return Math.round(Math.max(FIT[0] ?? 0, Math.min(widest + 26, most)));
};

/** The width that shows all of a column's cells on screen. @param {number} column */
export const fitting = (column) => widthOf(column, ...grid.rows, 900);

/** Forgets the widths that fit: the cells are those of another file. */
export const resetFits = () => {
  fitted.clear();
  grid.fitting.clear();
  state.numeric.clear();
  grid.fits++;
};

/** Measures columns when their cells are here for the first time; true if a width has changed. @param {number[]} columns @param {number} from first row @param {number} to */
export const fit = (columns, from, to) => {
  let hasChanged = false;
  for (const column of columns) {
    if (fitted.has(column) || tiles.cell(from, column) === undefined) continue;
    fitted.add(column);
    const before = grid.fitting.get(column);
    if (!state.numeric.has(column)) {
      const full = Array.from({ length: to - from }, (_, i) => tiles.cell(from + i, column)).filter(Boolean);
      state.numeric.set(column, full.length > 0 && full.every((text) => NUMBER.test(text ?? '')));
    }
    const now = Math.max(widthOf(column, from, to, FIT[1] ?? 0), state.numeric.get(column) ? NUMERIC : 0);
    grid.fitting.set(column, now);
    hasChanged ||= before !== now;
  }
  if (hasChanged) grid.fits++;
  return hasChanged;
};

/** A small histogram of the numbers of a column. @param {number[]} bins */
const histogram = (bins) => {
  const most = Math.max(...bins);
  const bars = bins.map((n, i) => `M${i} 10v${n && -Math.max((n / most) * 10, 0.6)}h.8V10z`).join('');
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  path.setAttribute('d', bars);
  for (const [name, value] of [['viewBox', `0 0 ${bins.length} 10`], ['preserveAspectRatio', 'none'], ['aria-hidden', 'true']]) {
    svg.setAttribute(name ?? '', value ?? '');
  }
  svg.append(path);
  return svg;
};

/** @param {number} index */
const makeCell = (index) => {
  const column = grid.layout.shown[index] ?? 0;
  const title = name(column);
  const element = make('div', { class: 'head', role: 'columnheader', 'aria-colindex': index + 2, 'data-column': column },
    make('div', { class: 'name' },
      make('button', { class: 'sort', title, dir: 'auto' }, title),
      make('button', { class: 'more', 'aria-label': `Filter ${title}`, 'aria-haspopup': 'dialog' }, '▾')),
    make('div', { class: 'facts' }), make('div', { class: 'grip', 'aria-hidden': 'true' }));
  const { left, frozen, frozenWidth } = grid.layout;
  element.style.left = `${(left[index] ?? 0) - (index < frozen ? 0 : frozenWidth)}px`;
  element.style.width = `${(left[index + 1] ?? 0) - (left[index] ?? 0)}px`;
  return { element, key: '' };
};

/** @param {HTMLElement} element @param {number} column */
const update = (element, column) => {
  const view = shown();
  const sort = view?.sort.find((one) => one.column === column);
  element.setAttribute('aria-sort', sort ? (sort.desc ? 'descending' : 'ascending') : 'none');
  element.classList.toggle('filtered', !view?.group && !!view?.filter.some((one) => one.column === column));
  element.classList.toggle('num', !!state.numeric.get(column));
  const fact = factsOf(column);
  const line = element.querySelector('.facts');
  const empty = fact?.empty ? ` · ${count(fact.empty)} empty` : '';
  line?.replaceChildren(...(fact ? [make('span', {}, fact.type + empty)] : []));
  if (fact?.histogram.length) line?.append(histogram(fact.histogram));
};

/** Forgets the elements of the header; one with the focus passes it on to its successor. */
export const clearHead = () => {
  const focused = document.activeElement?.closest('#head .head');
  focusOn = focused ? { column: focused.getAttribute('data-column'), button: document.activeElement?.className } : undefined;
  cells.clear();
  $('fixed-head').replaceChildren();
  $('strip-head').replaceChildren();
};
/** @type {{ column: string | null, button: string | undefined } | undefined} */
let focusOn;

/** Draws the header. */
export const head = () => {
  const { layout: { shown: columns, frozen }, columns: [from, to] } = grid;
  const view = shown();
  for (const [index, { element }] of cells) {
    if (index < frozen || (index >= from && index < to) || element.contains(document.activeElement)) continue;
    element.remove();
    cells.delete(index);
  }
  const indexes = [...Array(frozen).keys(), ...Array.from({ length: to - from }, (_, i) => from + i)].reverse();
  for (const index of indexes) {
    const column = columns[index] ?? 0;
    let cell = cells.get(index);
    if (!cell) {
      cell = makeCell(index);
      cells.set(index, cell);
      const next = cells.get(index + 1);
      const into = $(index < frozen ? 'fixed-head' : 'strip-head');
      if (next?.element.parentElement === into) into.insertBefore(cell.element, next.element);
      else into.append(cell.element);
    }
    const fact = factsOf(column);
    const key = JSON.stringify([view?.sort, view?.filter, fact, state.numeric.get(column), name(column)]);
    if (cell.key !== key) {
      cell.key = key;
      const button = cell.element.querySelector('.sort');
      if (button && button.textContent !== name(column)) {
        const fresh = makeCell(index).element;
        cell.element.replaceChildren(...fresh.children);
      }
      update(cell.element, column);
    }
  }
  if (focusOn) {
    const { column, button } = focusOn;
    focusOn = undefined;
    /** @type {HTMLElement | null} */ ($('head').querySelector(`[data-column="${column}"] .${button}`))?.focus({ preventScroll: true });
  }
};

/** Names of columns that came with rows. @param {string[] | null | undefined} header @param {number} from @param {import('./types').Group | null} [group] */
export const learnNames = (header, from, group) => header?.forEach((text, i) => {
  const column = group ? group.by[from + i] ?? group.measures[from + i - group.by.length]?.column : from + i;
  if (column !== undefined) state.names[column] = group && from + i >= group.by.length ? text.replace(/^\w+ of /, '') : text;
});

/** Which columns are numbers, where that is known. */
export const learnTypes = () => {
  if (!shown()?.group) state.facts.forEach(({ type }, column) => state.numeric.set(column, type === 'integer' || type === 'decimal'));
};

/** Whether all columns have been counted. */
export const columnCount = () => width();
