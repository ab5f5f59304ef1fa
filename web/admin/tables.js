// The tables that are open on any node, and the deletion of any table.

import { bytes, count, make } from '../dom.js';
import { get, post } from './api.js';
import { attempt, dangerous, missingNodes, table } from './parts.js';

/** @param {HTMLElement} view @param {import('./parts').Visit} visit */
export const tables = async (view, visit) => {
  const results = make('div', { class: 'results' });
  const status = make('p', { class: 'quiet', role: 'status' });
  const id = make('input', { id: 'table-id', placeholder: 'Id of a table', required: true, autocomplete: 'off', spellcheck: false });
  const form = make('form', { class: 'row' }, make('label', { htmlFor: 'table-id' }, 'Table'), id);
  view.replaceChildren(make('h1', {}, 'Tables'), status, results, make('h2', {}, 'Delete a table that is not open'), form);

  const remove = async (/** @type {string} */ which) => {
    await post(`tables/${encodeURIComponent(which)}/delete`);
    await load();
  };
  form.append(dangerous('Delete', 'Press again to delete', () => form.reportValidity() && attempt(async () => {
    await remove(id.value.trim());
    id.value = '';
  })));
  form.onsubmit = (event) => event.preventDefault();

  const load = async () => {
    const page = await get('tables');
    if (!visit.isCurrent()) return;
    /** @type {import('./types').Table[]} */
    const rows = page.tables;
    status.textContent = `${count(rows.length)}${page.more ? ', and more,' : ''} open; tables without viewers are closed after a while and opened again with the next viewer.`;
    results.replaceChildren(missingNodes(page.missing), rows.length ? table('Tables', ['File', '~Id', '#Size', '#Rows', '#Viewers', 'Action'], rows.map((row) => [
      make('span', { class: 'name' }, row.name || 'no file'), make('code', {}, row.id), bytes(row.size), count(row.rows), count(row.viewers),
      dangerous('Delete', 'Press again', () => attempt(() => remove(row.id))),
    ])) : '');
  };
  await attempt(load);
};
