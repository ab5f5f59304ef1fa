// Tables: the open ones of all nodes, the stored ones page by page, and the deletion of any.

import { bytes, count, make } from '../dom.js';
import { get, post } from './api.js';
import { attempt, dangerous, duration, missingNodes, table } from './parts.js';

/** Stored tables on one page. */
const PAGE = 50;

/** @param {string} text */
const quiet = (text) => make('span', { class: 'quiet' }, text);

/** The last use of a stored table. @param {import('./types').StoredTable} table */
const lastUse = ({ used }) => (used === null ? 'unknown' : `${duration(Date.now() / 1000 - used)} ago`);

/** The name of an open table, with the nodes where it did not respond. @param {import('./types').OpenTable} table */
const openName = ({ name, unresponsive, rows, size }) => make('span', {},
  make('span', { class: 'name' }, name || (unresponsive.length && !rows && !size ? 'unknown' : 'no file')),
  ...(unresponsive.length ? [make('strong', { class: 'state warn' }, ` did not respond within 1.5 s on ${unresponsive.join(', ')}`)] : []));

/** @param {HTMLElement} view @param {import('./parts').Visit} visit */
export const tables = async (view, visit) => {
  const results = make('div', { class: 'results' });
  const status = make('p', { class: 'quiet', role: 'status' });
  const stored = make('div', { class: 'results' });
  const storedStatus = make('p', { class: 'quiet', role: 'status' });
  const more = make('button', { hidden: true }, 'More');
  const id = make('input', { id: 'table-id', placeholder: 'Id of a table', required: true, autocomplete: 'off', spellcheck: false });
  const form = make('form', { class: 'row' }, make('label', { htmlFor: 'table-id' }, 'Table'), id);
  view.replaceChildren(make('h1', {}, 'Tables'), status, results, make('h2', {}, 'Stored tables'), storedStatus, stored, make('p', {}, more),
    make('h2', {}, 'Delete a table by its id'), form);

  const remove = async (/** @type {string} */ which) => {
    await post(`tables/${encodeURIComponent(which)}/delete`);
    await Promise.all([load(), loadStored()]);
  };
  form.append(dangerous('Delete', 'Press again to delete', () => form.reportValidity() && attempt(async () => {
    await remove(id.value.trim());
    id.value = '';
  })));
  form.onsubmit = (event) => event.preventDefault();
  const removal = (/** @type {string} */ which) => dangerous('Delete', 'Press again', () => attempt(() => remove(which)));

  const load = async () => {
    const page = await get('tables');
    if (!visit.isCurrent()) return;
    /** @type {import('./types').OpenTable[]} */
    const rows = page.tables;
    status.textContent = `${count(rows.length)}${page.more ? ', and more,' : ''} open; tables without viewers are closed after a while and opened again with the next viewer.`;
    results.replaceChildren(missingNodes(page.missing), rows.length ? table('Open tables', ['File', '~Id', '#Size', '#Rows', '#Viewers', 'Action'], rows.map((row) => [
      openName(row), make('code', {}, row.id), bytes(row.size), count(row.rows), count(row.viewers), removal(row.id),
    ])) : '');
  };

  /** @type {import('./types').StoredTable[]} */
  let rows = [];
  /** @type {string | null} */
  let next = null;
  const loadStored = async (isNext = false) => {
    const page = await post('tables/stored', { after: isNext ? next : '', limit: PAGE });
    if (!visit.isCurrent()) return;
    rows = isNext ? [...rows, ...page.tables] : page.tables;
    next = page.next;
    more.hidden = next === null;
    storedStatus.textContent = `${count(rows.length)}${next === null ? '' : ', and more,'} stored, in the order of their ids. The size is what a table counts for tables.max_total.`;
    const problems = page.errors.map((/** @type {[string, string]} */ [node, why]) => make('p', { class: 'state warn' }, make('strong', {}, 'Partial: '), `${node}: ${why}.`));
    stored.replaceChildren(missingNodes(page.missing), ...problems, rows.length ? table('Stored tables', ['File', 'Id', '#Size', '~Last use', '~Nodes', 'Action'], rows.map((row) => [
      row.name === null ? quiet('unreadable record') : row.name ? make('span', { class: 'name' }, row.name) : quiet('no file'),
      make('code', {}, row.id), bytes(row.size), lastUse(row), row.nodes.join(', '), removal(row.id),
    ])) : '');
  };
  more.onclick = () => attempt(() => loadStored(true));
  await attempt(() => Promise.all([load(), loadStored()]));
};
