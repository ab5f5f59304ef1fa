// The options of channels as the server uses them.

import { make } from '../dom.js';
import { get } from './api.js';
import { attempt } from './parts.js';

/** @param {HTMLElement} view @param {import('./parts').Visit} visit */
export const namespaces = async (view, visit) => {
  view.replaceChildren(make('h1', {}, 'Namespaces'));
  await attempt(async () => {
    /** @type {{ namespaces: { name: string, options: Record<string, string | number | boolean> }[] }} */
    const data = await get('namespaces');
    if (!visit.isCurrent()) return;
    view.append(make('p', { class: 'quiet' }, 'The effective options of channels on this node. Options that are on or set stand out.'),
      ...data.namespaces.map(({ name, options }, at) => make('details', { class: 'card', open: at === 0 || data.namespaces.length < 4 },
        make('summary', {}, name || 'Channels without a namespace'),
        make('dl', { class: 'options' }, ...Object.entries(options).map(([option, value]) => make('div', { class: [false, 0, '', '0s'].includes(value) ? 'quiet' : 'set' }, make('dt', {}, option), make('dd', {}, String(value))))))));
  });
};
