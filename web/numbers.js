// Statistics of selected cells. Cells are read as the server reads numbers: with currencies, percent signs, thousands separators
// of the column's convention, and negative numbers in brackets.

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** The value of a cell; undefined for text. @param {string} text @param {string | null} [mark] the decimal mark of the column: `.` or `,` */
export const parseNumber = (text, mark = '.') => {
  let word = text.trim().replace(/\u2212/g, '-');
  const isNegative = /^\(.*\)$/.test(word);
  if (isNegative) word = word.slice(1, -1).trim();
  word = word.replace(/^([+-]?)\s*(?:\p{Sc}|[A-Z]{3}(?=[\s\d]))\s*/u, '$1').replace(/\s*(?:\p{Sc}|[A-Z]{3}|%)$/u, '');
  const group = mark === ',' ? '.' : ',';
  if (/[\d][\s\u00a0\u202f'’.,]\d/.test(word)) word = word.replace(/(?<=\d)[\s\u00a0\u202f'’](?=\d{3})/g, '').replace(new RegExp(`(?<=\\d)\\${group}(?=\\d{3})`, 'g'), '');
  if (mark === ',') word = word.replace(',', '.');
  if (!NUMBER.test(word)) return undefined;
  return isNegative ? -Number(word) : Number(word);
};

export class Statistics {
  cells = 0;
  numbers = 0;
  sum = 0;
  min = Infinity;
  max = -Infinity;

  /** @param {string} text @param {string | null} [mark] */
  add(text, mark) {
    if (!text) return;
    this.cells++;
    const value = parseNumber(text, mark ?? '.');
    if (value === undefined) return;
    this.numbers++;
    this.sum += value;
    this.min = Math.min(this.min, value);
    this.max = Math.max(this.max, value);
  }

  get text() {
    const round = (/** @type {number} */ n) => n.toLocaleString('en', { maximumSignificantDigits: 12 });
    const { cells, numbers, sum, min, max } = this;
    const counted = `Count ${round(cells)}`;
    if (!numbers) return counted;
    const some = numbers < cells ? ` · Numbers ${round(numbers)}` : '';
    return `${counted}${some} · Sum ${round(sum)} · Mean ${round(sum / numbers)} · Min ${round(min)} · Max ${round(max)}`;
  }
}
