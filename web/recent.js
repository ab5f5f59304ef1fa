// The tables opened in this browser, with the owner secret of those created here. They are stored in the browser alone.

import { root } from './dom.js';

/** @typedef {import('./types').Recent} Recent */

const KEY = `tidings ${root.pathname}`;
const MOST = 30;

/** The newest first. @returns {Recent[]} */
export const list = () => {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(kept) ? kept : [];
  } catch {
    // Storage may be forbidden, or contain data of another program.
    return [];
  }
};

/** @param {string} uuid */
export const find = (uuid) => list().find((table) => table.uuid === uuid);

/** @param {Recent[]} tables */
const keep = (tables) => {
  try {
    localStorage.setItem(KEY, JSON.stringify(tables.slice(0, MOST)));
  } catch {
    // Then nothing is stored; the page works without it.
  }
};

/** @param {Recent} table */
export const remember = (table) => keep([table, ...list().filter(({ uuid }) => uuid !== table.uuid)]);

/** @param {string} uuid */
export const forget = (uuid) => keep(list().filter((table) => table.uuid !== uuid));
