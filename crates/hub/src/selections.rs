//! Subscribers of a topic that get only a part of its publications, by a filter.
//!
//! They are grouped by their filters: subscribers with equal filters share one selection, so that a filter is evaluated once
//! for a publication, independent of the number of its subscribers. Within a selection they are grouped by wire form, like
//! the other subscribers of the topic.
//!
//! Invariants:
//! - A subscriber is in exactly one group, and a group and a selection exist only while they have subscribers.
//! - A topic without such subscribers has no [`Selections`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;
use tidings_tags_filter::Filter;
use tidings_wire::{Form, Publication};

use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::Protocols;

/// Identifies a selection of a topic while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectionId(usize);

/// The subscribers of a topic with the same filter.
#[derive(Debug)]
pub struct Selection {
    filter: Arc<Filter>,
    groups: Vec<(Form, Vec<Slot>)>,
}

impl Selection {
    /// The publications that its subscribers get.
    pub fn select<'a>(&self, publications: &'a [Arc<Publication>]) -> Cow<'a, [Arc<Publication>]> {
        let passes = |publication: &Arc<Publication>| passes(&self.filter, publication);
        if publications.iter().all(passes) {
            return publications.into();
        }
        publications.iter().filter(|publication| passes(publication)).cloned().collect()
    }

    /// The wire forms of its subscribers.
    pub fn forms(&self) -> impl Iterator<Item = Form> + '_ {
        self.groups.iter().map(|(form, _)| *form)
    }

    /// The slots of its subscribers with this wire form.
    pub fn subscribers(&self, form: Form) -> &[Slot] {
        self.groups.iter().find(|(f, _)| *f == form).map_or(&[], |(_, list)| list)
    }

    /// Number of its subscribers.
    pub fn count(&self) -> usize {
        self.groups.iter().map(|(_, list)| list.len()).sum()
    }
}

impl<P: Protocols> Hub<P> {
    /// Removes the publications that do not pass the filter of a subscriber, if it has one.
    pub fn retain_passing(&self, key: TopicKey, slot: Slot, publications: &mut Vec<Arc<Publication>>) {
        if let Some(filter) = self.topics.get(key).and_then(|entry| entry.filter(slot)) {
            publications.retain(|publication| passes(filter, publication));
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
    form: Form,
    index: usize,
}

/// The selections of a topic.
#[derive(Debug, Default)]
pub(crate) struct Selections {
    by_filter: HashMap<Arc<Filter>, usize>,
    entries: Slab<Selection>,
    places: HashMap<Slot, Place>,
}

impl Selections {
    /// Number of subscribers.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether a further subscriber with this filter stays within `limit` different filters.
    pub(crate) fn has_room(&self, filter: &Filter, limit: usize) -> bool {
        self.entries.len() < limit || self.by_filter.contains_key(filter)
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

    /// The filter of a subscriber, if it is one of these.
    pub(crate) fn filter(&self, slot: Slot) -> Option<&Arc<Filter>> {
        let place = self.places.get(&slot)?;
        Some(&self.entries[place.selection].filter)
    }

    /// Adds a subscriber, which is not one of these yet.
    pub(crate) fn add(&mut self, slot: Slot, form: Form, filter: Arc<Filter>) {
        let entries = &mut self.entries;
        let selection = *self.by_filter.entry(filter).or_insert_with_key(|filter| {
            entries.insert(Selection { filter: Arc::clone(filter), groups: Vec::new() })
        });
        let groups = &mut entries[selection].groups;
        let at = groups.iter().position(|(f, _)| *f == form).unwrap_or_else(|| {
            groups.push((form, Vec::new()));
            groups.len() - 1
        });
        let list = &mut groups[at].1;
        self.places.insert(slot, Place { selection, form, index: list.len() });
        list.push(slot);
    }

    /// Removes a subscriber; returns whether it was one of these.
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        let Some(Place { selection, form, index }) = self.places.remove(&slot) else { return false };
        let groups = &mut self.entries[selection].groups;
        let at = groups.iter().position(|(f, _)| *f == form).expect("it was added");
        let list = &mut groups[at].1;
        list.swap_remove(index);
        if let Some(moved) = list.get(index)
            && let Some(place) = self.places.get_mut(moved)
        {
            place.index = index;
        }
        if list.is_empty() {
            groups.swap_remove(at);
        }
        if groups.is_empty() {
            let selection = self.entries.remove(selection);
            self.by_filter.remove(&selection.filter);
        }
        true
    }
}
