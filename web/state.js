// What the page knows of its table, and what follows from it.

import { root } from './dom.js';

/** What the page knows of its table. */
export const state = {
  /** @type {string | null} */
  uuid: null,
  /** Whether it speaks to the aliases of the article's page. */
  parser: location.pathname.startsWith(`${root.pathname}parser/`),
  /** The secret that makes this browser the owner's. @type {string | undefined} */
  owner: undefined,
  /** A connection token, which gives the right to upload where that takes one. @type {string | undefined} */
  token: undefined,
  /** What everybody sees. @type {import('./types').View | null} */
  view: null,
  /** @type {import('./types').ColumnFacts[]} */
  facts: [],
  /** The first row of one's own window, counted from 0; null while following. @type {number | null} */
  own: null,
  /** The rows of that window, once they are there. @type {import('./types').Rows | null} */
  window: null,
  /** The page that all were asked to turn to and that has not come yet, and when. @type {{ to: number, at: number } | null} */
  turning: null,
  /** What only the owner may do. */
  lock: { uploads: false, view: false },
  /** Rows that came lately: from which row on, counted from 0, and when. @type {{ from: number, at: number }[]} */
  fresh: [],
  /** What the address asked for, until that is decided. @type {import('./types').Place | null} */
  wanted: null,
};

/** The path of the table's page. */
const tablePath = () => `${state.parser ? 'parser/share' : 'tables'}/${state.uuid}`;
/** The link that others get: without a secret. */
export const link = () => new URL(tablePath(), root).href;
/** Where the server has the table, whatever the page's address. */
export const tableUrl = () => new URL(`tables/${state.uuid}`, root).href;
/** How long a page that was asked for may take before it is forgotten, in milliseconds. */
const TURNING = 2000;
/** The page from which one turns: the one that was asked for last, while it has not come. */
export const place = () => (state.own === null && state.turning && Date.now() - state.turning.at < TURNING ? state.turning.to : page());
/** How long rows that came lately are marked, in milliseconds; `fresh` in the style takes as long. */
export const MARKED = 4000;
/** How long ago a row came, in milliseconds, while that is worth a mark. @param {number} row counted from 0 @param {number} [now] */
export const age = (row, now = Date.now()) => {
  const came = state.fresh.findLast(({ from }) => row >= from);
  return came && now - came.at < MARKED ? now - came.at : undefined;
};
/** Notes that rows came; what is no longer marked is forgotten. @param {number} from the first of them @param {number} [at] */
export const arrived = (from, at = Date.now()) => {
  state.fresh = [...state.fresh.filter((came) => at - came.at < MARKED), { from, at }];
};
/** Whether this viewer may change what all see. */
export const mayLead = () => !!state.owner || !state.lock.view;

export const pageSize = () => state.view?.page_size || 100;
export const pages = () => Math.max(1, Math.ceil((state.view?.total_number ?? 0) / pageSize()));
/** The page that is shown here, counted from 1. */
export const page = () => (state.own === null ? state.view?.page_no ?? 1 : Math.floor(state.own / pageSize()) + 1);
