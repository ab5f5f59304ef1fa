//! The deadlines of a room.

use std::time::Instant;

/// The kinds of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Progress is sent.
    Progress,
    /// The page is computed again.
    Render,
    /// The viewers receive their new number.
    ViewerCount,
    /// The changes of the people are sent.
    People,
    /// Private views whose rows have changed are computed again.
    Private,
    /// The replaced file is removed.
    Previous,
    /// The table is announced to other nodes.
    Announce,
    /// Other nodes have had time to report that they receive a file for the table.
    RemoteFile,
    /// The record is written.
    Save,
    /// The table is marked as used in the store.
    Touch,
    /// The file is opened again.
    Reopen,
    /// The room ends because the table has no viewers.
    Idle,
}

impl Timer {
    /// In the order of execution when several are due.
    pub(super) const ALL: [Self; 12] = [
        Self::Progress,
        Self::Touch,
        Self::Render,
        Self::ViewerCount,
        Self::People,
        Self::Private,
        Self::Previous,
        Self::Announce,
        Self::RemoteFile,
        Self::Reopen,
        Self::Save,
        Self::Idle,
    ];
}

/// At most one deadline of each kind.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    /// The deadline, if there is one.
    pub(super) const fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// Replaces the deadline.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets the deadline unless there is one.
    pub(super) fn set_if_unset(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize].get_or_insert(at);
    }

    /// Sets the deadline unless there is an earlier one.
    pub(super) fn set_no_later(&mut self, timer: Timer, at: Instant) {
        let deadline = &mut self.0[timer as usize];
        *deadline = Some(deadline.map_or(at, |before| before.min(at)));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.get(timer).is_some_and(|at| now >= at)
    }

    /// The earliest deadline of the timers for which `is_enabled` is true.
    pub(super) fn next(&self, is_enabled: impl Fn(Timer) -> bool) -> Option<Instant> {
        Timer::ALL.into_iter().filter(|timer| is_enabled(*timer)).filter_map(|timer| self.get(timer)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_enabled_deadline_comes_next() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        assert_eq!(timers.next(|_| true), None);
        timers.set(Timer::Idle, at(3));
        timers.set_no_later(Timer::Render, at(2));
        timers.set_no_later(Timer::Render, at(5));
        timers.set_if_unset(Timer::Render, at(1));
        assert_eq!(timers.next(|_| true), Some(at(2)));
        assert_eq!(timers.next(|timer| timer != Timer::Render), Some(at(3)));
        assert!(timers.is_due(Timer::Render, at(2)) && !timers.is_due(Timer::Render, at(1)));
        timers.clear(Timer::Render);
        assert_eq!(timers.get(Timer::Render), None);
    }
}
