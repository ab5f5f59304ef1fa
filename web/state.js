// The state of the page's table, and values derived from it.

import { root } from './dom.js';

/** The state of the page's table. */
export const state = {
  /** @type {string | null} */
  uuid: null,
  /** Whether the page uses the aliases of the article's page. */
  parser: location.pathname.startsWith(`${root.pathname}parser/`),
  /** The owner secret, if this browser has it. @type {string | undefined} */
  owner: undefined,
  /** A connection token, for the permission to upload. @type {string | undefined} */
  token: undefined,
  /** The shared view. @type {import('./types').View | null} */
  view: null,
  /** @type {import('./types').ColumnFacts[]} */
  facts: [],
  /** The first row of the private window, counted from 0; null while following. @type {number | null} */
  own: null,
  /** The rows of that window, once they are received. @type {import('./types').Rows | null} */
  window: null,
  /** The requested shared page that is not received yet, and the time of the request. @type {{ to: number, at: number } | null} */
  turning: null,
  /** Operations that are locked to the owner. */
  lock: { uploads: false, view: false },
  /** Recently appended rows: the first row, counted from 0, and the time. @type {{ from: number, at: number }[]} */
  fresh: [],
  /** The place requested by the address, until it is applied. @type {import('./types').Place | null} */
  wanted: null,
};

/** The path of the table's page. */
const tablePath = () => `${state.parser ? 'parser/share' : 'tables'}/${state.uuid}`;
/** The link to share: without a secret. */
export const link = () => new URL(tablePath(), root).href;
/** The table's path on the server, independent of the page's address. */
export const tableUrl = () => new URL(`tables/${state.uuid}`, root).href;
/** Timeout of a requested page, in milliseconds. */
const TURNING = 2000;
/** The page from which the user turns: the requested one, until it is received. */
export const place = () => (state.own === null && state.turning && Date.now() - state.turning.at < TURNING ? state.turning.to : page());
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

export const pageSize = () => state.view?.page_size || 100;
export const pages = () => Math.max(1, Math.ceil((state.view?.total_number ?? 0) / pageSize()));
/** The page that is shown here, counted from 1. */
export const page = () => (state.own === null ? state.view?.page_no ?? 1 : Math.floor(state.own / pageSize()) + 1);
