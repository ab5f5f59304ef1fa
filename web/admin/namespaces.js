// The options of channels as the server uses them.

import { make } from '../dom.js';
import { get } from './api.js';
import { attempt } from './parts.js';

/** @param {HTMLElement} view @param {import('./parts').Visit} visit */
export const namespaces = async (view, visit) => {
  view.replaceChildren(make('h1', {}, 'Namespaces'));
  await attempt(async () => {
    /** @type {{ namespaces: { name: string, options: Record<string, string | number | boolean>, changed: string[] }[] }} */
    const data = await get('namespaces');
    if (!visit.isCurrent()) return;
    view.append(make('p', { class: 'quiet' }, 'The effective options of channels on this node. Options that differ from their default stand out.'),
      ...data.namespaces.map(({ name, options, changed }, at) => make('details', { class: 'card', open: at === 0 || data.namespaces.length < 4 },
        make('summary', {}, name || 'Channels without a namespace'),
        make('dl', { class: 'options' }, ...Object.entries(options).map(([option, value]) => make('div', { class: changed.includes(option) ? 'set' : 'quiet' }, make('dt', {}, option), make('dd', {}, String(value))))))));
  });
};
