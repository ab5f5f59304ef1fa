// Converts between the position in a table, in pixels of all its rows, and the scroll position of an element, whose height
// browsers limit (Firefox: 17.9 million pixels, Chrome: 33.5 million). 100 million rows are taller.
//
// Up to the limit both are equal. Above it, one pixel of the scroll bar is one pixel of rows at both ends, so that the first and the
// last rows are reached pixel by pixel; between the ends the position is scaled.

/** The tallest content, in pixels. */
export const TALLEST = 12_000_000;
/** The parts at both ends that are not scaled, in pixels. */
const END = 2_000_000;

/** The height of the scrolled content. @param {number} full height of all rows */
export const contentHeight = (full) => Math.min(full, TALLEST);

/**
 * The position for a scroll position.
 * @param {number} scroll @param {number} full height of all rows @param {number} seen height of the visible part
 */
export const toPosition = (scroll, full, seen) => {
  if (full <= TALLEST) return scroll;
  const most = TALLEST - seen;
  if (scroll <= END) return scroll;
  if (scroll >= most - END) return full - seen - (most - scroll);
  return END + ((scroll - END) / (most - 2 * END)) * (full - seen - 2 * END);
};

/** The inverse of {@link toPosition}. @param {number} position @param {number} full @param {number} seen */
export const toScroll = (position, full, seen) => {
  if (full <= TALLEST) return position;
  const most = TALLEST - seen;
  if (position <= END) return position;
  if (position >= full - seen - END) return most - (full - seen - position);
  return END + ((position - END) / (full - seen - 2 * END)) * (most - 2 * END);
};

/**
 * The position after the element was scrolled. In the scaled part a wheel, a finger or a key moves by as many pixels of rows as
 * it scrolls; only a larger step (the scroll bar) is scaled.
 * @param {number} position before @param {number} was scroll position before @param {number} scroll scroll position now
 * @param {number} full @param {number} seen
 */
export const afterScroll = (position, was, scroll, full, seen) => {
  const step = scroll - was;
  const isScaled = full > TALLEST && Math.abs(step) < 3 * seen;
  return Math.max(0, Math.min(isScaled ? position + step : toPosition(scroll, full, seen), full - seen));
};
