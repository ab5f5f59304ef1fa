// The rows of the table that the page has: those of the shared page, and tiles that it requests ahead of the scroll position.
//
// A tile has TALL rows of WIDE columns; from a server that answers with whole rows it has all columns. At most FLIGHTS requests
// are under way, so that fast scrolling requests the rows where it stops and skips those on the way.

/** @typedef {import('./types').Rows} Rows */

export const TALL = 64;
export const WIDE = 64;
const FLIGHTS = 3;
/** After this time a request without a response is sent again, in milliseconds. */
const LOST = 5000;
/** Most cells that are kept. */
const KEPT = 400_000;

/**
 * @typedef {object} Piece
 * @property {number} from
 * @property {number} left the first column
 * @property {number} right the column after the last one; Infinity: the rows are whole
 * @property {string[][]} data
 * @property {Map<string, number>} cut characters of cells that are cut, by row and column in `data`
 * @property {Map<number, number>} wide cells of rows that are cut, by row in `data`
 * @property {boolean} stale
 */

/** @param {Rows} rows @returns {Piece} */
const piece = ({ from, data, cut, wide, columns }) => ({
  from, data, left: columns?.from ?? 0, right: columns && columns.from + columns.count < columns.total ? columns.from + columns.count : Infinity,
  cut: new Map(cut?.map(([y, x, length]) => [`${y} ${x}`, length])), wide: new Map(wide), stale: false,
});

export class Tiles {
  /** By number of the tile's row and column; of whole rows the column is 0. @type {Map<string, Piece>} */
  #tiles = new Map();
  /** @type {Piece | null} */
  #page = null;
  /** Requests under way, and their time. @type {Map<string, number>} */
  #flights = new Map();
  #cells = 0;
  #whole = false;
  /** The lowest version of rows that are still right. */
  #since = 0;
  /** @type {number | undefined} */
  #timer;
  /** Called for each cell that has changed in place. @type {(row: number, column: number) => void} */
  onChange = () => {};

  /** @param {(request: { from: number, count: number, columns: { from: number, count: number } }) => boolean} send @param {() => void} again called when a lost request may be repeated */
  constructor(send, again) {
    this.send = send;
    this.again = again;
  }

  /** Forgets all rows. @param {number} version of the first rows that are right */
  reset(version) {
    this.#tiles.clear();
    this.#flights.clear();
    this.#page = null;
    this.#cells = 0;
    this.#since = version;
  }

  /** Marks all rows as changed: they are shown until the new ones are received. @param {number} version of the first rows that are right */
  outdate(version) {
    for (const tile of this.#tiles.values()) tile.stale = true;
    this.#flights.clear();
    this.#since = version;
  }

  /** Sets the rows of the page that came with the view. @param {Rows} rows */
  setPage(rows) {
    this.#page = piece(rows);
  }

  /** Adds requested rows; false if they are outdated. @param {Rows} rows */
  add(rows) {
    this.#whole ||= !rows.columns;
    const key = this.#key(rows.from, rows.columns?.from ?? 0);
    this.#flights.delete(key);
    if ((rows.version ?? 0) < this.#since || rows.from % TALL) return false;
    const old = this.#tiles.get(key);
    this.#drop(key);
    const added = piece(rows);
    if (old?.stale) added.data.forEach((line, y) => {
      const was = old.data[y] ?? [];
      const changed = [...was.keys()].filter((x) => was[x] !== line[x]);
      // Of a row that has moved, most cells differ.
      if (2 * changed.length <= line.length) for (const x of changed) this.onChange(rows.from + y, added.left + x);
    });
    this.#tiles.set(key, added);
    this.#cells += added.data.length * (added.data[0]?.length ?? 0);
    for (const [oldest] of this.#tiles) {
      if (this.#cells <= KEPT || oldest === key) break;
      this.#drop(oldest);
    }
    return true;
  }

  /** Changes a cell, where it is here. @param {number} row @param {number} column @param {string} value */
  change(row, column, value) {
    for (const part of [this.#page, this.#tile(row, column)]) {
      const line = part?.data[row - part.from];
      if (part && line && column >= part.left && column < part.right) line[column - part.left] = value;
    }
    this.onChange(row, column);
  }

  /** The text of a cell; null if the row has no such cell, undefined if it is not here yet. @param {number} row @param {number} column */
  cell(row, column) {
    const found = this.#find(row, column);
    if (!found) return undefined;
    return found.data[row - found.from]?.[column - found.left] ?? null;
  }

  /** How many characters a cell has that is cut; otherwise undefined. @param {number} row @param {number} column */
  characters(row, column) {
    const found = this.#find(row, column);
    if (!found?.cut.size) return undefined;
    return found.cut.get(`${row - found.from} ${column - found.left}`);
  }

  /** How many cells a row has of which not all can be shown; otherwise undefined. @param {number} row */
  cellsOf(row) {
    return this.#whole ? this.#find(row, 0)?.wide.get(row - (this.#find(row, 0)?.from ?? 0)) : undefined;
  }

  /**
   * Requests the tiles with these cells that are not here.
   * @param {[number, number]} rows the first, and the one after the last @param {number[]} columns @param {number} total of all rows
   * @returns {boolean} whether all of the cells are here
   */
  need([top, bottom], columns, total) {
    let isComplete = true;
    /** The last column that is needed of each tile. @type {Map<number, number>} */
    const last = new Map();
    for (const column of columns) {
      const tile = this.#whole ? 0 : Math.floor(column / WIDE);
      last.set(tile, Math.max(column, last.get(tile) ?? 0));
    }
    const end = Math.min(bottom, total);
    for (let row = Math.floor(Math.max(0, top) / TALL) * TALL; row < end; row += TALL) {
      for (const [number, column] of last) {
        if (this.#onPage(Math.max(row, top), Math.min(row + TALL, end) - 1, column)) continue;
        const key = `${row / TALL} ${number}`;
        const tile = this.#tiles.get(key);
        if (tile && !tile.stale && tile.data.length >= Math.min(TALL, total - row)) continue;
        isComplete = false;
        this.#request(key, row, number * WIDE);
      }
    }
    return isComplete;
  }

  /** @param {string} key @param {number} from @param {number} column */
  #request(key, from, column) {
    const now = Date.now();
    for (const [flight, at] of this.#flights) if (now - at > LOST) this.#flights.delete(flight);
    if (this.#flights.has(key) || this.#flights.size >= FLIGHTS) return;
    if (!this.send({ from, count: TALL, columns: { from: column, count: WIDE } })) return;
    this.#flights.set(key, now);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.again, LOST + 100);
  }

  /** @param {number} from @param {number} column */
  #key(from, column) {
    return `${Math.floor(from / TALL)} ${this.#whole ? 0 : Math.floor(column / WIDE)}`;
  }

  /** @param {string} key */
  #drop(key) {
    const tile = this.#tiles.get(key);
    if (!tile) return;
    this.#tiles.delete(key);
    this.#cells -= tile.data.length * (tile.data[0]?.length ?? 0);
  }

  /** @param {number} row @param {number} column */
  #tile(row, column) {
    return this.#tiles.get(this.#key(row, column));
  }

  /** Whether the page has these cells. @param {number} top @param {number} last @param {number} column the last one */
  #onPage(top, last, column) {
    const page = this.#page;
    if (!page || top < page.from || last >= page.from + page.data.length) return false;
    if (column < page.right && !page.wide.size) return true;
    for (let row = top; row <= last; row++) if (!this.#pageHas(page, row, column)) return false;
    return true;
  }

  /** @param {Piece} page @param {number} row @param {number} column */
  #pageHas({ from, data, right, wide }, row, column) {
    const line = data[row - from];
    return !!line && (column < line.length || (column < right && !wide.has(row - from)));
  }

  /** @param {number} row @param {number} column */
  #find(row, column) {
    if (this.#page && this.#pageHas(this.#page, row, column)) return this.#page;
    const tile = this.#tile(row, column);
    return tile && row - tile.from < tile.data.length && column >= tile.left && column < tile.right ? tile : undefined;
  }
}
