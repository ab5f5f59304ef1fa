//! The state of all channels of the deployment, and the changes between two observations.
//!
//! One node observes (see [`crate::election`]); the others apply its changes, so that each of them can continue.
//!
//! Invariants:
//! - The changes of a channel are consistent: `Occupied` and `Vacated` alternate, so do `Joined` and `Left` of each user, and
//!   all users have left before `Vacated`.
//! - A channel counts as vacated, and a user as left, only after an absence of the grace time.
//! - The state is bounded: channels by the list that is observed, users by [`MAX_USERS`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::change::Change;

/// Most users in all channels together. Users of further ones are not observed.
pub(crate) const MAX_USERS: usize = 200_000;

/// The channels of the deployment, with their users.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    channels: BTreeMap<String, ChannelState>,
    users: usize,
    grace: Duration,
}

#[derive(Debug, Default)]
struct ChannelState {
    /// Subscriptions on all nodes; 0 during the grace time.
    count: u64,
    vacated_since: Option<Instant>,
    /// The users that are present, each with the time since which it is absent.
    users: BTreeMap<String, Option<Instant>>,
}

impl Observer {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace, ..Self::default() }
    }

    /// Compares the state with the numbers of subscriptions now, and appends the changes.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        counts: &BTreeMap<String, u64>,
        changes: &mut Vec<Change>,
    ) {
        for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
            match self.channels.get_mut(name) {
                Some(channel) => {
                    channel.vacated_since = None;
                    if channel.count != *count {
                        channel.count = *count;
                        changes.push(Change::Count(name.clone(), *count));
                    }
                }
                None => {
                    changes.push(Change::Occupied(name.clone()));
                    changes.push(Change::Count(name.clone(), *count));
                    self.channels.insert(name.clone(), ChannelState { count: *count, ..Default::default() });
                }
            }
        }
        let grace = self.grace;
        let (mut left, mut vacated) = (Vec::new(), Vec::new());
        for (name, channel) in &mut self.channels {
            if counts.get(name).is_none_or(|count| *count == 0) {
                let since = *channel.vacated_since.get_or_insert(now);
                if now.duration_since(since) >= grace {
                    vacated.push(name.clone());
                }
            }
            for (user, absent_since) in &channel.users {
                if absent_since.is_some_and(|since| now.duration_since(since) >= grace) {
                    left.push(Change::Left(name.clone(), user.clone()));
                }
            }
        }
        left.iter().for_each(|change| self.apply(change));
        changes.append(&mut left);
        for name in vacated {
            let users = self.channels.get(&name).map(|channel| &channel.users);
            changes.extend(
                users.into_iter().flatten().map(|(user, _)| Change::Left(name.clone(), user.clone())),
            );
            self.apply(&Change::Vacated(name.clone()));
            changes.push(Change::Vacated(name));
        }
    }

    /// Compares the users of a channel with those that are present now, and appends the changes. A channel that is not
    /// occupied has no users. Returns whether all users are observed.
    pub(crate) fn observe_users(
        &mut self,
        now: Instant,
        name: &str,
        present: &BTreeSet<String>,
        changes: &mut Vec<Change>,
    ) -> bool {
        let Some(channel) = self.channels.get_mut(name) else { return true };
        for (user, absent_since) in &mut channel.users {
            if present.contains(user) {
                *absent_since = None;
            } else {
                absent_since.get_or_insert(now);
            }
        }
        for user in present {
            if channel.users.contains_key(user) {
                continue;
            }
            if self.users >= MAX_USERS {
                return false;
            }
            channel.users.insert(user.clone(), None);
            self.users += 1;
            changes.push(Change::Joined(name.to_owned(), user.clone()));
        }
        true
    }

    /// Applies a change that another node has observed.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Occupied(name) => {
                self.channels.entry(name.clone()).or_default();
            }
            Change::Vacated(name) => {
                let users = self.channels.remove(name).map_or(0, |channel| channel.users.len());
                self.users -= users;
            }
            Change::Count(name, count) => {
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.count = *count;
                }
            }
            Change::Joined(name, user) => {
                if self.users < MAX_USERS
                    && let Some(channel) = self.channels.get_mut(name)
                    && channel.users.insert(user.clone(), None).is_none()
                {
                    self.users += 1;
                }
            }
            Change::Left(name, user) => {
                if let Some(channel) = self.channels.get_mut(name)
                    && channel.users.remove(user).is_some()
                {
                    self.users -= 1;
                }
            }
        }
    }

    /// The changes that lead from nothing to this state.
    pub(crate) fn state(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, channel) in &self.channels {
            changes.push(Change::Occupied(name.clone()));
            changes.push(Change::Count(name.clone(), channel.count));
            changes.extend(channel.users.keys().map(|user| Change::Joined(name.clone(), user.clone())));
        }
        changes
    }

    /// Whether the channel has subscriptions, or had them within the grace time.
    pub(crate) fn is_occupied(&self, name: &str) -> bool {
        self.channels.contains_key(name)
    }

    /// The channels.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    struct Test {
        observer: Observer,
        now: Instant,
    }

    impl Test {
        fn new() -> Self {
            Self { observer: Observer::new(GRACE), now: Instant::now() }
        }

        fn observe(&mut self, after: u64, pairs: &[(&str, u64)]) -> Vec<Change> {
            self.now += Duration::from_secs(after);
            let mut changes = Vec::new();
            self.observer.observe(self.now, &counts(pairs), &mut changes);
            changes
        }

        fn users(&mut self, name: &str, users: &[&str]) -> Vec<Change> {
            let mut changes = Vec::new();
            let users = users.iter().map(|user| (*user).to_owned()).collect();
            assert!(self.observer.observe_users(self.now, name, &users, &mut changes));
            changes
        }
    }

    fn occupied(name: &str) -> Change {
        Change::Occupied(name.into())
    }

    fn count(name: &str, count: u64) -> Change {
        Change::Count(name.into(), count)
    }

    #[test]
    fn a_channel_is_occupied_once_and_vacated_after_the_grace_time() {
        let mut test = Test::new();
        assert_eq!(test.observe(0, &[("a", 1)]), [occupied("a"), count("a", 1)]);
        assert_eq!(test.observe(1, &[("a", 1)]), []);
        assert_eq!(test.observe(1, &[("a", 3)]), [count("a", 3)]);
        assert_eq!(test.observe(1, &[]), []);
        assert_eq!(test.observe(2, &[]), []);
        assert_eq!(test.observe(1, &[]), [Change::Vacated("a".into())]);
        assert_eq!(test.observe(1, &[]), []);
        assert_eq!(test.observe(1, &[("a", 1)]), [occupied("a"), count("a", 1)]);
    }

    #[test]
    fn a_client_that_moves_or_returns_within_the_grace_time_causes_no_event() {
        let mut test = Test::new();
        test.observe(0, &[("a", 1)]);
        test.users("a", &["ann"]);
        assert_eq!(test.observe(1, &[]), []);
        assert_eq!(test.users("a", &[]), []);
        assert_eq!(test.observe(2, &[("a", 1)]), []);
        assert_eq!(test.users("a", &["ann"]), []);
        assert_eq!(test.observe(9, &[("a", 1)]), []);
    }

    #[test]
    fn users_join_and_leave_once_and_leave_before_their_channel_is_vacated() {
        let mut test = Test::new();
        test.observe(0, &[("a", 2)]);
        let joined = |user: &str| Change::Joined("a".into(), user.into());
        let left = |user: &str| Change::Left("a".into(), user.into());
        assert_eq!(test.users("a", &["ann", "bob"]), [joined("ann"), joined("bob")]);
        assert_eq!(test.users("a", &["ann", "bob"]), []);
        assert_eq!(test.users("a", &["bob"]), []);
        assert_eq!(test.observe(3, &[("a", 2)]), [left("ann")]);
        assert_eq!(test.users("nothing", &["ann"]), []);
        test.observe(1, &[]);
        assert_eq!(test.observe(3, &[]), [left("bob"), Change::Vacated("a".into())]);
        assert_eq!(test.observer.users, 0);
    }

    #[test]
    fn users_above_the_bound_are_not_observed() {
        let mut test = Test::new();
        test.observe(0, &[("a", 2)]);
        test.observer.users = MAX_USERS - 1;
        let users = ["ann", "bob"].map(str::to_owned).into();
        assert!(!test.observer.observe_users(test.now, "a", &users, &mut Vec::new()));
        assert_eq!(test.observer.users, MAX_USERS);
    }

    proptest! {
        /// A node that applies the changes of the observing node has its state at each time.
        #[test]
        fn changes_lead_to_the_state_of_the_observer(
            rounds in vec((btree_map("[a-c]", 0..3u64, 0..3), "[a-c]", btree_set("[x-z]", 0..3), 0..5u64), 0..40)
        ) {
            let mut test = Test::new();
            let mut other = Observer::new(GRACE);
            for (counts, name, users, after) in rounds {
                test.now += Duration::from_secs(after);
                let mut changes = Vec::new();
                test.observer.observe(test.now, &counts, &mut changes);
                test.observer.observe_users(test.now, &name, &users, &mut changes);
                changes.iter().for_each(|change| other.apply(change));
                prop_assert_eq!(other.state(), test.observer.state());
                prop_assert_eq!(other.users, test.observer.users);
                let mut from_nothing = Observer::new(GRACE);
                test.observer.state().iter().for_each(|change| from_nothing.apply(change));
                prop_assert_eq!(from_nothing.state(), test.observer.state());
            }
        }
    }
}
