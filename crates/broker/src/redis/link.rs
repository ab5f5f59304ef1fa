//! The task of a hearing connection: connects for ever, subscribes what is wanted, hands over what is heard.
//!
//! One server has one such connection. A cluster has one for each primary, which hears what is sharded and knows of
//! positions, and one beside them to any node, which hears what is plain: see [`Part`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, RedisError, RedisResult, Value};
use tidings_wire::{Channel, Delivery, Topic};
use tokio::sync::watch;

use super::Counters;
use super::cluster::{Later, Member, Redirect};
use super::dial::{Backoff, Dialer, is_refusal};
use super::envelope::bytes;
use super::flights::{self, Range, Read};
use super::ingest::Ingest;
use super::interest::Interest;
use super::library;
use super::names::Names;
use super::queue::{Arg, Request, read_position};
use super::track::Next;
use super::tracker::Tracker;
use crate::{BrokerError, SharedSink};

/// How many topics one command names, and of how many the positions are asked at once.
const BATCH: usize = 512;
/// How many publications that were missed are fetched at once.
const PAGE: u64 = 128;
/// Bytes of them, or one.
const PAGE_BYTES: u64 = 4 << 20;

/// What a connection is there for.
#[derive(Clone)]
pub(super) enum Part {
    /// Everything: there is one server.
    Whole,
    /// What is published plainly anywhere in a cluster.
    Plain,
    /// What belongs to the hash slots of one primary of a cluster.
    Sharded(Arc<Member>),
}

/// The task's belongings.
pub(super) struct Link {
    pub(super) part: Part,
    pub(super) dialer: Dialer,
    pub(super) names: Arc<Names>,
    pub(super) interest: Arc<Interest>,
    pub(super) tracker: Arc<Tracker>,
    /// Where messages go.
    pub(super) sink: SharedSink,
    /// Where the news of the connection and its subscriptions go: the same sink, or whoever joins several connections.
    pub(super) news: SharedSink,
    pub(super) counters: Arc<Counters>,
    pub(super) reset: watch::Sender<String>,
    pub(super) resets: watch::Receiver<String>,
    pub(super) ping_interval: Duration,
    pub(super) response_timeout: Duration,
}

impl Link {
    /// Runs until the task is aborted.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        // Why there is no connection, as it was last said.
        let mut said = None;
        let mut connected_before = false;
        loop {
            let ingest = Arc::new(Ingest::new(
                Arc::clone(&self.names),
                Arc::clone(&self.sink),
                Arc::clone(&self.counters),
                Arc::clone(&self.tracker),
                matches!(self.part, Part::Plain),
            ));
            let pushes = {
                let ingest = Arc::clone(&ingest);
                move |push: PushInfo| -> Result<(), redis::aio::SendError> {
                    ingest.push(push);
                    Ok(())
                }
            };
            let why = match self.dialer.open("tidings-subscriber", pushes).await {
                Ok(connection) => {
                    tracing::info!("redis: connected");
                    if std::mem::replace(&mut connected_before, true) {
                        self.counters.reconnects.fetch_add(1, Ordering::Relaxed);
                    }
                    said = None;
                    let since = Instant::now();
                    let why = self.serve(connection, &ingest).await;
                    backoff.stood(since.elapsed());
                    why
                }
                Err(why) => why,
            };
            if said.as_ref() != Some(&why) {
                tracing::warn!("{}: no connection, trying again: {why}", self.dialer.whom());
                self.news.down(&why);
                said = Some(why);
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Keeps one connection until it ends; gives why it did.
    async fn serve(&mut self, connection: MultiplexedConnection, ingest: &Arc<Ingest>) -> String {
        let mut resets = self.resets.clone();
        resets.mark_unchanged();
        self.tracker.retain(|channel| self.interest.wants(&Topic::Channel(channel.clone())));
        if let Part::Sharded(member) = &self.part {
            member.hears(Some(Arc::clone(ingest)));
        }
        self.news.up();
        self.interest.connected();
        let why = tokio::select! {
            () = ingest.pump() => "connection lost".to_owned(),
            why = self.follow(connection.clone(), ingest) => why,
            why = self.heartbeat(connection, ingest) => why,
            reason = next_reset(&mut resets) => reason,
        };
        ingest.close();
        if let Part::Sharded(member) = &self.part {
            member.hears(None);
        }
        self.interest.disconnected();
        why
    }

    /// Makes the subscriptions what they ought to be, for ever.
    async fn follow(&self, mut connection: MultiplexedConnection, ingest: &Ingest) -> String {
        let mut later = Later::default();
        loop {
            self.heed_ends(ingest);
            let work = self.interest.take(BATCH);
            if work.is_empty() {
                let holes = self.tracker.take_holes();
                if holes.is_empty() {
                    tokio::select! {
                        () = self.interest.changed() => {}
                        () = self.tracker.unsettled() => {}
                        () = ingest.some_ended() => {}
                        () = later.due() => {
                            let gone = later.again(&self.interest, &self.tracker);
                            if let Err(why) = self.unsubscribe(&mut connection, ingest, gone).await {
                                return why;
                            }
                        }
                    }
                }
                for holes in holes.chunks(BATCH) {
                    match self.settle(&mut connection, ingest, holes).await {
                        Ok(unclear) => later.holes(unclear),
                        Err(why) => return why,
                    }
                }
                continue;
            }
            self.say_live(&work.live);
            let done = async {
                self.unsubscribe(&mut connection, ingest, work.unsubscribe).await?;
                self.subscribe(&mut connection, ingest, work.subscribe, &mut later).await
            };
            if let Err(why) = done.await {
                return why;
            }
        }
    }

    /// What Redis has ended by itself is to be subscribed anew, wherever that may be by now.
    fn heed_ends(&self, ingest: &Ingest) {
        let Part::Sharded(member) = &self.part else { return };
        let names = ingest.take_ended();
        if names.is_empty() {
            return;
        }
        let channel = |name: &Vec<u8>| self.names.heard_channel(Names::without_tag(name).0);
        let mut topics: Vec<_> = names.iter().filter_map(channel).map(Topic::Channel).collect();
        topics.dedup();
        tracing::debug!("{}: {} channels are no longer here", self.dialer.whom(), topics.len());
        self.interest.ended(&topics);
        for channel in channels_of(&topics) {
            if !self.interest.wants(&Topic::Channel(channel.clone())) {
                self.tracker.forget(channel);
            }
        }
        member.misled();
    }

    async fn unsubscribe(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        topics: Vec<Topic>,
    ) -> Result<(), String> {
        if matches!(self.part, Part::Sharded(_)) {
            return self.unsubscribe_sharded(connection, ingest, topics).await;
        }
        let (channels, patterns) = by_kind(topics);
        for topics in [channels, patterns] {
            if let Some(first) = topics.first() {
                let names = self.names(&topics);
                let answer = match first {
                    Topic::Channel(_) => self.answered(ingest, connection.unsubscribe(names)).await?,
                    Topic::Pattern(_) => self.answered(ingest, connection.punsubscribe(names)).await?,
                };
                // A refusal to unsubscribe leaves no way to know what is subscribed.
                answer.map_err(|e| self.dialer.words(&e))?;
                channels_of(&topics).for_each(|channel| self.tracker.forget(channel));
                self.interest.unsubscribed(&topics);
            }
        }
        Ok(())
    }

    /// Subscribes each of the topics, or tells the sink that it is refused.
    async fn subscribe(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        topics: Vec<Topic>,
        later: &mut Later,
    ) -> Result<(), String> {
        if matches!(self.part, Part::Sharded(_)) {
            return self.subscribe_sharded(connection, ingest, topics, later).await;
        }
        let (channels, patterns) = by_kind(topics);
        let mut left = vec![patterns, channels];
        while let Some(mut topics) = left.pop() {
            let Some(first) = topics.first() else { continue };
            let names = self.names(&topics);
            let answer = match first {
                Topic::Channel(_) => self.answered(ingest, connection.subscribe(names)).await?,
                Topic::Pattern(_) => self.answered(ingest, connection.psubscribe(names)).await?,
            };
            match answer {
                Ok(()) => {
                    let channels: Vec<_> = channels_of(&topics).cloned().collect();
                    if matches!(self.part, Part::Whole) {
                        let unclear = self.settle(connection, ingest, &channels).await?;
                        topics.retain(|t| !matches!(t, Topic::Channel(channel) if unclear.contains(channel)));
                        later.topics(unclear.into_iter().map(Topic::Channel));
                    }
                    let live = self.interest.subscribed(topics);
                    self.say_live(&live);
                }
                // Redis refuses a command as a whole for one name in it that its rules do not permit, so the halves are
                // tried: one bad name among 512 costs 18 commands. Any other error has nothing to do with the names.
                Err(e) if e.code() == Some("NOPERM") && topics.len() > 1 => {
                    let half = topics.split_off(topics.len() / 2);
                    left.extend([half, topics]);
                }
                Err(e) if is_refusal(&e) => self.refuse(topics, &e, later),
                Err(e) => return Err(self.dialer.words(&e)),
            }
        }
        Ok(())
    }

    /// Redis has refused to subscribe these: the sink is told, and they are tried again later.
    pub(super) fn refuse(&self, topics: Vec<Topic>, error: &RedisError, later: &mut Later) {
        let Some(first) = topics.first() else { return };
        let what = match topics.len() {
            1 => format!("subscribing to {}", first.as_str()),
            many => format!("subscribing to {} and {} more", first.as_str(), many - 1),
        };
        let error = self.counters.failures.error(error, &what);
        topics.into_iter().for_each(|topic| self.refused(topic, &error, later));
    }

    /// The same of one, where the error is known.
    pub(super) fn refused(&self, topic: Topic, error: &BrokerError, later: &mut Later) {
        tracing::debug!("{}: {} is refused: {error}", self.dialer.whom(), topic.as_str());
        self.news.refused(&topic, error);
        later.refused(topic);
    }

    /// Asks where these channels stand, and fetches what was missed of those that are unsettled. Asked on the
    /// hearing connection, so that every message up to the answer has come before it. Gives those of which it cannot be
    /// said yet: their slot is being moved, or Redis is busy.
    pub(super) async fn settle(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        channels: &[Channel],
    ) -> Result<Vec<Channel>, String> {
        let mut unclear = Vec::new();
        if channels.is_empty() {
            return Ok(unclear);
        }
        let mut requests = Vec::with_capacity(channels.len());
        for channel in channels {
            let mut args = Vec::new();
            if let Some((heard, term)) = self.tracker.heard(channel) {
                args = vec![Arg::Number(heard.offset), Arg::text(heard.epoch.as_str())];
                args.extend(term.map(Arg::Number));
            }
            requests.push(Request::Call(library::POSITION_READ, channel.clone(), args));
        }
        let mut answers = self.call(connection, ingest, &requests).await?;
        self.settle_by_writing(connection, ingest, &mut requests, &mut answers).await?;
        for ((channel, request), answer) in channels.iter().zip(requests).zip(answers) {
            let answer = self.here_or_there(request, answer).await;
            let position = answer.map(|answer| match answer {
                Value::Array(parts) if parts.len() >= 2 => {
                    Some((read_position(&parts[0], &parts[1])?, parts.get(2).and_then(read_number)))
                }
                _ => None,
            });
            let mut next = match position {
                Ok(position) => {
                    let (position, term) = position.map_or((None, None), |(at, term)| (Some(at), term));
                    let position = position.filter(|position| !position.epoch.as_str().is_empty());
                    ingest.settle(|tracker, out| {
                        let next = tracker.settle(channel, position, out);
                        if let Some(term) = term {
                            // A history that is not there yet begins with the first one.
                            tracker.in_term(channel, term.max(1));
                        }
                        next
                    })
                }
                Err(error) if self.may_pass(&error) => {
                    unclear.push(channel.clone());
                    continue;
                }
                Err(error) => self.abandon(ingest, channel, &error)?,
            };
            while let Next::Fetch(after) = next {
                match self.fetch(connection, ingest, channel, after).await? {
                    Some(further) => next = further,
                    None => {
                        unclear.push(channel.clone());
                        break;
                    }
                }
            }
        }
        Ok(unclear)
    }

    /// Asks again where the answer was that the history must be written to: it begins anew, or it is with another primary
    /// now. A Redis that takes no writes answers all others.
    async fn settle_by_writing(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        requests: &mut [Request],
        answers: &mut [Value],
    ) -> Result<(), String> {
        let mut again = Vec::new();
        let mut indices = Vec::new();
        for (index, request) in requests.iter_mut().enumerate().filter(|(i, _)| must_write(&answers[*i])) {
            if let Some(writing) = by_writing(request) {
                again.extend(by_writing(request));
                *request = writing;
                indices.push(index);
            }
        }
        if !again.is_empty() {
            for (index, answer) in indices.into_iter().zip(self.call(connection, ingest, &again).await?) {
                answers[index] = answer;
            }
        }
        Ok(())
    }

    /// Whether an error says nothing about a channel's history, which is to be asked for again on this connection.
    fn may_pass(&self, error: &BrokerError) -> bool {
        match error {
            BrokerError::Failed(code) => *code == "BUSY",
            BrokerError::Unavailable => matches!(self.part, Part::Sharded(_)),
            _ => false,
        }
    }

    /// An answer, from another node of the cluster where the first one sends us there.
    async fn here_or_there(&self, request: Request, answer: Value) -> Result<Value, BrokerError> {
        let (Part::Sharded(member), Some(redirect)) = (&self.part, Redirect::read(&answer)) else {
            return self.counters.failures.result(answer);
        };
        let writing = by_writing(&request);
        let answer = member.ask_there(request, redirect.clone()).await?;
        match writing {
            Some(writing) if must_write(&answer) => member.ask_there(writing, redirect).await,
            _ => Ok(answer),
        }
    }

    /// Fetches some of what was missed of a channel after an offset; gives nothing when Redis cannot tell yet.
    async fn fetch(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        channel: &Channel,
        after: u64,
    ) -> Result<Option<Next>, String> {
        let range =
            Range { lowest: Some(after + 1), count: Some(PAGE), bytes: Some(PAGE_BYTES), ..Range::default() };
        let request = flights::history(channel, range);
        let answer =
            self.call(connection, ingest, std::slice::from_ref(&request)).await?.pop().unwrap_or(Value::Nil);
        let answer = self.here_or_there(request, answer).await;
        Ok(match answer.and_then(|answer| flights::read(channel, &answer, false)) {
            Ok(Read { position, publications }) => {
                self.counters.fetched.fetch_add(publications.len() as u64, Ordering::Relaxed);
                let topic = Topic::Channel(channel.clone());
                let delivery = |publication| Delivery { topic: topic.clone(), publication };
                let missed = publications.into_iter().map(delivery).collect();
                Some(ingest.settle(|tracker, out| tracker.fill(channel, position, missed, out)))
            }
            Err(error) if self.may_pass(&error) => None,
            Err(error) => Some(self.abandon(ingest, channel, &error)?),
        })
    }

    /// Says that what was missed of a channel is lost, for Redis will not tell. If it only cannot tell now (it still
    /// reads its data from the disk, say), the connection is given up instead, and the next one asks again.
    fn abandon(&self, ingest: &Ingest, channel: &Channel, error: &BrokerError) -> Result<Next, String> {
        if *error == BrokerError::Unavailable {
            return Err("Redis is not ready to answer".to_owned());
        }
        tracing::debug!("redis: where {channel} stands is not to be learned: {error}");
        ingest.settle(|tracker, out| tracker.abandon(channel, out));
        Ok(Next::Nothing)
    }

    /// Calls functions in one round trip, loading the library first where it is gone.
    async fn call(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        requests: &[Request],
    ) -> Result<Vec<Value>, String> {
        let mut pipeline = redis::Pipeline::with_capacity(requests.len());
        requests.iter().for_each(|request| request.put(&self.names, &mut pipeline));
        let mut loaded = false;
        loop {
            let replies = connection.send_packed_commands(&pipeline, 0, pipeline.len());
            let replies = self.answered(ingest, replies).await?.map_err(|e| self.dialer.words(&e))?;
            if loaded || !replies.iter().any(library::is_missing) {
                return Ok(replies);
            }
            // All of them only read, or begin what has no beginning: they may be called again.
            match self.answered(ingest, library::load(connection, self.names.sharded())).await? {
                Err(e) if !is_refusal(&e) => return Err(self.dialer.words(&e)),
                _ => loaded = true,
            }
        }
    }

    /// Asks again and again whether the peer lives, and in which role; ends when it does not live. A master that has
    /// become a replica still takes publications, but nobody beyond itself hears them: both connections are dropped
    /// then, for the address or the Sentinels to lead to the new master.
    async fn heartbeat(&self, mut connection: MultiplexedConnection, ingest: &Ingest) -> String {
        let mut was_master = false;
        loop {
            let ask = async { redis::cmd("ROLE").query_async::<Value>(&mut connection).await };
            match self.answered(ingest, ask).await {
                Ok(Ok(answer)) => {
                    let replica = is_replica(&answer);
                    if was_master && replica && !matches!(self.part, Part::Plain) {
                        self.reset.send_replace("the master has become a replica".to_owned());
                    }
                    was_master = !replica;
                }
                // A user that may not ask for the role learns at least that the server answers.
                Ok(Err(e)) if is_refusal(&e) => {}
                Ok(Err(e)) => return self.dialer.words(&e),
                Err(why) => return why,
            }
            tokio::time::sleep(self.ping_interval).await;
        }
    }

    /// Waits for the answer to a request as long as it takes while messages keep coming, for they stand before it in
    /// the queue; but not longer than the response timeout in silence.
    pub(super) async fn answered<T>(
        &self,
        ingest: &Ingest,
        request: impl Future<Output = RedisResult<T>>,
    ) -> Result<Result<T, RedisError>, String> {
        let mut request = std::pin::pin!(request);
        ingest.asked.fetch_add(1, Ordering::SeqCst);
        loop {
            let before = ingest.pushes();
            match tokio::time::timeout(self.response_timeout, &mut request).await {
                Ok(_) if ingest.is_confused() => {
                    return Err("hash slots have left while an answer was due".to_owned());
                }
                Ok(answer) => {
                    ingest.asked.fetch_sub(1, Ordering::SeqCst);
                    return Ok(answer);
                }
                Err(_) if ingest.pushes() != before => {}
                Err(_) => return Err(format!("no answer within {:?}", self.response_timeout)),
            }
        }
    }

    pub(super) fn say_live(&self, topics: &[Topic]) {
        if !topics.is_empty() {
            self.news.live(topics);
        }
    }

    fn names(&self, topics: &[Topic]) -> Vec<Vec<u8>> {
        let both = |topic| [Some(self.names.topic(topic).into_owned()), self.names.topic_envelopes(topic)];
        topics.iter().flat_map(both).flatten().collect()
    }
}

/// Whether a function that only reads has answered that it would have to write.
fn must_write(answer: &Value) -> bool {
    matches!(answer, Value::Array(parts) if parts.is_empty())
}

/// The request to a function that writes, in place of one for a position to a function that only reads.
fn by_writing(request: &Request) -> Option<Request> {
    match request {
        Request::Call(function, channel, args) if *function == library::POSITION_READ => {
            Some(Request::Call(library::POSITION, channel.clone(), args.clone()))
        }
        _ => None,
    }
}

/// Reads the answer to `ROLE`: an array that begins with `master` or `slave`.
fn is_replica(answer: &Value) -> bool {
    matches!(answer, Value::Array(items) if items.first() == Some(&Value::BulkString(b"slave".to_vec())))
}

/// Reads a number that is written as a text.
fn read_number(value: &Value) -> Option<u64> {
    std::str::from_utf8(bytes(value)?).ok()?.parse().ok()
}

/// The channels among these.
pub(super) fn channels_of(topics: &[Topic]) -> impl Iterator<Item = &Channel> {
    topics.iter().filter_map(|topic| if let Topic::Channel(channel) = topic { Some(channel) } else { None })
}

/// The channels and the patterns among these.
pub(super) fn by_kind(topics: Vec<Topic>) -> (Vec<Topic>, Vec<Topic>) {
    topics.into_iter().partition(|topic| matches!(topic, Topic::Channel(_)))
}

/// Waits until the connection shall be dropped; gives the reason.
pub(super) async fn next_reset(resets: &mut watch::Receiver<String>) -> String {
    match resets.changed().await {
        Ok(()) => format!("reset: {}", *resets.borrow_and_update()),
        // The broker is gone, and its tasks are about to be.
        Err(_) => std::future::pending().await,
    }
}
