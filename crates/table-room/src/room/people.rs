//! The people who view the table, on this node and on others.
//!
//! Invariants:
//! - Changes are joined: at most one message in [`PEOPLE_INTERVAL`], with the newest state of each person; less often, if
//!   the messages to all viewers are more than [`PEOPLE_RATE`].
//! - A cursor is at a row of the shared view. All cursors are hidden when another query, another file or another dialect is shown.
//! - At most [`MAX_LISTED`] viewers of this node are listed, and as many of other nodes. A viewer that acts displaces one
//!   that has never acted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::effect::Effect;
use super::state::Room;
use super::timers::Timer;
use crate::broadcast::{PeopleList, ViewFormat};
use crate::failure::Failure;
use crate::message;
use crate::node_messages::{MessageKind, PeopleUpdate};
use crate::people::{self, Actor, ChangedBy, Cursor, MAX_LISTED, Person};

/// The least time between two messages about people, and the most, which many viewers with many cursors cause.
const PEOPLE_INTERVAL: Duration = Duration::from_millis(100);
const MAX_PEOPLE_INTERVAL: Duration = Duration::from_secs(2);
/// The bytes per second up to which messages about people are sent to all viewers together at the least interval.
const PEOPLE_RATE: u64 = 8 << 20;

/// The people that viewers have received.
#[derive(Debug, Default)]
pub(super) struct People {
    /// The last list that was sent, by id.
    sent: BTreeMap<String, Arc<Person>>,
    /// The people of this node in it.
    sent_here: BTreeMap<String, Arc<Person>>,
    /// The people of other nodes, by node and id.
    elsewhere: BTreeMap<u64, BTreeMap<String, Arc<Person>>>,
    /// The earliest time of the next message.
    next_at: Option<Instant>,
    /// The number of viewers that are not listed, as counted in the metric.
    unlisted: u64,
}

impl Room {
    /// Schedules a message about changed people.
    pub(super) fn people_changed(&mut self) {
        self.count_unlisted();
        let next = self.people.next_at.unwrap_or(self.now);
        self.timers.set_if_unset(Timer::People, next.max(self.now));
    }

    /// Sets the name of a viewer; an empty one is replaced by a random name.
    pub(super) fn set_name(&mut self, viewer: u64, name: &str) -> Result<(), Failure> {
        let mut name = people::clean_name(name);
        if name.is_empty() {
            name = people::random_name(self.listed_people());
        }
        self.change_person(viewer, |person| person.name = name)
    }

    /// Sets or hides the cursor of a viewer.
    pub(super) fn set_cursor(&mut self, viewer: u64, cursor: Option<Cursor>) -> Result<(), Failure> {
        self.change_person(viewer, |person| person.cursor = cursor)
    }

    /// Hides the cursors of the viewers of this node: the shared view has other rows now, and a client may not send its cursor
    /// again.
    pub(super) fn hide_cursors(&mut self) {
        let mut has_changed = false;
        for viewer in self.viewers.iter_mut().filter(|viewer| viewer.person.cursor.is_some()) {
            Arc::make_mut(&mut viewer.person).cursor = None;
            has_changed = true;
        }
        if has_changed {
            self.people_changed();
        }
    }

    pub(super) fn change_person(
        &mut self,
        viewer: u64,
        change: impl FnOnce(&mut Person),
    ) -> Result<(), Failure> {
        self.person_acted(viewer);
        let Some(viewer) = self.viewers.get_mut(viewer) else { return Err(Failure::unknown()) };
        if viewer.form == ViewFormat::Article {
            return Err(Failure::bad("the article's page has no people; use /tables/ws"));
        }
        change(Arc::make_mut(&mut viewer.person));
        self.people_changed();
        Ok(())
    }

    /// A new viewer, with a colour and a name that few others have.
    pub(super) fn new_person(&self, is_owner: bool) -> Person {
        Person::random(is_owner, self.listed_people())
    }

    fn listed_people(&self) -> impl Iterator<Item = &Person> + Clone {
        let here = self.viewers.iter().filter(|viewer| viewer.is_listed).map(|viewer| &*viewer.person);
        let elsewhere = self.people.elsewhere.values().flat_map(BTreeMap::values).map(|person| &**person);
        here.chain(elsewhere)
    }

    /// The author of a change that this viewer makes.
    pub(super) fn author(&self, viewer: u64) -> Option<ChangedBy> {
        let viewer = self.viewers.get(viewer)?;
        Some(match viewer.actor {
            Actor::Viewer => {
                let Person { id, name, .. } = &*viewer.person;
                ChangedBy { id: Some(id.clone()), name: Some(name.clone()), by: Actor::Viewer }
            }
            actor => ChangedBy::program(actor),
        })
    }

    /// Marks a viewer as active, and lists it in place of an idle one if the list is full.
    pub(super) fn person_acted(&mut self, viewer: u64) {
        let Some(actor) = self.viewers.get_mut(viewer) else { return };
        actor.has_acted = true;
        if actor.is_listed || !actor.is_person() {
            return;
        }
        if self.viewers.has_full_list() {
            let Some(idle) = self.viewers.first_idle() else { return };
            self.viewers.set_listed(idle, false);
        }
        self.viewers.set_listed(viewer, true);
        self.people_changed();
    }

    /// Lists another viewer in place of one that has left, first those that have acted.
    pub(super) fn list_another_person(&mut self) {
        if !self.viewers.has_full_list()
            && let Some(next) = self.viewers.first_unlisted()
        {
            self.viewers.set_listed(next, true);
        }
        self.people_changed();
    }

    fn count_unlisted(&mut self) {
        let (before, now) = (self.people.unlisted, self.viewers.unlisted());
        if before != now {
            self.people.unlisted = now;
            self.settings.counters.unlisted.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// The listed people of this node, by id.
    fn people_here(&self) -> BTreeMap<String, Arc<Person>> {
        let listed = self.viewers.iter().filter(|viewer| viewer.is_listed);
        listed.map(|viewer| (viewer.person.id.clone(), Arc::clone(&viewer.person))).collect()
    }

    /// The complete list of this node, for other nodes.
    pub(super) fn people_update(&self) -> PeopleUpdate {
        PeopleUpdate { is_all: true, changed: self.people_here().into_values().collect(), left: Vec::new() }
    }

    /// Sends what has changed among the people since the last message, to viewers and other nodes.
    pub(super) fn send_people(&mut self) {
        self.timers.clear(Timer::People);
        let here = self.people_here();
        let mut now = here.clone();
        for others in self.people.elsewhere.values() {
            now.extend(others.iter().map(|(id, person)| (id.clone(), Arc::clone(person))));
        }
        let (changed, left) = difference(&self.people.sent, &now);
        if changed.is_empty() && left.is_empty() {
            return;
        }
        let list = PeopleList::new(now.values().cloned().collect());
        let frame = message::people_changes(&changed, &left);
        let bytes = frame.len() as u64 * self.viewers.len();
        let pause = Duration::from_millis(bytes * 1_000 / PEOPLE_RATE);
        self.people.next_at = Some(self.now + pause.clamp(PEOPLE_INTERVAL, MAX_PEOPLE_INTERVAL));
        self.view.broadcast.send_modify(|broadcast| broadcast.set_people(frame, list));
        let (changed, left) = difference(&self.people.sent_here, &here);
        if self.settings.has_other_nodes && !(changed.is_empty() && left.is_empty()) {
            let update = PeopleUpdate { is_all: false, changed, left };
            let status = self.status(MessageKind::People, Some(update));
            self.effects.push(Effect::Notify(Box::new(status), None));
        }
        (self.people.sent, self.people.sent_here) = (now, here);
    }

    /// Handles the people of another node.
    pub(super) fn on_remote_people(&mut self, node: u64, update: PeopleUpdate) {
        let elsewhere = &mut self.people.elsewhere;
        let others: usize =
            elsewhere.iter().filter(|(other, _)| **other != node).map(|(_, people)| people.len()).sum();
        let people = elsewhere.entry(node).or_default();
        if update.is_all {
            people.clear();
        }
        for id in &update.left {
            people.remove(id);
        }
        for person in update.changed {
            // Those beyond the limit are listed with a later complete list.
            if people.contains_key(&person.id) || others + people.len() < MAX_LISTED {
                people.insert(person.id.clone(), person);
            }
        }
        if people.is_empty() {
            elsewhere.remove(&node);
        }
        self.people_changed();
    }

    /// Removes the people of nodes that have ended.
    pub(super) fn retain_people(&mut self, is_alive: impl Fn(u64) -> bool) {
        self.people.elsewhere.retain(|node, _| is_alive(*node));
        self.people_changed();
    }
}

/// The people that are new or changed in `now`, and the ids of those that are not in it any more.
fn difference(
    before: &BTreeMap<String, Arc<Person>>,
    now: &BTreeMap<String, Arc<Person>>,
) -> (Vec<Arc<Person>>, Vec<String>) {
    let is_same = |id: &String, person: &Arc<Person>| {
        before.get(id).is_some_and(|old| Arc::ptr_eq(old, person) || old == person)
    };
    let changed =
        now.iter().filter(|(id, person)| !is_same(id, person)).map(|(_, person)| Arc::clone(person));
    let left = before.keys().filter(|id| !now.contains_key(*id)).cloned();
    (changed.collect(), left.collect())
}
