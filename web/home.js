// Home: the tables that were opened here before. Dropping and choosing a file is the same everywhere: see main.js.

import { $, count, make, many, root } from './dom.js';
import * as recent from './recent.js';

/** A past time as text, relative to now. @param {number} at */
const ago = (at) => {
  const minutes = Math.round((Date.now() - at) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 2880) return `${Math.round(minutes / 60)} h ago`;
  return `${count(Math.round(minutes / 1440))} days ago`;
};

export const home = () => {
  const tables = recent.list();
  $('recent').hidden = !tables.length;
  $('recent-list').replaceChildren(...tables.map(({ uuid, name, rows, at, owner, parser }) => make('li', {},
    make('a', { href: new URL(`${parser ? 'parser/share' : 'tables'}/${uuid}`, root).href },
      make('strong', {}, name || 'A table'),
      make('span', {}, `${many(rows, 'row')} · ${ago(at)}${owner ? ' · yours' : ''}`)),
    make('button', { 'aria-label': `Forget ${name || 'this table'}`, title: 'Forget', onclick: () => { recent.forget(uuid); home(); } }, '×'))));
};
