// The rows as a table. Cells are set as text and never as markup. The header row is kept while its columns do not change, so
// that it keeps the focus.

import { $, count, make } from './dom.js';
import { age } from './state.js';

/** @typedef {import('./types').View} View */
/** @typedef {import('./types').ColumnFacts} ColumnFacts */

/** Matches numbers, for the alignment of columns without facts. */
const NUMBER = /^\s*[-+]?[\d.,\u00a0' ]*\d(e[-+]?\d+)?\s*%?\s*$/i;
/** Most marked matches of a search. */
const MARKS = 1000;

let names = '';

/** The names of the columns that are shown. @param {string[] | null} header @param {string[][]} data */
export const columns = (header, data) => {
  const width = data.reduce((most, row) => Math.max(most, row.length), header?.length ?? 0);
  return Array.from({ length: width }, (_, i) => header?.[i] || `Column ${i + 1}`);
};

/** A small histogram of the numbers of a column. @param {number[]} bins */
const histogram = (bins) => {
  const most = Math.max(...bins);
  const bars = bins.map((n, i) => `M${i} 10v${n && -Math.max((n / most) * 10, 0.6)}h.8V10z`).join('');
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  path.setAttribute('d', bars);
  for (const [name, value] of [['viewBox', `0 0 ${bins.length} 10`], ['preserveAspectRatio', 'none'], ['aria-hidden', 'true']]) {
    svg.setAttribute(name ?? '', value ?? '');
  }
  svg.append(path);
  return svg;
};

/** @param {string[]} shown @param {View} view @param {(ColumnFacts | undefined)[]} facts @param {boolean[]} numeric */
const head = (shown, view, facts, numeric) => {
  if (names !== JSON.stringify(shown)) {
    names = JSON.stringify(shown);
    const cells = shown.map((name, i) => make('th', { scope: 'col', 'data-column': i },
      make('div', { class: 'head' },
        make('button', { class: 'sort', title: name }, name),
        make('button', { class: 'more', 'aria-label': `Filter ${name}`, 'aria-haspopup': 'dialog' }, '▾')),
      make('div', { class: 'facts' })));
    $('head').replaceChildren(make('tr', {}, make('th', { scope: 'col', class: 'n' }, make('span', { class: 'hidden' }, 'Row')), ...cells));
  }
  $('head').querySelectorAll('th[data-column]').forEach((cell, i) => {
    const sort = view.sort.find(({ column }) => column === i);
    cell.setAttribute('aria-sort', sort ? (sort.desc ? 'descending' : 'ascending') : 'none');
    cell.classList.toggle('filtered', view.filter.some(({ column }) => column === i));
    cell.classList.toggle('num', !!numeric[i]);
    const fact = facts[i];
    const line = cell.lastElementChild;
    if (!fact || !line) return line?.replaceChildren();
    const empty = fact.empty ? ` · ${count(fact.empty)} empty` : '';
    line.replaceChildren(make('span', {}, fact.type + empty));
    if (fact.histogram.length) line.append(histogram(fact.histogram));
  });
};

/** Marks the matches of a search without changing the cells. @param {string} search */
const mark = (search) => {
  if (!CSS.highlights) return;
  CSS.highlights.delete('hit');
  const wanted = search.toLowerCase();
  if (!wanted) return;
  const hits = new Highlight();
  for (const cell of $('body').querySelectorAll('td')) {
    const text = cell.firstChild;
    // Lower case may be longer; then its offsets differ from those of the text.
    const low = cell.textContent.toLowerCase();
    if (!text || low.length !== cell.textContent.length) continue;
    for (let at = low.indexOf(wanted); at >= 0 && hits.size < MARKS; at = low.indexOf(wanted, at + wanted.length)) {
      const range = new Range();
      range.setStart(text, at);
      range.setEnd(text, at + wanted.length);
      hits.add(range);
    }
  }
  CSS.highlights.set('hit', hits);
};

/** The last drawn state. @type {{ data?: string[][], rest?: string, facts?: object, numeric?: string }} */
let drawn = {};

/**
 * Shows rows, unless they are shown already.
 * @param {View} view
 * @param {import('./types').Rows} rows
 * @param {ColumnFacts[]} facts
 */
export const draw = (view, { from, data, cut, wide }, facts) => {
  // A view that changes only the number of viewers keeps the rows and the selection.
  const rest = JSON.stringify([from, cut, wide, view.header, view.sort, view.filter, view.search]);
  let isSame = data === drawn.data && rest === drawn.rest;
  if (isSame && facts === drawn.facts) return;
  const shown = columns(view.header, data);
  const numeric = shown.map((_, i) => {
    const type = facts[i]?.type;
    if (type) return type === 'integer' || type === 'decimal';
    const full = data.flatMap((row) => row[i] || []);
    return full.length > 0 && full.every((cell) => NUMBER.test(cell));
  });
  head(shown, view, facts, numeric);
  isSame &&= String(numeric) === drawn.numeric;
  drawn = { data, rest, facts, numeric: String(numeric) };
  if (isSame) return;
  const body = document.createDocumentFragment();
  data.forEach((row, y) => {
    const line = document.createElement('tr');
    const since = age(from + y);
    if (since !== undefined) {
      line.className = 'fresh';
      // A row that is drawn again continues its fade.
      line.style.setProperty('--since', `${-since}ms`);
    }
    line.append(make('th', { scope: 'row', class: 'n' }, count(from + y + 1)));
    for (let x = 0; x < shown.length; x++) {
      const cell = line.insertCell();
      const text = row[x];
      if (text === undefined) cell.className = 'none';
      else cell.textContent = text;
      if (numeric[x]) cell.classList.add('num');
      if (text && text.length > 40) cell.title = text;
    }
    body.append(line);
  });
  for (const [y, x, length] of cut ?? []) {
    const cell = body.children[y]?.children[x + 1];
    cell?.append('…');
    cell?.setAttribute('title', `${count(length)} characters; all of them are in the download`);
  }
  for (const [y, width] of wide ?? []) {
    const cell = body.children[y]?.firstElementChild;
    cell?.append(' …');
    cell?.setAttribute('title', `${count(width)} cells; all of them are in the download`);
  }
  $('body').replaceChildren(body);
  mark(view.search);
};
