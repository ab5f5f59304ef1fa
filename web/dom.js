// All access of the page to the document. Text is always set as text, so nothing in a file becomes markup.

/**
 * The element with this id; throws if it has another type.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export const get = (id, kind) => {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new TypeError(`no ${kind.name} #${id}`);
};

/** @param {string} id */
export const $ = (id) => get(id, HTMLElement);
/** @param {string} id */
export const button = (id) => get(id, HTMLButtonElement);
/** @param {string} id */
export const input = (id) => get(id, HTMLInputElement);

/**
 * A new element with properties (`class` and names with a dash are attributes) and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export const make = (tag, properties = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class' || name.includes('-')) made.setAttribute(name, String(value));
    else Object.assign(made, { [name]: value });
  }
  made.append(...children);
  return made;
};

const grouped = new Intl.NumberFormat('en');
/** @param {number} n */
export const count = (n) => grouped.format(n);

/** A count with its noun: 1 row, 2 rows. @param {number} n @param {string} noun */
export const many = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;

/** @param {number} n */
export const bytes = (n) => {
  if (n < 1000) return `${n} B`;
  const power = Math.min(Math.floor(Math.log10(n) / 3), 4);
  const value = n / 1000 ** power;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${' kMGT'[power]}B`;
};

/** Where tidings is mounted: `/`, or a proxy's path prefix. */
export const root = new URL('..', import.meta.url);

/** The address of a WebSocket of this server. @param {string} path */
export const socketAddress = (path) => {
  const address = new URL(path, root);
  address.protocol = address.protocol.replace('http', 'ws');
  return address.href;
};

/** Copies text to the clipboard, and confirms it on the pressed button. @param {HTMLElement} pressed @param {string} text */
export const copy = async (pressed, text) => {
  const before = pressed.textContent;
  try {
    await navigator.clipboard.writeText(text);
    pressed.textContent = 'Copied';
  } catch {
    // Without a secure context there is no clipboard; the user can select the link.
    prompt('Copy this link:', text);
    return;
  }
  setTimeout(() => { pressed.textContent = before; }, 1500);
};

/** Places a menu beside its opener, inside the window. @param {HTMLElement} menu @param {Element} opener */
export const place = (menu, opener) => {
  const { left, right, top, bottom } = opener.getBoundingClientRect();
  const { style } = menu;
  style.top = style.bottom = style.left = style.right = 'auto';
  if (left < innerWidth / 2) style.left = `${Math.max(8, Math.min(left, innerWidth - 392))}px`;
  else style.right = `${Math.max(8, innerWidth - right)}px`;
  if (top < innerHeight / 2) style.top = `${bottom + 6}px`;
  else style.bottom = `${innerHeight - top + 6}px`;
};

let opening = '';

/** Whether a panel is open, or is about to be. @param {string} id */
export const isOpen = (id) => opening === id || $(id).matches(':popover-open');

/** Draws a panel before it is shown: its event `toggle` follows after a frame without content. @param {string} id @param {() => void} draw */
export const beforeOpen = (id, draw) => $(id).addEventListener('beforetoggle', (event) => {
  if (event.newState !== 'open') return;
  opening = id;
  draw();
  opening = '';
});
