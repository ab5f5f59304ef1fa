//! The lists of topic filters in `SUBSCRIBE` and `UNSUBSCRIBE`: checked bytes of a packet, or a buffer.
//!
//! A filter here is a string of the protocol; [`Filter::new`](crate::topic::Filter::new) checks whether it is a topic filter, so
//! that a session can refuse it in `SUBACK`.

use std::fmt;

use crate::error::{EncodeError, Violation};
use crate::read::Reader;
use crate::topic::SHARE_PREFIX;
use crate::types::{Qos, Version};
use crate::write;

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING: u8 = 4;
const RESERVED: u8 = 0b1100_0000;

/// Which retained messages a new subscription gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// All that match.
    #[default]
    Send,
    /// All that match, if the session had no subscription with this filter.
    SendIfNew,
    /// None.
    DoNotSend,
}

/// The options of a subscription. 3.1.1 has the QoS alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// The highest QoS of messages that the client receives.
    pub qos: Qos,
    /// Messages of the client itself are not sent to it.
    pub no_local: bool,
    /// Messages keep the retain flag with which they were published.
    pub retain_as_published: bool,
    /// Which retained messages the client receives at first.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// Options with a QoS, and the defaults of 3.1.1.
    pub fn new(qos: Qos) -> Self {
        Self { qos, ..Self::default() }
    }

    fn read(byte: u8, version: Version) -> Result<Self, Violation> {
        let reserved = match version {
            Version::V3 => !3,
            Version::V5 => RESERVED,
        };
        if byte & reserved != 0 {
            return Err(Violation::SubscriptionOptions);
        }
        let qos = Qos::from_number(byte & 3).ok_or(match version {
            Version::V3 => Violation::SubscriptionOptions,
            Version::V5 => Violation::SubscriptionQos,
        })?;
        let retain_handling = match byte >> RETAIN_HANDLING & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Violation::RetainHandling),
        };
        let has = |flag| byte & flag != 0;
        Ok(Self {
            qos,
            no_local: has(NO_LOCAL),
            retain_as_published: has(RETAIN_AS_PUBLISHED),
            retain_handling,
        })
    }

    const fn byte(self) -> u8 {
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        self.qos as u8 | no_local | retain_as_published | (self.retain_handling as u8) << RETAIN_HANDLING
    }
}

/// A requested subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The topic filter, unchecked.
    pub filter: &'a str,
    /// The options.
    pub options: SubscriptionOptions,
}

impl<'a> Subscription<'a> {
    fn read(from: &mut Reader<'a>) -> Result<Self, Violation> {
        let filter = from.string()?;
        let options = SubscriptionOptions::read(from.u8()?, Version::V5)?;
        if options.no_local && filter.starts_with(SHARE_PREFIX) {
            return Err(Violation::NoLocalShared);
        }
        Ok(Self { filter, options })
    }
}

/// The subscriptions of a `SUBSCRIBE`, in their order; at least one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subscriptions<'a> {
    bytes: &'a [u8],
}

impl<'a> Subscriptions<'a> {
    /// The subscriptions in their order.
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'a>> + use<'a> {
        list(self.bytes, Subscription::read)
    }

    pub(super) fn read(from: &mut Reader<'a>, version: Version) -> Result<Self, Violation> {
        let bytes = from.rest();
        let mut rest = Reader::new(bytes);
        if rest.is_empty() {
            return Err(Violation::NoFilter);
        }
        while !rest.is_empty() {
            let mut options = rest;
            options.string()?;
            SubscriptionOptions::read(options.u8()?, version)?;
            Subscription::read(&mut rest)?;
        }
        Ok(Self { bytes })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.bytes);
        if version == Version::V3 {
            // The other options do not exist there.
            let mut end = start;
            for subscription in self.iter() {
                end += 2 + subscription.filter.len();
                out[end] = subscription.options.qos as u8;
                end += 1;
            }
        }
    }
}

impl fmt::Debug for Subscriptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A buffer of subscriptions for a `SUBSCRIBE` to encode.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionsBuf {
    bytes: Vec<u8>,
}

impl SubscriptionsBuf {
    /// Adds a subscription.
    ///
    /// # Errors
    /// [`EncodeError`] when the filter cannot be encoded; it is not added then.
    pub fn push(&mut self, subscription: Subscription<'_>) -> Result<(), EncodeError> {
        write::string(subscription.filter, &mut self.bytes)?;
        self.bytes.push(subscription.options.byte());
        Ok(())
    }

    /// The list.
    pub fn as_subscriptions(&self) -> Subscriptions<'_> {
        Subscriptions { bytes: &self.bytes }
    }
}

/// The topic filters of an `UNSUBSCRIBE`, in their order; at least one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TopicFilters<'a> {
    bytes: &'a [u8],
}

impl<'a> TopicFilters<'a> {
    /// The filters in their order, unchecked.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        list(self.bytes, Reader::string)
    }

    pub(super) fn read(from: &mut Reader<'a>) -> Result<Self, Violation> {
        let bytes = from.rest();
        let mut rest = Reader::new(bytes);
        if rest.is_empty() {
            return Err(Violation::NoFilter);
        }
        while !rest.is_empty() {
            rest.string()?;
        }
        Ok(Self { bytes })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes);
    }
}

impl fmt::Debug for TopicFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A buffer of topic filters for an `UNSUBSCRIBE` to encode.
#[derive(Clone, Debug, Default)]
pub struct TopicFiltersBuf {
    bytes: Vec<u8>,
}

impl TopicFiltersBuf {
    /// Adds a filter.
    ///
    /// # Errors
    /// [`EncodeError`] when the filter cannot be encoded; it is not added then.
    pub fn push(&mut self, filter: &str) -> Result<(), EncodeError> {
        write::string(filter, &mut self.bytes)
    }

    /// The list.
    pub fn as_filters(&self) -> TopicFilters<'_> {
        TopicFilters { bytes: &self.bytes }
    }
}

/// The elements of a list whose bytes have been checked.
fn list<'a, T>(
    bytes: &'a [u8],
    read: impl Fn(&mut Reader<'a>) -> Result<T, Violation>,
) -> impl Iterator<Item = T> {
    let mut rest = Reader::new(bytes);
    std::iter::from_fn(move || if rest.is_empty() { None } else { read(&mut rest).ok() })
}
