//! The last transition: the session becomes a subscriber, and its protocol reports it.

use std::sync::Arc;

use bytes::Bytes;
use tidings_wire::body::DataFormat;
use tidings_wire::code;
use tidings_wire::grant::ChannelOverrides;
use tidings_wire::{Channel, Position, Publication, RecoveryMode};

use super::options::{SubscribeOptions, recover};
use super::state::{Origin, PendingSubscribe, SubscribeState};
use crate::authorization::{Admission, Rejection};
use crate::context::Context;
use crate::effects::{Effect, Failure, Notification};
use crate::index::TopicKey;
use crate::kind::SubscriptionKind;
use crate::map::{MapStep, MapSubscribe};
use crate::namespace::NamespaceOptions;
use crate::namespace_stats::add;
use crate::no_local::origin as publication_origin;
use crate::protocols::{Event, Peer, Protocols};
use crate::selections::passes;
use crate::topics::is_at_or_before;
use crate::user_state::{SubscriptionDetails, SubscriptionFlag, SubscriptionFlags};

/// A new subscription.
#[derive(Debug)]
pub struct Completed {
    /// The channel.
    pub channel: Channel,
    /// Its topic.
    pub key: TopicKey,
    pub(crate) origin: Origin,
    flags: SubscriptionFlags,
    /// Data of the application for the client.
    pub data: Option<Bytes>,
    /// When it expires, in Unix seconds.
    pub expires: Option<u64>,
    /// Whether the application renews it, and not the client.
    pub is_renewed_by_application: bool,
    /// The position at which it begins, if the history was read.
    pub position: Option<Position>,
    /// Whether the client can recover it later.
    pub recoverable: bool,
    /// Whether missed publications are detected.
    pub positioned: bool,
    /// Whether the client requested recovery.
    pub was_recovering: bool,
    /// Whether the client gets all missed publications.
    pub recovered: bool,
    /// Whether the client requested recovery and does not get all missed publications.
    pub gap: bool,
    /// The publications that the client missed.
    pub missed: Vec<Arc<Publication>>,
    /// The publications since the history was read.
    recorded: Vec<Arc<Publication>>,
    /// Whether the client gets deltas.
    pub delta: bool,
    /// The data format of bodies for JSON clients.
    pub format: DataFormat,
    /// What it follows.
    pub kind: SubscriptionKind,
    /// The epoch of the versions of a shared poll.
    pub poll_epoch: Option<Box<str>>,
}

impl Completed {
    /// The length of the missed publications as encoded for `peer`, in bytes.
    pub(crate) fn missed_bytes(&self, peer: impl Peer) -> usize {
        let length = |publication: &Arc<Publication>| sent_len(peer, publication, self.format, self.delta);
        self.missed.iter().map(length).sum()
    }
}

/// The length of a missed publication as encoded for `peer`, in bytes. With deltas, JSON text is inside of a JSON string, which
/// makes it at most twice as long.
fn sent_len(peer: impl Peer, publication: &Publication, format: DataFormat, delta: bool) -> usize {
    let length = peer.publication_len(publication, format);
    if delta { 2 * length } else { length }
}

impl<P: Protocols> Context<'_, P> {
    /// Makes a decided subscription with at most `max_bytes` of missed publications.
    ///
    /// # Errors
    /// The reason, if it cannot be made.
    pub(crate) fn complete_subscribe(
        &mut self,
        subscribe: PendingSubscribe,
        max_bytes: usize,
    ) -> Result<Completed, Failure> {
        let PendingSubscribe { channel, origin, sub_options, admission, state } = subscribe;
        let mut poll_epoch = None;
        let (key, read) = match state {
            SubscribeState::Live(topic) => (topic, None),
            SubscribeState::PollJoined { topic, epoch } => {
                poll_epoch = Some(epoch.into_boxed_str());
                (topic, None)
            }
            SubscribeState::HistoryRead { topic, from, history } => (topic, Some((from, history))),
            SubscribeState::Failed(failure) => return Err(failure),
            SubscribeState::Deciding(_)
            | SubscribeState::Subscribing(_)
            | SubscribeState::ReadingState(_)
            | SubscribeState::StateRead(_)
            | SubscribeState::JoiningPoll { .. }
            | SubscribeState::ReadingHistory { .. } => {
                unreachable!("it was decided")
            }
        };
        let own = self.id();
        self.hub.topics.remove_waiter(key, own);
        let recorded: Option<Vec<_>> = match &read {
            None => Some(Vec::new()),
            Some((from, history)) => self.hub.topics.recorded(key, *from).map(|recent| {
                recent.iter().filter(|p| !is_at_or_before(p, history.position())).cloned().collect()
            }),
        };
        let already = self.session().is_subscribed(key);
        let mut recorded = match recorded {
            Some(recorded) if !already => recorded,
            other => {
                if read.is_some() {
                    self.hub.topics.stop_recording(key);
                }
                if poll_epoch.is_some() && !already {
                    self.leave_poll(channel);
                }
                self.release(key);
                let why = if other.is_some() { code::ALREADY_SUBSCRIBED } else { code::INTERNAL };
                return Err(Rejection::from(why).into());
            }
        };
        let filter = sub_options.filter.clone();
        if let Some(filter) = &filter
            && let Some(Err(limit)) = self.hub.topics.get(key).map(|entry| entry.check_filter(filter))
        {
            if read.is_some() {
                self.hub.topics.stop_recording(key);
            }
            self.release(key);
            let text = format!("limit exceeded: {limit} different filters in a channel (tags_filter_limit)");
            return Err(Rejection { text, ..code::LIMIT_EXCEEDED.into() }.into());
        }
        let options = self.hub.options(&channel);
        let (mode, format) = (options.force_recovery_mode, options.publication_data_format);
        let limits = (self.hub.settings.recovery_limit, max_bytes);
        let peer = self.session().peer;
        let length = |publication: &Publication| sent_len(peer, publication, format, sub_options.delta);
        let (mut missed, recovered) = match (&sub_options.since, &read) {
            (Some(since), Some((_, history))) => {
                recover(since, history, mode, filter.as_deref(), limits, length)
            }
            _ => (Vec::new(), false),
        };
        // A client that has just read the state of a map recovers nothing.
        let step = sub_options.map.as_ref().map(|map| &map.step);
        let returns = !matches!(step, Some(MapStep::Stream { returns: false }));
        let was_recovering = sub_options.since.is_some() && returns;
        if was_recovering && recovered {
            self.hub.clients.recovered += 1;
        } else if was_recovering {
            self.hub.clients.unrecovered += 1;
        }
        if was_recovering && let Some(entry) = self.hub.topics.get(key) {
            let stats = entry.stats();
            add(if recovered { &stats.recovered } else { &stats.unrecovered }, 1);
        }
        if sub_options.all_or_error && sub_options.since.is_some() && read.is_some() && !recovered {
            self.hub.topics.stop_recording(key);
            self.release(key);
            return Err(Rejection::from(code::UNRECOVERABLE_POSITION).into());
        }
        if let Some(filter) = &filter {
            recorded.retain(|publication| passes(filter, publication));
        }
        self.hub.add_selected_subscriber(self.slot, key, filter, sub_options.delta);
        if let (RecoveryMode::Cache, Some(_), Some((_, history))) = (mode, &sub_options.since, &read)
            && history.publications().is_none_or(<[_]>::is_empty)
        {
            self.fx.push(Effect::Notify(Notification::CacheMiss(channel.clone())));
        }
        if sub_options.no_local {
            self.hub.set_no_local(self.slot, key, true);
            let own = Some(self.hub.client_id_bits(own));
            missed.retain(|publication| publication_origin(publication) != own);
            recorded.retain(|publication| publication_origin(publication) != own);
        }
        let recoverable = read.is_some() && sub_options.recoverable;
        if recoverable {
            self.session_mut().set_recoverable(key);
        }
        if let Some((_, history)) = &read {
            self.hub.topics.stop_recording(key);
            self.hub.topics.skip(key, self.slot, history.position().clone());
        }
        let options = self.hub.options(&channel);
        let is_renewed_by_application = options.sub_refresh_proxy;
        let flags = flags(options, &admission.overrides, &sub_options, origin);
        let Admission { info, data, expires, allow, token, stream, .. } = admission;
        let has_details = info.is_some() || expires.is_some() || !allow.is_empty();
        if !flags.is_empty() || has_details || token.is_some() || stream.is_some() {
            let (token, stream) = (token.map(Box::new), stream.map(Box::new));
            let sub = SubscriptionDetails { topic: key, flags, info, expires, allow, token, stream };
            self.session_mut().cold().user_state.get_or_insert_default().subs.push(sub);
        }
        // Before the report, so that a client that reads the presence on it finds itself.
        if flags.has(SubscriptionFlag::Present) {
            let info = Box::new(self.hub.client_info(self.slot, Some(key)));
            self.fx.push(Effect::Notify(Notification::Present(
                channel.clone(),
                info,
                flags.has(SubscriptionFlag::Announced),
            )));
            self.start_presence_timer();
        }
        if flags.has(SubscriptionFlag::InMaps) {
            self.enter_maps(&channel, key);
            self.start_presence_timer();
        }
        Ok(Completed {
            channel,
            key,
            origin,
            flags,
            data,
            expires,
            is_renewed_by_application,
            position: read.as_ref().map(|(_, history)| history.position().clone()),
            recoverable,
            positioned: read.is_some() && sub_options.positioned,
            was_recovering,
            recovered: recovered && returns,
            gap: sub_options.recovery_requested && !recovered,
            missed,
            recorded,
            delta: sub_options.delta,
            format,
            kind: sub_options.kind(),
            poll_epoch,
        })
    }

    /// Makes a subscription that is next to be answered, and reports it.
    pub(crate) fn finish_subscribe(&mut self, subscribe: PendingSubscribe) {
        let origin = subscribe.origin;
        if let (SubscribeState::StateRead(page), Origin::Command(id), Some(MapSubscribe { kind, .. })) =
            (&subscribe.state, origin, subscribe.sub_options.map.as_deref())
        {
            let mut page = page.clone();
            if let Some(filter) = &subscribe.sub_options.filter {
                page.entries.retain(|entry| passes(filter, entry));
            }
            let format = self.hub.options(&subscribe.channel).publication_data_format;
            return self.event(Event::StateRead { id, kind: *kind, page: &page, format });
        }
        let max_bytes = self.hub.settings.recovery_bytes;
        match (self.complete_subscribe(subscribe, max_bytes), origin) {
            (Ok(completed), _) => {
                self.event(Event::SubscribeCompleted { origin, completed: &completed });
                self.after_subscribe(&completed);
            }
            (Err(failure), Origin::Command(id)) => {
                self.event(Event::Failed { id, failure: &failure });
            }
            // Orders of the application have no response.
            (Err(_), _) => self.hub.errors += 1,
        }
    }

    /// Steps after the report: sends the recorded publications, starts timers, publishes the join.
    pub(crate) fn after_subscribe(&mut self, completed: &Completed) {
        if !completed.recorded.is_empty() {
            self.event(Event::Publications(completed.key, &completed.recorded));
        }
        self.start_stream(completed.key);
        if let Some(at) = completed.expires {
            self.start_sub_expiry(completed.key, at);
        }
        if completed.flags.has(SubscriptionFlag::Announced) {
            let info = Box::new(self.hub.client_info(self.slot, Some(completed.key)));
            self.fx.push(Effect::Notify(Notification::Joined(completed.channel.clone(), info)));
        }
        if completed.origin == Origin::Connect {
            self.drop_empty_user_state();
        }
    }

    /// Ends the presence of a subscription that has ended, and publishes its leave. Its topic still exists.
    pub(crate) fn report_leave(&mut self, sub: &SubscriptionDetails) {
        let Some(channel) = self.hub.channel_of(sub.topic) else { return };
        if sub.flags.has(SubscriptionFlag::OwnsKey) {
            let key = self.hub.client_id(self.id());
            self.fx.push(Effect::Notify(Notification::MapLeft(channel.clone(), key.into())));
        }
        if sub.flags.has(SubscriptionFlag::InMaps) {
            self.leave_maps(&channel);
        }
        if sub.flags.has(SubscriptionFlag::Polled) {
            self.leave_poll(channel.clone());
        }
        let mut info = self.hub.client_info(self.slot, None);
        info.chan_info = sub.info.clone().filter(|info| !info.is_empty());
        if sub.flags.has(SubscriptionFlag::Present) {
            self.fx.push(Effect::Notify(Notification::Absent(channel.clone(), Box::new(info.clone()))));
        }
        if sub.flags.has(SubscriptionFlag::Announced) {
            self.fx.push(Effect::Notify(Notification::Left(channel, Box::new(info))));
        }
    }
}

/// The flags of a new subscription.
fn flags(
    options: &NamespaceOptions,
    overrides: &ChannelOverrides,
    sub_options: &SubscribeOptions,
    origin: Origin,
) -> SubscriptionFlags {
    SubscriptionFlags::default()
        .with(SubscriptionFlag::ServerSide, !matches!(origin, Origin::Command(_)))
        .with(SubscriptionFlag::Present, overrides.presence.unwrap_or(options.presence))
        .with(SubscriptionFlag::Announced, overrides.join_leave.unwrap_or(options.join_leave))
        .with(SubscriptionFlag::Watching, sub_options.join_leave)
        .with(
            SubscriptionFlag::OwnsKey,
            options.map.as_ref().is_some_and(|map| map.remove_client_on_unsubscribe),
        )
        .with(SubscriptionFlag::InMaps, options.presence_maps.is_some())
        .with(SubscriptionFlag::Polled, sub_options.shared_poll)
}
