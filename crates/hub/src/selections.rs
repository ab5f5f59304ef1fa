//! Subscribers of a topic that do not get all of its publications as they are: by a filter, as deltas, or both.
//!
//! They are grouped by their filters: subscribers with equal filters (or without one) share one selection, so that a filter is
//! evaluated once for a publication, independent of the number of its subscribers. Within a selection they are grouped by
//! wire form, like the other subscribers of the topic, and by their state of deltas.
//!
//! A delta is made to the last publication that was fanned out to the selection, its base. A new subscriber is without base: it
//! gets the next publication in full, and deltas from then on ([`Hub::set_base`]).
//!
//! Invariants:
//! - A subscriber is in exactly one group, and a group and a selection exist only while they have subscribers.
//! - A topic without such subscribers has no [`Selections`].
//! - The last publication that was sent to each subscriber in [`DeltaState::WithBase`] is the base of its selection.
//! - A selection has a base only while it has such subscribers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;
use tidings_tags_filter::Filter;
use tidings_wire::{Form, Publication};

use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::Protocols;
use crate::slot_lists::SlotLists;
use crate::topics::TopicEntry;

/// Identifies a selection of a topic while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectionId(usize);

/// Whether a subscriber gets deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaState {
    /// It gets no deltas.
    Off,
    /// It gets the next publication in full.
    WithoutBase,
    /// It has the base of its selection.
    WithBase,
}

/// The subscribers of a selection with the same encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their wire form.
    pub form: Form,
    /// Whether they get deltas.
    pub delta: DeltaState,
}

/// The subscribers of a topic with the same filter.
#[derive(Debug)]
pub struct Selection {
    filter: Option<Arc<Filter>>,
    groups: SlotLists<Group>,
    base: Option<Arc<Publication>>,
}

impl Selection {
    /// The publications that its subscribers get.
    pub fn select<'a>(&self, publications: &'a [Arc<Publication>]) -> Cow<'a, [Arc<Publication>]> {
        let Some(filter) = &self.filter else { return publications.into() };
        let passes = |publication: &Arc<Publication>| passes(filter, publication);
        if publications.iter().all(passes) {
            return publications.into();
        }
        publications.iter().filter(|publication| passes(publication)).cloned().collect()
    }

    /// The groups of its subscribers.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        self.groups.keys()
    }

    /// The slots of the subscribers in a group.
    pub fn subscribers(&self, group: Group) -> &[Slot] {
        self.groups.get(group)
    }

    /// The publication that its subscribers in [`DeltaState::WithBase`] have received last.
    pub fn base(&self) -> Option<&Arc<Publication>> {
        self.base.as_ref()
    }

    fn has_delta(&self, delta: DeltaState) -> bool {
        self.groups.keys().any(|group| group.delta == delta)
    }

    /// Number of its subscribers.
    pub fn count(&self) -> usize {
        self.groups.len()
    }
}

impl<P: Protocols> Hub<P> {
    /// Removes the publications that do not pass the filter of a subscriber, if it has one.
    pub fn retain_passing(&self, key: TopicKey, slot: Slot, publications: &mut Vec<Arc<Publication>>) {
        let entry = self.topics.get(key);
        if let Some((Some(filter), _)) = entry.and_then(|entry| entry.selection_of(slot)) {
            publications.retain(|publication| passes(filter, publication));
        }
    }

    /// Whether a subscriber of a topic gets deltas.
    pub fn has_deltas(&self, key: TopicKey, slot: Slot) -> bool {
        let selection = self.topics.get(key).and_then(|entry| entry.selection_of(slot));
        selection.is_some_and(|(_, delta)| delta != DeltaState::Off)
    }

    /// Must be called after publications were sent to a selection: `base` is the last of them. The subscribers in `except`,
    /// which are in order, did not get all of them.
    pub fn set_base(&mut self, key: TopicKey, id: SelectionId, base: &Arc<Publication>, except: &[Slot]) {
        if let Some(selections) = self.topics.get_mut(key).and_then(TopicEntry::selections_mut) {
            selections.set_base(id, base, except);
        }
    }
}

/// Whether a publication passes a filter.
pub(crate) fn passes(filter: &Filter, publication: &Publication) -> bool {
    filter.matches(publication.extra.as_deref().map_or(&[], |extra| &extra.tags))
}

/// The place of a subscriber.
#[derive(Clone, Copy, Debug)]
struct Place {
    selection: usize,
    group: Group,
    index: usize,
}

/// The selections of a topic.
#[derive(Debug, Default)]
pub(crate) struct Selections {
    by_filter: HashMap<Option<Arc<Filter>>, usize>,
    entries: Slab<Selection>,
    places: HashMap<Slot, Place>,
}

impl Selections {
    /// Number of subscribers.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether a further subscriber with this filter stays within `limit` different filters.
    pub(crate) fn has_room(&self, filter: &Arc<Filter>, limit: usize) -> bool {
        let unfiltered = usize::from(self.by_filter.contains_key(&None));
        self.entries.len() - unfiltered < limit || self.by_filter.contains_key(&Some(Arc::clone(filter)))
    }

    /// The ids of all selections.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SelectionId> + '_ {
        self.entries.iter().map(|(id, _)| SelectionId(id))
    }

    pub(crate) fn get(&self, id: SelectionId) -> Option<&Selection> {
        self.entries.get(id.0)
    }

    /// The slots of all subscribers.
    pub(crate) fn all_subscribers(&self) -> impl Iterator<Item = Slot> + '_ {
        self.places.keys().copied()
    }

    /// The filter and the state of deltas of a subscriber, if it is one of these.
    pub(crate) fn selection_of(&self, slot: Slot) -> Option<(Option<&Arc<Filter>>, DeltaState)> {
        let place = self.places.get(&slot)?;
        Some((self.entries[place.selection].filter.as_ref(), place.group.delta))
    }

    /// Adds a subscriber, which is not one of these yet.
    pub(crate) fn add(&mut self, slot: Slot, form: Form, filter: Option<Arc<Filter>>, has_delta: bool) {
        let entries = &mut self.entries;
        let selection = *self.by_filter.entry(filter).or_insert_with_key(|filter| {
            entries.insert(Selection { filter: filter.clone(), groups: SlotLists::default(), base: None })
        });
        let delta = if has_delta { DeltaState::WithoutBase } else { DeltaState::Off };
        let group = Group { form, delta };
        let index = entries[selection].groups.add(group, slot);
        self.places.insert(slot, Place { selection, group, index });
    }

    /// Removes a subscriber; returns whether it was one of these.
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        let Some(Place { selection, group, index }) = self.places.remove(&slot) else { return false };
        self.leave(selection, group, index);
        let entry = &mut self.entries[selection];
        if entry.groups.is_empty() {
            let entry = self.entries.remove(selection);
            self.by_filter.remove(&entry.filter);
        } else if !entry.has_delta(DeltaState::WithBase) {
            entry.base = None;
        }
        true
    }

    fn leave(&mut self, selection: usize, group: Group, index: usize) {
        if let Some(moved) = self.entries[selection].groups.remove(group, index)
            && let Some(place) = self.places.get_mut(&moved)
        {
            place.index = index;
        }
    }

    /// Moves a subscriber with deltas to another state.
    fn set_delta(&mut self, slot: Slot, delta: DeltaState) {
        let Some(Place { selection, group, index }) = self.places.get(&slot).copied() else { return };
        self.leave(selection, group, index);
        let group = Group { delta, ..group };
        let index = self.entries[selection].groups.add(group, slot);
        self.places.insert(slot, Place { selection, group, index });
    }

    /// `base` was sent to all subscribers of a selection, except these, which are in order.
    fn set_base(&mut self, id: SelectionId, base: &Arc<Publication>, except: &[Slot]) {
        let Some(selection) = self.entries.get(id.0) else { return };
        let is_excepted = |slot: &Slot| except.binary_search(slot).is_ok();
        let mut changed = Vec::new();
        for (group, slots) in selection.groups.iter() {
            let (next, needs_base) = match group.delta {
                DeltaState::WithoutBase => (DeltaState::WithBase, true),
                DeltaState::WithBase if !except.is_empty() => (DeltaState::WithoutBase, false),
                DeltaState::WithBase | DeltaState::Off => continue,
            };
            let moves = slots.iter().filter(|slot| is_excepted(slot) != needs_base);
            changed.extend(moves.map(|slot| (*slot, next)));
        }
        for (slot, delta) in changed {
            self.set_delta(slot, delta);
        }
        if let Some(selection) = self.entries.get_mut(id.0) {
            selection.base = selection.has_delta(DeltaState::WithBase).then(|| Arc::clone(base));
        }
    }

    /// Every subscriber gets the next publication in full.
    pub(crate) fn drop_bases(&mut self) {
        let places = self.places.iter();
        let with_base = places.filter(|(_, place)| place.group.delta == DeltaState::WithBase);
        let with_base: Vec<_> = with_base.map(|(slot, _)| *slot).collect();
        for slot in with_base {
            self.set_delta(slot, DeltaState::WithoutBase);
        }
        for (_, selection) in &mut self.entries {
            selection.base = None;
        }
    }
}
