// The last warnings and errors of all nodes.

import { count, make } from '../dom.js';
import { get } from './api.js';
import { attempt, missingNodes, table } from './parts.js';

/** @param {HTMLElement} view @param {import('./parts').Visit} visit */
export const log = async (view, visit) => {
  const filter = make('input', { type: 'search', id: 'text', placeholder: 'Text in a line', autocomplete: 'off', spellcheck: false });
  const results = make('div', { class: 'results' });
  const status = make('p', { class: 'quiet', role: 'status' });
  const form = make('form', { class: 'row', role: 'search' }, make('label', { htmlFor: 'text' }, 'Filter'), filter);
  view.replaceChildren(make('h1', {}, 'Warnings and errors'), form, status, results);
  /** @type {{ lines: import('./types').LogEntry[], missing: string[] }} */
  let data = { lines: [], missing: [] };

  const show = () => {
    const text = filter.value.toLowerCase();
    const rows = data.lines.filter(({ line }) => `${line.level} ${line.target} ${line.text}`.toLowerCase().includes(text));
    status.textContent = data.lines.length ? `${count(rows.length)} of the last ${count(data.lines.length)} lines, the newest first` : 'No warning and no error since the start.';
    results.replaceChildren(missingNodes(data.missing), rows.length ? table('Log', ['Time', 'Level', '~Node', '~Part', 'Text'], rows.map(({ node, line }) => [
      new Date(line.at).toLocaleString('en-GB'), make('span', { class: line.level === 'ERROR' ? 'bad' : 'warning' }, line.level), node, line.target, make('span', { class: 'line' }, line.text),
    ])) : '');
  };
  const load = () => attempt(async () => {
    data = await get('log');
    if (visit.isCurrent()) show();
  });
  filter.oninput = show;
  form.onsubmit = (event) => event.preventDefault();
  await load();
  visit.every(5000, load);
};
