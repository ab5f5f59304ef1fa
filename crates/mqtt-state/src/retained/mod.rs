//! The retained message of each topic: in the memory of a server ([`Retained`]), or at a broker that several servers share
//! ([`SharedRetained`]).
//!
//! Invariants:
//! - The number of messages and their bytes are bounded. A message beyond a bound is refused; none is evicted.
//! - With files, a change is in them before it is visible.
//! - A subscriber that reads the messages after it has subscribed gets none that is older than one it was sent: the store is
//!   changed before the publication is delivered, and a reader takes its messages under the same lock.

mod reads;
mod shared;
mod stored;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tidings_metrics::{BYTES, Collect, MetricWriter};
use tidings_mqtt::topic::Filter;
use tidings_wire::{Channel, Publication};

use crate::journal::{Journal, StorageError};
pub use reads::RetainedReads;
pub use shared::{Continuation, ReadResult, SharedRetained};

/// Allowance for the memory of a message besides its texts.
const OVERHEAD: usize = 256;

/// The bounds of a [`Retained`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most messages.
    pub messages: usize,
    /// Most bytes, with an allowance for each message.
    pub bytes: usize,
}

/// A message cannot be retained.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RetainedFull {
    /// The number of messages.
    #[error("limit exceeded: {0} retained messages (mqtt.retain_limit)")]
    Messages(usize),
    /// Their bytes.
    #[error("limit exceeded: {0} bytes of retained messages (mqtt.retain_max_bytes)")]
    Bytes(usize),
    /// The files cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The matching messages take more bytes than the limit of a read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the retained messages take more than {0} bytes")]
pub struct TooMany(pub usize);

/// The retained messages of a server.
#[derive(Debug)]
pub struct Retained {
    messages: Mutex<Messages>,
    limits: Limits,
}

/// Where retained messages are stored.
#[derive(Clone, Debug)]
pub enum RetainedStore {
    /// In this server.
    Local(Arc<Retained>),
    /// At a broker that several servers share.
    Shared(Arc<SharedRetained>),
}

impl RetainedStore {
    /// Number of messages; of a shared store as last read.
    pub fn count(&self) -> u64 {
        match self {
            Self::Local(local) => local.count() as u64,
            Self::Shared(shared) => shared.count(),
        }
    }
}

impl Collect for RetainedStore {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        match self {
            Self::Local(local) => local.collect(out),
            Self::Shared(shared) => shared.collect(out),
        }
    }
}

#[derive(Debug, Default)]
struct Messages {
    by_topic: BTreeMap<Channel, Message>,
    bytes: usize,
    journal: Option<Journal>,
}

#[derive(Clone, Debug)]
struct Message {
    publication: Arc<Publication>,
    expires: Option<Instant>,
}

/// The earlier message of a topic, for [`Retained::undo`].
#[derive(Debug)]
pub struct Undo {
    channel: Channel,
    earlier: Option<Message>,
    /// The message that replaced it; `None` if it was removed.
    new: Option<Arc<Publication>>,
}

impl Retained {
    /// Without messages.
    pub fn new(limits: Limits) -> Self {
        Self { messages: Mutex::default(), limits }
    }

    /// With the messages in the files of a folder, which has further changes from now on. Messages beyond the limits are
    /// discarded.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn open(limits: Limits, folder: &Path) -> io::Result<Self> {
        Ok(Self { messages: Mutex::new(Messages::open(limits, folder)?), limits })
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        // The messages are valid at every step.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the message of the publication's channel, or removes it if the body is empty (MQTT 5.0 §3.3.1.3). Must be called
    /// before the publication is delivered.
    ///
    /// # Errors
    /// [`RetainedFull`]: nothing has changed here.
    pub fn set(&self, publication: Publication, now: Instant) -> Result<Undo, RetainedFull> {
        let channel = publication.channel.clone();
        let mut messages = self.lock();
        let earlier = messages.by_topic.get(&channel).cloned();
        if publication.body.is_empty() {
            if earlier.is_some() {
                messages.record(&channel, None)?;
                messages.remove(&channel);
            }
            return Ok(Undo { channel, earlier, new: None });
        }
        let before = earlier.as_ref().map_or(0, |message| cost(&message.publication));
        if earlier.is_none() && messages.by_topic.len() >= self.limits.messages {
            messages.remove_expired(now);
            if messages.by_topic.len() >= self.limits.messages {
                return Err(RetainedFull::Messages(self.limits.messages));
            }
        }
        if messages.bytes - before + cost(&publication) > self.limits.bytes {
            messages.remove_expired(now);
            let before = messages.by_topic.get(&channel).map_or(0, |message| cost(&message.publication));
            if messages.bytes - before + cost(&publication) > self.limits.bytes {
                return Err(RetainedFull::Bytes(self.limits.bytes));
            }
        }
        let expires = lifetime(&publication).map(|lifetime| now + lifetime);
        let publication = Arc::new(publication);
        let message = Message { publication: Arc::clone(&publication), expires };
        messages.record(&channel, Some(&message))?;
        messages.insert(channel.clone(), message);
        Ok(Undo { channel, earlier, new: Some(publication) })
    }

    /// Restores the earlier message of a topic, unless a later one has replaced it: the publication has failed.
    pub fn undo(&self, undo: Undo) {
        let Undo { channel, earlier, new } = undo;
        let mut messages = self.lock();
        let present = messages.by_topic.get(&channel).map(|message| &message.publication);
        let is_unchanged = match (&new, present) {
            (Some(new), Some(present)) => Arc::ptr_eq(new, present),
            (None, None) => true,
            _ => false,
        };
        if !is_unchanged {
            return;
        }
        // If this fails, a snapshot follows.
        let _ = messages.record(&channel, earlier.as_ref());
        match earlier {
            Some(earlier) => messages.insert(channel, earlier),
            None => messages.remove(&channel),
        }
    }

    /// Number of messages.
    pub fn count(&self) -> usize {
        self.lock().by_topic.len()
    }

    /// Passes the messages that match a filter to `take`, ordered by topic. The lifetime of each is what is left of it. `take` is
    /// called under the lock of the messages and must not block.
    pub fn read(
        &self,
        filter: &Filter<'_>,
        max_bytes: usize,
        now: Instant,
        take: impl FnOnce(Result<Vec<Arc<Publication>>, TooMany>),
    ) {
        let messages = self.lock();
        let mut found = Vec::new();
        let mut bytes = 0;
        let one = Channel::new(filter.pattern()).ok().filter(|_| !filter.has_wildcards());
        let matching: Box<dyn Iterator<Item = &Message>> = if filter.has_wildcards() {
            let matches = |(channel, _): &(&Channel, &Message)| filter.matches(channel.as_str());
            Box::new(messages.by_topic.iter().filter(matches).map(|(_, message)| message))
        } else {
            Box::new(one.iter().filter_map(|channel| messages.by_topic.get(channel)))
        };
        for message in matching {
            let Some(publication) = message.at(now) else { continue };
            bytes += cost(&publication);
            if bytes > max_bytes {
                return take(Err(TooMany(max_bytes)));
            }
            found.push(publication);
        }
        take(Ok(found));
    }
}

impl Messages {
    fn insert(&mut self, channel: Channel, message: Message) {
        self.remove(&channel);
        self.bytes += cost(&message.publication);
        self.by_topic.insert(channel, message);
    }

    fn remove(&mut self, channel: &Channel) {
        if let Some(message) = self.by_topic.remove(channel) {
            self.bytes -= cost(&message.publication);
        }
    }

    fn remove_expired(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.by_topic.retain(|_, message| {
            let is_valid = message.expires.is_none_or(|expires| expires > now);
            if !is_valid {
                *bytes -= cost(&message.publication);
            }
            is_valid
        });
    }
}

impl Message {
    /// The message with the rest of its lifetime (MQTT-3.3.2-6); `None` if it has expired.
    fn at(&self, now: Instant) -> Option<Arc<Publication>> {
        let Some(expires) = self.expires else { return Some(Arc::clone(&self.publication)) };
        let left = expires.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Arc::new(with_lifetime(Publication::clone(&self.publication), Some(left))))
    }
}

/// A message with the rest of its lifetime, if it expires.
fn with_lifetime(mut publication: Publication, left: Option<Duration>) -> Publication {
    if let (Some(left), Some(message)) =
        (left, publication.extra.as_mut().and_then(|extra| extra.message.as_mut()))
    {
        message.expiry = Some(u32::try_from(left.as_secs().max(1)).unwrap_or(u32::MAX));
    }
    publication
}

fn lifetime(publication: &Publication) -> Option<Duration> {
    let seconds = publication.extra.as_ref()?.message.as_ref()?.expiry?;
    Some(Duration::from_secs(seconds.into()))
}

fn cost(publication: &Publication) -> usize {
    OVERHEAD + publication.channel.as_str().len() + publication.size()
}

impl Collect for Retained {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let (number, bytes) = {
            let messages = self.lock();
            (messages.by_topic.len(), messages.bytes)
        };
        write_metrics(number as u64, bytes as u64, out)
    }
}

fn write_metrics(messages: u64, bytes: u64, out: &mut MetricWriter<'_>) -> fmt::Result {
    let help = "Retained messages of MQTT; with Redis those of the deployment, as last read";
    out.gauge("tidings_mqtt_retained_messages", None, help, messages)?;
    let help = "Bytes of retained messages of MQTT, with an allowance for each";
    out.gauge("tidings_mqtt_retained", BYTES, help, bytes)
}

#[cfg(test)]
mod tests;
