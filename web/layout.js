// The arrangement of the columns: which are shown, in which order, how wide, and where each begins.

/** @typedef {import('./types').Columns} Columns */

export const NARROWEST = 40;
export const WIDEST = 2000;
/** The width of a column before its cells are known, in pixels. */
const WIDTH = 120;

/**
 * @typedef {object} Layout
 * @property {number[]} shown column numbers in the order in which they are shown
 * @property {number} frozen how many of them do not scroll
 * @property {Float64Array} left where each begins, and the end of the last one, in pixels
 * @property {number} frozenWidth
 */

/** All columns of a table of `total` columns in their order, hidden ones included. @param {number} total @param {Columns} columns */
export const order = (total, { order: first }) => {
  const given = new Set(first.filter((column) => column < total));
  const others = Array.from({ length: total }, (_, i) => i).filter((column) => !given.has(column));
  return [...given, ...others];
};

/**
 * @param {number} total @param {Columns} columns @param {Map<number, number>} fitting widths that fit the cells, by column
 * @param {number} room most pixels that frozen columns may take, so that others stay reachable
 * @returns {Layout}
 */
export const arrange = (total, columns, fitting, room) => {
  const hidden = new Set(columns.hidden);
  const shown = order(total, columns).filter((column) => !hidden.has(column));
  const left = new Float64Array(shown.length + 1);
  shown.forEach((column, i) => { left[i + 1] = (left[i] ?? 0) + (columns.widths[column] ?? fitting.get(column) ?? WIDTH); });
  let frozen = Math.min(columns.frozen, shown.length);
  while (frozen > 0 && (left[frozen] ?? 0) > room) frozen--;
  return { shown, frozen, left, frozenWidth: left[frozen] ?? 0 };
};

/** The index of the column at a pixel. @param {Layout} layout @param {number} at */
export const indexAt = ({ left, shown }, at) => {
  let low = 0;
  let high = shown.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((left[middle] ?? 0) <= at) low = middle;
    else high = middle - 1;
  }
  return Math.max(0, low);
};

/** The indexes of the scrolled columns on screen: the first, and the one after the last.
 * @param {Layout} layout @param {number} x scroll position @param {number} width of the visible part, frozen columns included
 * @returns {[number, number]} */
export const visible = (layout, x, width) => {
  const { shown, frozen, frozenWidth } = layout;
  if (frozen >= shown.length) return [frozen, frozen];
  const from = Math.max(frozen, indexAt(layout, frozenWidth + x));
  return [from, Math.min(shown.length, indexAt(layout, Math.max(x + width - 1, frozenWidth + x)) + 1)];
};
