//! The last transition: the session becomes a subscriber, and its protocol reports it.

use std::sync::Arc;

use bytes::Bytes;
use tidings_wire::body::DataFormat;
use tidings_wire::code;
use tidings_wire::grant::ChannelOverrides;
use tidings_wire::{Channel, Position, Publication};

use super::options::{SubscribeOptions, recover};
use super::state::{Origin, PendingSubscribe, SubscribeState};
use crate::decisions::{Admission, Rejection};
use crate::effects::{Effect, Effects, Failure, Notification};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::member::{SpecialSubscription, SubscriptionFlag, SubscriptionFlags};
use crate::namespace::NamespaceOptions;
use crate::protocols::{Event, Peer, Protocols};
use crate::topics::is_told;

/// A subscription that has been made.
#[derive(Debug)]
pub struct Completed {
    /// The channel.
    pub channel: Channel,
    /// Its topic.
    pub key: TopicKey,
    pub(crate) owner: Origin,
    marks: SubscriptionFlags,
    /// Data of the application for the client.
    pub data: Option<Bytes>,
    /// When it expires, in Unix seconds.
    pub expires: Option<u64>,
    /// The position at which it begins, where the history was read.
    pub position: Option<Position>,
    /// The client can recover it later.
    pub recoverable: bool,
    /// Missed publications are detected.
    pub positioned: bool,
    /// The client requested recovery.
    pub was_recovering: bool,
    /// The client gets everything that it missed.
    pub recovered: bool,
    /// The client requested recovery, and does not get all that it missed.
    pub gap: bool,
    /// The publications that the client missed.
    pub missed: Vec<Arc<Publication>>,
    /// What was published since the history was read.
    late: Vec<Arc<Publication>>,
    /// How JSON shows the bodies.
    pub format: DataFormat,
}

impl Completed {
    /// Bytes of what it missed, as they are written.
    pub(crate) fn missed_bytes(&self, peer: impl Peer) -> usize {
        self.missed.iter().map(|publication| peer.publication_len(publication, self.format)).sum()
    }
}

impl<P: Protocols> Hub<P> {
    /// Makes a subscription that is decided; the client may be sent that many bytes of what it missed.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) fn complete_subscribe(
        &mut self,
        slot: Slot,
        join: PendingSubscribe,
        max_bytes: usize,
        fx: &mut Effects,
    ) -> Result<Completed, Failure> {
        let PendingSubscribe { channel, owner, wish, admission, stage } = join;
        let (key, read) = match stage {
            SubscribeState::Live(topic) => (topic, None),
            SubscribeState::Read { topic, from, history } => (topic, Some((from, history))),
            SubscribeState::Failed(failure) => return Err(failure),
            SubscribeState::Deciding(_) | SubscribeState::Subscribing(_) | SubscribeState::Reading { .. } => {
                unreachable!("it was decided")
            }
        };
        let own = self.id_of(slot);
        self.topics.remove_waiter(key, own);
        let late: Option<Vec<_>> = match &read {
            None => Some(Vec::new()),
            Some((from, history)) => self
                .topics
                .recent(key, *from)
                .map(|recent| recent.iter().filter(|p| !is_told(p, history.position())).cloned().collect()),
        };
        let already = self.sessions[slot.index()].is_subscribed(key);
        let late = match late {
            Some(late) if !already => late,
            other => {
                if read.is_some() {
                    self.topics.stop_recording(key);
                }
                self.release(key, fx);
                let why = if other.is_some() { code::ALREADY_SUBSCRIBED } else { code::INTERNAL };
                return Err(Rejection::from(why).into());
            }
        };
        let options = self.options(&channel);
        let (mode, format) = (options.force_recovery_mode, options.publication_data_format);
        let limits = (self.settings.recovery_limit, max_bytes);
        let peer = self.sessions[slot.index()].peer;
        let length = |publication: &Publication| peer.publication_len(publication, format);
        let (missed, recovered) = match (&wish.since, &read) {
            (Some(since), Some((_, history))) => recover(since, history, mode, limits, length),
            _ => (Vec::new(), false),
        };
        if wish.since.is_some() && recovered {
            self.clients.recovered += 1;
        } else if wish.since.is_some() {
            self.clients.unrecovered += 1;
        }
        if wish.all_or_error && wish.since.is_some() && read.is_some() && !recovered {
            self.topics.stop_recording(key);
            self.release(key, fx);
            return Err(Rejection::from(code::UNRECOVERABLE_POSITION).into());
        }
        self.add_subscriber(slot, key);
        if let Some((_, history)) = &read {
            self.topics.stop_recording(key);
            self.topics.skip(key, slot, history.position().clone());
        }
        let options = self.options(&channel);
        let marks = marks(options, &admission.overrides, &wish, owner);
        let Admission { info, data, expires, token, .. } = admission;
        if !marks.is_empty() || info.is_some() || expires.is_some() || token.is_some() {
            let sub = SpecialSubscription { topic: key, marks, info, expires, token: token.map(Box::new) };
            self.sessions[slot.index()].cold().member.get_or_insert_default().subs.push(sub);
        }
        // Before the report: a client that has it finds itself in the presence.
        if marks.has(SubscriptionFlag::Present) {
            let info = Box::new(self.client_info(slot, Some(key)));
            fx.push(Effect::Notify(Notification::Present(
                channel.clone(),
                info,
                marks.has(SubscriptionFlag::Announced),
            )));
            self.start_presence_timer(slot, fx);
        }
        Ok(Completed {
            channel,
            key,
            owner,
            marks,
            data,
            expires,
            position: read.as_ref().map(|(_, history)| history.position().clone()),
            recoverable: read.is_some() && wish.recoverable,
            positioned: read.is_some() && wish.positioned,
            was_recovering: wish.since.is_some(),
            recovered,
            gap: wish.returns && !recovered,
            missed,
            late,
            format,
        })
    }

    /// A subscribe's turn has come: makes the subscription and reports it.
    pub(crate) fn finish_subscribe(&mut self, slot: Slot, join: PendingSubscribe, fx: &mut Effects) {
        let owner = join.owner;
        let max_bytes = self.settings.recovery_bytes;
        match (self.complete_subscribe(slot, join, max_bytes, fx), owner) {
            (Ok(settled), _) => {
                self.event(slot, Event::Joined { owner, settled: &settled }, fx);
                self.after_subscribe(slot, &settled, fx);
            }
            (Err(failure), Origin::Command(id)) => {
                self.event(slot, Event::Failed { id, failure: &failure }, fx);
            }
            // The application gets no report: its order was for all sessions that it concerned.
            (Err(_), _) => self.errors += 1,
        }
    }

    /// What follows the answer: publications that came meanwhile, and word to others.
    pub(crate) fn after_subscribe(&mut self, slot: Slot, settled: &Completed, fx: &mut Effects) {
        if !settled.late.is_empty() {
            self.event(slot, Event::Publications(settled.key, &settled.late), fx);
        }
        if let Some(at) = settled.expires {
            self.start_sub_expiry(slot, at, fx);
        }
        if settled.marks.has(SubscriptionFlag::Announced) {
            let info = Box::new(self.client_info(slot, Some(settled.key)));
            fx.push(Effect::Notify(Notification::Joined(settled.channel.clone(), info)));
        }
        if settled.owner == Origin::Connect {
            self.forget_empty_member(slot);
        }
    }

    /// A special subscription has ended: removes its presence and publishes its leave. Its topic is still there.
    pub(crate) fn report_left(&mut self, slot: Slot, sub: &SpecialSubscription, fx: &mut Effects) {
        let Some(channel) = self.channel_of(sub.topic) else { return };
        let mut info = self.client_info(slot, None);
        info.chan_info = sub.info.clone().filter(|info| !info.is_empty());
        if sub.marks.has(SubscriptionFlag::Present) {
            fx.push(Effect::Notify(Notification::Absent(channel.clone(), Box::new(info.clone()))));
        }
        if sub.marks.has(SubscriptionFlag::Announced) {
            fx.push(Effect::Notify(Notification::Left(channel, Box::new(info))));
        }
    }
}

/// What is special about a subscription.
fn marks(
    options: &NamespaceOptions,
    own: &ChannelOverrides,
    wish: &SubscribeOptions,
    owner: Origin,
) -> SubscriptionFlags {
    SubscriptionFlags::default()
        .with(SubscriptionFlag::ServerSide, !matches!(owner, Origin::Command(_)))
        .with(SubscriptionFlag::Present, own.presence.unwrap_or(options.presence))
        .with(SubscriptionFlag::Announced, own.join_leave.unwrap_or(options.join_leave))
        .with(SubscriptionFlag::Watching, wish.join_leave)
}
