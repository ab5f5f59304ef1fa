// A table: its connection, the messages of the server, and uploads.

import { $, bytes, many, root, socketAddress } from './dom.js';
import { startColumns } from './columns.js';
import { startControls } from './controls.js';
import { startCursor } from './cursor.js';
import { draw, onRows, startGrid, tiles } from './grid.js';
import { learnNames, learnTypes } from './head.js';
import { startMenus } from './menus.js';
import { onPeople, startPeople } from './people.js';
import { startShare } from './share.js';
import { shown, state } from './state.js';
import { note, update, work } from './update.js';
import { Socket } from './socket.js';
import { completed, forgetRequests, resume, show, showPrivate } from './views.js';
import * as recent from './recent.js';

/** @typedef {import('./types').View} View */
/** @typedef {import('./types').Message} Message */

/** The close code of a table that does not exist, or was deleted. */
const GONE = 4404;
/** Time for which a changed cell is marked, in milliseconds; the same as `flash` in the style. */
const FLASH = 1500;

/** @type {Socket | undefined} */
let socket;
/** The current upload, which may wait for the connection; `makes`: into a new table. @type {{ file: File, began: number, stop: AbortController, sent: boolean, moving: boolean, makes: boolean, text: boolean } | null} */
let sending = null;
/** Whether the server may still report that it has discarded a piece of a failed upload: it was sent before the error was
 * handled here. @type {boolean | undefined} */
let late;
/** Whether the owner secret was sent without a response yet. */
let proves = false;
/** Whether the connection has received no view yet. */
let isNew = false;
/** The file for which facts were requested. */
let factsOf = '';
/** @type {number | undefined} */
let factsTimer;

state.send = (message) => {
  late = false;
  return !!socket?.send(message);
};

/** Requests column facts: once per file and dialect, and not while the file grows. @param {View} view */
const requestFacts = ({ loading, name, size, dialect, types }) => {
  const file = JSON.stringify([name, size, dialect, types]);
  if (loading || !dialect || file === factsOf) return;
  factsOf = file;
  clearTimeout(factsTimer);
  factsTimer = setTimeout(() => socket?.send({ facts: {} }), 200);
};

/** @param {View} view */
const onView = (view) => {
  const before = state.uuid === view.uuid ? state.view : null;
  if (before && (before.name !== view.name || JSON.stringify(before.dialect) !== JSON.stringify(view.dialect))) state.facts = [];
  show(view, !!sending);
  if (isNew && before) resume();
  isNew = false;
  if (view.loading) {
    if ($('work').hidden) work(`Loading ${view.name}…`, undefined, !!sending);
  } else if (before?.loading || (sending?.sent && view.name === sending.file.name && view.size === sending.file.size)) {
    const took = sending ? ` in ${((Date.now() - sending.began) / 1000).toFixed(1)} s` : '';
    sending = null;
    completed(view, took);
  } else if (!sending) {
    work('');
  }
  requestFacts(view);
  if (!view.dialect || view.loading) return;
  const rows = view.filter.length || view.search ? recent.find(view.uuid)?.rows ?? 0 : view.total_number;
  // The storage of a browser may be slow.
  const { owner, parser } = state;
  setTimeout(() => recent.remember({ uuid: view.uuid, name: view.name, rows, at: Date.now(), ...(owner && { owner }), ...(parser && { parser: true }) }));
};

/** @param {NonNullable<Message['facts']>} facts */
const onFacts = ({ columns }) => {
  state.facts = columns;
  // The rows on screen may be groups, which have other names.
  columns.forEach(({ name }, column) => { if (name) state.names[column] ??= name; });
  learnTypes();
  update();
};

tiles.onChange = (row, column) => {
  const key = `${row} ${column}`;
  state.flashes.set(key, (state.flashes.get(key) ?? 0) + 1);
  setTimeout(() => state.flashes.delete(key) && draw(), FLASH);
};

/** Cells of the shared page that have changed in place; other rows may have changed too. @param {Message} message */
const onCells = ({ cells = [], version = 0 }) => {
  if (state.view) state.view.version = version;
  if (state.private) return;
  tiles.outdate(version);
  for (const { row, column, value } of cells) tiles.change(row, column, value);
  draw();
};

/** @param {NonNullable<Message['progress']>} progress */
const onProgress = ({ view, received = 0, size, rows = 0 }) => {
  if (view !== undefined) return work(view < 1 ? 'Sorting and filtering…' : '', view);
  const name = sending?.file.name ?? state.view?.name ?? 'a file';
  return work(`${sending ? 'Uploading' : 'Loading'} ${name}: ${bytes(received)}${size ? ` of ${bytes(size)}` : ''} · ${many(rows, 'row')}`, size ? received / size : undefined, !!sending);
};

/** @param {NonNullable<Message['error']>} error */
const onError = ({ code, message }) => {
  forgetRequests();
  // The secret is not that of the owner, or not any more.
  if (code === 403 && proves) {
    state.owner = undefined;
    proves = false;
    update();
  }
  // A malformed message (400) is no error of the upload.
  if (sending && code !== 400) failed(message, code);
  else if (code !== 404 && !(late && code === 409)) note(`${message} (${code})`);
};

/** @param {string} text */
const onMessage = (text) => {
  /** @type {Message} */
  const message = JSON.parse(text);
  if (text === '{}') socket?.beat();
  if (message.owner) state.owner = message.owner;
  if (message.rights?.owner) proves = false;
  if (message.facts) onFacts(message.facts);
  if (message.lock) {
    state.lock = message.lock;
    update();
  }
  if (message.progress) onProgress(message.progress);
  // Rows of the other view than that on screen are late.
  if (message.rows && !!message.rows.private === !!state.private) {
    const { columns, data, header } = message.rows;
    learnNames(header, columns?.from ?? 0, shown()?.group);
    // A row may have more cells than those of the page.
    state.width = Math.max(state.width, columns?.total ?? data.reduce((most, row) => Math.max(most, row.length), 0));
    tiles.add(message.rows);
    onRows();
  }
  if (message.cells) onCells(message);
  if (message.error) onError(message.error);
  if (message.people || message.person || message.person_left) onPeople(message);
  if (message.private !== undefined) showPrivate(message.private);
  if (message.uuid && message.data) onView(/** @type {View} */ (message));
};

/** Handles a failed upload. @param {string} why @param {number} [code] */
const failed = (why, code) => {
  const file = sending?.file;
  late = sending?.moving;
  if (sending?.moving && !sending.sent) socket?.send({ upload_abort: {} });
  sending?.stop.abort();
  sending = null;
  work('');
  // The file is no text; the user may want it all the same.
  if (code === 415 && file) note(`${why}`, 'bad', () => take(file, true), 'Read it as text anyway');
  else note(`The upload has failed: ${why}.`, 'bad', file && (() => take(file)));
};

/** Sends the waiting credentials and file. */
const start = () => {
  const job = sending;
  if (!job || job.moving || !socket?.isOpen) return;
  job.moving = true;
  const { file, stop, text } = job;
  const to = socket;
  import('./upload.js').then(({ upload }) => upload(to, file, stop.signal, text)).then(() => { job.sent = true; }, (error) => {
    if (sending === job) failed(error.message);
  });
};

const connect = () => {
  factsOf = '';
  const path = () => `${state.parser ? 'parser' : 'tables'}/ws${state.uuid ? `/${state.uuid}` : ''}`;
  socket = new Socket(() => socketAddress(path()), onMessage, (now) => {
    $('link').dataset.state = now.state;
    if (now.state === 'open') {
      proves = false;
      isNew = true;
      state.lock = { uploads: false, view: false };
      if ($('note').classList.contains('lost')) note('');
      // Secrets are sent first, and never in an address, which logs and proxies store.
      if (state.token) socket?.send({ token: state.token });
      if (state.uuid && state.owner) proves = !!socket?.send({ owner: state.owner });
      start();
      draw();
      return;
    }
    const status = now.state === 'waiting' ? `Reconnecting in ${now.seconds} s…` : 'Not connected';
    $('link-text').textContent = $('announcement').textContent = status;
    if (sending) failed('the connection was lost');
    if (!state.uuid) socket?.end();
    if (now.state === 'ended') {
      socket = undefined;
      note(now.reason || 'There is no such table (any more).');
      $('empty').textContent = '';
      recent.forget(state.uuid ?? '');
    }
  }, (code) => code === GONE);
};

/** Turns home into the page of a new table. */
const leaveHome = () => {
  const home = document.getElementById('home');
  $('pick').append(...home?.querySelectorAll('.pick') ?? []);
  home?.remove();
  document.body.dataset.page = 'table';
};

/** Uploads a file: into this table, or into a new one. @param {File} file @param {boolean} [text] whether a file that is no text is read as text */
export const take = (file, text = false) => {
  if (sending) return note('Another upload is running; wait, or abort it.');
  const { view } = state;
  if (socket && view?.dialect && !text && !confirm(`Replace ${view.name || 'the file'} by ${file.name} for everyone who views this table?`)) return undefined;
  note('');
  leaveHome();
  sending = { file, began: Date.now(), stop: new AbortController(), sent: false, moving: false, makes: !socket, text };
  work(`Uploading ${file.name}: ${bytes(file.size)}`, undefined, true);
  // A new table replaces a deleted one.
  if (!socket) Object.assign(state, { uuid: null, view: null, owner: undefined, alone: false, private: null, wanted: null });
  if (!state.uuid) {
    takeSecret();
    $('name').textContent = file.name;
    socket?.end();
    connect();
  }
  return start();
};

/** Aborts the upload. */
export const abort = () => {
  const makes = sending?.makes;
  sending?.stop.abort();
  sending = null;
  socket?.send({ upload_abort: {} });
  work('');
  if (makes) location.assign(root);
  else note('The upload was aborted.', '');
};

/** Removes the owner secret and a connection token from the address, so that they are not shared with it. */
const takeSecret = () => {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get('token');
  if (token) state.token = token;
  const query = new URLSearchParams(location.search);
  const secret = fragment.get('owner') ?? query.get('owner');
  if (secret === null && token === null) return undefined;
  query.delete('owner');
  history.replaceState(history.state, '', location.pathname + (query.size ? `?${query}` : ''));
  return secret || undefined;
};

startGrid();
startCursor();
startControls();
startMenus();
startColumns();
startPeople();
startShare();

/** Shows the table of the address. @param {string} uuid */
export const open = (uuid) => {
  Object.assign(state, { uuid, owner: takeSecret() ?? recent.find(uuid)?.owner });
  connect();
};
