//! How numbers are spread, in one pass and without knowing their range beforehand.
//!
//! Invariant: the bins are those that the numbers have all together, whatever their order: as narrow a power of
//! two as keeps them within [`FINE`] bins.

/// How many bins there are while numbers come.
const FINE: i64 = 1_024;

/// How many bins there are at most in the end.
const COARSE: usize = 24;

/// The bits of a double's fraction (IEEE 754): a place that needs more would not be exact.
const FRACTION: i32 = 52;

/// What is added to a double's exponent in its bits.
const BIAS: i32 = 1_023;

/// The power of two of the narrowest bin: numbers go from 10^-200 to 10^200.
const NARROWEST: i32 = -720;

/// How many numbers lie between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The least number that lies in it.
    pub from: f64,
    /// The least number above it.
    pub to: f64,
    /// How many numbers lie in it.
    pub count: u64,
}

/// Numbers in bins of a width that is a power of two; each bin starts at a multiple of it.
#[derive(Default)]
pub(super) struct Histogram {
    /// The width is 2 to this power.
    power: i32,
    /// The first bin starts at so many widths.
    first: i64,
    counts: Vec<u64>,
}

impl Histogram {
    pub(super) fn add(&mut self, value: f64) {
        if value.is_finite() {
            // The narrowest bin whose bounds are still exact.
            let power = (exponent(value) - FRACTION).max(NARROWEST);
            self.add_at((value * width(-power)).floor() as i64, power, 1);
        }
    }

    /// Adds the numbers of another one.
    pub(super) fn merge(&mut self, other: &Self) {
        for (place, count) in (other.first..).zip(&other.counts) {
            if *count > 0 {
                self.add_at(place, other.power, *count);
            }
        }
    }

    /// Adds numbers that lie at `place` among bins of the width 2^`power`.
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

    /// Makes bins `2^shift` times as wide; leaves them if that is no more than once.
    fn widen(&mut self, shift: i32) {
        if shift <= 0 {
            return;
        }
        // What is shifted out of all its bits is 0 or -1 either way.
        let by = shift.min(63);
        let first = self.first >> by;
        let mut counts: Vec<u64> = Vec::new();
        for (i, count) in self.counts.iter().enumerate() {
            let place = (((self.first + i as i64) >> by) - first) as usize;
            if place >= counts.len() {
                counts.resize(place + 1, 0);
            }
            counts[place] += count;
        }
        (self.power, self.first, self.counts) = (self.power + shift, first, counts);
    }

    /// The numbers in few bins of one width.
    pub(super) fn bins(&self) -> Vec<Bin> {
        let (group, width) = (self.counts.len().div_ceil(COARSE).max(1), width(self.power));
        let edge = |bin: usize| (self.first + (bin * group) as i64) as f64 * width;
        let groups = self.counts.chunks(group).enumerate();
        groups.map(|(i, bins)| Bin { from: edge(i), to: edge(i + 1), count: bins.iter().sum() }).collect()
    }
}

/// 2 to this power, which is within what a double's exponent can say.
fn width(power: i32) -> f64 {
    f64::from_bits(((power + BIAS) as u64) << FRACTION)
}

/// The power of two that a number starts with.
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
