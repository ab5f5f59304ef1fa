// One channel: subscribers, presence, history, live tail, publish.

import { count, make, many } from '../dom.js';
import { command, post } from './api.js';
import { attempt, missingNodes, note, table } from './parts.js';
import { tail } from './tail.js';

/** Publications on one page of the history. */
const PAGE = 20;
/** Most members that are shown. */
const MEMBERS = 200;

/** @param {unknown} data */
export const text = (data) => (typeof data === 'string' ? data : JSON.stringify(data));

/** The error of a command as text in its section: an option that is off is no failure of the page. @param {unknown} error */
const reason = (error) => make('p', { class: 'quiet' }, error instanceof Error ? error.message : String(error));

/** @param {string} channel @param {HTMLElement} box */
const showPresence = async (channel, box) => {
  try {
    const { presence } = await command('presence', { channel });
    const members = Object.values(presence);
    box.replaceChildren(make('p', { class: 'quiet' }, `${many(members.length, 'client')}${members.length > MEMBERS ? `, the first ${MEMBERS} are shown` : ''}`),
      members.length ? table('Presence', ['User', 'Client id', '~Data'], members.slice(0, MEMBERS).map(({ user, client, conn_info: data }) => [user || 'anonymous', make('code', {}, client), data === undefined ? '' : text(data)])) : '');
  } catch (error) {
    box.replaceChildren(reason(error));
  }
};

/** @param {string} channel @param {HTMLElement} box */
const showHistory = async (channel, box) => {
  /** @type {{ offset: number, data: unknown, tags?: object }[]} */
  let rows = [];
  /** @type {string} */
  let epoch = '';
  const more = make('button', { type: 'button' }, 'Older');
  const list = make('div');
  const status = make('p', { class: 'quiet', role: 'status' });
  const load = async () => {
    const last = rows.at(-1);
    const since = last && { offset: last.offset, epoch };
    const page = await command('history', { channel, limit: PAGE, reverse: true, ...(since && { since }) });
    epoch = page.epoch;
    const publications = page.publications ?? [];
    rows = [...rows, ...publications];
    more.hidden = publications.length < PAGE;
    status.textContent = `${many(rows.length, 'publication')}, the newest first; position ${count(page.offset ?? 0)} in epoch ${epoch || '–'}`;
    list.replaceChildren(rows.length ? table('History', ['#Offset', 'Data', '~Tags'], rows.map(({ offset, data, tags }) => [String(offset), make('code', { class: 'data' }, text(data)), tags ? text(tags) : ''])) : '');
  };
  more.onclick = () => attempt(load);
  try {
    await load();
    box.replaceChildren(status, list, make('p', {}, more));
  } catch (error) {
    box.replaceChildren(reason(error));
  }
};

/** @param {string} channel @param {() => unknown} published */
const publishForm = (channel, published) => {
  const data = make('input', { id: 'data', required: true, autocomplete: 'off', spellcheck: false, placeholder: 'JSON or text' });
  const done = make('p', { class: 'quiet', role: 'status' });
  const form = make('form', { class: 'row' }, make('label', { htmlFor: 'data' }, 'Data'), data, make('button', {}, 'Publish'));
  form.onsubmit = (event) => {
    event.preventDefault();
    /** @type {unknown} */
    let value = data.value;
    try {
      value = JSON.parse(data.value);
    } catch {
      // Not JSON: it is sent as text.
    }
    attempt(async () => {
      const { offset } = await command('publish', { channel, data: value });
      done.textContent = offset ? `Published at offset ${offset}.` : 'Published.';
      data.value = '';
      await published();
    });
  };
  return make('div', {}, form, done);
};

/** @param {HTMLElement} view @param {import('./parts').Visit} visit @param {URLSearchParams} _query @param {string} name */
export const channel = async (view, visit, _query, name) => {
  const subscribers = make('p', { class: 'quiet' });
  const missing = make('div');
  const presence = make('div');
  const history = make('div');
  note();
  view.replaceChildren(
    make('p', {}, make('a', { href: '#/channels' }, 'Channels')),
    make('h1', { class: 'name' }, name), subscribers, missing,
    make('section', {}, make('h2', {}, 'Live tail'), tail(name, visit)),
    make('section', {}, make('h2', {}, 'Publish'), publishForm(name, () => showHistory(name, history))),
    make('section', {}, make('h2', {}, 'History'), history),
    make('section', {}, make('h2', {}, 'Presence'), presence),
  );
  await attempt(async () => {
    const page = await post('channels', { name, limit: 1 });
    if (!visit.isCurrent()) return;
    subscribers.replaceChildren(`${many(page.channels[0]?.[1] ?? 0, 'subscriber')} `, make('a', { href: `#/connections?channel=${encodeURIComponent(name)}` }, 'Show them'));
    missing.replaceChildren(missingNodes(page.missing));
  });
  await Promise.all([showPresence(name, presence), showHistory(name, history)]);
};
