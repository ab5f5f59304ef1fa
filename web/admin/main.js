// Selects the section of the page by the fragment of its address.

import { $ } from '../dom.js';
import { channel } from './channel.js';
import { channels } from './channels.js';
import { connections } from './connections.js';
import { log } from './log.js';
import { startLogin } from './login.js';
import { namespaces } from './namespaces.js';
import { overview } from './overview.js';
import { attempt, closeDialog, note } from './parts.js';
import { tables } from './tables.js';

/** @type {Record<string, (view: HTMLElement, visit: import('./parts').Visit, query: URLSearchParams, rest: string) => Promise<void>>} */
const SECTIONS = { '': overview, connections, channels, channel, namespaces, tables, log };

/** Ends what the current section has started. */
let leave = () => {};
let isOpen = false;

const show = () => {
  leave();
  if (!isOpen) return;
  closeDialog();
  note();
  const [path = '', search] = location.hash.replace(/^#\/?/, '').split('?');
  const [name = '', ...rest] = path.split('/');
  const section = SECTIONS[name] ?? overview;
  let isCurrent = true;
  /** @type {(() => void)[]} */
  const leaving = [];
  /** @type {import('./parts').Visit} */
  const visit = {
    isCurrent: () => isCurrent,
    every: (ms, act) => {
      if (!isCurrent) return;
      const timer = setInterval(() => document.hidden || act(), ms);
      leaving.push(() => clearInterval(timer));
    },
    onLeave: (act) => leaving.push(act),
  };
  leave = () => {
    isCurrent = false;
    leaving.forEach((act) => act());
    leave = () => {};
  };
  for (const link of $('nav').querySelectorAll('a')) {
    const own = link.hash.replace(/^#\/?/, '');
    if (own === name || (own === 'channels' && name === 'channel')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  attempt(() => section($('view'), visit, new URLSearchParams(search), decodeURIComponent(rest.join('/'))));
};

addEventListener('hashchange', () => {
  show();
  $('view').focus();
});
attempt(() => startLogin(() => {
  isOpen = true;
  show();
}, () => {
  isOpen = false;
  leave();
  closeDialog();
  note();
}));
