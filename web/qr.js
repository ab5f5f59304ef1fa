// QR codes (ISO/IEC 18004) of short texts: byte mode, error correction level M, versions 1 to 15.

/** Codewords of error correction in each block, by version from 1 (table 9 of the standard, level M). */
const CHECK = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24];
/** How many blocks the data is split into. */
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10];

/** @param {number} a @param {number} b the product in GF(256) modulo x⁸+x⁴+x³+x²+1 */
const times = (a, b) => {
  let product = 0;
  for (let bit = 7; bit >= 0; bit--) product = (product << 1) ^ ((product >> 7) * 0x11d) ^ (((b >> bit) & 1) * a);
  return product;
};

/** The Reed-Solomon remainder of some codewords. @param {number[]} data @param {number} length */
const remainder = (data, length) => {
  let divisor = [1];
  for (let i = 0, power = 1; i < length; i++, power = times(power, 2)) {
    const longer = [...divisor, 0];
    divisor.forEach((value, at) => { longer[at + 1] = (longer[at + 1] ?? 0) ^ times(value, power); });
    divisor = longer;
  }
  const rest = new Array(length).fill(0);
  for (const value of data) {
    const factor = value ^ rest.shift();
    rest.push(0);
    divisor.slice(1).forEach((part, at) => { rest[at] ^= times(part, factor); });
  }
  return rest;
};

/** Positions of the alignment patterns of a version along one side. @param {number} version */
const alignment = (version) => {
  if (version === 1) return [];
  const gaps = Math.floor(version / 7) + 1;
  const last = version * 4 + 10;
  const step = Math.ceil((last - 6) / gaps / 2) * 2;
  return [6, ...Array.from({ length: gaps }, (_, i) => last - (gaps - 1 - i) * step)];
};

/** How many bits a version holds beside its fixed patterns. @param {number} version */
const capacity = (version) => {
  const side = version * 4 + 17;
  const marks = alignment(version).length;
  const fixed = 3 * 64 + 2 * 15 + 1 + 2 * (side - 16) + (version > 6 ? 36 : 0);
  // Two alignment patterns on each side lie in the timing pattern, five modules of each.
  const aligned = marks && (marks * marks - 3) * 25 - (marks - 2) * 10;
  return side * side - fixed - aligned;
};

/** Data and error correction, interleaved, as they are placed; null if the text is too long. @param {Uint8Array} text */
const codewords = (text) => {
  for (let version = 1; version <= CHECK.length; version++) {
    const check = CHECK[version - 1] ?? 0;
    const blocks = BLOCKS[version - 1] ?? 0;
    const all = capacity(version) >> 3;
    const room = all - check * blocks;
    const lengthBits = version < 10 ? 8 : 16;
    if (4 + lengthBits + text.length * 8 > room * 8) continue;
    let bits = `0100${text.length.toString(2).padStart(lengthBits, '0')}`;
    for (const byte of text) bits += byte.toString(2).padStart(8, '0');
    bits = (bits + '0000').slice(0, room * 8);
    const data = (bits.padEnd(Math.ceil(bits.length / 8) * 8, '0').match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2));
    for (let pad = 0xec; data.length < room; pad ^= 0xfd) data.push(pad);
    const short = Math.floor(room / blocks);
    const firstLong = blocks - (room % blocks);
    let at = 0;
    const parts = Array.from({ length: blocks }, (_, i) => data.slice(at, at += short + Number(i >= firstLong)));
    const checks = parts.map((part) => remainder(part, check));
    /** @param {number[][]} rows */
    const weave = (rows) => Array.from({ length: Math.max(...rows.map((row) => row.length)) })
      .flatMap((_, column) => rows.flatMap((row) => row[column] ?? []));
    return { version, words: [...weave(parts), ...weave(checks)] };
  }
  return null;
};

/** Which modules a mask inverts (table 10 of the standard). @type {((x: number, y: number) => boolean)[]} */
const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + (y >> 1)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/** The penalty of a code (§7.8.3): runs, blocks, patterns similar to a finder, and imbalance of colours.
 * @param {boolean[][]} code */
const penalty = (code) => {
  const rows = code.map((row) => row.map(Number).join(''));
  const columns = rows.map((_, x) => rows.map((row) => row[x]).join(''));
  let sum = 0;
  for (const line of [...rows, ...columns]) {
    for (const run of line.match(/0{5,}|1{5,}/g) ?? []) sum += run.length - 2;
    for (let at = 0; at + 11 <= line.length; at++) {
      if (/^(00001011101|10111010000)/.test(line.slice(at, at + 11))) sum += 40;
    }
  }
  for (let y = 1; y < rows.length; y++) {
    for (let x = 1; x < rows.length; x++) {
      const four = `${rows[y]?.slice(x - 1, x + 1)}${rows[y - 1]?.slice(x - 1, x + 1)}`;
      if (four === '0000' || four === '1111') sum += 3;
    }
  }
  const dark = rows.join('').replaceAll('0', '').length / rows.length ** 2;
  return sum + Math.floor(Math.abs(dark * 20 - 10)) * 10;
};

/**
 * The modules of a code, dark ones true, row by row, without the quiet zone of four modules around them.
 * @param {string} text
 * @returns {boolean[][] | null} null for more than 412 bytes
 */
export const encode = (text) => {
  const coded = codewords(new TextEncoder().encode(text));
  if (!coded) return null;
  const { version, words } = coded;
  const side = version * 4 + 17;
  /** @type {(boolean | undefined)[][]} */
  const fixed = Array.from({ length: side }, () => new Array(side).fill(undefined));
  /** @param {number} x @param {number} y @param {boolean} dark */
  const set = (x, y, dark) => {
    const row = fixed[y];
    if (row && x >= 0 && x < side) row[x] = dark;
  };
  /** Nested squares. @param {number} x @param {number} y @param {number} reach @param {number} light */
  const square = (x, y, reach, light) => {
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        const ring = Math.max(Math.abs(dx), Math.abs(dy));
        set(x + dx, y + dy, ring !== light && ring !== 4);
      }
    }
  };
  for (let i = 0; i < side; i++) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  for (const [x, y] of [[3, 3], [side - 4, 3], [3, side - 4]]) square(x ?? 0, y ?? 0, 4, 2);
  const marks = alignment(version);
  const last = marks.length - 1;
  marks.forEach((y, row) => marks.forEach((x, column) => {
    const atFinder = (row === 0 && column === 0) || (row === 0 && column === last) || (row === last && column === 0);
    if (!atFinder) square(x, y, 2, 1);
  }));
  /** Level M (00) and the mask, protected by a BCH code (§7.9). @param {number} mask */
  const format = (mask) => {
    let rest = mask;
    for (let i = 0; i < 10; i++) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
    const bits = ((mask << 10) | rest) ^ 0x5412;
    for (let i = 0; i < 15; i++) {
      const dark = ((bits >> i) & 1) === 1;
      if (i < 8) set(side - 1 - i, 8, dark);
      else set(8, side - 15 + i, dark);
      if (i < 6) set(8, i, dark);
      else if (i < 8) set(8, i + 1, dark);
      else set(i === 8 ? 7 : 14 - i, 8, dark);
    }
    set(8, side - 8, true);
  };
  format(0);
  if (version > 6) {
    let rest = version;
    for (let i = 0; i < 12; i++) rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
    const bits = (version << 12) | rest;
    for (let i = 0; i < 18; i++) {
      const dark = ((bits >> i) & 1) === 1;
      set(side - 11 + (i % 3), Math.floor(i / 3), dark);
      set(Math.floor(i / 3), side - 11 + (i % 3), dark);
    }
  }
  // Positions of data: up and down in pairs of columns from the right, around the fixed patterns.
  /** @type {{ x: number, y: number }[]} */
  const free = [];
  for (let right = side - 1, up = true; right > 0; right -= 2, up = !up) {
    if (right === 6) right--;
    for (let i = 0; i < side; i++) {
      const y = up ? side - 1 - i : i;
      for (const x of [right, right - 1]) if (fixed[y]?.[x] === undefined) free.push({ x, y });
    }
  }
  const codes = MASKS.map((inverts, mask) => {
    format(mask);
    const code = fixed.map((row) => row.map(Boolean));
    free.forEach(({ x, y }, bit) => {
      const dark = (((words[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1) === 1;
      const row = code[y];
      if (row) row[x] = dark !== inverts(x, y);
    });
    return code;
  });
  const marked = codes.map((code) => ({ code, bad: penalty(code) }));
  return marked.reduce((best, other) => (other.bad < best.bad ? other : best)).code;
};
