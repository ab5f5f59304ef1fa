// The cell cursor: keys and pointer, the selected range and its statistics, copying, and the dialog of a whole cell.

import { $, button, copy, count } from './dom.js';
import { formatCell } from './address.js';
import { cellAt, draw, grid, moreRows, reveal, tiles } from './grid.js';
import { select } from './marks.js';
import { factsOf, link, name, page, pageSize, pages, place, shown, state } from './state.js';
import { note, update } from './update.js';
import { turn } from './views.js';

/** Most cells that are copied or summed. */
const MOST = 100_000;
/** Shortest time between two messages about the cursor, in milliseconds. */
const PAUSE = 100;
/** Longest wait for the rows of a selection, in milliseconds. */
const WAIT = 10_000;

/** @type {number | undefined} */
let timer;
let sent = 'null';

/** Sends the cursor, at most once per PAUSE. */
const sendCursor = () => {
  if (timer !== undefined || !state.me) return;
  timer = setTimeout(() => {
    timer = undefined;
    const cursor = state.private ? null : state.cursor;
    if (JSON.stringify(cursor) === sent) return;
    if (state.send({ cursor })) sent = JSON.stringify(cursor);
  }, PAUSE);
};

/** Sends the cursor again, after a new connection or another view. */
export const announceCursor = () => {
  sent = '';
  sendCursor();
};

const total = () => shown()?.total_number ?? 0;
const last = () => grid.layout.shown.length - 1;
/** @param {number} column */
const indexOf = (column) => Math.max(0, grid.layout.shown.indexOf(column));

/** Moves the cursor. @param {number} row @param {number} index of the column @param {boolean} [extends_] whether the other corner of the selection stays @param {boolean} [isQuiet] whether the cell is on screen already */
export const moveTo = (row, index, extends_ = false, isQuiet = false) => {
  if (!total() || last() < 0) return;
  const y = Math.max(0, Math.min(row, total() - 1));
  const column = grid.layout.shown[Math.max(0, Math.min(index, last()))] ?? 0;
  const { cursor } = state;
  state.cursor = { row: y, column, to_row: extends_ && cursor ? cursor.to_row : y, to_column: extends_ && cursor ? cursor.to_column : column };
  state.follows = '';
  if (!isQuiet) reveal(y, indexOf(column));
  onMoved();
};

const onMoved = () => {
  statistics();
  sendCursor();
  $('followed').hidden = !state.follows;
  draw();
};

/** Reads the cells of an area, as soon as all of them are here; null if they do not come in time.
 * @param {{ top: number, bottom: number, first: number, last: number }} area @param {() => boolean} [isWanted] @returns {Promise<string[][] | null>} */
const readCells = async ({ top, bottom, first, last: right }, isWanted = () => true) => {
  const columns = grid.layout.shown.slice(first, right + 1);
  const rows = [];
  const deadline = Date.now() + WAIT;
  for (let row = top; row <= bottom; row++) {
    while (!tiles.need([row, row + 1], columns, total())) {
      if (Date.now() > deadline || !isWanted()) return null;
      await moreRows();
    }
    rows.push(columns.map((column) => tiles.cell(row, column) ?? ''));
    // A long selection is read in parts, so that the page stays responsive.
    if (rows.length % 500 === 0) await new Promise((wake) => { setTimeout(wake); });
  }
  return rows;
};

/** Shows the statistics of the selection in the footer. */
export const statistics = async () => {
  const { cursor } = state;
  const line = $('stats');
  const area = select();
  const isOne = !area || (area.top === area.bottom && area.first === area.last);
  line.hidden = !cursor;
  if (!cursor) return;
  const at = `Row ${count(cursor.row + 1)}, ${name(cursor.column)}`;
  if (isOne) {
    line.textContent = at;
    return;
  }
  const cells = (area.bottom - area.top + 1) * (area.last - area.first + 1);
  const size = `${count(area.bottom - area.top + 1)} × ${count(area.last - area.first + 1)} cells`;
  line.textContent = size;
  if (cells > MOST) {
    line.textContent = `${size} · statistics of at most ${count(MOST)} cells`;
    return;
  }
  const { Statistics } = await import('./numbers.js');
  const rows = await readCells(area, () => state.cursor === cursor);
  if (!rows || state.cursor !== cursor) return;
  const sums = new Statistics();
  const columns = grid.layout.shown.slice(area.first, area.last + 1);
  for (const row of rows) row.forEach((text, i) => sums.add(text, factsOf(columns[i] ?? 0)?.format));
  line.textContent = sums.text;
};

/** A cell of tab-separated text, quoted where a spreadsheet needs it. @param {string} text */
const quoted = (text) => (/["\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** Copies the selection as tab-separated text. */
const copySelection = async () => {
  const area = select();
  if (!area) return;
  const cells = (area.bottom - area.top + 1) * (area.last - area.first + 1);
  if (cells > MOST) return note(`A copy has at most ${count(MOST)} cells; these are ${count(cells)}. Download the view instead: File.`);
  const rows = await readCells(area);
  if (!rows) return note('The selected rows did not arrive: nothing was copied.');
  const text = rows.map((row) => row.map(quoted).join('\t')).join('\n');
  const columns = grid.layout.shown.slice(area.first, area.last + 1);
  let shortened = 0;
  for (let row = area.top; row <= area.bottom; row++) for (const column of columns) if (tiles.characters(row, column)) shortened++;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure context there is no clipboard; a copy event of the browser has one.
    const onCopy = (/** @type {ClipboardEvent} */ event) => {
      event.preventDefault();
      event.clipboardData?.setData('text/plain', text);
    };
    addEventListener('copy', onCopy, { once: true });
    document.execCommand('copy');
    removeEventListener('copy', onCopy);
  }
  return note(`✓ Copied ${count(cells)} cell${cells === 1 ? '' : 's'}${shortened ? `; ${count(shortened)} of them are long and were shortened: the download has them whole` : ''}.`, 'good');
};

/** Opens the dialog of the cell under the cursor. */
export const openCell = () => {
  const { cursor } = state;
  if (!cursor) return;
  const { row, column } = cursor;
  const length = tiles.characters(row, column);
  $('cell-name').textContent = `${name(column)}, row ${count(row + 1)}`;
  $('cell-text').textContent = tiles.cell(row, column) ?? '';
  $('cell-note').textContent = length ? `The first ${count((tiles.cell(row, column) ?? '').length)} of ${count(length)} characters; the download has all of them.`
    : tiles.cell(row, column) === null ? 'This row has no such cell.' : '';
  $('cell').showPopover();
};

/** Turns by a screen; at the edge of the page it turns the page. @param {number} row @param {number} index @param {1 | -1} way @param {boolean} extends_ */
const byScreen = (row, index, way, extends_) => {
  const screen = Math.max(1, grid.rows[1] - grid.rows[0] - 2);
  const [first, end] = [(page() - 1) * pageSize(), Math.min(page() * pageSize(), total()) - 1];
  const isOnPage = row >= first && row <= end;
  if (extends_ || !isOnPage) return moveTo(row + way * screen, index, extends_);
  if (row === (way > 0 ? end : first)) {
    const to = place() + way;
    if (to < 1 || to > pages()) return undefined;
    const target = way > 0 ? (to - 1) * pageSize() : to * pageSize() - 1;
    const column = grid.layout.shown[index] ?? 0;
    state.cursor = { row: target, column, to_row: target, to_column: column };
    turn(to, false);
    return onMoved();
  }
  return moveTo(way > 0 ? Math.min(row + screen, end) : Math.max(row - screen, first), index);
};

/** Handles a key of the grid; true if it belongs to the cursor. @param {KeyboardEvent} event */
const onKey = (event) => {
  const { key, shiftKey: more, altKey } = event;
  const far = event.ctrlKey || event.metaKey;
  if (altKey) return false;
  const { cursor } = state;
  const row = cursor?.row ?? grid.rows[0] + (grid.y % grid.row ? 1 : 0);
  const index = cursor ? indexOf(cursor.column) : grid.columns[0];
  if (far && key.toLowerCase() === 'c') {
    if (!cursor || getSelection()?.toString()) return false;
    copySelection();
    return true;
  }
  if (far && key.toLowerCase() === 'a') {
    state.cursor = { row: 0, column: grid.layout.shown[0] ?? 0, to_row: total() - 1, to_column: grid.layout.shown[last()] ?? 0 };
    onMoved();
    return true;
  }
  /** @type {Record<string, () => void>} */
  const moves = {
    ArrowUp: () => moveTo(cursor ? (far ? 0 : row - 1) : row, index, more),
    ArrowDown: () => moveTo(cursor ? (far ? total() - 1 : row + 1) : row, index, more),
    ArrowLeft: () => moveTo(row, cursor ? (far ? 0 : index - 1) : index, more),
    ArrowRight: () => moveTo(row, cursor ? (far ? last() : index + 1) : index, more),
    Home: () => moveTo(far ? 0 : row, 0, more),
    End: () => moveTo(far ? total() - 1 : row, last(), more),
    PageDown: () => byScreen(row, index, 1, more),
    PageUp: () => byScreen(row, index, -1, more),
    Enter: openCell,
  };
  if (!Object.hasOwn(moves, key) || (key === 'Enter' && !cursor)) return false;
  moves[key]?.();
  return true;
};

/** Adds the event handlers of the cursor. */
export const startCursor = () => {
  const area = $('rows');
  area.addEventListener('keydown', (event) => {
    if (event.target !== area || !onKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  });
  let isDragging = false;
  const body = $('body');
  body.addEventListener('pointerdown', (event) => {
    if (event.button || event.pointerType !== 'mouse') return;
    const { row, index } = cellAt(event.clientX, event.clientY);
    if (row < 0) return;
    // A number of a row selects the row.
    if (index < 0) {
      moveTo(row, 0, false, true);
      moveTo(row, last(), true, true);
    } else {
      moveTo(row, index, event.shiftKey, true);
      isDragging = true;
      body.setPointerCapture(event.pointerId);
    }
    area.focus({ preventScroll: true });
    event.preventDefault();
  });
  body.addEventListener('pointermove', (event) => {
    if (!isDragging) return;
    const { row, index } = cellAt(event.clientX, event.clientY);
    const bounds = area.getBoundingClientRect();
    const isOutside = event.clientY < bounds.top + 50 || event.clientY > bounds.bottom || event.clientX > bounds.right || event.clientX < bounds.left;
    if (state.cursor?.row !== row || indexOf(state.cursor.column) !== Math.max(0, index)) moveTo(row, Math.max(0, index), true, !isOutside);
  });
  for (const end of ['pointerup', 'pointercancel']) body.addEventListener(end, () => { isDragging = false; });
  // A tap selects a cell, and a tap on the selected cell opens it.
  body.addEventListener('click', (event) => {
    if (/** @type {PointerEvent} */ (event).pointerType === 'mouse') return;
    const { row, index } = cellAt(event.clientX, event.clientY);
    if (row < 0) return;
    if (state.cursor?.row === row && indexOf(state.cursor.column) === index) openCell();
    else moveTo(row, Math.max(0, index));
    area.focus({ preventScroll: true });
  });
  body.addEventListener('dblclick', openCell);
  button('cell-copy').onclick = () => copy(button('cell-copy'), $('cell-text').textContent ?? '');
  button('cell-link').onclick = () => state.cursor && copy(button('cell-link'), link() + formatCell(state.cursor));
  $('cell').addEventListener('toggle', () => { if (!$('cell').matches(':popover-open')) area.focus({ preventScroll: true }); });
  area.addEventListener('focus', () => draw());
};

/** Ends the selection; false if there is none. */
export const deselect = () => {
  if (!state.cursor) return false;
  state.cursor = null;
  onMoved();
  update();
  return true;
};

