//! Exact sums of decimal numbers.

use std::collections::BTreeMap;

use tidings_table::Number;

/// The base of the places of a [`WideSum`], as a power of ten.
const PLACE: i32 = 9;
/// Digits below this power of ten are dropped: no file contains them but to waste memory.
const LEAST_POWER: i32 = -225;
/// The longest sum that is written with all its digits.
const MAX_TEXT: usize = 40;

/// A sum. It is the same in every order of the additions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    /// A whole number times a power of ten.
    mantissa: i128,
    power: i32,
    /// The part that does not fit in 128 bits.
    wide: Option<Box<WideSum>>,
}

/// A sum of any precision: whole numbers times 10^(9 × place).
#[derive(Clone, Debug, Default)]
struct WideSum(BTreeMap<i32, i128>);

impl Sum {
    pub(crate) fn add(&mut self, number: &Number<'_>) {
        match number.mantissa() {
            Some((mantissa, power)) => self.add_mantissa(mantissa, power),
            None => {
                let wide = self.wide.get_or_insert_default();
                wide.add_digits(number.is_negative(), number.digits(), number.last_power());
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.add_mantissa(other.mantissa, other.power);
        if let Some(wide) = &other.wide {
            self.wide.get_or_insert_default().merge(wide);
        }
    }

    fn add_mantissa(&mut self, mantissa: i128, power: i32) {
        if mantissa == 0 {
            return;
        }
        if self.mantissa == 0 {
            (self.mantissa, self.power) = (mantissa, power);
            return;
        }
        let common = self.power.min(power);
        let scaled = |mantissa: i128, power: i32| {
            mantissa.checked_mul(10_i128.checked_pow((power - common).unsigned_abs())?)
        };
        let sum = scaled(self.mantissa, self.power)
            .zip(scaled(mantissa, power))
            .and_then(|(a, b)| a.checked_add(b));
        if let Some(sum) = sum {
            (self.mantissa, self.power) = (sum, common);
            return;
        }
        let wide = self.wide.get_or_insert_default();
        wide.add(self.mantissa, self.power);
        wide.add(mantissa, power);
        (self.mantissa, self.power) = (0, 0);
    }

    /// The sum with all its digits, or with 17 of them if there are more than 40.
    pub(crate) fn text(&self) -> String {
        let text = match &self.wide {
            None => decimal(self.mantissa < 0, &self.mantissa.unsigned_abs().to_string(), self.power),
            Some(wide) => {
                let mut all = wide.clone();
                all.add(self.mantissa, self.power);
                all.text()
            }
        };
        if text.len() <= MAX_TEXT { text } else { number_text(text.parse().unwrap_or(f64::NAN)) }
    }

    /// The nearest double.
    pub(crate) fn value(&self) -> f64 {
        self.text().parse().unwrap_or(f64::NAN)
    }

    /// The bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.wide.as_ref().map_or(0, |wide| 64 + wide.0.len() * 48)
    }
}

impl WideSum {
    fn add(&mut self, mantissa: i128, power: i32) {
        let digits = mantissa.unsigned_abs().to_string();
        self.add_digits(mantissa < 0, digits.bytes().map(|digit| digit - b'0'), power);
    }

    fn add_digits(&mut self, negative: bool, digits: impl Iterator<Item = u8>, last_power: i32) {
        let digits: Vec<u8> = digits.collect();
        for (digit, back) in digits.iter().rev().zip(0..) {
            let power = last_power.saturating_add(back);
            if *digit == 0 || power < LEAST_POWER {
                continue;
            }
            let value = i128::from(*digit) * 10_i128.pow(power.rem_euclid(PLACE).unsigned_abs());
            *self.0.entry(power.div_euclid(PLACE)).or_default() += if negative { -value } else { value };
        }
    }

    fn merge(&mut self, other: &Self) {
        for (place, value) in &other.0 {
            *self.0.entry(*place).or_default() += value;
        }
    }

    fn text(&self) -> String {
        let base = 10_i128.pow(PLACE.unsigned_abs());
        // The places from the lowest one, of the sum or of its opposite; `None` if that is negative.
        let places = |sign: i128| {
            let (mut places, mut carry) = (Vec::new(), 0);
            let (Some((first, _)), Some((last, _))) = (self.0.first_key_value(), self.0.last_key_value())
            else {
                return Some(places);
            };
            let mut place = *first;
            while place <= *last || carry != 0 && carry != -1 {
                let value = sign * self.0.get(&place).copied().unwrap_or(0) + carry;
                places.push(value.rem_euclid(base));
                carry = value.div_euclid(base);
                place += 1;
            }
            (carry == 0).then_some(places)
        };
        let (negative, places) =
            places(1).map_or_else(|| (true, places(-1).unwrap_or_default()), |places| (false, places));
        let digits: String = places.iter().rev().map(|place| format!("{place:09}")).collect();
        let lowest = self.0.first_key_value().map_or(0, |(first, _)| *first);
        decimal(negative, &digits, lowest * PLACE)
    }
}

/// A number with these digits, the last of which has this power of ten.
fn decimal(negative: bool, digits: &str, last_power: i32) -> String {
    let mut text = digits.trim_start_matches('0').to_owned();
    if text.is_empty() {
        return "0".to_owned();
    }
    if last_power >= 0 {
        text.extend(std::iter::repeat_n('0', last_power.unsigned_abs() as usize));
    } else {
        let places = last_power.unsigned_abs() as usize;
        if text.len() <= places {
            text.insert_str(0, &"0".repeat(places + 1 - text.len()));
        }
        text.insert(text.len() - places, '.');
        let length = text.trim_end_matches('0').trim_end_matches('.').len();
        text.truncate(length);
    }
    if negative {
        text.insert(0, '-');
    }
    text
}

/// A double with the fewest digits that identify it.
pub(crate) fn number_text(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e21).contains(&value.abs()) { format!("{value}") } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use tidings_table::CellFormat;

    use super::*;

    fn sum<'a>(numbers: impl IntoIterator<Item = &'a str>) -> Sum {
        let mut sum = Sum::default();
        for number in numbers {
            sum.add(&CellFormat::NUMBER.number(number.as_bytes()).expect(number));
        }
        sum
    }

    #[test]
    fn sums_are_exact() {
        for (numbers, expected) in [
            (&["0.1", "0.2"][..], "0.3"),
            (&["1,000.50", "-0.50"], "1000"),
            (&["1e3", "5 %", "(2)"], "1003"),
            (&["-1.5", "1.5"], "0"),
            (&["0.001", "100"], "100.001"),
            (&["1e30", "1e-5"], "1000000000000000000000000000000.00001"),
            (&["99999999999999999999", "1", "-99999999999999999999"], "1"),
            (&["170141183460469231731687303715884105727", "1"], "170141183460469231731687303715884105728"),
            (&["-170141183460469231731687303715884105727", "-2"], "-170141183460469231731687303715884105729"),
            (&["1e30", "1e-30", "-1e30"], "0.000000000000000000000000000001"),
            (&["1e100", "1"], "1e100"),
            (&[], "0"),
        ] {
            assert_eq!(sum(numbers.iter().copied()).text(), expected, "{numbers:?}");
        }
    }

    #[test]
    fn the_order_of_additions_and_merges_does_not_matter() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut numbers: Vec<String> = (0..40)
                .map(|_| match random.u8(..4) {
                    0 => format!("{}e{}", random.i64(..), random.i32(-60..60)),
                    1 => format!("{}.{}", random.i32(-999..999), random.u32(..)),
                    2 => format!("{}{}", random.u64(..), random.u64(..)),
                    _ => random.i32(-9..9).to_string(),
                })
                .collect();
            let expected = sum(numbers.iter().map(String::as_str)).text();
            random.shuffle(&mut numbers);
            let (first, second) = numbers.split_at(random.usize(..40));
            let mut merged = sum(first.iter().map(String::as_str));
            merged.merge(&sum(second.iter().map(String::as_str)));
            assert_eq!(merged.text(), expected, "seed {seed}");
        }
    }

    #[test]
    fn digits_that_no_sum_needs_take_no_memory() {
        let long = format!("1.{}1", "0".repeat(10_000));
        let sum = sum([&*long, "5"]);
        assert_eq!(sum.text(), "6");
        assert!(sum.bytes() < 4_096, "{}", sum.bytes());
    }

    #[test]
    fn doubles_are_written_with_the_fewest_digits() {
        for (value, text) in [
            (0.1, "0.1"),
            (-2.0, "-2"),
            (1e21, "1e21"),
            (1.5e-7, "1.5e-7"),
            (10.0 / 3.0, "3.3333333333333335"),
        ] {
            assert_eq!(number_text(value), text);
        }
    }
}
