//! The distribution of numbers, in one pass and without knowing their range.
//!
//! Invariant: the bins depend only on the set of numbers, not on their order: their width is the smallest power of two
//! that keeps them within [`FINE`] bins.

/// The most bins while numbers are added.
const FINE: i64 = 1_024;

/// The most bins of the result.
const COARSE: usize = 24;

/// The bits of a double's fraction (IEEE 754): a bin index of more bits would not be exact.
const FRACTION: i32 = 52;

/// The bias of a double's exponent.
const BIAS: i32 = 1_023;

/// The exponent of the narrowest bin: numbers range from 10^-200 to 10^200.
const NARROWEST: i32 = -720;

/// The count of numbers in a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The inclusive lower bound.
    pub from: f64,
    /// The exclusive upper bound.
    pub to: f64,
    /// The count.
    pub count: u64,
}

/// Numbers in bins of equal width, a power of two. Each bin starts at a multiple of the width.
#[derive(Default)]
pub(super) struct Histogram {
    /// The exponent of the width.
    power: i32,
    /// The index of the first bin, in widths from 0.
    first: i64,
    counts: Vec<u64>,
}

impl Histogram {
    pub(super) fn add(&mut self, value: f64) {
        if value.is_finite() {
            // The narrowest bin with exact bounds.
            let power = (exponent(value) - FRACTION).max(NARROWEST);
            self.add_at(floor(value * width(-power)), power, 1);
        }
    }

    /// Adds the numbers of another histogram.
    pub(super) fn merge(&mut self, other: &Self) {
        for (place, count) in (other.first..).zip(&other.counts) {
            if *count > 0 {
                self.add_at(place, other.power, *count);
            }
        }
    }

    /// Adds numbers to the bin with this index among bins of the width 2^`power`.
    fn add_at(&mut self, place: i64, power: i32, times: u64) {
        if self.counts.is_empty() {
            (self.power, self.first, self.counts) = (power, place, vec![times]);
            return;
        }
        self.widen(power - self.power);
        let mut place = place >> (self.power - power).min(63);
        let last = self.first + self.counts.len() as i64 - 1;
        let mut shift = 0;
        while (last.max(place) >> shift) - (self.first.min(place) >> shift) >= FINE {
            shift += 1;
        }
        self.widen(shift);
        place >>= shift;
        if place < self.first {
            let missing = (self.first - place) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = place;
        }
        let at = (place - self.first) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += times;
    }

    /// Makes bins `2^shift` times as wide; no effect if the factor is at most 1.
    fn widen(&mut self, shift: i32) {
        if shift <= 0 {
            return;
        }
        // Shifting out all bits yields 0 or -1 in any case.
        let by = shift.min(63);
        let first = self.first >> by;
        let mut place = 0;
        for i in 0..self.counts.len() {
            place = (((self.first + i as i64) >> by) - first) as usize;
            // No later than its old place.
            let count = std::mem::take(&mut self.counts[i]);
            self.counts[place] += count;
        }
        self.counts.truncate(place + 1);
        (self.power, self.first) = (self.power + shift, first);
    }

    /// The numbers in few bins of equal width.
    pub(super) fn bins(&self) -> Vec<Bin> {
        let (group, width) = (self.counts.len().div_ceil(COARSE).max(1), width(self.power));
        let edge = |bin: usize| (self.first + (bin * group) as i64) as f64 * width;
        let groups = self.counts.chunks(group).enumerate();
        groups.map(|(i, bins)| Bin { from: edge(i), to: edge(i + 1), count: bins.iter().sum() }).collect()
    }
}

/// 2 to this power, within the range of a double's exponent.
fn width(power: i32) -> f64 {
    f64::from_bits(((power + BIAS) as u64) << FRACTION)
}

/// The largest whole number up to a value of up to 53 bits: faster than the function of the C library.
const fn floor(value: f64) -> i64 {
    let whole = value as i64;
    if (whole as f64) > value { whole - 1 } else { whole }
}

/// The exponent of a number's most significant bit.
fn exponent(value: f64) -> i32 {
    (value.to_bits() >> FRACTION & 0x7FF) as i32 - BIAS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.add(*value));
        histogram
    }

    #[test]
    fn whole_numbers_of_a_small_range_are_counted_one_by_one() {
        let bins = histogram(&[3.0, 1.0, 2.0, 2.0, 10.0]).bins();
        assert!(bins.len() <= COARSE);
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 5);
        assert_eq!((bins[0].from, bins[0].count), (1.0, 1));
    }

    fn numbers() -> impl Strategy<Value = Vec<f64>> {
        let number = prop_oneof![
            (-1000..1000_i32).prop_map(f64::from),
            -1e6..1e6_f64,
            (-1.0..1.0_f64, -190..190_i32).prop_map(|(value, power)| value * 10_f64.powi(power)),
            Just(0.0),
        ];
        prop::collection::vec(number, 1..40)
    }

    proptest! {
        #[test]
        fn every_number_lies_in_its_bin_and_bins_do_not_depend_on_the_order(
            values in numbers(),
            cut in 0..40_usize,
        ) {
            let bins = histogram(&values).bins();
            prop_assert!(bins.len() <= COARSE);
            for bin in &bins {
                let within = values.iter().filter(|value| (bin.from..bin.to).contains(value)).count();
                prop_assert_eq!(bin.count, within as u64);
            }
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            prop_assert_eq!(&bins, &histogram(&sorted).bins());
            let (first, rest) = values.split_at(cut.min(values.len()));
            let mut merged = histogram(first);
            merged.merge(&histogram(rest));
            prop_assert_eq!(&bins, &merged.bins());
        }
    }
}
