// The publications of a channel as they are delivered, over an event stream.

import { count, make } from '../dom.js';
import { address } from './api.js';

/** Most publications that are kept. */
const KEPT = 500;
/** Most publications that are shown. */
const SHOWN = 200;

/** Whether a publication contains the text, in any case. @param {string} data @param {string} filter */
export const matches = (data, filter) => !filter || data.toLowerCase().includes(filter.toLowerCase());

/** @param {string} name @param {import('./parts').Visit} visit */
export const tail = (name, visit) => {
  const filter = make('input', { type: 'search', id: 'filter', placeholder: 'Text in the data', autocomplete: 'off', spellcheck: false });
  const button = make('button', { class: 'main' }, 'Start');
  const status = make('p', { class: 'quiet', role: 'status' }, 'Stopped.');
  const list = make('div', { class: 'messages', tabIndex: 0, role: 'log', 'aria-label': 'Publications' });
  /** @type {EventSource | undefined} */
  let source;
  /** @type {[string, string][]} */
  let kept = [];
  let total = 0;
  let isDue = false;

  const show = () => {
    isDue = false;
    const found = kept.filter(([, data]) => matches(data, filter.value)).slice(-SHOWN);
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    list.replaceChildren(...found.map(([time, data]) => make('p', {}, make('time', {}, time), make('span', {}, data))));
    if (isAtEnd) list.scrollTop = list.scrollHeight;
    if (source) status.textContent = `Following: ${count(total)} received${filter.value ? `, ${count(found.length)} of the last ${count(kept.length)} match` : ''}.`;
  };
  // A busy channel is drawn once a frame.
  const draw = () => {
    if (!isDue) requestAnimationFrame(show);
    isDue = true;
  };

  const stop = (text = 'Stopped.') => {
    source?.close();
    source = undefined;
    button.textContent = 'Start';
    status.textContent = text;
  };

  const start = () => {
    kept = [];
    total = 0;
    list.replaceChildren();
    button.textContent = 'Stop';
    status.textContent = 'Connecting…';
    source = new EventSource(address(`tail?channel=${encodeURIComponent(name)}`));
    source.onopen = draw;
    source.onmessage = ({ data }) => {
      total++;
      kept.push([new Date().toLocaleTimeString('en-GB'), String(data)]);
      if (kept.length > 2 * KEPT) kept = kept.slice(-KEPT);
      draw();
    };
    source.onerror = () => {
      if (source?.readyState === EventSource.CLOSED) stop('The server has refused the stream.');
      else status.textContent = 'The connection was lost; connecting again…';
    };
  };

  const form = make('form', { class: 'row' }, button, make('label', { htmlFor: 'filter' }, 'Filter'), filter);
  form.onsubmit = (event) => {
    event.preventDefault();
    if (source) stop();
    else start();
  };
  filter.oninput = draw;
  visit.onLeave(() => stop());
  return make('div', {}, form, status, list);
};
