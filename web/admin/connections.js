// The connections of all nodes: search, slow consumers, details, disconnect.

import { bytes, count, make, many } from '../dom.js';
import { command, get, post } from './api.js';
import { attempt, channelLink, closeDialog, dangerous, dialog, duration, incompleteNodes, milliseconds, missingNodes, table } from './parts.js';

/** @typedef {import('./types').Connection} Connection */

/** Connections on one page. */
const PAGE = 50;

/** The time since the beginning of a connection. @param {Connection} connection */
const age = ({ since }) => duration(Date.now() / 1000 - since);

/** @param {string} client */
const shortId = (client) => `${client.slice(0, 8)}…`;

/** @param {Connection} row @param {() => unknown} changed */
const details = async (row, changed) => {
  const page = await post('connections', { client: row.client, node: row.node, cursors: { [row.node]: row.at }, limit: 1, names: 200 });
  /** @type {Connection | undefined} */
  const found = page.connections[0];
  if (!found) {
    dialog('Connection', make('p', {}, 'This connection has ended.'));
    return;
  }
  /** @type {[string, Node | string][]} */
  const facts = [
    ['Client id', make('code', {}, found.client)],
    ['User', found.user || 'anonymous'],
    ['Address', found.address ?? 'unknown'],
    ['Protocol', `${found.protocol} over ${found.transport}${found.backend ? ', a backend with the API key' : ''}`],
    ['Connected', `${new Date(found.since * 1000).toLocaleString('en-GB')} (${age(found)})`],
    ['Received', found.received === null ? 'unknown' : bytes(found.received)],
    ['Sent', found.sent === null ? 'unknown' : `${bytes(found.sent)} acknowledged`],
    ['Round trip', found.rtt === null ? 'unknown' : milliseconds(found.rtt)],
    ['Queue', bytes(found.queued)],
    ['Node', found.node_name],
    ['Channels', found.subscriptions ? make('ul', { class: 'names' }, ...found.channels.map((name) => make('li', {}, channelLink(name))),
      ...(found.subscriptions > found.channels.length ? [make('li', { class: 'quiet' }, `and ${count(found.subscriptions - found.channels.length)} more`)] : [])) : 'none'],
  ];
  const disconnect = dangerous('Disconnect', 'Press again to disconnect', () => attempt(async () => {
    await command('disconnect', { user: '', client: found.client });
    closeDialog();
    await changed();
  }));
  const list = make('dl', { class: 'facts-list' }, ...facts.flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)]));
  list.addEventListener('click', ({ target }) => { if (target instanceof HTMLAnchorElement) closeDialog(); });
  dialog('Connection', list, make('p', {}, disconnect));
};

/** @param {HTMLElement} view @param {import('./parts').Visit} visit @param {URLSearchParams} query */
export const connections = async (view, visit, query) => {
  const search = make('input', { type: 'search', id: 'text', value: query.get('text') ?? '', placeholder: 'User, address, protocol or client id', autocomplete: 'off', spellcheck: false });
  const channel = make('input', { id: 'in-channel', value: query.get('channel') ?? '', placeholder: 'any', autocomplete: 'off', spellcheck: false });
  const node = make('select', { id: 'on-node' }, make('option', { value: '' }, 'all'));
  const nodes = make('span', { class: 'check', hidden: true }, make('label', { htmlFor: 'on-node' }, 'on node'), node);
  const queued = make('input', { type: 'checkbox', id: 'queued', checked: query.has('queued') });
  const results = make('div', { class: 'results' });
  const status = make('p', { class: 'quiet', role: 'status' });
  const more = make('button', { hidden: true }, 'More');
  const form = make('form', { class: 'row', role: 'search' },
    make('label', { htmlFor: 'text' }, 'Search'), search,
    make('label', { htmlFor: 'in-channel' }, 'in channel'), channel, nodes,
    make('label', { class: 'check' }, queued, 'Slow consumers, longest queues first'),
    make('button', { class: 'main' }, 'Search'));
  view.replaceChildren(make('h1', {}, 'Connections'), form, status, results, make('p', {}, more));

  /** @type {Connection[]} */
  let rows = [];
  /** @type {Record<string, [number, number]>} */
  let next = {};
  let number = 0;

  const show = (/** @type {{ missing: string[], incomplete: string[] }} */ { missing, incomplete }) => {
    const isMore = Object.keys(next).length > 0;
    more.hidden = !isMore;
    if (queued.checked && rows.length >= PAGE) status.textContent = `The ${rows.length} longest queues`;
    else status.textContent = rows.length || !isMore ? `${many(rows.length, 'connection')}${isMore ? ', and more' : ''}` : 'No match so far; more connections can be searched.';
    results.replaceChildren(missingNodes(missing), incompleteNodes(incomplete), rows.length ? table('Connections', ['User', 'Client id', 'Address', '~Protocol', '~Connected', '#Channels', '#Queue', '~Node'], rows.map((row) => [
      row.user || make('span', { class: 'quiet' }, 'anonymous'),
      make('button', { class: 'plain', title: row.client, 'aria-label': `Details of ${row.user || 'anonymous'}, client ${row.client}`, onclick: () => attempt(() => details(row, load)) }, shortId(row.client)),
      row.address ?? '–', row.protocol, age(row), count(row.subscriptions), bytes(row.queued), row.node_name,
    ])) : '');
  };

  const load = async (isNext = false) => {
    const request = ++number;
    status.textContent = 'Searching…';
    const page = await post('connections', {
      text: search.value.trim() || null,
      channel: channel.value.trim() || null,
      node: node.value || null,
      queued: queued.checked,
      cursors: isNext ? next : {},
      limit: PAGE,
    });
    // A later search is in progress.
    if (request !== number || !visit.isCurrent()) return;
    rows = isNext ? [...rows, ...page.connections] : page.connections;
    next = page.next;
    show(page);
  };

  form.onsubmit = (event) => {
    event.preventDefault();
    attempt(load);
  };
  queued.onchange = () => attempt(load);
  node.onchange = () => attempt(load);
  more.onclick = () => attempt(() => load(true));
  await attempt(async () => {
    /** @type {import('./types').Overview} */
    const overview = await get(`overview?after=${Number.MAX_SAFE_INTEGER}`);
    if (!visit.isCurrent()) return;
    node.append(...overview.nodes.map(({ uid, name }) => make('option', { value: uid }, name)));
    node.value = query.get('node') ?? '';
    nodes.hidden = overview.nodes.length < 2;
    await load();
  });
};
