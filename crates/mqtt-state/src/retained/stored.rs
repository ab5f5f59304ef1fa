//! The files of the retained messages: a frame for each change, with the topic and the message, or none if it was removed.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use tidings_wire::Channel;

use super::{Limits, Message, Messages, Retained};
use crate::codec::{Decoder, Encoder};
use crate::journal::{self, Journal, StorageError};
use crate::storage::Files;

/// The name of the files.
const NAME: &str = "retained";

/// A change as in a file. `expires` is in Unix seconds.
fn encode(channel: &Channel, message: Option<&Message>) -> Vec<u8> {
    let mut record = Encoder::default();
    record.bytes(channel.as_str().as_bytes());
    record.optional(message, |to, message| {
        let expires = message.expires.map(|expires| {
            let left = expires.saturating_duration_since(Instant::now());
            (unix_time() + left).as_secs()
        });
        to.publication(&message.publication).optional(expires, |to, seconds| _ = to.u64(seconds));
    });
    record.0
}

fn decode(record: &[u8], now: Instant, unix: Duration) -> Option<(Channel, Option<Message>)> {
    let mut from = Decoder(record);
    let channel = Channel::new(from.bytes()?).ok()?;
    let message = from.optional(|from| {
        let publication = from.publication()?.into();
        let expires = from.optional(Decoder::u64)?;
        let expires =
            expires.map(|seconds| now.checked_add(Duration::from_secs(seconds).saturating_sub(unix)));
        let expires = expires.flatten();
        Some(Message { publication, expires })
    })?;
    Some((channel, message))
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Messages {
    /// Reads the files, and begins new ones.
    pub(super) fn open(limits: Limits, folder: &Path) -> io::Result<Self> {
        let (now, unix) = (Instant::now(), unix_time());
        let mut messages = Self::default();
        let loaded = journal::load(folder, NAME, |record| {
            let Some((channel, message)) = decode(record, now, unix) else { return false };
            match message {
                Some(message) => messages.insert(channel, message),
                None => messages.remove(&channel),
            }
            true
        })?;
        messages.remove_expired(now);
        let mut discarded = 0;
        while messages.by_topic.len() > limits.messages || messages.bytes > limits.bytes {
            let Some(channel) = messages.by_topic.last_key_value().map(|(channel, _)| channel.clone()) else {
                break;
            };
            messages.remove(&channel);
            discarded += 1;
        }
        if discarded > 0 {
            tracing::warn!(
                discarded,
                "retained messages of an earlier start are beyond mqtt.retain_limit or mqtt.retain_max_bytes and are discarded"
            );
        }
        let state = messages.by_topic.iter().map(|(channel, message)| encode(channel, Some(message)));
        let journal = Journal::start(folder, NAME, loaded, state)?;
        messages.journal = Some(journal);
        Ok(messages)
    }

    /// Appends a change to the files, if there are any.
    pub(super) fn record(
        &mut self,
        channel: &Channel,
        message: Option<&Message>,
    ) -> Result<(), StorageError> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(&encode(channel, message)))
    }
}

impl Files for Retained {
    fn name(&self) -> &'static str {
        NAME
    }

    fn with_journal(&self, use_it: &mut dyn FnMut(&mut Journal)) {
        self.lock().journal.iter_mut().for_each(use_it);
    }

    fn snapshot(&self) {
        let mut messages = self.lock();
        let Some(journal) = messages.journal.as_mut().filter(|journal| journal.needs_snapshot()) else {
            return;
        };
        let Some(file) = journal.begin_snapshot() else { return };
        let state = messages.by_topic.clone();
        drop(messages);
        let state = state.iter().map(|(channel, message)| encode(channel, Some(message)));
        let mut written = Some(file.write(state));
        self.with_journal(&mut |journal| {
            if let Some(written) = written.take() {
                journal.end_snapshot(written);
            }
        });
    }
}
