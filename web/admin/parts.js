// Parts that several sections of the page use.

import { $, make } from '../dom.js';

/** @typedef {{ isCurrent: () => boolean, every: (ms: number, act: () => unknown) => void, onLeave: (act: () => void) => void }} Visit */

/** Shows an error above the page; without text, hides it. @param {string} [text] */
export const note = (text = '') => {
  $('note').textContent = text;
  $('note').hidden = !text;
};

/** Runs an action, and shows its error. @param {() => unknown} act */
export const attempt = async (act) => {
  try {
    await act();
    note();
  } catch (error) {
    note(error instanceof Error ? error.message : String(error));
  }
};

/**
 * A table with headings; a column whose heading begins with `~` is hidden on narrow screens, with `#` it is numeric.
 * @param {string} label
 * @param {string[]} headings
 * @param {(Node | string)[][]} rows
 */
export const table = (label, headings, rows) => {
  const kinds = headings.map((heading) => [heading.includes('~') && 'wide', heading.includes('#') && 'num'].filter(Boolean).join(' '));
  const cells = (/** @type {(Node | string)[]} */ row) => row.map((cell, at) => make('td', { class: kinds[at] }, cell));
  return make('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': label },
    make('table', { class: 'list-table' },
      make('thead', {}, make('tr', {}, ...headings.map((heading, at) => make('th', { scope: 'col', class: kinds[at] }, heading.replace(/[~#]/g, ''))))),
      make('tbody', {}, ...rows.map((row) => make('tr', {}, ...cells(row))))));
};

/** A notice of nodes that have not responded. @param {string[]} missing */
export const missingNodes = (missing) => make('p', { class: 'state warn', hidden: !missing.length }, make('strong', {}, 'Partial: '), `no response within 3 s from ${missing.join(', ')}.`);

/** A notice of nodes that have not examined all of their connections. @param {string[]} incomplete */
export const incompleteNodes = (incomplete) => make('p', { class: 'state warn', hidden: !incomplete.length }, make('strong', {}, 'Partial: '), `not all connections were examined within 2 s on ${incomplete.join(', ')}; longer queues may be missing.`);

/** Seconds as text: 42 s, 5 min, 3 h, 2 d. @param {number} seconds */
export const duration = (seconds) => {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
};

/** A short time in milliseconds. @param {number} seconds */
export const milliseconds = (seconds) => `${(seconds * 1000).toLocaleString('en', { maximumSignificantDigits: 2 })} ms`;

/** A rate or another number with at most three significant digits. @param {number} n */
export const short = (n) => (n >= 1000 ? new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 }).format(n) : n.toLocaleString('en', { maximumSignificantDigits: 3 }));

/** The address of a channel within the page. @param {string} name */
export const channelAddress = (name) => `#/channel/${encodeURIComponent(name)}`;

/** A link to a channel. @param {string} name */
export const channelLink = (name) => make('a', { href: channelAddress(name), class: 'name' }, name);

/** Shows a dialog with a title and these parts, and a button that closes it. @param {string} title @param {...(Node | string)} parts */
export const dialog = (title, ...parts) => {
  const box = $('dialog');
  if (!(box instanceof HTMLDialogElement)) return;
  const close = make('button', { onclick: () => box.close() }, 'Close');
  box.replaceChildren(make('h2', { id: 'dialog-title' }, title), ...parts, make('p', { class: 'row end' }, close));
  if (!box.open) box.showModal();
};

export const closeDialog = () => {
  const box = $('dialog');
  if (box instanceof HTMLDialogElement && box.open) box.close();
};

/** A button for an action that cannot be undone: the first press asks, the second acts. @param {string} text @param {string} question @param {() => unknown} act */
export const dangerous = (text, question, act) => {
  const button = make('button', { class: 'bad', type: 'button' }, text);
  let isAsked = false;
  button.onclick = () => {
    if (isAsked) {
      act();
      return;
    }
    isAsked = true;
    button.textContent = question;
    button.classList.add('asked');
  };
  button.onblur = () => {
    isAsked = false;
    button.textContent = text;
    button.classList.remove('asked');
  };
  return button;
};
