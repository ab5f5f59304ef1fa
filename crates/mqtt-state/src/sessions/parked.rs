//! A session without a connection.

use std::sync::Arc;

use tidings_mqtt::Qos;
use tidings_mqtt_session::{
    Combined, Connection, Message, Parking, SessionState, StoredSubscription, WillMessage, combine,
};
use tidings_wire::{Delivery, Publication};

use super::SessionLimits;
use super::mirror::ParkedState;

#[derive(Debug)]
pub(super) struct Parked {
    /// The former connection, until its shard has passed the complete state.
    pub(super) arriving: Option<Connection>,
    /// The id of the client of the former connection.
    client: String,
    pub(super) subscriptions: Vec<StoredSubscription>,
    /// The state, without subscriptions.
    pub(super) state: SessionState,
    /// Bytes of the messages in flight, which do not change.
    in_flight: usize,
    pub(super) will: Option<WillMessage>,
    /// When the will is due, in Unix seconds.
    will_due: u64,
    /// When the session expires, in Unix seconds.
    pub(super) expires: u64,
}

impl Parked {
    pub(super) fn new(parking: Parking, now: u64) -> Self {
        let Parking { connection, client, expiry, subscriptions, will, .. } = parking;
        let will_due = now + will.as_ref().map_or(0, |will| u64::from(will.delay));
        Self {
            arriving: Some(connection),
            client,
            subscriptions,
            state: SessionState::default(),
            in_flight: 0,
            will,
            will_due,
            expires: now + u64::from(expiry),
        }
    }

    /// A session of an earlier start of the server.
    pub(super) fn restored(stored: ParkedState, state: SessionState) -> Self {
        let ParkedState { client, subscriptions, will, will_due, expires } = stored;
        let in_flight = state.in_flight_bytes();
        Self { arriving: None, client, subscriptions, state, in_flight, will, will_due, expires }
    }

    /// The state besides its messages, for the files.
    pub(super) fn to_stored(&self) -> ParkedState {
        let Self { client, subscriptions, will, will_due, expires, .. } = self;
        let (client, subscriptions, will) = (client.clone(), subscriptions.clone(), will.clone());
        ParkedState { client, subscriptions, will, will_due: *will_due, expires: *expires }
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> u64 {
        if self.will.is_some() { self.will_due.min(self.expires) } else { self.expires }
    }

    /// Bytes of its messages.
    pub(super) fn bytes(&self) -> usize {
        self.in_flight + self.state.waiting.bytes()
    }

    /// The complete state has arrived; the messages since then are behind its own. Returns the number of dropped messages.
    pub(super) fn complete(&mut self, complete: SessionState, limit: usize) -> u64 {
        let later = std::mem::replace(&mut self.state, complete);
        self.in_flight = self.state.in_flight_bytes();
        let limit = limit.saturating_sub(self.in_flight);
        let dropped = self.state.waiting.shrink(limit) + self.state.waiting.append(later.waiting, limit);
        self.state.dropped += later.dropped + dropped;
        self.arriving = None;
        dropped
    }

    /// Adds a publication if a subscription gets it. Returns the number of dropped messages.
    pub(super) fn add(&mut self, delivery: &Delivery, limits: SessionLimits, now: u64) -> u64 {
        let publication = &delivery.publication;
        match combined_of(&self.subscriptions, delivery, &self.client) {
            Some(combined) => self.add_message(publication, combined, limits, now),
            None => 0,
        }
    }

    /// Adds a publication with these options. Returns the number of dropped messages.
    pub(super) fn add_message(
        &mut self,
        publication: &Arc<Publication>,
        combined: Combined,
        limits: SessionLimits,
        now: u64,
    ) -> u64 {
        let Some(message) = message_of(publication, combined, limits.default_qos, now) else { return 0 };
        let limit = limits.queue_bytes.saturating_sub(self.in_flight);
        let dropped = self.state.waiting.push(message, limit);
        self.state.dropped += dropped;
        dropped
    }
}

/// The options for a publication that has arrived for a topic of these subscriptions, of the client with this id.
pub(super) fn combined_of(
    subscriptions: &[StoredSubscription],
    delivery: &Delivery,
    client: &str,
) -> Option<Combined> {
    let own = subscriptions.iter().filter(|one| !one.is_shared());
    let own = own.map(|one| (one.topic == delivery.topic, &*one.filter, one.options));
    let publication = &delivery.publication;
    combine(own, publication.channel.as_str(), || publication.origin() == Some(client))
}

/// The message of a publication with these options, to be sent later.
pub(super) fn message_of(
    publication: &Arc<Publication>,
    combined: Combined,
    default_qos: Qos,
    now: u64,
) -> Option<Message> {
    // A name with wildcards has no packet.
    if publication.channel.as_str().contains(['+', '#']) {
        return None;
    }
    let Combined { options, more_identifiers } = combined;
    let properties = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
    Some(Message {
        publication: Arc::clone(publication),
        qos: options.delivery_qos(publication, default_qos),
        retain: options.retain_as_published && properties.is_some_and(|properties| properties.retain),
        identifier: options.identifier,
        more_identifiers: more_identifiers.into(),
        is_pattern: options.is_pattern,
        is_unchecked: true,
        received: now,
    })
}
