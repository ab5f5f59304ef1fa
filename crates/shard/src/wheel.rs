//! A timer wheel: finds timers that are due without visiting others.
//!
//! Time is in milliseconds since the start of the shard. A timer expires at its time or up to one tick later, never
//! earlier; one that may be late, up to [`SLACK`] ticks later. Timers are not cancelled: their subject is checked when they
//! expire. A time beyond [`LONGEST`] is shortened to it.

/// Length of a tick in milliseconds.
const TICK: u64 = 32;
/// Number of buckets; one turn takes 16 s, and longer timers stay for several turns.
const BUCKETS: usize = 512;
/// Timers that may be late expire at multiples of this number of ticks (half a second), so that the timers of many idle
/// connections cause two wake-ups a second instead of thirty.
const SLACK: u64 = 16;
/// The longest time in milliseconds, about a year. Ticks are compared modulo 2³².
const LONGEST: u64 = (1 << 30) * TICK;

#[derive(Debug)]
struct Timer<T> {
    /// The tick modulo 2³².
    due_tick: u32,
    value: T,
}

impl<T> Timer<T> {
    fn is_due(&self, tick: u64) -> bool {
        // The difference modulo 2³² is below 2³¹ for a tick that is not after this one.
        (tick as u32).wrapping_sub(self.due_tick) < 1 << 31
    }
}

/// Timers of any duration, each with a value.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    buckets: Vec<Vec<Timer<T>>>,
    /// The first tick that is not processed.
    tick: u64,
    len: usize,
}

impl<T> Wheel<T> {
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), tick: 0, len: 0 }
    }

    pub(crate) fn start(&mut self, now: u64, after: u64, value: T) {
        self.add((now + after.min(LONGEST)).div_ceil(TICK), value);
    }

    /// Starts a timer that may be late.
    pub(crate) fn start_with_slack(&mut self, now: u64, after: u64, value: T) {
        self.add((now + after.min(LONGEST)).div_ceil(TICK).next_multiple_of(SLACK), value);
    }

    fn add(&mut self, due_tick: u64, value: T) {
        let tick = due_tick.max(self.tick);
        self.buckets[bucket(tick)].push(Timer { due_tick: tick as u32, value });
        self.len += 1;
    }

    /// Milliseconds until a timer may be due; `None` without timers.
    pub(crate) fn wait(&self, now: u64) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        // At most one turn ahead: a timer of a later turn causes one extra wake-up per turn.
        let ahead = (0..BUCKETS as u64).find(|i| !self.buckets[bucket(self.tick + i)].is_empty())?;
        Some(((self.tick + ahead) * TICK).saturating_sub(now))
    }

    /// Moves the values of timers that are due by `now` to `out`.
    pub(crate) fn expire(&mut self, now: u64, out: &mut Vec<T>) {
        let current = now / TICK;
        if current < self.tick {
            return;
        }
        if self.len == 0 {
            self.tick = current + 1;
            return;
        }
        let turns = (current - self.tick + 1).min(BUCKETS as u64);
        for i in 0..turns {
            let list = &mut self.buckets[bucket(self.tick + i)];
            let mut j = 0;
            while j < list.len() {
                if list[j].is_due(current) {
                    out.push(list.swap_remove(j).value);
                    self.len -= 1;
                } else {
                    j += 1;
                }
            }
            if list.is_empty() {
                *list = Vec::new();
            }
        }
        self.tick = current + 1;
    }
}

fn bucket(tick: u64) -> usize {
    (tick % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.expire(now, &mut out);
        out.sort_unstable();
        out
    }

    #[test]
    fn a_timer_fires_once_never_early_and_at_most_a_tick_late() {
        for after in [0, 1, 31, 32, 33, 250, 5_000, 16_384, 25_000, 100_000] {
            let mut wheel = Wheel::new();
            wheel.start(7, after, 1);
            let mut fired = None;
            for now in 7..(after + 200) {
                if !expired(&mut wheel, now).is_empty() {
                    assert_eq!(fired, None, "{after} fired twice");
                    fired = Some(now);
                }
            }
            let fired = fired.expect("fires");
            assert!(fired >= 7 + after && fired <= 7 + after + TICK, "{after}: {fired}");
        }
    }

    #[test]
    fn a_timer_that_may_be_late_fires_once_never_early_and_with_others_of_its_half_second() {
        let mut wheel = Wheel::new();
        for number in 0..15 {
            wheel.start_with_slack(u64::from(number) * 30, 10_000, number);
        }
        let mut fired = Vec::new();
        for now in 0..11_000 {
            let expired = expired(&mut wheel, now);
            assert!(
                expired.iter().all(|number| now >= u64::from(*number) * 30 + 10_000),
                "{expired:?} at {now}"
            );
            if !expired.is_empty() {
                fired.push((now, expired.len()));
            }
        }
        assert_eq!(fired, [(10_240, 9), (10_752, 6)]);
    }

    #[test]
    fn a_timer_fires_after_more_than_2_to_the_32_ticks_and_one_of_many_years_after_one_year() {
        let mut wheel = Wheel::new();
        let now = (TICK << 32) + 5;
        assert!(expired(&mut wheel, now).is_empty());
        wheel.start(now, 1_000, 1);
        wheel.start(now, u64::MAX, 2);
        assert!(expired(&mut wheel, now + 900).is_empty());
        assert_eq!(expired(&mut wheel, now + 1_100), [1]);
        assert!(expired(&mut wheel, now + LONGEST - 100).is_empty());
        assert_eq!(expired(&mut wheel, now + LONGEST + TICK), [2]);
    }

    #[test]
    fn a_wait_ends_when_a_timer_is_due() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.wait(0), None);
        wheel.start(1_000, 25_000, 9);
        let mut now = 1_000;
        let mut wakeups = 0;
        while let Some(wait) = wheel.wait(now) {
            now += wait;
            wakeups += 1;
            if expired(&mut wheel, now) == [9] {
                break;
            }
            assert!(wakeups < 10, "spins at {now}");
        }
        assert!((26_000..26_000 + 2 * TICK).contains(&now), "{now}");
    }

    #[test]
    fn no_timer_is_lost_after_a_long_pause() {
        let mut wheel = Wheel::new();
        for i in 0..1000 {
            wheel.start(0, u64::from(i) * 50, i);
        }
        assert_eq!(expired(&mut wheel, 1_000_000).len(), 1000);
    }
}
