// The page: home, or a table. The address selects one; a file that is dropped on home creates a table.

import { $, input, place, root } from './dom.js';

// Each module is loaded on first use.
const table = () => import('./table.js');

// A new table changes the address without loading the page again; relative addresses must not change.
for (const link of document.querySelectorAll('a[href], link[href]')) {
  const { href } = /** @type {HTMLAnchorElement} */ (link);
  link.setAttribute('href', href);
}

document.body.dataset.path = location.pathname;
const path = location.pathname.slice(root.pathname.length);
const [, uuid] = /^(?:tables|parser\/share)\/([^/]+)$/.exec(path) ?? [];

const hasTables = !!document.getElementById('file');
if (hasTables) {
  const picker = input('file');
  picker.onchange = () => {
    const file = picker.files?.[0];
    picker.value = '';
    if (file) table().then(({ take }) => take(file));
  };
}

/** @param {DragEvent} event */
const hasFile = (event) => hasTables && event.dataTransfer?.types.includes('Files');
let depth = 0;
/** @param {number} by */
const deeper = (by) => {
  depth = Math.max(0, depth + by);
  $('over').hidden = !depth || document.body.dataset.page === 'home';
  document.body.classList.toggle('dragging', depth > 0);
};
addEventListener('dragenter', (event) => hasFile(event) && deeper(1));
addEventListener('dragleave', (event) => hasFile(event) && deeper(-1));
addEventListener('dragover', (event) => hasFile(event) && event.preventDefault());
addEventListener('drop', (event) => {
  if (!hasFile(event)) return;
  event.preventDefault();
  deeper(-depth);
  const file = event.dataTransfer?.files[0];
  if (file) table().then(({ take }) => take(file));
});

// A menu opens beside its button.
for (const opener of document.querySelectorAll('button[popovertarget]')) {
  opener.addEventListener('click', () => place($(opener.getAttribute('popovertarget') ?? ''), opener));
}

if (uuid) {
  table().then(({ open }) => open(uuid));
} else {
  import('./home.js').then(({ home }) => home());
  import('./console.js').then(({ startConsole }) => startConsole());
}
// A step back to another table or to home; the fragment is that of a cell.
addEventListener('popstate', () => { if (location.pathname !== document.body.dataset.path) location.reload(); });
