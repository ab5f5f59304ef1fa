// Line charts as SVG.

import { make } from '../dom.js';
import { short } from './parts.js';

const WIDTH = 320;
const HEIGHT = 84;
const NAMESPACE = 'http://www.w3.org/2000/svg';

/** @param {string} tag @param {Record<string, string | number>} attributes */
const svg = (tag, attributes) => {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
};

/** The smallest of 1, 2, 5 times a power of ten that is not below `value`. @param {number} value */
export const ceiling = (value) => {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= value * 0.999_999) ?? 10;
  return step * power;
};

/**
 * The points of a line: times map to x, values to y.
 * @param {[number, number][]} points
 * @param {number} from
 * @param {number} to
 * @param {number} top
 */
export const line = (points, from, to, top) => points.map(([at, value]) => {
  const x = ((at - from) / Math.max(1, to - from)) * WIDTH;
  const y = HEIGHT - (Math.min(value, top) / top) * (HEIGHT - 2) - 1;
  return `${x.toFixed(1)},${y.toFixed(1)}`;
}).join(' ');

/** A chart that is updated in place. */
export class Chart {
  /** @param {string} title @param {string} unit @param {(value: number) => string} [format] */
  constructor(title, unit, format = short) {
    this.title = title;
    this.format = format;
    this.value = make('strong', {}, '–');
    this.top = make('span', { class: 'axis quiet' });
    this.plot = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title });
    this.area = svg('polygon', { class: 'area' });
    this.path = svg('polyline', { class: 'path', 'vector-effect': 'non-scaling-stroke' });
    for (const y of [1, HEIGHT / 2, HEIGHT - 1]) this.plot.append(svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: y, y2: y, 'vector-effect': 'non-scaling-stroke' }));
    this.plot.append(this.area, this.path);
    this.element = make('figure', { class: 'chart' },
      make('figcaption', {}, make('span', {}, title), ' ', this.value, ' ', make('span', { class: 'quiet' }, unit)),
      this.top, this.plot);
  }

  /** @param {[number, number][]} points times in seconds with values @param {number} from @param {number} to */
  show(points, from, to) {
    const last = points.at(-1)?.[1] ?? 0;
    const top = ceiling(Math.max(0, ...points.map(([, value]) => value)));
    this.value.textContent = points.length ? this.format(last) : '–';
    this.top.textContent = this.format(top);
    this.plot.setAttribute('aria-label', `${this.title}: now ${this.format(last)}, at most ${this.format(Math.max(0, ...points.map(([, value]) => value)))} in the last ${Math.round((to - from) / 60)} minutes`);
    const path = line(points, from, to, top);
    this.path.setAttribute('points', path);
    const [first] = points;
    if (!first) return;
    const x = (/** @type {number} */ at) => (((at - from) / Math.max(1, to - from)) * WIDTH).toFixed(1);
    this.area.setAttribute('points', `${x(first[0])},${HEIGHT} ${path} ${x(points.at(-1)?.[0] ?? to)},${HEIGHT}`);
  }
}
