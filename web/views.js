// The shared view and one's own: page turns, sorts, filters, searches and columns, and what each view that arrives changes.
//
// The page shows only what the server has sent. A viewer that browses alone changes a private view; others see none of it.

import { $, bytes, count, many } from './dom.js';
import { format, parse, parseCell, sameQuery } from './address.js';
import { grid, isAtEnd, redraw, reveal, scrollTo, scrollToEnd, scrollToRow, tiles } from './grid.js';
import { learnNames, learnTypes, resetFits } from './head.js';
import { arrived, fileName, link, mayLead, page, pageSize, pages, place, shown, state } from './state.js';
import { note, update, work } from './update.js';
import { announceCursor } from './cursor.js';
import { actor } from './people.js';

/** @typedef {import('./types').View} View */
/** @typedef {import('./types').Query} Query */

/** Requests of this browser without a result yet. @type {Record<string, unknown>} */
let pending = {};
/** The fields of the last request for a private view, until it is answered. @type {Record<string, unknown> | null} */
let asked = null;
/** The place in the address when the page was opened. */
const addressed = parse(location.search);

/** Whether the server has names of people, private views and a history. */
export const isModern = () => !!state.view && state.view.changed_by !== undefined;

/** Changes the shared view. @param {object} message */
export const request = (message) => {
  pending = { ...pending, ...message };
  if ($('note').classList.contains('good')) note('');
  if (!state.send(message)) note('Not connected: nothing was changed.', 'lost');
};

/** Forgets requests: one of them has failed. */
export const forgetRequests = () => {
  pending = {};
  state.turning = null;
};

/** Requests a private view: the current one with changes. @param {object} [changes] */
const requestPrivate = (changes) => {
  const from = state.private ?? state.view;
  if (!from) return;
  const { sort, filter, search, ignore_accents = false, page_size: size, types, group } = from;
  const columns = from.columns ?? (group ? state.columns : null);
  asked = { sort, filter, search, ignore_accents, group: group ?? null, page: state.page, page_size: size, types, ...(columns && { columns }), ...asked, ...changes };
  if (!state.send({ private: asked })) note('Not connected: nothing was changed.', 'lost');
};

/** Requests the private view again, after the connection was lost. */
export const resume = () => {
  if (state.alone && isModern()) requestPrivate();
};

/** Changes the view on screen: the private one, or that of all. @param {Partial<Query> & { page_size?: number, columns?: object }} message */
export const change = (message) => {
  if (!state.alone) return request(message);
  if (isModern()) return requestPrivate({ page: 1, ...message });
  return note('All viewers share the order; follow them to change it.', '');
};

/** Changes the arrangement of the columns. @param {Partial<import('./types').Columns>} changes */
export const changeColumns = (changes) => {
  if (shown()?.group) {
    state.arranged = { ...state.arranged, ...changes };
    return update();
  }
  const columns = { ...(shown()?.columns ?? state.columns), ...changes };
  // Until the response the columns look as requested.
  state.columns = columns;
  const view = shown();
  if (view && view.columns !== undefined) {
    if (state.alone) requestPrivate({ columns });
    else if (mayLead()) request({ columns });
    else return note('The owner controls the view; browse on your own to arrange columns.', '');
    view.columns = columns;
  }
  return update();
};

/** Scrolls to the page on screen. */
const toPage = () => scrollToRow((page() - 1) * pageSize());

/** @param {number} to a page, counted from 1 @param {boolean} [withCursor] whether the cursor moves to the same row of that page */
export const turn = (to, withCursor = true) => {
  const target = Math.min(Math.max(1, to), pages());
  if (!state.view) return;
  if (withCursor && state.cursor) {
    const row = Math.min((target - 1) * pageSize() + (state.cursor.row % pageSize()), (shown()?.total_number ?? 1) - 1);
    state.cursor = { row, column: state.cursor.column, to_row: row, to_column: state.cursor.column };
  }
  state.follows = '';
  if (target === place()) {
    toPage();
    return update();
  }
  if (!state.alone && mayLead()) {
    state.turning = { to: target, at: Date.now() };
    return request({ page: target });
  }
  if (!state.alone) browseAlone();
  state.page = target;
  if (isModern()) requestPrivate({ page: target });
  toPage();
  return update();
};

/** Follows the shared view again. */
export const follow = () => {
  state.wanted = null;
  state.follows = '';
  if (state.alone) {
    state.alone = false;
    if (isModern()) state.send({ private: null });
    leavePrivate();
    toPage();
  }
  update();
};

/** Stops following. */
export const browseAlone = () => {
  state.page = place();
  state.alone = true;
  state.cursor = null;
  if (isModern()) requestPrivate();
  update();
};

/** Shows the private view to everyone. */
export const showAll = () => {
  const { view, wanted } = state;
  if (!view) return;
  if (state.private) {
    state.send({ share_private: {} });
    return;
  }
  const to = wanted ?? { ...view, page: page() };
  if (!sameQuery(to, { ...view, page: 1 })) {
    request({ sort: to.sort });
    request({ filter: to.filter });
    request({ search: to.search });
    request({ ignore_accents: !!to.ignore_accents });
  }
  request({ page: to.page });
  follow();
};

/** What the columns of a view depend on, besides the file. @param {View} view */
const columnsOf = ({ group }) => JSON.stringify(group && [group.by, group.measures]);
/** The columns of the rows on screen. @type {string | undefined} */
let drawnColumns;

/** The rows come from another view now. @param {View} view @param {boolean} isFile whether from another file, too */
const resetRows = (view, isFile) => {
  const hasOtherColumns = columnsOf(view) !== drawnColumns;
  drawnColumns = columnsOf(view);
  tiles.reset(view.version);
  state.fresh = [];
  state.unseen = 0;
  const { cursor } = state;
  state.cursor = isFile || !cellOfAddress ? null : cursor;
  // Others must not see it at a cell of other rows. The server has hidden it.
  if (cursor) announceCursor();
  if (isFile) state.names = [];
  if (isFile || hasOtherColumns) {
    state.width = 0;
    state.arranged = { order: [], hidden: [], frozen: 0, widths: {} };
    resetFits();
    learnTypes();
  }
  redraw();
};

/** Takes the rows and names that came with a view. @param {View} view */
const takeRows = (view) => {
  const { columns_from: from = 0, columns_count: columns = 0, columns_total: total } = view;
  tiles.setPage({ ...view, from: (view.page_no - 1) * view.page_size, columns: total ? { from, count: columns, total } : undefined });
  learnNames(view.header, from, view.group);
  state.width = total ?? view.data.reduce((most, row) => Math.max(most, row.length), Math.max(state.width, view.header?.length ?? 0));
  for (const [, cells] of view.wide ?? []) if (total) state.width = Math.max(state.width, cells);
};

/** Shows the shared rows again. */
const leavePrivate = () => {
  asked = null;
  if (!state.private || !state.view) return;
  state.private = null;
  resetRows(state.view, false);
  takeRows(state.view);
  announceCursor();
};

/** What the rows of a view depend on, besides the file. @param {View} view */
const query = (view) => JSON.stringify([view.sort, view.filter, view.search, view.ignore_accents, view.dialect, view.types, columnsOf(view) ?? null]);

/** Whether another, smaller file is shown; a compacted log is smaller, too. @param {View} before @param {View} now */
const isSmaller = (before, now) => now.size < before.size && now.compacted === before.compacted;

/** How the rows of a view differ from those of the one before.
 * @param {View | null} before @param {View} now @returns {'file' | 'rows' | 'more' | 'changed' | 'same'} */
const difference = (before, now) => {
  if (!before || before.uuid !== now.uuid || before.name !== now.name || isSmaller(before, now)) return 'file';
  if (JSON.stringify(before.dialect) !== JSON.stringify(now.dialect) && !before.loading) return 'file';
  const isReplaced = !before.loading && now.loading && now.total_number < before.total_number;
  if (isReplaced) return 'file';
  // A server that was started again counts versions from the beginning.
  const isLess = now.total_number < before.total_number;
  if (query(before) !== query(now) || (isLess && !now.key) || now.version < before.version) return 'rows';
  // Rows with a key are replaced and removed.
  if (now.key && now.size !== before.size && !before.loading) return now.total_number > before.total_number ? 'more' : 'changed';
  if (now.size > before.size || now.total_number > before.total_number) {
    const isPlain = !now.sort.length && !now.filter.length && !now.search && !now.group;
    const isOther = isPlain && before.page_no === now.page_no && String(before.data[0]) !== String(now.data[0]);
    return isOther && !before.loading ? 'file' : 'more';
  }
  // Rows of the same query that are other ones: they were changed in place.
  if (before.page_no === now.page_no && before.page_size === now.page_size && !isSame(before.data, now.data)) return 'changed';
  return 'same';
};

/** @param {string[][]} one @param {string[][]} other */
const isSame = (one, other) => one.length === other.length && one.every((row, y) => {
  const cells = other[y] ?? [];
  return row.length === cells.length && row.every((cell, x) => cell === cells[x]);
});

/** The change from one view to the next, as a verb. @param {View} before @param {View} now */
const verb = (before, now) => {
  if (now.name !== before.name || isSmaller(before, now)) return 'uploaded a file';
  if (JSON.stringify(now.dialect) !== JSON.stringify(before.dialect) && before.dialect && !before.loading) return 'changed how the file is read';
  if (JSON.stringify(now.group) !== JSON.stringify(before.group)) {
    if (columnsOf(now) === columnsOf(before)) return 'changed the chart';
    if (now.group) return `grouped the rows by ${now.group.by.map(fileName).join(', ')}`;
    return now.filter.length > before.filter.length ? 'showed the rows of a group' : 'showed the rows';
  }
  if (!sameQuery({ ...now, page: 1 }, { ...before, page: 1 })) {
    if (now.search !== before.search || now.ignore_accents !== before.ignore_accents) return now.search ? `searched for “${now.search}”` : 'ended the search';
    return JSON.stringify(now.sort) === JSON.stringify(before.sort) ? 'filtered' : 'sorted';
  }
  if (JSON.stringify(now.columns) !== JSON.stringify(before.columns)) return 'arranged the columns';
  if (now.page_no !== before.page_no) return `turned to page ${count(now.page_no)}`;
  return now.page_size === before.page_size ? '' : 'changed the page size';
};

/** Whether a view is the result of a request of this browser. @param {View} view */
const isMine = (view) => {
  /** @type {Record<string, unknown>} */
  const now = { ...view, page: view.page_no, dialect: pending.dialect };
  const met = Object.keys(pending).filter((key) => JSON.stringify(pending[key]) === JSON.stringify(now[key]));
  for (const key of met) delete pending[key];
  return met.length > 0;
};

/** The cell of the address, until it is shown. @type {import('./types').Cursor | null} */
let cellOfAddress = parseCell(location.hash);

/** Selects and shows the cell of the address. */
export const showCellOfAddress = () => {
  if (!cellOfAddress || !shown()?.dialect) return;
  const { row, column } = cellOfAddress;
  cellOfAddress = null;
  if (row >= (shown()?.total_number ?? 0)) return note(`The link points to row ${count(row + 1)}; the view has ${many(shown()?.total_number ?? 0, 'row')}.`);
  state.cursor = { row, column, to_row: row, to_column: column };
  return requestAnimationFrame(() => {
    scrollTo((row - 3) * grid.row);
    reveal(row, grid.layout.shown.indexOf(column));
  });
};
addEventListener('hashchange', () => {
  cellOfAddress = parseCell(location.hash);
  showCellOfAddress();
});

/** Applies the place of the address to the first view of a table. @param {View} view */
const arrive = (view) => {
  const wanted = addressed;
  const kept = history.state;
  const here = { ...view, page: view.page_no };
  const isElsewhere = kept?.kept ? kept.alone : format(wanted) && format(wanted) !== format(here);
  if (!isElsewhere) return;
  if (isModern() || sameQuery(wanted, here)) {
    state.alone = true;
    state.page = wanted.page;
    if (isModern()) requestPrivate({ group: null, ...wanted });
  } else {
    state.wanted = wanted;
  }
};

/** Applies a shared view. @param {View} view @param {boolean} isUploading whether this browser sends a file */
export const show = (view, isUploading) => {
  const before = state.uuid === view.uuid ? state.view : null;
  const isMade = state.uuid !== view.uuid;
  const differs = difference(before, view);
  const wasAtEnd = isAtEnd();
  state.uuid = view.uuid;
  state.view = view;
  if (isMade) {
    history.pushState({ kept: true }, '', link());
    document.body.dataset.path = location.pathname;
  } else if (!before) {
    arrive(view);
  }
  if (state.turning?.to === view.page_no) state.turning = null;
  if (view.columns) state.columns = view.columns;
  if (!state.private) {
    if (differs === 'file' || differs === 'rows') resetRows(view, differs === 'file');
    else if (differs === 'changed' || (differs === 'more' && (view.key || view.sort.length || view.filter.length || view.search || view.group))) tiles.outdate(view.version);
    takeRows(view);
  } else if (differs === 'file') {
    leavePrivate();
  }
  if (state.alone && !isModern() && differs !== 'same') state.page = Math.min(state.page, pages());

  const mine = isMine(view) || isUploading || (!!state.me && view.changed_by?.id === state.me);
  const what = before ? verb(before, view) : '';
  const added = differs === 'more' && !view.group && before && !before.loading && !view.loading ? view.total_number - before.total_number : 0;
  if (what) $('turned').textContent = `${actor(view, mine)} ${what}.`;
  else if (added > 0) $('turned').textContent = `${many(added, 'new row')}.`;
  if (added > 0 && before) {
    arrived(before.total_number);
    if (!wasAtEnd && !state.private) state.unseen += added;
  }
  update();
  if (!state.private && !state.alone) {
    const isTurn = before?.page_no !== view.page_no || before?.page_size !== view.page_size;
    if (added > 0 && wasAtEnd) scrollToEnd();
    else if (!before || differs === 'file' || differs === 'rows' || (isTurn && !added)) toPage();
  } else if (!before) {
    toPage();
  }
  if (what && !state.alone) {
    $('announcement').textContent = `${mine ? '' : `${$('turned').textContent} `}Page ${view.page_no} of ${pages()}, from row ${count((view.page_no - 1) * pageSize() + 1)}.`;
  }
  showCellOfAddress();
};

/** Applies a private view; null: it has ended. @param {View | null} view */
export const showPrivate = (view) => {
  if (!view) {
    if (!state.alone) return;
    state.alone = false;
    leavePrivate();
    toPage();
    return update();
  }
  if (!state.alone) return;
  const before = state.private;
  state.private = view;
  asked = null;
  const differs = before ? difference(before, view) : 'rows';
  if (differs === 'file' || differs === 'rows') resetRows(view, differs === 'file' && !!before);
  // Of a large table, rows far from the page may have changed without a change of the page.
  else if (differs !== 'same' || view.version > (before?.version ?? 0)) tiles.outdate(view.version);
  takeRows(view);
  const isTurn = !before || before.page_no !== view.page_no || differs === 'file' || differs === 'rows';
  if (!before) announceCursor();
  state.page = view.page_no;
  update();
  if (isTurn) toPage();
  $('announcement').textContent = `On your own: page ${page()} of ${pages()}.`;
  showCellOfAddress();
};

/** A note about a complete upload. @param {View} view @param {string} took */
export const completed = (view, took) => {
  work('');
  note(`✓ ${view.name} is complete: ${many(view.total_number, 'row')}, ${bytes(view.size)}${took}.`, 'good');
};

export const undo = () => request({ undo: {} });
export const redo = () => request({ redo: {} });
/** Shows the previous file again. */
export const restore = () => request({ restore: {} });
