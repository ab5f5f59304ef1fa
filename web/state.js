// The state of the page's table, and values derived from it.

import { root } from './dom.js';

/** The state of the page's table. */
export const state = {
  /** @type {string | null} */
  uuid: null,
  /** Whether the page uses the aliases of the article's page. */
  parser: location.pathname.startsWith(`${root.pathname}parser/`),
  /** Sends a message; false without a connection. @type {(message: object) => boolean} */
  send: () => false,
  /** The owner secret, if this browser has it. @type {string | undefined} */
  owner: undefined,
  /** A connection token, for the permission to upload. @type {string | undefined} */
  token: undefined,
  /** The shared view. @type {import('./types').View | null} */
  view: null,
  /** The private view. @type {import('./types').View | null} */
  private: null,
  /** Whether this viewer browses alone. */
  alone: false,
  /** The page of a viewer that browses alone, counted from 1. */
  page: 1,
  /** @type {import('./types').ColumnFacts[]} */
  facts: [],
  /** The names of columns, where they are known. @type {string[]} */
  names: [],
  /** How many columns the rows have, as far as is known. */
  width: 0,
  /** Whether the cells of a column are numbers. @type {Map<number, boolean>} */
  numeric: new Map(),
  /** Cells that have changed a moment ago, and how often. @type {Map<string, number>} */
  flashes: new Map(),
  /** The requested shared page that is not received yet, and the time of the request. @type {{ to: number, at: number } | null} */
  turning: null,
  /** Operations that are locked to the owner. */
  lock: { uploads: false, view: false },
  /** Recently appended rows: the first row, counted from 0, and the time. @type {{ from: number, at: number }[]} */
  fresh: [],
  /** Appended rows below the screen. */
  unseen: 0,
  /** The place requested by the address, until it is applied. @type {import('./types').Place | null} */
  wanted: null,
  /** The selected cells; row and column are those of the cursor. @type {import('./types').Cursor | null} */
  cursor: null,
  /** The viewers that are here, by id. @type {Map<string, import('./types').Person>} */
  people: new Map(),
  /** The id of this viewer. */
  me: '',
  /** The id of the person whose cursor this viewer follows. */
  follows: '',
  /** The arrangement of columns where the server has none. @type {import('./types').Columns} */
  columns: { order: [], hidden: [], frozen: 0, widths: {} },
  /** The arrangement while a column is resized. @type {import('./types').Columns | undefined} */
  dragged: undefined,
  /** The arrangement of the columns of groups, in this browser alone. @type {import('./types').Columns} */
  arranged: { order: [], hidden: [], frozen: 0, widths: {} },
};

/** The view whose rows are on screen. */
export const shown = () => state.private ?? state.view;
/** The arrangement of the columns on screen. */
export const arrangement = () => state.dragged ?? (shown()?.group ? state.arranged : shown()?.columns ?? state.columns);

/** How many columns the table has, as far as is known. */
export const width = () => state.width;
/** The name of a column of the file. @param {number} column */
export const fileName = (column) => state.names[column] || `Column ${column + 1}`;
/** The name of a column on screen. @param {number} column */
export const name = (column) => (shown()?.group ? shown()?.header?.[column] ?? '' : fileName(column));
/** The facts on a column on screen. @param {number} column */
export const factsOf = (column) => (shown()?.group ? undefined : state.facts[column]);

/** The path of the table's page. */
const tablePath = () => `${state.parser ? 'parser/share' : 'tables'}/${state.uuid}`;
/** The link to share: without a secret. */
export const link = () => new URL(tablePath(), root).href;
/** The table's path on the server, independent of the page's address. */
export const tableUrl = () => new URL(`tables/${state.uuid}`, root).href;
/** Timeout of a requested page, in milliseconds. */
const TURNING = 2000;
/** The page from which the user turns: the requested one, until it is received. */
export const place = () => (!state.alone && state.turning && Date.now() - state.turning.at < TURNING ? state.turning.to : page());
/** Time for which appended rows are marked, in milliseconds; the same as `fresh` in the style. */
export const MARKED = 4000;
/** The age of an appended row in milliseconds, while it is marked. @param {number} row counted from 0 @param {number} [now] */
export const age = (row, now = Date.now()) => {
  const came = state.fresh.findLast(({ from }) => row >= from);
  return came && now - came.at < MARKED ? now - came.at : undefined;
};
/** Records appended rows, and removes those that are no longer marked. @param {number} from the first of them @param {number} [at] */
export const arrived = (from, at = Date.now()) => {
  state.fresh = [...state.fresh.filter((came) => at - came.at < MARKED), { from, at }];
};
/** Whether this viewer may change the shared view. */
export const mayLead = () => !!state.owner || !state.lock.view;

export const pageSize = () => shown()?.page_size || 100;
export const pages = () => Math.max(1, Math.ceil((shown()?.total_number ?? 0) / pageSize()));
/** The page that is shown here, counted from 1. */
export const page = () => (state.alone ? state.page : state.view?.page_no ?? 1);
