// Groups: the dialog that chooses them, a click that shows the rows of one, and the chart of a grouped view. Loaded on first use.

import { $, button, count, make, place } from './dom.js';
import { cellAt, grid } from './grid.js';
import { parseNumber } from './numbers.js';
import { fileName, mayLead, page, pageSize, pages, shown, state } from './state.js';
import { note } from './update.js';
import { change, isModern, request } from './views.js';

/** @typedef {import('./types').Group} Group */
/** @typedef {import('./types').Measure} Measure */

/** The functions of measures, and their names in the dialog. @type {[Measure['fn'], string][]} */
const FUNCTIONS = [['count', 'Count of'], ['sum', 'Sum of'], ['mean', 'Mean of'], ['min', 'Smallest'], ['max', 'Largest'], ['distinct', 'Different']];
/** The most columns to group by and measures, as on the server. */
const MOST = { by: 8, measures: 16 };
/** The most groups of a chart. */
const CHARTED = 200;
/** The height of a chart, and the space around its plot, in pixels. */
const SPACE = { top: 8, right: 8, bottom: 18, left: 56 };

// The style comes with the module.
document.head.append(make('link', { rel: 'stylesheet', href: new URL('group.css', import.meta.url).href }));

/** The settings in the dialog. @type {Group} */
let draft = { by: [], measures: [] };

const dialog = make('div', { class: 'menu', id: 'group', popover: 'auto', role: 'dialog', 'aria-label': 'Group rows' });
document.body.append(dialog);

/** The columns of the file, as far as they are known. */
const columns = () => Array.from({ length: Math.max(state.facts.length, state.names.length) }, (_, column) => column);

/** @param {string} label @param {[string, string][]} options @param {string} value @param {(value: string) => void} take */
const choice = (label, options, value, take) => {
  const made = make('select', { 'aria-label': label }, ...options.map(([key, text]) => new Option(text, key)));
  made.value = value;
  made.onchange = () => take(made.value);
  return made;
};

/** @param {string} label @param {number} column @param {(column: number) => void} take @param {[string, string][]} [more] */
const columnChoice = (label, column, take, more = []) => choice(label,
  [...more, ...columns().map((one) => /** @type {[string, string]} */ ([String(one), fileName(one)]))], String(column), (value) => take(Number(value)));

/** @param {string} label @param {() => void} act */
const remover = (label, act) => make('button', { type: 'button', 'aria-label': label, title: label, onclick: () => { act(); fill(); } }, '×');
/** @param {string} text @param {() => void} act @param {boolean} off */
const adder = (text, act, off) => make('button', { type: 'button', class: 'add', disabled: off, onclick: () => { act(); fill(); } }, text);

/** Fills the dialog from the draft. */
const fill = () => {
  const { by, measures } = draft;
  const free = columns().filter((column) => !by.includes(column));
  const numbers = columns().filter((column) => /integer|decimal/.test(state.facts[column]?.type ?? ''));
  const form = make('form', {},
    make('fieldset', {}, make('legend', {}, 'Rows with the same'),
      ...by.map((column, i) => make('div', { class: 'pair' },
        columnChoice(`Column ${i + 1} to group by`, column, (chosen) => { by[i] = chosen; }),
        ...(by.length > 1 ? [remover(`Do not group by ${fileName(column)}`, () => by.splice(i, 1))] : []))),
      adder('Add a column', () => by.push(free[0] ?? 0), by.length >= MOST.by || !free.length)),
    make('fieldset', {}, make('legend', {}, 'Measures'),
      ...measures.map((measure, i) => make('div', { class: 'pair' },
        choice(`Function of measure ${i + 1}`, FUNCTIONS, measure.fn, (fn) => {
          measures[i] = { ...(fn !== 'count' && { column: measure.column ?? numbers[0] ?? 0 }), ...(fn === 'count' && measure.column !== undefined && { column: measure.column }), fn: /** @type {Measure['fn']} */ (fn) };
          fill();
        }),
        columnChoice(`Column of measure ${i + 1}`, measure.column ?? -1, (column) => { measures[i] = { ...(column >= 0 && { column }), fn: measure.fn }; }, measure.fn === 'count' ? [['-1', 'rows']] : []),
        ...(measures.length > 1 ? [remover(`Remove measure ${i + 1}`, () => measures.splice(i, 1))] : []))),
      adder('Add a measure', () => measures.push(numbers[0] === undefined ? { fn: 'count' } : { column: numbers[0], fn: 'sum' }), measures.length >= MOST.measures)),
    make('label', {}, 'Chart', choice('Chart', [['', 'none'], ['bar', 'Bars'], ['line', 'Line']], draft.chart ?? '', (chart) => {
      const { chart: _, ...rest } = draft;
      draft = chart === 'bar' || chart === 'line' ? { ...rest, chart } : rest;
    })),
    make('p', {}, make('button', { class: 'main' }, 'Group'), ' ',
      ...(shown()?.group ? [make('button', { type: 'button', onclick: ungroup }, 'Show the rows')] : [])));
  form.onsubmit = (event) => {
    event.preventDefault();
    const twice = draft.by.find((column, i) => draft.by.indexOf(column) !== i);
    if (twice !== undefined) return note(`${fileName(twice)} is chosen twice.`);
    dialog.hidePopover();
    return apply(draft);
  };
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const label = dialog.contains(focused) ? focused?.getAttribute('aria-label') ?? focused?.textContent : null;
  dialog.replaceChildren(make('h2', {}, 'Group rows'), form);
  const same = [...form.querySelectorAll('button, select')].find((one) => label && (one.getAttribute('aria-label') ?? one.textContent) === label);
  if (same instanceof HTMLElement) same.focus();
};

/** Changes the groups of the view on screen, or those of all. @param {Group | null} group */
const apply = (group) => {
  const before = shown()?.group;
  const isSame = !!group && !!before && JSON.stringify([group.by, group.measures]) === JSON.stringify([before.by, before.measures]);
  if (state.alone) return change({ group, ...(!isSame && { sort: [] }) });
  if (!mayLead()) return note('The owner controls the view; browse on your own to group rows.', '');
  return request({ group });
};

const ungroup = () => {
  dialog.hidePopover();
  apply(null);
};

/** Opens the dialog. */
export const openGroup = () => {
  const group = shown()?.group;
  const facts = columns().filter((column) => state.facts[column]?.type === 'text');
  const few = facts.find((column) => (state.facts[column]?.distinct ?? 0) <= 1000) ?? facts[0] ?? 0;
  // Numbers that are all different are rather names of rows than amounts.
  const isAmount = (/** @type {number} */ column) => state.facts[column]?.type === 'decimal' || (state.facts[column]?.type === 'integer' && (state.facts[column]?.distinct ?? 0) * 2 < (shown()?.total_number ?? 0));
  const number = columns().find((column) => column !== few && isAmount(column));
  draft = group ? structuredClone(group) : { by: [few], measures: [{ fn: 'count' }, ...(number === undefined ? [] : [{ column: number, fn: /** @type {const} */ ('sum') }])] };
  fill();
  place(dialog, button('group-open'));
  dialog.showPopover();
};

/** Shows the rows of a group. @param {string[] | undefined} cells of its first columns @param {boolean} isCut whether one is not complete */
const drill = (cells, isCut) => {
  const view = shown();
  const group = view?.group;
  if (!group || !cells) return undefined;
  if (isCut) return note('The value of this group is too long to select its rows by it.', '');
  const values = cells.slice(0, group.by.length);
  if (!state.alone) {
    if (!mayLead()) return note('The owner controls the view; browse on your own to see the rows of a group.', '');
    return request({ drill: values });
  }
  if (!isModern()) return undefined;
  return change({ group: null, sort: [], filter: [...view.filter, ...group.by.map((column, i) => ({ column, op: /** @type {const} */ ('same'), value: values[i] ?? '' }))] });
};

/** The cells of a row of the shown page; undefined for a row of another page. @param {number} row */
const cellsOf = (row) => shown()?.data[row - ((shown()?.page_no ?? 1) - 1) * pageSize()];
/** @param {number} row */
const isCut = (row) => !!shown()?.cut?.some(([y, x]) => y === row - ((shown()?.page_no ?? 1) - 1) * pageSize() && x < (shown()?.group?.by.length ?? 0));

/** Shows the rows of the group in a row of the grid. @param {number} row */
const drillRow = (row) => {
  if (!cellsOf(row)) return note('Turn to the page of this group to see its rows.', '');
  return drill(cellsOf(row), isCut(row));
};

/** Whether a column on screen is one that the rows are grouped by. @param {number | undefined} column */
const isBy = (column) => column !== undefined && column < (shown()?.group?.by.length ?? 0);

/** Where the pointer was pressed. */
let pressed = { row: -1, index: -1 };
$('body').addEventListener('pointerdown', ({ clientX, clientY }) => { pressed = cellAt(clientX, clientY); }, true);
$('body').addEventListener('click', (event) => {
  const { row, index } = cellAt(event.clientX, event.clientY);
  if (event.shiftKey || row !== pressed.row || index !== pressed.index || !isBy(grid.layout.shown[index])) return;
  event.stopImmediatePropagation();
  drillRow(row);
}, true);
$('rows').addEventListener('keydown', (event) => {
  const { cursor } = state;
  if (event.key !== 'Enter' || !cursor || !isBy(cursor.column) || event.target !== $('rows')) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  drillRow(cursor.row);
}, true);

/** @param {string} tag @param {Record<string, string | number>} attributes @param {...(Node | string)} children */
const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
};

/** Steps of an axis from `low` to `high`: multiples of 1, 2 or 5 times a power of ten. @param {number} low @param {number} high @param {number} [few] about how many */
export const steps = (low, high, few = 4) => {
  const raw = (high - low || Math.abs(high) || 1) / few;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999_999) ?? 10) * power;
  const found = [];
  for (let i = Math.floor(low / step); i <= Math.ceil(high / step); i++) found.push(Number((i * step).toPrecision(12)));
  return found;
};

const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 2 });

/** The value of a measure in a row. @param {string | undefined} text @param {Measure} measure */
const valueOf = (text, measure) => {
  const mark = measure.fn === 'min' || measure.fn === 'max' ? state.facts[measure.column ?? -1]?.format : '.';
  return parseNumber((text ?? '').replace(/^≈/, ''), mark);
};

/** The panel of the chart. @type {HTMLDetailsElement | undefined} */
let panel;
/** The measure that the chart shows. */
let charted = 0;
/** What the chart was drawn for. */
let drawn = '';

/** @typedef {{ label: string, value: number | undefined, row: number, cells: string[] }} Point */

/** @param {Point[]} points @param {'bar' | 'line'} kind @param {number} width @param {number} height */
const plot = (points, kind, width, height) => {
  const values = points.flatMap(({ value }) => (value === undefined ? [] : [value]));
  const ticks = steps(Math.min(0, ...values), Math.max(0, ...values), height > 150 ? 4 : 2);
  const [low = 0, high = 1] = [ticks[0], ticks.at(-1)];
  const room = { width: width - SPACE.left - SPACE.right, height: height - SPACE.top - SPACE.bottom };
  /** @param {number} value */
  const y = (value) => SPACE.top + room.height * (1 - (value - low) / (high - low || 1));
  const slot = room.width / Math.max(1, points.length);
  /** @param {number} i */
  const x = (i) => SPACE.left + slot * (i + 0.5);
  const parts = ticks.flatMap((tick) => [
    svg('line', { class: tick === 0 ? 'zero' : 'grid', x1: SPACE.left, x2: width - SPACE.right, y1: y(tick), y2: y(tick) }),
    svg('text', { x: SPACE.left - 6, y: y(tick) + 4, 'text-anchor': 'end' }, short.format(tick)),
  ]);
  if (kind === 'line') {
    // A group without a value is a gap.
    let d = '';
    let pen = 'M';
    points.forEach(({ value }, i) => {
      if (value !== undefined) d += `${pen}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = value === undefined ? 'M' : 'L';
    });
    parts.push(svg('path', { class: 'path', d }));
  }
  points.forEach((point, i) => {
    const { label, value } = point;
    if (value === undefined) return;
    const title = svg('title', {}, `${label}: ${value.toLocaleString('en', { maximumSignificantDigits: 12 })}`);
    const wide = Math.max(1, Math.min(slot * 0.72, 64));
    const mark = kind === 'bar'
      ? svg('rect', { class: 'bar', x: x(i) - wide / 2, width: wide, y: Math.min(y(value), y(0)), height: Math.max(1, Math.abs(y(value) - y(0))), rx: Math.min(2, wide / 4) }, title)
      : svg('circle', { class: 'dot', cx: x(i), cy: y(value), r: Math.max(2, Math.min(4, slot / 3)) }, title);
    mark.addEventListener('click', () => drill(point.cells, isCut(point.row)));
    parts.push(mark);
  });
  // As many labels as there is room for.
  const every = Math.max(1, Math.ceil(64 / slot));
  const letters = Math.max(3, Math.floor((slot * every) / 6.6));
  points.forEach(({ label }, i) => {
    if (i % every) return;
    parts.push(svg('text', { x: x(i), y: height - 4, 'text-anchor': 'middle' }, label.length > letters ? `${label.slice(0, letters - 1)}…` : label));
  });
  return parts;
};

/** A chart in words. @param {Point[]} points @param {string} title @param {'bar' | 'line'} kind */
const words = (points, title, kind) => {
  const known = points.filter(({ value }) => value !== undefined);
  const text = `${kind === 'bar' ? 'Bar' : 'Line'} chart: ${title}, ${count(points.length)} group${points.length === 1 ? '' : 's'}.`;
  if (!known.length) return `${text} No values.`;
  const sorted = known.toSorted((a, b) => (a.value ?? 0) - (b.value ?? 0));
  const [least, most] = [sorted[0], sorted.at(-1)];
  return `${text} From ${count(least?.value ?? 0)} (${least?.label}) to ${count(most?.value ?? 0)} (${most?.label}). The rows below have all values.`;
};

/** Updates the chart and the marks of groups from the view on screen. */
export const drawGroups = () => {
  const view = shown();
  const group = view?.group;
  for (let i = 1; i <= MOST.by; i++) $('rows').classList.toggle(`by${i}`, !!group && i <= group.by.length);
  if (!view || !group?.chart) {
    panel?.remove();
    panel = undefined;
    drawn = '';
    return;
  }
  if (!panel) {
    const made = make('details', { id: 'chart', open: innerHeight > 700 && innerWidth > 600 });
    document.querySelector('.frame')?.before(made);
    new ResizeObserver(() => drawGroups()).observe(made);
    panel = made;
  }
  const { by, measures, chart } = group;
  charted = Math.min(charted, measures.length - 1);
  const width = Math.max(160, panel.clientWidth - 30);
  const key = JSON.stringify([view.uuid, view.data, view.header, group, charted, width, page()]);
  if (key === drawn) return;
  drawn = key;
  const measure = measures[charted] ?? { fn: 'count' };
  const first = (view.page_no - 1) * pageSize();
  const points = view.data.slice(0, CHARTED).map((cells, i) => ({
    label: cells.slice(0, by.length).join(', ') || '(empty)', value: valueOf(cells[by.length + charted], measure), row: first + i, cells,
  }));
  const title = `${view.header?.[by.length + charted] ?? ''} by ${(view.header ?? []).slice(0, by.length).join(', ')}`;
  const part = pages() > 1 || view.data.length > CHARTED ? ` · groups ${count(first + 1)}–${count(first + points.length)} of ${count(view.total_number)}` : '';
  const pick = measures.length > 1 ? [make('label', {}, 'Measure ', choice('Measure of the chart', measures.map((_, i) => [String(i), view.header?.[by.length + i] ?? '']), String(charted), (value) => { charted = Number(value); drawGroups(); }))] : [];
  const height = innerWidth > 736 ? 190 : 110;
  const hadFocus = panel.querySelector('select') === document.activeElement && !!document.activeElement;
  panel.replaceChildren(make('summary', {}, `${title}${part}`), ...pick,
    svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': words(points, title, chart) }, ...plot(points, chart, width, height)));
  if (hadFocus) panel.querySelector('select')?.focus();
};
