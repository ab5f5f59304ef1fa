// The grid: draws the rows and columns on screen, and only those. Cells are set as text and never as markup.
//
// An element as large as the whole table gives the scroll bars. The rows are drawn into a layer that stays in place, at
// positions computed from the scroll position, so the height that browsers permit does not limit the number of rows.
// Rows, cells and headers that stay on screen keep their elements, and with them the focus.

import { $, count, make } from './dom.js';
import { clearHead, fit, head, HEAD } from './head.js';
import { arrange, visible } from './layout.js';
import { afterScroll, contentHeight, toScroll } from './scroll.js';
import { drawMarks, isSelected } from './marks.js';
import { Tiles } from './tiles.js';
import { age, arrangement, pageSize, pages, shown, state, width } from './state.js';

/** @typedef {import('./layout.js').Layout} Layout */
/** @typedef {{ element: HTMLElement, key: string }} Cell */
/** @typedef {{ element: HTMLElement, number: HTMLElement, fixed: HTMLElement, strip: HTMLElement, cells: Map<number, Cell>, row: number }} Line */

/** Most marked matches of a search. */
const MARKS = 1000;
/** Time without a scroll event after which the scroll bar is set to the exact position, in milliseconds. */
const IDLE = 150;

/** The state of the grid; lengths in pixels. */
export const grid = {
  /** Position in all rows, and in the scrolled columns. */
  y: 0, x: 0,
  /** Size of the visible part. */
  width: 0, height: 0,
  row: 30,
  /** Width of the row numbers. */
  numbers: 52,
  /** @type {Layout} */
  layout: { shown: [], frozen: 0, left: new Float64Array(1), frozenWidth: 0 },
  /** Widths that fit the cells, by column, and how often they changed. @type {Map<number, number>} */
  fitting: new Map(),
  fits: 0,
  /** Columns on screen: first and last index of those that scroll. @type {[number, number]} */
  columns: [0, 0],
  /** Rows on screen: the first, and the one after the last. @type {[number, number]} */
  rows: [0, 0],
  /** The last direction of scrolling. */
  isUpwards: false,
  /** Called after each frame. */
  onDraw: () => {},
};

/** @type {Map<number, Line>} */
const lines = new Map();
let was = 0;
let isQueued = false;
let arranged = '';
/** @type {import('./types').Columns | undefined} */
let arrangedFor;
/** @type {number | undefined} */
let idle;

/** @type {Tiles} */
export const tiles = new Tiles((request) => state.send({ rows: { ...request, ...(state.private && { private: true }) } }), () => draw());

/** @type {(() => void)[]} */
let waiting = [];
/** Resolves when requested rows were received, or after a moment. */
export const moreRows = () => new Promise((/** @type {(_: void) => void} */ wake) => { waiting.push(wake); setTimeout(wake, 200); });
/** Reports that requested rows were received. */
export const onRows = () => {
  const waited = waiting;
  waiting = [];
  for (const wake of waited) wake();
  draw();
};

const total = () => shown()?.total_number ?? 0;
const full = () => total() * grid.row;
/** Height of the rows on screen. */
const seen = () => Math.max(grid.row, grid.height - HEAD);

/** Draws the grid in the next frame. */
export const draw = () => {
  if (isQueued) return;
  isQueued = true;
  requestAnimationFrame(() => { isQueued = false; frame(); });
};

/** Forgets the elements, when the order of the columns or the height of the rows has changed. */
const clear = () => {
  lines.clear();
  spare = [];
  $('body').replaceChildren();
  clearHead();
};

/** Updates the arrangement of columns and the size of the scrolled content. */
export const measure = () => {
  const columns = arrangement();
  grid.numbers = Math.max(44, 26 + 7.6 * count(total()).length);
  const key = `${width()} ${grid.width} ${grid.row} ${grid.numbers} ${grid.fits}`;
  if (key !== arranged || columns !== arrangedFor) {
    const isSame = key === arranged && JSON.stringify(columns) === JSON.stringify(arrangedFor);
    arranged = key;
    arrangedFor = columns;
    if (!isSame) {
      grid.layout = arrange(width(), columns, grid.fitting, (grid.width - grid.numbers) * 0.6);
      clear();
    }
  }
  const { left, shown: { length } } = grid.layout;
  const { style } = $('space');
  style.height = `${Math.max(contentHeight(full()) + HEAD, 1)}px`;
  style.width = `${grid.numbers + (left[length] ?? 0)}px`;
  grid.y = Math.max(0, Math.min(grid.y, full() - seen()));
};

/** Scrolls to a position. @param {number} y @param {number} [x] */
export const scrollTo = (y, x = grid.x) => {
  measure();
  grid.y = Math.max(0, Math.min(y, full() - seen()));
  const area = $('rows');
  area.scrollTop = toScroll(grid.y, full(), seen());
  area.scrollLeft = x;
  was = area.scrollTop;
  grid.x = area.scrollLeft;
  draw();
};

/** Whether the last row is on screen. */
export const isAtEnd = () => grid.y >= full() - seen() - grid.row / 2;
export const scrollToEnd = () => scrollTo(full());
/** Scrolls so that a row is the first one. @param {number} row */
export const scrollToRow = (row) => scrollTo(row * grid.row);

/** Scrolls as little as necessary to show a cell. @param {number} row @param {number} index of the column in the layout; -1: hidden */
export const reveal = (row, index) => {
  measure();
  const { left, frozen, frozenWidth } = grid.layout;
  const top = row * grid.row;
  const y = top < grid.y ? top : Math.max(grid.y, top + grid.row - seen());
  let { x } = grid;
  if (index >= frozen) {
    const room = grid.width - grid.numbers - frozenWidth;
    const from = (left[index] ?? 0) - frozenWidth;
    const to = (left[index + 1] ?? 0) - frozenWidth;
    x = from < x || to - from > room ? from : Math.max(x, to - room);
  }
  if (y !== grid.y || x !== grid.x) scrollTo(y, x);
  else draw();
};

/** Follows the scroll bar. */
export const onScroll = () => {
  const area = $('rows');
  const before = grid.y;
  grid.y = afterScroll(grid.y, was, area.scrollTop, full(), seen());
  was = area.scrollTop;
  grid.x = area.scrollLeft;
  if (grid.y !== before) grid.isUpwards = grid.y < before;
  draw();
  clearTimeout(idle);
  idle = setTimeout(() => {
    const exact = toScroll(grid.y, full(), seen());
    if (Math.abs(exact - area.scrollTop) > 1) scrollTo(grid.y);
  }, IDLE);
};

/** The row and the index of the column at a point of the window; the index is -1 on the row numbers. @param {number} x @param {number} y */
export const cellAt = (x, y) => {
  const area = $('rows').getBoundingClientRect();
  const row = Math.floor((grid.y + y - area.top - HEAD) / grid.row);
  const across = x - area.left - grid.numbers;
  const { layout } = grid;
  const at = across < layout.frozenWidth ? across : across + grid.x;
  let index = 0;
  while (index < layout.shown.length - 1 && (layout.left[index + 1] ?? 0) <= at) index++;
  return { row: Math.max(0, Math.min(row, total() - 1)), index: across < 0 ? -1 : index };
};

/** Lines that have left the screen, for further use. @type {Line[]} */
let spare = [];

/** @returns {Line} */
const makeLine = () => {
  const number = make('div', { class: 'n', role: 'rowheader', 'aria-colindex': 1 });
  const fixed = make('div', { class: 'fixed' });
  const strip = make('div', { class: 'strip' });
  const element = make('div', { class: 'line', role: 'row' }, number, fixed, make('div', { class: 'moving' }, strip));
  return { element, number, fixed, strip, cells: new Map(), row: -1 };
};

/** Gives a line the number of another row. @param {Line} line @param {number} row */
const renumber = (line, row) => {
  line.row = row;
  const { element, cells } = line;
  element.setAttribute('aria-rowindex', String(row + 2));
  const since = state.private ? undefined : age(row);
  element.classList.toggle('fresh', since !== undefined);
  // A row that is drawn again continues its fade.
  if (since !== undefined) element.style.setProperty('--since', `${-since}ms`);
  for (const [index, cell] of cells) cell.element.id = `r${row + 1}c${(grid.layout.shown[index] ?? 0) + 1}`;
};

const blank = make('div', { role: 'gridcell', dir: 'auto' });

/** @param {Cell} cell @param {number} row @param {number} column @param {number} index */
const fill = (cell, row, column, index) => {
  const text = tiles.cell(row, column);
  const length = tiles.characters(row, column);
  const selected = isSelected(row, index);
  const flash = state.flashes.get(`${row} ${column}`);
  const key = `${text === null ? 'n' : text === undefined ? 'w' : 't'}${state.numeric.get(column) ? 1 : 0}${selected ? 1 : 0}${length ?? ''} ${flash ?? ''} ${text ?? ''}`;
  if (cell.key === key) return;
  cell.key = key;
  const { element } = cell;
  element.className = `cell${text === null ? ' none' : ''}${text === undefined ? ' wait' : ''}${state.numeric.get(column) ? ' num' : ''}${flash ? ' flash' : ''}`;
  element.textContent = (text ?? '') + (length ? '…' : '');
  if (selected) element.setAttribute('aria-selected', 'true');
  else element.removeAttribute('aria-selected');
  if (length) element.title = `${count(length)} characters; all of them are in the download`;
  else if (text && text.length > 30) element.title = text.slice(0, 2000);
  else element.removeAttribute('title');
};

/** @param {Line} line @param {number} row */
const drawLine = (line, row) => {
  const { layout: { shown: columns, frozen, left, frozenWidth }, columns: [from, to] } = grid;
  if (line.row !== row) renumber(line, row);
  line.element.style.transform = `translateY(${row * grid.row - grid.y}px)`;
  line.element.classList.toggle('edge', row > 0 && row % pageSize() === 0);
  const cells = tiles.cellsOf(row);
  const number = count(row + 1) + (cells ? ' …' : '');
  if (line.number.textContent !== number) {
    line.number.textContent = number;
    line.number.title = cells ? `${count(cells)} cells; all of them are in the download` : '';
  }
  /** Cells that have left the screen, for the columns that come. @type {Cell[]} */
  const free = [];
  for (const [index, cell] of line.cells) {
    if (index < frozen || (index >= from && index < to)) continue;
    free.push(cell);
    line.cells.delete(index);
  }
  /** @param {number} index @param {HTMLElement} into @param {number} start */
  const put = (index, into, start) => {
    const column = columns[index] ?? 0;
    let cell = line.cells.get(index);
    if (!cell) {
      cell = free.pop() ?? { element: /** @type {HTMLElement} */ (blank.cloneNode()), key: '' };
      const { element } = cell;
      element.id = `r${row + 1}c${column + 1}`;
      element.setAttribute('aria-colindex', String(index + 2));
      element.style.left = `${(left[index] ?? 0) - start}px`;
      element.style.width = `${(left[index + 1] ?? 0) - (left[index] ?? 0)}px`;
      line.cells.set(index, cell);
      const next = line.cells.get(index + 1);
      if (next && index + 1 !== frozen) into.insertBefore(element, next.element);
      else into.append(element);
    }
    fill(cell, row, column, index);
  };
  for (let index = 0; index < frozen; index++) put(index, line.fixed, 0);
  // Backwards, so that a cell which comes on screen at the left is placed before its neighbour.
  for (let index = to - 1; index >= from; index--) put(index, line.strip, frozenWidth);
  for (const { element } of free) element.remove();
};

/** Marks the matches of a search without changing the cells. @param {import('./types').View} view */
const mark = ({ search, ignore_accents: plain }) => {
  if (!CSS.highlights) return;
  CSS.highlights.delete('hit');
  // Letter by letter, so that offsets stay those of the text.
  const lower = (/** @type {string} */ text) => (plain ? text.replace(/[^\0-~]/g, (letter) => letter.normalize('NFD').charAt(0)) : text).toLowerCase();
  const wanted = lower(search);
  if (!wanted) return;
  const hits = new Highlight();
  for (const cell of $('body').querySelectorAll('.cell')) {
    const text = cell.firstChild;
    // Lower case may be longer; then its offsets differ from those of the text.
    const low = lower(cell.textContent);
    if (!text || low.length !== cell.textContent.length) continue;
    for (let at = low.indexOf(wanted); at >= 0 && hits.size < MARKS; at = low.indexOf(wanted, at + wanted.length)) {
      const range = new Range();
      range.setStart(text, at);
      range.setEnd(text, at + wanted.length);
      hits.add(range);
    }
  }
  CSS.highlights.set('hit', hits);
};

/** Requests the cells on screen, then those that come next. */
const request = () => {
  const { layout, columns: [from, to], rows: [top, bottom], isUpwards } = grid;
  const near = layout.shown.slice(from, to).concat(layout.shown.slice(0, layout.frozen));
  if (!tiles.need([top, bottom], near, total())) return;
  const ahead = bottom - top + 32;
  if (!tiles.need(isUpwards ? [Math.max(0, top - ahead), top] : [bottom, bottom + ahead], near, total())) return;
  tiles.need([top, bottom], layout.shown.slice(Math.max(0, from - 8), to + 8), total());
};

const frame = () => {
  const view = shown();
  if (!view || !grid.height) return;
  measure();
  grid.rows = [Math.floor(grid.y / grid.row), Math.min(total(), Math.ceil((grid.y + seen()) / grid.row))];
  const [first, last] = grid.rows;
  grid.columns = visible(grid.layout, grid.x, grid.width - grid.numbers);
  const on = grid.layout.shown.slice(...grid.columns).concat(grid.layout.shown.slice(0, grid.layout.frozen));
  if (fit(on, first, last)) return frame();
  const area = $('rows');
  const layer = $('layer');
  layer.style.width = `${grid.width}px`;
  layer.style.height = `${grid.height}px`;
  for (const [name, value] of [['--x', -grid.x], ['--numbers', grid.numbers], ['--frozen', grid.layout.frozenWidth], ['--row', grid.row]]) {
    layer.style.setProperty(String(name), `${value}px`);
  }
  area.setAttribute('aria-rowcount', String(total() + 1));
  area.setAttribute('aria-colcount', String(grid.layout.shown.length + 1));
  head();
  for (const [row, line] of lines) {
    if (row >= first && row < last) continue;
    spare.push(line);
    lines.delete(row);
  }
  for (let row = last - 1; row >= first; row--) {
    let line = lines.get(row);
    if (!line) {
      line = spare.pop() ?? makeLine();
      lines.set(row, line);
      const next = lines.get(row + 1);
      if (next) $('body').insertBefore(line.element, next.element);
      else $('body').append(line.element);
    }
    drawLine(line, row);
  }
  for (const { element } of spare) element.remove();
  spare = [];
  drawMarks();
  mark(view);
  request();
  grid.onDraw();
};

/** Forgets the drawn rows: others have their numbers now. */
export const redraw = () => {
  clear();
  draw();
};

/** The page of the first row on screen. */
export const pageOnScreen = () => Math.min(pages(), Math.floor(grid.rows[0] / pageSize()) + 1);

/** Adds the event handlers of the grid. */
export const startGrid = () => {
  const area = $('rows');
  area.addEventListener('scroll', onScroll, { passive: true });
  // The content is observed, too: with it the scroll bars appear.
  const observer = new ResizeObserver(() => {
    const stays = grid.y > 0 && isAtEnd();
    grid.width = area.clientWidth;
    grid.height = area.clientHeight;
    if (stays) scrollToEnd();
    else draw();
  });
  observer.observe(area);
  observer.observe($('space'));
};
