// Converts a table's page, sort, filter and search to the query of an address, and back.
//
//   ?page=3&sort=2,-0&filter=1.contains.red&search=apple&group=0,2:3.sum,count:bar
//
// Columns count from 0; a minus means descending. Invalid parts are ignored.

/** @typedef {import('./types').Place} Place */
/** @typedef {import('./types').Op} Op */

/** @type {Op[]} */
export const OPS = ['contains', 'equals', 'not', '<', '<=', '>', '>=', 'between', 'in', 'same', 'empty', 'regex'];
const FUNCTIONS = /** @type {const} */ (['count', 'sum', 'mean', 'min', 'max', 'distinct']);

/** @param {string | null} text columns, measures, and the chart @returns {{ group?: import('./types').Group }} */
const parseGroup = (text) => {
  const [by = '', measures = '', chart] = text?.split(':') ?? [];
  if (!/^\d+(,\d+)*$/.test(by)) return {};
  const read = measures.split(',').flatMap((word) => {
    const [, column, name] = /^(?:(\d+)\.)?(\w+)$/.exec(word) ?? [];
    const fn = FUNCTIONS.find((known) => known === name);
    return fn ? [{ ...(column && { column: Number(column) }), fn }] : [];
  });
  return { group: { by: by.split(',').map(Number), measures: read, ...((chart === 'bar' || chart === 'line') && { chart }) } };
};

/** @param {string} query @returns {Place} */
export const parse = (query) => {
  const args = new URLSearchParams(query);
  const page = Number(args.get('page'));
  const sort = (args.get('sort') ?? '').split(',').filter((word) => /^-?\d+$/.test(word));
  const filter = args.getAll('filter').flatMap((words) => {
    const [, column, op, value] = /^(\d+)\.([^.]+)\.(.*)$/s.exec(words) ?? [];
    const known = OPS.find((known) => known === op);
    return known ? [{ column: Number(column), op: known, value: value ?? '' }] : [];
  });
  return {
    page: Number.isSafeInteger(page) && page > 0 ? page : 1,
    sort: sort.map((word) => ({ column: Math.abs(Number(word)), desc: word.startsWith('-') })),
    filter,
    search: args.get('search') ?? '',
    ...(args.has('ignore_accents') && { ignore_accents: true }),
    ...parseGroup(args.get('group')),
  };
};

/** The query of an address, with its question mark; empty for the first page of all rows. @param {Place} place */
export const format = ({ page, sort, filter, search, ignore_accents: plain, group }) => {
  const args = new URLSearchParams();
  if (page > 1) args.set('page', String(page));
  if (sort.length) args.set('sort', sort.map(({ column, desc }) => (desc ? '-' : '') + column).join());
  for (const { column, op, value } of filter) args.append('filter', `${column}.${op}.${value}`);
  if (search) args.set('search', search);
  if (search && plain) args.set('ignore_accents', '1');
  if (group) args.set('group', [group.by, group.measures.map(({ column, fn }) => (column === undefined ? fn : `${column}.${fn}`)), ...(group.chart ? [group.chart] : [])].join(':'));
  const query = args.toString();
  return query && `?${query}`;
};

/** Whether two places show the same rows in the same order, whatever the page. @param {Place} a @param {Place} b */
export const sameQuery = (a, b) => format({ ...a, page: 1 }) === format({ ...b, page: 1 });

/** The cell of a fragment, `#r120c4`: row and column counted from 1, as they are shown. @param {string} fragment @returns {import('./types').Cursor | null} */
export const parseCell = (fragment) => {
  const [, row, column] = /^#r(\d{1,15})c(\d{1,9})$/.exec(fragment) ?? [];
  if (!Number(row) || !Number(column)) return null;
  return { row: Number(row) - 1, column: Number(column) - 1, to_row: Number(row) - 1, to_column: Number(column) - 1 };
};

/** @param {{ row: number, column: number }} cell */
export const formatCell = ({ row, column }) => `#r${row + 1}c${column + 1}`;
