//! The state of a session.

use std::collections::VecDeque;

use tidings_mqtt::topic::Filter;
use tidings_mqtt::{Qos, RetainHandling};
use tidings_wire::{Publication, Topic};

use crate::message::InFlight;
use crate::queue::MessageQueue;

/// The options of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The granted quality of service.
    pub qos: Qos,
    /// The client does not get its own messages.
    pub no_local: bool,
    /// Messages keep their retain flag.
    pub retain_as_published: bool,
    /// The filter has wildcards.
    pub is_pattern: bool,
    /// The subscription identifier; 0 for none.
    pub identifier: u32,
    /// Which subscribes send the retained messages.
    pub retain_handling: RetainHandling,
}

impl Options {
    /// Whether its messages differ from those of a subscription with QoS 0.
    pub fn needs_address(self) -> bool {
        self.qos != Qos::AtMostOnce || self.retain_as_published || self.identifier != 0 || self.is_pattern
    }

    /// Whether the subscription, with this filter, matches a channel.
    pub fn matches(self, filter: &str, channel: &str) -> bool {
        if self.is_pattern {
            Filter::new(filter).is_ok_and(|filter| filter.matches(channel))
        } else {
            filter == channel
        }
    }

    /// The quality of service with which the client gets a publication; `default_qos` is that of publications of other protocols.
    pub fn delivery_qos(self, publication: &Publication, default_qos: Qos) -> Qos {
        let message = publication.extra.as_ref().and_then(|extra| extra.message.as_ref());
        self.qos.min(message.map_or(default_qos, |message| message.qos))
    }
}

/// A subscription of a session without a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    /// The filter of the client.
    pub filter: Box<str>,
    /// The topic that has the publications.
    pub topic: Topic,
    /// Its options.
    pub options: Options,
}

impl StoredSubscription {
    /// Whether it is a shared subscription.
    pub fn is_shared(&self) -> bool {
        self.filter.starts_with("$share/")
    }
}

/// The state of a session besides its subscriptions, and these when it returns to a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionState {
    /// The subscriptions.
    pub subscriptions: Vec<StoredSubscription>,
    /// Messages with QoS 1 and 2 that were sent and are not acknowledged, oldest first.
    pub in_flight: VecDeque<InFlight>,
    /// Messages that were not sent.
    pub waiting: MessageQueue,
    /// Packet identifiers of messages with QoS 2 of the client that are published and not released yet, in order.
    pub received: Vec<u16>,
    /// The last packet identifier of a message to the client.
    pub last_packet_id: u16,
    /// Messages that were dropped at a bound, of which the client has not been informed.
    pub dropped: u64,
}

impl SessionState {
    /// Bytes of the messages in flight.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.iter().map(InFlight::cost).sum()
    }
}
