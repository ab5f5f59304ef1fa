//! Subscriptions of the client protocol: from the wish, over the broker and the channel's history, to the answer.
//!
//! Where a channel has a history the order is: the topic is live; from now on the topic keeps what is fanned out; the
//! history is read; then, in one step, the session becomes a subscriber, is told the position (and what it missed up
//! to there), and gets what was kept beyond that. Publications up to the position that come later still are not for
//! it. So there is neither a gap nor a double between what was read and what is live.
//!
//! What a client missed is read when its turn to be answered has come, and one channel after the other: so a session never
//! holds more than one client may be sent, however many channels it comes back to.

use std::sync::Arc;

use bytes::Bytes;
use tidings_wire::client::push::{self, Event, Publication as Shown};
use tidings_wire::client::{Data, Encoding};
use tidings_wire::client::{reply, request};
use tidings_wire::code;
use tidings_wire::{Channel, Position, Publication, Topic};

use crate::access::Action;
use crate::deciding::{Admission, ChannelOverrides, Verdict};
use crate::effects::{Answer, Effect, Effects, Failure, HistoryPage, HistoryQuery, Note, Request};
use crate::hub::Hub;
use crate::namespace::{NamespaceOptions, RecoveryMode};
use crate::session::{Join, Mark, Marks, Owner, Rights, SessionId, Since, Stage, Sub, Wish};
use crate::topics::{Entry, TopicKey, is_told};

/// A subscription that has been made.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) channel: Channel,
    key: TopicKey,
    owner: Owner,
    marks: Marks,
    data: Option<Bytes>,
    expires: Option<u64>,
    position: Option<Position>,
    recoverable: bool,
    positioned: bool,
    was_recovering: bool,
    recovered: bool,
    /// It requested recovery, and did not get all it missed.
    gap: bool,
    /// What it missed.
    missed: Vec<Arc<Publication>>,
    /// What was published since the history was read.
    late: Vec<Arc<Publication>>,
    format: tidings_wire::body::DataFormat,
}

impl Settled {
    /// Bytes of what it missed, as they are written.
    pub(crate) fn missed_bytes(&self, encoding: Encoding) -> usize {
        self.missed.iter().map(|publication| encoding.publication_len(publication, self.format)).sum()
    }

    /// What the client is told.
    pub(crate) fn reply(&self, now: u64) -> reply::Subscribe<'_> {
        let left = self.expires.map(|at| crate::session::seconds_left(at, now));
        let shown: Vec<_> = self.missed.iter().map(|p| Shown::new(p, self.format)).collect();
        reply::Subscribe {
            expires: left.is_some(),
            ttl: left.unwrap_or(0),
            recoverable: self.recoverable,
            epoch: self.position.as_ref().map_or("", |p| p.epoch.as_str()).into(),
            publications: shown.into(),
            recovered: self.recovered,
            offset: self.position.as_ref().map_or(0, |p| p.offset),
            positioned: self.positioned,
            data: self.data.as_deref().map(Data::from),
            was_recovering: self.was_recovering,
            delta: false,
        }
    }
}

/// The bit of a subscription's `flag` by which a client requests error 112 in place of a subscription that misses
/// something: it then fetches the state anew. Other bits request nothing that would be missed where it is not done.
const REJECT_UNRECOVERED: i64 = 1 << 1;

/// What a client requests with a subscription.
pub(crate) fn wish(sub: &request::Subscribe<'_>) -> Wish {
    Wish {
        since: sub.recover.then(|| Since { offset: sub.offset, epoch: sub.epoch.clone().into_owned() }),
        recoverable: sub.recoverable,
        positioned: sub.positioned,
        join_leave: sub.join_leave,
        all_or_error: sub.flag & REJECT_UNRECOVERED != 0,
        by_client: true,
        returns: false,
    }
}

/// What a reading of the history means to a client that comes back: what it missed, and whether that is all.
fn recover(
    since: &Since,
    page: &HistoryPage,
    mode: RecoveryMode,
    limits: (usize, usize),
    length: impl Fn(&Publication) -> usize,
) -> (Vec<Arc<Publication>>, bool) {
    let Some(publications) = &page.publications else { return (Vec::new(), false) };
    let same = since.epoch.is_empty() || since.epoch == page.position.epoch.as_str();
    let (count, bytes) = limits;
    if mode == RecoveryMode::Cache {
        let newest = publications.first().filter(|newest| length(newest) <= bytes);
        let seen = same && since.offset == page.position.offset;
        let missed = newest.filter(|_| !seen).cloned();
        return (missed.into_iter().collect(), newest.is_some());
    }
    let missed: Vec<_> =
        publications.iter().filter(|p| p.offset().is_some_and(|o| o > since.offset)).cloned().collect();
    // All or nothing: the first must follow what was seen, and the last be where the channel stands.
    let first = missed.first().and_then(|p| p.offset());
    let whole = match first {
        None => page.position.offset <= since.offset,
        Some(first) => {
            let last = missed.last().and_then(|p| p.offset());
            first == since.offset + 1 && last == Some(page.position.offset)
        }
    };
    let fits = missed.len() <= count && missed.iter().map(|p| length(p)).sum::<usize>() <= bytes;
    if same && whole && fits && since.offset <= page.position.offset {
        (missed, true)
    } else {
        (Vec::new(), false)
    }
}

impl Hub {
    /// Begins to make a subscription that is allowed, with what the client may have of `wish`; gives how far it has come.
    pub(crate) fn reach(
        &mut self,
        slot: u32,
        channel: &Channel,
        wish: &mut Wish,
        own: &ChannelOverrides,
        fx: &mut Effects,
    ) -> Stage {
        let options = match self.settings.namespaces.of(channel.as_str()) {
            // Whoever allowed it: a token, a hook, the server API or the options.
            _ if self.settings.access.is_reserved(channel.as_str()) => Err(code::PERMISSION_DENIED),
            options => options,
        };
        let options = match options {
            Ok(options) => options,
            Err(code) => return Stage::Failed(Verdict::from(code).into()),
        };
        wish.grant(options, own, self.rights(slot, options));
        let topic = Topic::Channel(channel.clone());
        let known = self.topics.key(&topic).is_some();
        let key = self.ensure_topic(&topic, fx);
        let live = self.topics.get(key).is_some_and(Entry::is_live);
        if live && !self.reads_in_turn(key, wish) {
            return self.reach_live(slot, key, channel, wish, 0, fx);
        }
        let waiter = self.id_of(slot);
        if let Some(entry) = self.topics.get_mut(key) {
            entry.waiters.push(waiter);
        }
        if known && !live {
            // Whether the broker is away must be asked anew.
            fx.push(Effect::Want(topic));
        }
        Stage::Subscribing(key)
    }

    /// What a session may request of a channel that it subscribes to.
    fn rights(&self, slot: u32, options: &NamespaceOptions) -> Rights {
        let identity = self.sessions[slot as usize].identity;
        let may = |action| self.settings.access.permits(action, identity, true, options);
        Rights { history: may(Action::History), presence: may(Action::Presence) }
    }

    /// Whether a subscribe waits with reading the history until it is to be answered.
    fn reads_in_turn(&self, key: TopicKey, wish: &Wish) -> bool {
        wish.since.is_some() && wish.positioned && self.topics.get(key).is_some_and(Entry::has_history)
    }

    /// Reads what a client missed for the subscribe whose turn it is: with several, those of a `connect`, for one after
    /// the other, as long as what one client may be sent lasts.
    pub(crate) fn read_for_head(&mut self, slot: u32, fx: &mut Effects) {
        loop {
            let Some(more) = self.sessions[slot as usize].existing_more() else { return };
            let mut left = self.settings.recovery_bytes;
            let mut next = None;
            for (index, join) in more.awaiting.head_joins().iter().enumerate() {
                match &join.stage {
                    Stage::Reading { .. } if join.wish.since.is_some() => return,
                    Stage::Read { page, .. } => left = left.saturating_sub(page.size()),
                    Stage::Subscribing(key)
                        if next.is_none()
                            && join.wish.since.is_some()
                            && self.topics.get(*key).is_some_and(Entry::is_live) =>
                    {
                        next = Some((index, *key, join.channel.clone(), join.wish.clone()));
                    }
                    _ => {}
                }
            }
            let Some((index, key, channel, wish)) = next else { return };
            let stage = self.reach_live(slot, key, &channel, &wish, left, fx);
            self.set_stage(slot, index, stage);
        }
    }

    /// The broker has confirmed the topic: reads the history, if the channel has one and the subscription uses it; at most
    /// that many bytes of what was missed.
    fn reach_live(
        &mut self,
        slot: u32,
        key: TopicKey,
        channel: &Channel,
        wish: &Wish,
        max_bytes: usize,
        fx: &mut Effects,
    ) -> Stage {
        if !wish.positioned || !self.topics.get(key).is_some_and(Entry::has_history) {
            return Stage::Live(key);
        }
        let since = wish.since.as_ref();
        let mode = self.options(channel).force_recovery_mode;
        // One more than may be sent, so that too many are seen to be.
        let limit = self.settings.recovery_limit.saturating_add(1);
        let query = match (since, mode) {
            (None, _) => HistoryQuery { limit: Some(0), ..HistoryQuery::default() },
            (Some(_), RecoveryMode::Cache) => {
                HistoryQuery { limit: Some(1), reverse: true, ..HistoryQuery::default() }
            }
            (Some(since), RecoveryMode::Stream) => {
                HistoryQuery { limit: Some(limit), since: since.position(), ..HistoryQuery::default() }
            }
        };
        let query = HistoryQuery { heard: true, max_bytes, ..query };
        let from = self.topics.catch(key);
        let id = self.id_of(slot);
        let ticket = self.sessions[slot as usize].more().awaiting.ticket();
        fx.push(Effect::Ask(id, ticket, Request::History(channel.clone(), query)));
        Stage::Reading { topic: key, ticket, from }
    }

    pub(crate) fn options(&self, channel: &Channel) -> &NamespaceOptions {
        self.settings.namespaces.of(channel.as_str()).unwrap_or(self.settings.namespaces.without())
    }

    pub(crate) fn channel_of(&self, key: TopicKey) -> Option<Channel> {
        match self.topics.get(key)?.topic() {
            Topic::Channel(channel) => Some(channel.clone()),
            Topic::Pattern(_) => None,
        }
    }

    /// A topic is live: the session's subscribes that waited for that go on.
    pub(crate) fn joins_live(&mut self, slot: u32, key: TopicKey, fx: &mut Effects) {
        if !self.topics.get(key).is_some_and(Entry::is_live) {
            return;
        }
        let mut index = 0;
        loop {
            let Some(more) = self.sessions[slot as usize].existing_more() else { return };
            let Some(join) = more.awaiting.joins_mut().nth(index) else { return };
            index += 1;
            if join.waits_for() != Some(key) {
                continue;
            }
            let (channel, wish) = (join.channel.clone(), join.wish.clone());
            if self.reads_in_turn(key, &wish) {
                continue;
            }
            let stage = self.reach_live(slot, key, &channel, &wish, 0, fx);
            self.set_stage(slot, index - 1, stage);
        }
    }

    fn set_wish(&mut self, slot: u32, index: usize, wish: Wish) {
        if let Some(more) = self.sessions[slot as usize].existing_more()
            && let Some(join) = more.awaiting.joins_mut().nth(index)
        {
            join.wish = wish;
        }
    }

    fn set_stage(&mut self, slot: u32, index: usize, stage: Stage) {
        if let Some(more) = self.sessions[slot as usize].existing_more()
            && let Some(join) = more.awaiting.joins_mut().nth(index)
        {
            join.stage = stage;
        }
    }

    /// Takes an answer that a subscribe under way waits for; gives it back when none does.
    pub(crate) fn join_answered(
        &mut self,
        slot: u32,
        ticket: u32,
        answer: Answer,
        fx: &mut Effects,
    ) -> Option<Answer> {
        let more = self.sessions[slot as usize].existing_more()?;
        let Some((index, join)) =
            more.awaiting.joins_mut().enumerate().find(|(_, join)| join.ticket() == Some(ticket))
        else {
            return Some(answer);
        };
        let (channel, mut wish) = (join.channel.clone(), join.wish.clone());
        let stage = match (answer, join.stage.clone()) {
            (Answer::Failed(failure), Stage::Reading { topic, .. }) => {
                self.let_go(slot, Some(topic), Some(topic), fx);
                Stage::Failed(failure)
            }
            (Answer::Failed(failure), _) => Stage::Failed(failure),
            (Answer::History(page), Stage::Reading { topic, from, .. }) => Stage::Read { topic, from, page },
            (Answer::Allowed(admission), Stage::Deciding(_)) => {
                let own = admission.overrides;
                join.admission = *admission;
                let stage = self.reach(slot, &channel, &mut wish, &own, fx);
                self.set_wish(slot, index, wish);
                stage
            }
            _ => Stage::Failed(Verdict::from(code::INTERNAL).into()),
        };
        self.set_stage(slot, index, stage);
        None
    }

    /// Makes a subscription that is decided; the client may be sent that many bytes of what it missed.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) fn settle_join(
        &mut self,
        slot: u32,
        join: Join,
        max_bytes: usize,
        fx: &mut Effects,
    ) -> Result<Settled, Failure> {
        let Join { channel, owner, wish, admission, stage } = join;
        let (key, read) = match stage {
            Stage::Live(topic) => (topic, None),
            Stage::Read { topic, from, page } => (topic, Some((from, page))),
            Stage::Failed(failure) => return Err(failure),
            Stage::Deciding(_) | Stage::Subscribing(_) | Stage::Reading { .. } => {
                unreachable!("it was decided")
            }
        };
        let own = self.id_of(slot);
        self.topics.waits_no_more(key, own);
        let late: Option<Vec<_>> = match &read {
            None => Some(Vec::new()),
            Some((from, page)) => self
                .topics
                .recent(key, *from)
                .map(|recent| recent.iter().filter(|p| !is_told(p, &page.position)).cloned().collect()),
        };
        let already = self.sessions[slot as usize].is_subscribed(key);
        let late = match late {
            Some(late) if !already => late,
            other => {
                if read.is_some() {
                    self.topics.caught(key);
                }
                self.release(key, fx);
                let why = if other.is_some() { code::ALREADY_SUBSCRIBED } else { code::INTERNAL };
                return Err(Verdict::from(why).into());
            }
        };
        let options = self.options(&channel);
        let (mode, format) = (options.force_recovery_mode, options.publication_data_format);
        let limits = (self.settings.recovery_limit, max_bytes);
        let encoding = self.sessions[slot as usize].link.encoding();
        let length = |publication: &Publication| encoding.publication_len(publication, format);
        let (missed, recovered) = match (&wish.since, &read) {
            (Some(since), Some((_, page))) => recover(since, page, mode, limits, length),
            _ => (Vec::new(), false),
        };
        if wish.since.is_some() && recovered {
            self.clients.recovered += 1;
        } else if wish.since.is_some() {
            self.clients.unrecovered += 1;
        }
        if wish.all_or_error && wish.since.is_some() && read.is_some() && !recovered {
            self.topics.caught(key);
            self.release(key, fx);
            return Err(Verdict::from(code::UNRECOVERABLE_POSITION).into());
        }
        self.add_subscriber(slot, key);
        if let Some((_, page)) = &read {
            self.topics.caught(key);
            self.topics.skip(key, slot, page.position.clone());
        }
        let options = self.options(&channel);
        let marks = marks(options, &admission.overrides, &wish, owner);
        let Admission { info, data, expires, token, .. } = admission;
        if !marks.is_empty() || info.is_some() || expires.is_some() || token.is_some() {
            let sub = Sub { topic: key, marks, info, expires, token: token.map(Box::new) };
            self.sessions[slot as usize].more().member.get_or_insert_default().subs.push(sub);
        }
        // Before the answer: who has it finds the client present.
        if marks.has(Mark::Present) {
            let info = Box::new(self.client_info(slot, Some(key)));
            fx.push(Effect::Tell(Note::Present(channel.clone(), info, marks.has(Mark::Announced))));
            self.keep_present(slot, fx);
        }
        Ok(Settled {
            channel,
            key,
            owner,
            marks,
            data,
            expires,
            position: read.as_ref().map(|(_, page)| page.position.clone()),
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

    /// A subscribe's turn has come: makes the subscription and tells the client, as its owner wants it told.
    pub(crate) fn joined(&mut self, slot: u32, join: Join, fx: &mut Effects) {
        let owner = join.owner;
        let max_bytes = self.settings.recovery_bytes;
        match (self.settle_join(slot, join, max_bytes, fx), owner) {
            (Ok(settled), Owner::Command(id)) => {
                self.tell_subscribed(slot, id, &settled, fx);
                self.after_joining(slot, &settled, fx);
            }
            (Ok(settled), _) => {
                self.tell_of_order(slot, &settled, fx);
                self.after_joining(slot, &settled, fx);
            }
            (Err(failure), Owner::Command(id)) => self.failed(slot, id, &failure, fx),
            // The application is not told: its order was for whoever it concerned.
            (Err(_), _) => self.errors += 1,
        }
    }

    fn tell_subscribed(&mut self, slot: u32, id: u32, settled: &Settled, fx: &mut Effects) {
        if !self.sessions[slot as usize].link.is_events() {
            return self.reply(slot, id, reply::Outcome::Subscribe(settled.reply(self.time)), fx);
        }
        // An event source is told where it stands, so that it can come back there; then what it missed.
        if settled.gap {
            fx.send(slot, |out| {
                let data = settled.channel.as_str();
                let event = tidings_wire::sse::Event { id: None, event: Some("gap"), data };
                event.write(out).expect("a name without a line break");
            });
        }
        if let Some(position) = settled.position.as_ref().filter(|_| settled.missed.is_empty()) {
            let id = tidings_wire::form::event_id(position, settled.channel.as_str());
            fx.send(slot, |out| {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(id.as_bytes());
                out.extend_from_slice(b"\n\n");
            });
        }
        self.send_publications(slot, settled.key, settled.missed.iter(), fx);
    }

    fn tell_of_order(&mut self, slot: u32, settled: &Settled, fx: &mut Effects) {
        let event = Event::Subscribe(push::Subscribe {
            recoverable: settled.recoverable,
            epoch: settled.position.as_ref().map_or("", |p| p.epoch.as_str()).into(),
            offset: settled.position.as_ref().map_or(0, |p| p.offset),
            positioned: settled.positioned,
            data: settled.data.as_deref().map(Data::from),
        });
        let link = self.sessions[slot as usize].link;
        crate::session::send_push(link, slot, settled.channel.as_str(), event, fx);
        self.send_publications(slot, settled.key, settled.missed.iter(), fx);
    }

    /// What follows the answer: publications that came meanwhile, and word to others.
    pub(crate) fn after_joining(&mut self, slot: u32, settled: &Settled, fx: &mut Effects) {
        self.send_publications(slot, settled.key, settled.late.iter(), fx);
        if let Some(at) = settled.expires {
            self.start_sub_expiry(slot, at, fx);
        }
        if settled.marks.has(Mark::Announced) {
            let info = Box::new(self.client_info(slot, Some(settled.key)));
            fx.push(Effect::Tell(Note::Joined(settled.channel.clone(), info)));
        }
        if settled.owner == Owner::Connect {
            self.forget_nobody(slot);
        }
    }

    /// A subscribe will not be answered: what was kept for it is let go.
    pub(crate) fn abandon(&mut self, slot: u32, join: &Join, fx: &mut Effects) {
        self.let_go(slot, join.catches(), join.holds(), fx);
    }

    /// A subscribe neither has publications kept for it by the one topic any more, nor holds the other.
    pub(crate) fn let_go(
        &mut self,
        slot: u32,
        catches: Option<TopicKey>,
        holds: Option<TopicKey>,
        fx: &mut Effects,
    ) {
        let waiter: SessionId = self.id_of(slot);
        if let Some(key) = catches {
            self.topics.caught(key);
        }
        if let Some(key) = holds {
            self.topics.waits_no_more(key, waiter);
            self.release(key, fx);
        }
    }

    /// A special subscription has ended: tells those who were told that it began. Its topic is still there.
    pub(crate) fn gone(&mut self, slot: u32, sub: &Sub, fx: &mut Effects) {
        let Some(channel) = self.channel_of(sub.topic) else { return };
        let mut info = self.client_info(slot, None);
        info.chan_info = sub.info.clone().filter(|info| !info.is_empty());
        if sub.marks.has(Mark::Present) {
            fx.push(Effect::Tell(Note::Absent(channel.clone(), Box::new(info.clone()))));
        }
        if sub.marks.has(Mark::Announced) {
            fx.push(Effect::Tell(Note::Left(channel, Box::new(info))));
        }
    }
}

/// What is special about a subscription.
fn marks(options: &NamespaceOptions, own: &ChannelOverrides, wish: &Wish, owner: Owner) -> Marks {
    Marks::default()
        .with(Mark::ServerSide, !matches!(owner, Owner::Command(_)))
        .with(Mark::Present, own.presence.unwrap_or(options.presence))
        .with(Mark::Announced, own.join_leave.unwrap_or(options.join_leave))
        .with(Mark::Watching, wish.join_leave)
}
