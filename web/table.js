// A table: the connection to it, what everybody sees, and what one looks at alone.
//
// The server says the view, and the page shows it: nothing is shown before the server has said it. Who browses on
// their own gets windows of the same rows; sort, filter and search are everybody's.

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

/** The close code of a table that is not there, or not any more. */
const GONE = 4404;

/** @type {Socket | undefined} */
let socket;
/** The file that is on its way, or waits for the connection; `makes`: a new table. @type {{ file: File, began: number, stop: AbortController, sent: boolean, moving: boolean, makes: boolean } | null} */
let sending = null;
/** What this browser asked for and has not seen yet. @type {Record<string, unknown>} */
let asked = {};
/** Whether the owner's secret was sent and not answered yet. */
let proves = false;
/** Of which file the facts were asked for. */
let factsOf = '';
/** @type {number | undefined} */
let factsTimer;

/** Asks the server for something that all will see. @param {object} message */
export const ask = (message) => {
  asked = { ...asked, ...message };
  if ($('note').classList.contains('good')) note('');
  if (!socket?.send(message)) note('Not connected at the moment: nothing was changed.', 'lost');
};

/** Asks for one's own window. */
const fetchOwn = () => socket?.send({ rows: { from: state.own ?? 0, count: pageSize() } });

/** Turns to a page: for all, or alone. @param {number} to counted from 1 */
export const turn = (to) => {
  const target = Math.min(Math.max(1, to), pages());
  if (!state.view || target === place()) return update();
  if (state.own === null && mayLead()) {
    state.turning = { to: target, at: Date.now() };
    return ask({ page: target });
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

/** Stops following: begins where the others are. */
export const browseAlone = () => {
  state.own = ((state.view?.page_no ?? 1) - 1) * pageSize();
  fetchOwn();
  update();
};

/** Shows to everybody what one sees, or what the address asked for. */
export const showAll = () => {
  const { view, wanted } = state;
  if (!view) return;
  const to = wanted ?? { ...view, page: page() };
  if (!sameQuery(to, { ...view, page: 1 })) {
    ask({ sort: to.sort });
    ask({ filter: to.filter });
    ask({ search: to.search });
  }
  ask({ page: to.page });
  follow();
};

/** @param {string[][]} one @param {string[][]} other */
const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** What has changed from one view to the next, as a verb. @param {View} before @param {View} now */
const change = (before, now) => {
  if (now.name !== before.name || now.size < before.size) return 'uploaded a file';
  if (format({ ...now, page: 1 }) !== format({ ...before, page: 1 })) {
    if (now.search !== before.search) return 'searched';
    return JSON.stringify(now.sort) === JSON.stringify(before.sort) ? 'filtered' : 'sorted';
  }
  if (now.page_no !== before.page_no) return `turned to page ${count(now.page_no)}`;
  return now.page_size === before.page_size ? '' : 'changed the page size';
};

/** The first view of a table: what does the address want? @param {View} view */
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

/** Whether a view shows something that this browser asked for. @param {View} view */
const isMine = (view) => {
  /** @type {Record<string, unknown>} */
  const now = { ...view, page: view.page_no, dialect: asked.dialect };
  const met = Object.keys(asked).filter((key) => JSON.stringify(asked[key]) === JSON.stringify(now[key]));
  for (const key of met) delete asked[key];
  return !!sending || met.length > 0;
};

/** Asks what is in the columns: once for each file as it is read, and not while it grows. @param {View} view */
const askFacts = ({ loading, name, size, dialect }) => {
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
  // Rows that are the same stay the same, and with them what is drawn and what is selected in it.
  if (before && isSame(before.data, view.data)) view.data = before.data;
  if (state.own !== null && before?.version !== view.version) {
    // There may be fewer rows now.
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
    $('said').textContent = `${mine ? '' : `${$('turned').textContent} `}Page ${view.page_no} of ${pages()}, from row ${count((view.page_no - 1) * pageSize() + 1)}.`;
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
  askFacts(view);
  if (!view.dialect || view.loading) return;
  const rows = view.filter.length || view.search ? recent.find(view.uuid)?.rows ?? 0 : view.total_number;
  recent.remember({ uuid: view.uuid, name: view.name, rows, at: Date.now(), ...(state.owner && { owner: state.owner }), ...(state.parser && { parser: true }) });
};

/** @param {string} text */
const hear = (text) => {
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
  // Who turns quickly gets windows that are not wanted any more.
  if (message.rows && message.rows.from === state.own) {
    const { window } = state;
    state.window = message.rows;
    if (window && isSame(window.data, message.rows.data)) state.window.data = window.data;
    update();
    $('said').textContent = `On your own: page ${page()} of ${pages()}.`;
  }
  if (message.error) {
    const { code } = message.error;
    asked = {};
    state.turning = null;
    // The secret that was sent is not the owner's (any more).
    if (code === 403 && proves) {
      state.owner = undefined;
      proves = false;
      update();
    }
    // What means nothing (400) is not said of an upload.
    if (sending && code !== 400) failed(message.error.message);
    else if (code !== 404) note(`${message.error.message} (${message.error.code})`);
  }
  if (message.uuid && message.data) show(/** @type {View} */ (message));
};

/** The upload has ended badly. @param {string} why */
const failed = (why) => {
  const file = sending?.file;
  if (sending?.moving && !sending.sent) socket?.send({ upload_abort: {} });
  sending?.stop.abort();
  sending = null;
  work('');
  note(`The upload has ended: ${why}.`, 'bad', file && (() => take(file)));
};

/** Sends what waits to be sent. */
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
  socket = new Socket(() => socketAddress(path()), hear, (now) => {
    $('link').dataset.state = now.state;
    if (now.state === 'open') {
      proves = false;
      state.lock = { uploads: false, view: false };
      if ($('note').classList.contains('lost')) note('');
      // Secrets go before everything else, and never into an address, which logs and proxies keep.
      if (state.token) socket?.send({ token: state.token });
      if (state.uuid && state.owner) proves = !!socket?.send({ owner: state.owner });
      start();
      return;
    }
    const said = now.state === 'waiting' ? `Reconnecting in ${now.seconds} s…` : 'Not connected';
    $('link-text').textContent = $('said').textContent = said;
    if (sending) failed('the connection was lost');
    if (!state.uuid) socket?.end();
    if (now.state === 'ended') {
      socket = undefined;
      note(now.reason || 'There is no such table, or it has been deleted.');
      $('empty').textContent = '';
      recent.forget(state.uuid ?? '');
    }
  }, (code) => code === GONE);
};

/** Home becomes the page of a new table, which takes over the way to choose a file. */
const leaveHome = () => {
  const home = document.getElementById('home');
  $('pick').append(...home?.querySelectorAll('.pick') ?? []);
  home?.remove();
  document.body.dataset.page = 'table';
};

/** Uploads a file: into this table, or into a new one. @param {File} file */
export const take = (file) => {
  if (sending) return note('Another file is on its way; wait for it, or abort it.');
  note('');
  leaveHome();
  sending = { file, began: Date.now(), stop: new AbortController(), sent: false, moving: false, makes: !socket };
  work(`Uploading ${file.name}: ${bytes(file.size)}`, undefined, true);
  // In place of a table that is gone, a new one.
  if (!socket) Object.assign(state, { uuid: null, view: null, owner: undefined, own: null, wanted: null });
  if (!state.uuid) {
    takeSecret();
    $('name').textContent = file.name;
    socket?.end();
    connect();
  }
  return start();
};

/** Takes back what is being uploaded. */
export const abort = () => {
  const makes = sending?.makes;
  sending?.stop.abort();
  sending = null;
  socket?.send({ upload_abort: {} });
  work('');
  if (makes) location.assign(root);
  else note('The upload was aborted.', '');
};

/** Takes the owner's secret and a connection token out of the address, so that they are not shared with it. */
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
