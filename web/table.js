// A table: the connection to it, what everybody sees, and what one looks at alone.
//
// The server says the view, and the page shows it: nothing is shown before the server has said it. Who browses on
// their own gets windows of the same rows; sort, filter and search are everybody's.

import { $, button, bytes, count, get, input, make, many, root, socketAddress } from './dom.js';
import { startControls } from './controls.js';
import { draw } from './grid.js';
import { format, parse, sameQuery } from './address.js';
import { menus, startMenus } from './menus.js';
import { Socket } from './socket.js';
import { upload } from './upload.js';
import * as recent from './recent.js';

/** @typedef {import('./types').View} View */
/** @typedef {import('./types').Place} Place */
/** @typedef {import('./types').Message} Message */

/** The close code of a table that is not there, or not any more. */
const GONE = 4404;

/** What the page knows of its table. */
export const state = {
  /** @type {string | null} */
  uuid: null,
  /** Whether it speaks to the aliases of the article's page. */
  parser: location.pathname.startsWith(`${root.pathname}parser/`),
  /** The secret that makes this browser the owner's. @type {string | undefined} */
  owner: undefined,
  /** What everybody sees. @type {View | null} */
  view: null,
  /** @type {import('./types').ColumnFacts[]} */
  facts: [],
  /** The first row of one's own window, counted from 0; null while following. @type {number | null} */
  own: null,
  /** The rows of that window, once they are there. @type {import('./types').Rows | null} */
  window: null,
  /** What only the owner may do. */
  lock: { uploads: false, view: false },
  /** What the address asked for, until that is decided. @type {Place | null} */
  wanted: null,
};

/** @type {Socket | undefined} */
let socket;
/** The file that is on its way, or waits for the connection; `makes`: a new table. @type {{ file: File, began: number, stop: AbortController, sent: boolean, moving: boolean, makes: boolean } | null} */
let sending = null;
/** When this browser asked for a change that has not come back yet. */
let asked = 0;
/** Whether nothing but the connection is there yet. */
let isNew = true;
/** Of which file the facts were asked for. */
let factsOf = '';
/** @type {number | undefined} */
let factsTimer;
/** @type {number | undefined} */
let noteTimer;

/** The path of the table's page. */
const tablePath = () => `${state.parser ? 'parser/share' : 'tables'}/${state.uuid}`;
/** The link that others get: without a secret. */
export const link = () => new URL(tablePath(), root).href;
export const tableUrl = () => new URL(`tables/${state.uuid}`, root).href;
/** Whether this viewer may change what all see. */
export const mayLead = () => !!state.owner || !state.lock.view;

/** Shows a sentence until it is closed. @param {string} text @param {'good' | 'bad' | ''} [kind] @param {() => void} [again] */
export const note = (text, kind = 'bad', again) => {
  $('note').hidden = !text;
  $('note').className = `note ${kind}`;
  $('note-text').textContent = text;
  button('note-again').hidden = !again;
  button('note-again').onclick = () => { note(''); again?.(); };
  clearTimeout(noteTimer);
  if (kind === 'good') noteTimer = setTimeout(() => note(''), 15_000);
};

/** @param {string} text @param {number} [part] of 1; left out when nobody knows */
const work = (text, part) => {
  $('work').hidden = !text;
  $('work-text').textContent = text;
  const bar = get('work-bar', HTMLProgressElement);
  if (part === undefined) bar.removeAttribute('value');
  else bar.value = part;
  button('work-stop').hidden = !sending;
};

/** Asks the server for something that all will see. @param {object} message */
export const ask = (message) => {
  asked = Date.now();
  if (!socket?.send(message)) note('Not connected at the moment: nothing was changed.');
};

const pageSize = () => state.view?.page_size || 100;
export const pages = () => Math.max(1, Math.ceil((state.view?.total_number ?? 0) / pageSize()));
/** The page that is shown here, counted from 1. */
export const page = () => (state.own === null ? state.view?.page_no ?? 1 : Math.floor(state.own / pageSize()) + 1);

/** Asks for one's own window. */
const fetchOwn = () => socket?.send({ rows: { from: state.own ?? 0, count: pageSize() } });

/** Turns to a page: for all, or alone. @param {number} to counted from 1 */
export const turn = (to) => {
  const target = Math.min(Math.max(1, to), pages());
  if (!state.view || target === page()) return update();
  if (state.own === null && mayLead()) return ask({ page: target });
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

/** Brings everything on the page in line with the state. @param {number} [fresh] from which row on rows are new */
export const update = (fresh = Infinity) => {
  const { view, own, wanted } = state;
  if (!view) return;
  const rows = own === null ? { ...view, from: (view.page_no - 1) * pageSize() } : state.window;
  if (rows) draw(view, rows, state.facts, fresh);
  const total = view.total_number;
  const shown = rows?.data.length ?? 0;
  const first = (rows?.from ?? 0) + 1;

  document.title = `${view.name || 'A table'} · tidings`;
  $('name').textContent = view.name || 'A table';
  const ragged = view.ragged ? ` · ${many(view.ragged, 'ragged row')}` : '';
  const { guessed, lossy, open_quote: openQuote, encoding } = view.dialect ?? {};
  const guess = (guessed ? ` · read as ${encoding}, a guess` : '') + (lossy ? ' · some bytes are no text' : '') + (openQuote ? ' · a quote is never closed' : '');
  $('about').textContent = view.dialect ? `${many(total, 'row')}${view.filter.length || view.search ? ' found' : ''} · ${bytes(view.size)}${ragged}${guess}` : 'No file yet';
  $('link-text').textContent = `Live · ${count(view.viewers)} viewing`;
  $('range').textContent = shown ? `${count(first)}–${count(first + shown - 1)} of ${count(total)}` : 'No rows';
  $('pages').textContent = `of ${count(pages())}`;
  const field = input('page');
  field.max = String(pages());
  if (!field.dataset.typed) field.value = String(page());
  for (const [id, off] of Object.entries({ first: page() <= 1, previous: page() <= 1, next: page() >= pages(), last: page() >= pages() })) {
    $(id).setAttribute('aria-disabled', String(off));
  }
  const size = get('page-size', HTMLSelectElement);
  if (![...size.options].some(({ value }) => value === String(view.page_size))) size.add(new Option(String(view.page_size)));
  size.value = String(view.page_size);
  const search = input('search-text');
  if (document.activeElement !== search) search.value = view.search;

  const alone = own !== null;
  for (const field of [size, search]) field.disabled = alone || !mayLead();
  $('table').classList.toggle('alone', alone);
  $('own').hidden = alone || !!wanted;
  $('banner').hidden = !alone && !wanted;
  $('show-all').hidden = !mayLead();
  $('banner-text').textContent = wanted
    ? `This link asks for ${sameQuery(wanted, { ...view, page: 1 }) ? `page ${wanted.page}` : 'another sort, filter or search'}; the others are on page ${count(view.page_no)}.`
    : `Browsing on your own. The others are on page ${count(view.page_no)}.`;

  /** @param {string} text @param {string} label @param {() => void} remove */
  const chip = (text, label, remove) => make('button', { 'aria-label': `Remove ${label}: ${text}`, title: `Remove ${label}`, onclick: remove, disabled: alone || !mayLead() }, `${text} ×`);
  const name = (/** @type {number} */ column) => view.header?.[column] || `Column ${column + 1}`;
  $('chips').replaceChildren(
    ...view.sort.map((sort) => chip(`${name(sort.column)} ${sort.desc ? '↓' : '↑'}`, 'sort', () => ask({ sort: view.sort.filter((other) => other !== sort) }))),
    ...view.filter.map((filter) => chip(`${name(filter.column)} ${filter.op} ${filter.value}`, 'filter', () => ask({ filter: view.filter.filter((other) => other !== filter) }))),
    ...(state.lock.view ? [make('span', {}, state.owner ? 'You lead' : 'The owner leads')] : []));

  $('empty').hidden = shown > 0 || view.loading || (alone && !state.window);
  $('empty').textContent = view.name ? 'No row fits the search and the filters.' : 'Nothing here yet: drop a file, or choose one in the menu File.';
  const place = wanted ?? { ...view, page: page() };
  if (state.uuid) history.replaceState({ own, kept: true }, '', link() + format(place));
  menus();
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
  isNew = false;
  if (isMade) history.pushState({ kept: true }, '', link());
  else if (!before) arrive(view);
  if (state.own !== null) fetchOwn();

  const mine = !!sending || Date.now() - asked < 5000;
  const what = before ? change(before, view) : '';
  if (what) {
    asked = 0;
    $('turned').textContent = `${mine ? 'You' : 'Another viewer'} ${what}.`;
  }
  const isSame = before && before.page_no === view.page_no && sameQuery({ ...before, page: 1 }, { ...view, page: 1 })
    && before.name === view.name && !before.loading && !view.loading;
  update(isSame && view.total_number > before.total_number ? (view.page_no - 1) * view.page_size + before.data.length : Infinity);
  if (what && state.own === null) {
    $('rows').scrollTop = 0;
    $('said').textContent = `${mine ? '' : `${$('turned').textContent} `}Page ${view.page_no} of ${pages()}, from row ${count((view.page_no - 1) * pageSize() + 1)}.`;
  }
  if (view.loading) {
    if ($('work').hidden) work(`Loading ${view.name}…`);
  } else if (before?.loading || (sending?.sent && view.name === sending.file.name)) {
    const took = sending && ` in ${((Date.now() - sending.began) / 1000).toFixed(1)} s`;
    sending = null;
    work('');
    note(`✓ ${view.name} is complete: ${many(view.total_number, 'row')}, ${bytes(view.size)}${took ?? ''}.`, 'good');
  } else if (!sending) {
    work('');
  }
  askFacts(view);
  if (view.dialect && !view.loading) recent.remember({ uuid: view.uuid, name: view.name, rows: view.total_number, at: Date.now(), ...(state.owner && { owner: state.owner }), ...(state.parser && { parser: true }) });
};

/** @param {string} text */
const hear = (text) => {
  /** @type {Message} */
  const message = JSON.parse(text);
  if (text === '{}') socket?.beat();
  if (message.owner) state.owner = message.owner;
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
    work(`${sending ? 'Uploading' : 'Loading'} ${name}: ${bytes(received)}${size ? ` of ${bytes(size)}` : ''} · ${many(rows, 'row')}`, size ? received / size : undefined);
  }
  if (message.rows && state.own !== null) {
    state.window = message.rows;
    state.own = message.rows.from;
    update();
    $('said').textContent = `On your own: page ${page()} of ${pages()}.`;
  }
  if (message.error) {
    const { code } = message.error;
    // The first word on a connection that named a secret: it is not the owner's (any more).
    if (code === 403 && isNew) state.owner = undefined;
    if (sending) failed(message.error.message);
    else if (code !== 404) note(`${message.error.message} (${message.error.code})`);
  }
  if (message.uuid && message.data) show(/** @type {View} */ (message));
};

/** The upload has ended badly. @param {string} why */
const failed = (why) => {
  const file = sending?.file;
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
  const path = () => `${state.parser ? 'parser' : 'tables'}/ws${state.uuid ? `/${state.uuid}` : ''}${state.owner ? `?owner=${encodeURIComponent(state.owner)}` : ''}`;
  socket = new Socket(() => socketAddress(path()), hear, (now) => {
    $('link').dataset.state = now.state;
    if (now.state === 'open') {
      isNew = true;
      state.lock = { uploads: false, view: false };
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

/** Uploads a file: into this table, or into a new one. @param {File} file */
export const take = (file) => {
  if (sending) return note('Another file is on its way; wait for it, or abort it.');
  note('');
  document.body.dataset.page = 'table';
  sending = { file, began: Date.now(), stop: new AbortController(), sent: false, moving: false, makes: !state.uuid };
  work(`Uploading ${file.name}: ${bytes(file.size)}`);
  if (!state.uuid) {
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

/** Takes the owner's secret out of the address, so that it is not shared with it. */
const takeSecret = () => {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const query = new URLSearchParams(location.search);
  const secret = fragment.get('owner') ?? query.get('owner');
  if (secret === null) return undefined;
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
