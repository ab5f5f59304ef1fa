// A table: its connection, the shared view, and the private window.
//
// The page shows only what the server has sent. A viewer that browses privately requests windows of the same rows; sort,
// filter and search are shared by all viewers.

import { $, bytes, count, many, root, socketAddress } from './dom.js';
import { startControls } from './controls.js';
import { format, parse, sameQuery } from './address.js';
import { startMenus } from './menus.js';
import { arrived, link, mayLead, page, pageSize, pages, place, state } from './state.js';
import { note, update, work } from './update.js';
import { Socket } from './socket.js';
import { upload } from './upload.js';
import * as recent from './recent.js';

/** @typedef {import('./types').View} View */
/** @typedef {import('./types').Message} Message */

/** The close code of a table that does not exist, or was deleted. */
const GONE = 4404;

/** @type {Socket | undefined} */
let socket;
/** The current upload, which may wait for the connection; `makes`: into a new table. @type {{ file: File, began: number, stop: AbortController, sent: boolean, moving: boolean, makes: boolean } | null} */
let sending = null;
/** Requests of this browser without a result yet. @type {Record<string, unknown>} */
let pending = {};
/** Whether the server may still report that it has discarded a piece of a failed upload: it was sent before the error was
 * handled here. @type {boolean | undefined} */
let late;
/** Whether the owner secret was sent without a response yet. */
let proves = false;
/** The file for which facts were requested. */
let factsOf = '';
/** @type {number | undefined} */
let factsTimer;

/** Changes the shared view. @param {object} message */
export const request = (message) => {
  pending = { ...pending, ...message };
  late = false;
  if ($('note').classList.contains('good')) note('');
  if (!socket?.send(message)) note('Not connected: nothing was changed.', 'lost');
};

/** Requests the private window. */
const fetchOwn = () => socket?.send({ rows: { from: state.own ?? 0, count: pageSize() } });

/** @param {number} to a page, counted from 1 */
export const turn = (to) => {
  const target = Math.min(Math.max(1, to), pages());
  if (!state.view || target === place()) return update();
  if (state.own === null && mayLead()) {
    state.turning = { to: target, at: Date.now() };
    return request({ page: target });
  }
  state.own = (target - 1) * pageSize();
  fetchOwn();
  return update();
};

export const follow = () => {
  if (state.own === null && !state.wanted) return;
  state.own = state.window = state.wanted = null;
  update();
};

/** Stops following: the private window begins at the shared page. */
export const browseAlone = () => {
  state.own = ((state.view?.page_no ?? 1) - 1) * pageSize();
  fetchOwn();
  update();
};

export const showAll = () => {
  const { view, wanted } = state;
  if (!view) return;
  const to = wanted ?? { ...view, page: page() };
  if (!sameQuery(to, { ...view, page: 1 })) {
    request({ sort: to.sort });
    request({ filter: to.filter });
    request({ search: to.search });
  }
  request({ page: to.page });
  follow();
};

/** @param {string[][]} one @param {string[][]} other */
const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The change from one view to the next, as a verb. @param {View} before @param {View} now */
const change = (before, now) => {
  if (now.name !== before.name || now.size < before.size) return 'uploaded a file';
  if (format({ ...now, page: 1 }) !== format({ ...before, page: 1 })) {
    if (now.search !== before.search) return 'searched';
    return JSON.stringify(now.sort) === JSON.stringify(before.sort) ? 'filtered' : 'sorted';
  }
  if (now.page_no !== before.page_no) return `turned to page ${count(now.page_no)}`;
  return now.page_size === before.page_size ? '' : 'changed the page size';
};

/** Applies the place of the address to the first view of a table. @param {View} view */
const arrive = (view) => {
  const wanted = parse(location.search);
  const kept = history.state;
  if (kept?.kept) {
    if (typeof kept.own === 'number') state.own = kept.own;
  } else if (format(wanted) && format(wanted) !== format({ ...view, page: view.page_no })) {
    state.wanted = wanted;
    if (sameQuery(wanted, { ...view, page: 1 })) {
      state.own = (wanted.page - 1) * view.page_size;
      state.wanted = null;
    }
  }
};

/** Whether a view is the result of a request of this browser. @param {View} view */
const isMine = (view) => {
  /** @type {Record<string, unknown>} */
  const now = { ...view, page: view.page_no, dialect: pending.dialect };
  const met = Object.keys(pending).filter((key) => JSON.stringify(pending[key]) === JSON.stringify(now[key]));
  for (const key of met) delete pending[key];
  return !!sending || met.length > 0;
};

/** Requests column facts: once per file and dialect, and not while the file grows. @param {View} view */
const requestFacts = ({ loading, name, size, dialect }) => {
  const file = JSON.stringify([name, size, dialect]);
  if (loading || !dialect || file === factsOf) return;
  factsOf = file;
  state.facts = [];
  clearTimeout(factsTimer);
  factsTimer = setTimeout(() => socket?.send({ facts: {} }), 200);
};

/** @param {View} view */
const show = (view) => {
  const before = state.uuid === view.uuid ? state.view : null;
  const isMade = state.uuid !== view.uuid;
  state.uuid = view.uuid;
  state.view = view;
  if (isMade) history.pushState({ kept: true }, '', link());
  else if (!before) arrive(view);
  if (state.turning?.to === view.page_no) state.turning = null;
  // Equal rows keep their identity, so that the drawn rows and the selection stay.
  if (before && isSame(before.data, view.data)) view.data = before.data;
  if (state.own !== null && before?.version !== view.version) {
    // The view may have fewer rows than before.
    state.own = Math.min(state.own, (pages() - 1) * pageSize());
    fetchOwn();
  }

  const mine = isMine(view);
  const what = before ? change(before, view) : '';
  if (what) {
    $('turned').textContent = `${mine ? 'You' : 'Another viewer'} ${what}.`;
  }
  const isSameQuery = before && before.page_no === view.page_no && sameQuery({ ...before, page: 1 }, { ...view, page: 1 })
    && before.name === view.name && !before.loading && !view.loading;
  if (!isSameQuery) state.fresh = [];
  else if (view.total_number > before.total_number) arrived(before.total_number);
  update();
  if (what && state.own === null) {
    $('rows').scrollTop = 0;
    $('announcement').textContent = `${mine ? '' : `${$('turned').textContent} `}Page ${view.page_no} of ${pages()}, from row ${count((view.page_no - 1) * pageSize() + 1)}.`;
  }
  if (view.loading) {
    if ($('work').hidden) work(`Loading ${view.name}…`, undefined, !!sending);
  } else if (before?.loading || (sending?.sent && view.name === sending.file.name && view.size === sending.file.size)) {
    const took = sending && ` in ${((Date.now() - sending.began) / 1000).toFixed(1)} s`;
    sending = null;
    work('');
    note(`✓ ${view.name} is complete: ${many(view.total_number, 'row')}, ${bytes(view.size)}${took ?? ''}.`, 'good');
  } else if (!sending) {
    work('');
  }
  requestFacts(view);
  if (!view.dialect || view.loading) return;
  const rows = view.filter.length || view.search ? recent.find(view.uuid)?.rows ?? 0 : view.total_number;
  recent.remember({ uuid: view.uuid, name: view.name, rows, at: Date.now(), ...(state.owner && { owner: state.owner }), ...(state.parser && { parser: true }) });
};

/** @param {string} text */
const onMessage = (text) => {
  /** @type {Message} */
  const message = JSON.parse(text);
  if (text === '{}') socket?.beat();
  if (message.owner) state.owner = message.owner;
  if (message.rights?.owner) proves = false;
  if (message.facts) {
    state.facts = message.facts.columns;
    update();
  }
  if (message.lock) {
    state.lock = message.lock;
    update();
  }
  if (message.progress?.view !== undefined) {
    const part = message.progress.view;
    work(part < 1 ? 'Sorting and filtering…' : '', part);
  } else if (message.progress) {
    const { received = 0, size, rows = 0 } = message.progress;
    const name = sending?.file.name ?? state.view?.name ?? 'a file';
    work(`${sending ? 'Uploading' : 'Loading'} ${name}: ${bytes(received)}${size ? ` of ${bytes(size)}` : ''} · ${many(rows, 'row')}`, size ? received / size : undefined, !!sending);
  }
  // When the user turns pages quickly, responses to earlier requests are outdated.
  if (message.rows && message.rows.from === state.own) {
    const { window } = state;
    state.window = message.rows;
    if (window && isSame(window.data, message.rows.data)) state.window.data = window.data;
    update();
    $('announcement').textContent = `On your own: page ${page()} of ${pages()}.`;
  }
  if (message.error) {
    const { code } = message.error;
    pending = {};
    state.turning = null;
    // The secret is not that of the owner, or not any more.
    if (code === 403 && proves) {
      state.owner = undefined;
      proves = false;
      update();
    }
    // A malformed message (400) is no error of the upload.
    if (sending && code !== 400) failed(message.error.message);
    else if (code !== 404 && !(late && code === 409)) note(`${message.error.message} (${message.error.code})`);
  }
  if (message.uuid && message.data) show(/** @type {View} */ (message));
};

/** Handles a failed upload. @param {string} why */
const failed = (why) => {
  const file = sending?.file;
  late = sending?.moving;
  if (sending?.moving && !sending.sent) socket?.send({ upload_abort: {} });
  sending?.stop.abort();
  sending = null;
  work('');
  note(`The upload has failed: ${why}.`, 'bad', file && (() => take(file)));
};

/** Sends the waiting credentials and file. */
const start = () => {
  const job = sending;
  if (!job || job.moving || !socket?.isOpen) return;
  job.moving = true;
  upload(socket, job.file, job.stop.signal).then(() => { job.sent = true; }, (error) => {
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
      state.lock = { uploads: false, view: false };
      if ($('note').classList.contains('lost')) note('');
      // Secrets are sent first, and never in an address, which logs and proxies store.
      if (state.token) socket?.send({ token: state.token });
      if (state.uuid && state.owner) proves = !!socket?.send({ owner: state.owner });
      start();
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

/** Uploads a file: into this table, or into a new one. @param {File} file */
export const take = (file) => {
  if (sending) return note('Another upload is running; wait, or abort it.');
  note('');
  leaveHome();
  sending = { file, began: Date.now(), stop: new AbortController(), sent: false, moving: false, makes: !socket };
  work(`Uploading ${file.name}: ${bytes(file.size)}`, undefined, true);
  // A new table replaces a deleted one.
  if (!socket) Object.assign(state, { uuid: null, view: null, owner: undefined, own: null, wanted: null });
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

startControls();
startMenus();

/** Shows the table of the address. @param {string} uuid */
export const open = (uuid) => {
  Object.assign(state, { uuid, owner: takeSecret() ?? recent.find(uuid)?.owner });
  connect();
};
