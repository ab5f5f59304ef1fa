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
  /** What everybody sees. @type {import('./types').View | null} */
  view: null,
  /** @type {import('./types').ColumnFacts[]} */
  facts: [],
  /** The first row of one's own window, counted from 0; null while following. @type {number | null} */
  own: null,
  /** The rows of that window, once they are there. @type {import('./types').Rows | null} */
  window: null,
  /** What only the owner may do. */
  lock: { uploads: false, view: false },
  /** What the address asked for, until that is decided. @type {import('./types').Place | null} */
  wanted: null,
};

/** The path of the table's page. */
const tablePath = () => `${state.parser ? 'parser/share' : 'tables'}/${state.uuid}`;
/** The link that others get: without a secret. */
export const link = () => new URL(tablePath(), root).href;
/** Where the server has the table, whatever the page's address. */
export const tableUrl = () => new URL(`tables/${state.uuid}`, root).href;
/** Whether this viewer may change what all see. */
export const mayLead = () => !!state.owner || !state.lock.view;

export const pageSize = () => state.view?.page_size || 100;
export const pages = () => Math.max(1, Math.ceil((state.view?.total_number ?? 0) / pageSize()));
/** The page that is shown here, counted from 1. */
export const page = () => (state.own === null ? state.view?.page_no ?? 1 : Math.floor(state.own / pageSize()) + 1);
