//! Undo and redo of changes of the shared view.
//!
//! Invariants:
//! - The history belongs to the rows of one file in one dialect, and is cleared with them.
//! - It has at most [`MAX_CHANGES`] changes and [`MAX_BYTES`]; the oldest are removed first.
//! - Each node has its own history, with the changes that other nodes made.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidings_table_store::ViewSettings;

/// The most changes that can be undone.
pub(super) const MAX_CHANGES: usize = 50;
/// The most bytes of their settings, as JSON.
const MAX_BYTES: usize = 1 << 20;
/// The time within which page turns are one change.
const TURN_TIME: Duration = Duration::from_secs(1);

/// The former settings of a view.
#[derive(Debug, Default)]
pub(super) struct History {
    undo: VecDeque<Change>,
    redo: Vec<Change>,
    bytes: usize,
    /// The time of the last change, if it only turned the page.
    turned: Option<Instant>,
}

#[derive(Debug)]
struct Change {
    settings: ViewSettings,
    bytes: usize,
}

impl Change {
    fn new(settings: ViewSettings) -> Self {
        let bytes = serde_json::to_vec(&settings).map_or(0, |json| json.len());
        Self { settings, bytes }
    }
}

impl History {
    /// Records a change of the settings.
    pub(super) fn record(&mut self, before: &ViewSettings, after: &ViewSettings, now: Instant) {
        if before == after {
            return;
        }
        self.bytes -= self.redo.drain(..).map(|change| change.bytes).sum::<usize>();
        let is_turn = *after == ViewSettings { page: after.page, ..before.clone() };
        let joins = is_turn && self.turned.is_some_and(|last| now - last < TURN_TIME);
        self.turned = is_turn.then_some(now);
        if !joins {
            self.push_undo(before.clone());
        }
    }

    /// The settings before the last change. `current` can then be restored by [`Self::redo`].
    pub(super) fn undo(&mut self, current: &ViewSettings) -> Option<ViewSettings> {
        self.turned = None;
        // A change that failed has left the settings as they were.
        while let Some(change) = self.undo.pop_back() {
            self.bytes -= change.bytes;
            if change.settings != *current {
                let undone = Change::new(current.clone());
                self.bytes += undone.bytes;
                self.redo.push(undone);
                return Some(change.settings);
            }
        }
        None
    }

    /// The settings after the change that was undone last.
    pub(super) fn redo(&mut self, current: &ViewSettings) -> Option<ViewSettings> {
        self.turned = None;
        while let Some(change) = self.redo.pop() {
            self.bytes -= change.bytes;
            if change.settings != *current {
                self.push_undo(current.clone());
                return Some(change.settings);
            }
        }
        None
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The numbers of changes that can be undone and redone.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.undo.len(), self.redo.len())
    }

    fn push_undo(&mut self, settings: ViewSettings) {
        let change = Change::new(settings);
        self.bytes += change.bytes;
        self.undo.push_back(change);
        while self.undo.len() > MAX_CHANGES || self.bytes > MAX_BYTES && !self.undo.is_empty() {
            self.bytes -= self.undo.pop_front().map_or(0, |oldest| oldest.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &str) -> ViewSettings {
        ViewSettings { search: text.to_owned(), ..ViewSettings::default() }
    }

    /// Random changes, undos and redos against a list of all settings and a position in it.
    #[test]
    fn undo_and_redo_restore_the_settings_of_a_naive_list() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut history, mut now) = (History::default(), Instant::now());
            let (mut list, mut at) = (vec![ViewSettings::default()], 0);
            for step in 0..500 {
                now += Duration::from_secs(2);
                let current = list[at].clone();
                match random.u8(..10) {
                    0..4 => {
                        let page = random.u64(1..4);
                        let next = match random.bool() {
                            true => ViewSettings { page, ..current.clone() },
                            false => search(&format!("{step}")),
                        };
                        history.record(&current, &next, now);
                        if next != current {
                            list.truncate(at + 1);
                            list.push(next);
                            at += 1;
                        }
                        let oldest = list.len().saturating_sub(MAX_CHANGES + 1);
                        list.drain(..oldest);
                        at -= oldest;
                    }
                    4..8 => {
                        let expected = at.checked_sub(1);
                        assert_eq!(
                            history.undo(&current),
                            expected.map(|at| list[at].clone()),
                            "seed {seed}"
                        );
                        at = expected.unwrap_or(at);
                    }
                    _ => {
                        let expected = list.get(at + 1).cloned();
                        assert_eq!(history.redo(&current), expected, "seed {seed}");
                        at += usize::from(expected.is_some());
                    }
                }
                assert_eq!(history.len(), (at, list.len() - 1 - at), "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn page_turns_within_a_second_are_one_change() {
        let (mut history, mut now) = (History::default(), Instant::now());
        let page = |page| ViewSettings { page, ..ViewSettings::default() };
        for next in 2..6 {
            history.record(&page(next - 1), &page(next), now);
            now += Duration::from_millis(900);
        }
        now += Duration::from_millis(200);
        history.record(&page(5), &page(6), now);
        assert_eq!(history.undo(&page(6)), Some(page(5)));
        assert_eq!(history.undo(&page(5)), Some(page(1)));
        assert_eq!(history.undo(&page(1)), None);
        assert_eq!(history.redo(&page(1)), Some(page(5)));
    }

    #[test]
    fn the_history_is_bounded_in_bytes() {
        let mut history = History::default();
        let (mut now, mut before) = (Instant::now(), search(""));
        for number in 0..40 {
            let after = search(&format!("{number}{}", "x".repeat(100_000)));
            history.record(&before, &after, now);
            (now, before) = (now + Duration::from_secs(2), after);
        }
        assert!(history.bytes <= MAX_BYTES && (5..12).contains(&history.len().0), "{:?}", history.len());
        assert_eq!(history.undo(&before).map(|settings| settings.search.len()), Some(100_002));
        // A change that failed is skipped.
        let mut history = History::default();
        history.record(&search("a"), &search("b"), now);
        assert_eq!(history.undo(&search("a")), None);
    }
}
