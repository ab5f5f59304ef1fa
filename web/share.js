// The dialog in which everything about sharing is: links to the table, to this view and to this cell, their QR code, the owner's link
// and locks.

import { $, beforeOpen, button, copy, count, get, input, isOpen } from './dom.js';
import { format, formatCell } from './address.js';
import { link, name, page, shown, state } from './state.js';
import { request } from './views.js';

/** Which link is chosen: to the table, to the view, or to the cell. */
const kind = () => get('share-form', HTMLFormElement)['share-kind'].value;

/** The chosen link. */
const address = () => {
  const view = shown();
  if (kind() === 'cell' && state.cursor) return link() + formatCell(state.cursor);
  if (kind() === 'view' && view) return link() + format({ ...view, page: page() });
  return link();
};

const drawCode = async () => {
  const { encode } = await import('./qr.js');
  const text = address();
  const code = encode(text);
  $('qr-code').hidden = !code;
  $('qr-text').textContent = code ? '' : 'The link is too long for a QR code.';
  if (!code) return;
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const side = code.length + 8;
  svg.setAttribute('viewBox', `-4 -4 ${side} ${side}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', 'QR code of the link');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  path.setAttribute('d', code.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ''))).join(''));
  svg.append(path);
  $('qr-code').replaceChildren(svg);
};

/** Whether an address names the machine itself. @param {string} host */
export const isLocal = (host) => /^(localhost|127(\.\d+){3}|\[::1\]|.*\.localhost)$/.test(host);

let drawn = '';

/** Updates the dialog from the state. */
export const share = () => {
  const { owner, lock, cursor } = state;
  $('owner').hidden = !owner;
  input('lock-uploads').checked = lock.uploads;
  input('lock-view').checked = lock.view;
  const cell = input('share-cell');
  cell.disabled = !cursor || !!state.private;
  $('share-cell-text').textContent = cursor ? `This cell: row ${count(cursor.row + 1)}, ${name(cursor.column)}` : 'A cell: select one first';
  if (cell.disabled && cell.checked) input('share-table').checked = true;
  if (!isOpen('share')) return;
  input('share-link').value = address();
  if (drawn === address()) return;
  drawn = address();
  drawCode();
};

/** Adds the event handlers. */
export const startShare = () => {
  beforeOpen('share', share);
  get('share-form', HTMLFormElement).onchange = share;
  button('copy').onclick = () => copy(button('copy'), address());
  button('copy-owner').onclick = () => copy(button('copy-owner'), `${link()}#owner=${state.owner}`);
  $('local').hidden = !isLocal(location.hostname);
  for (const id of ['lock-uploads', 'lock-view']) {
    input(id).onchange = () => request({ lock: { uploads: input('lock-uploads').checked, view: input('lock-view').checked } });
  }
  button('delete').onclick = () => {
    if (confirm(`Delete ${state.view?.name || 'this table'} for everyone?`)) request({ delete: {} });
  };
};
