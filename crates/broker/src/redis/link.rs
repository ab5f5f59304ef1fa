//! The task of a subscriber connection: connects without end, subscribes the wanted topics, hands over received
//! messages.
//!
//! With one server there is one such connection. With a cluster there is one for each primary, which receives sharded
//! messages and tracks positions, and one more to any node, which receives plain messages: see [`LinkRole`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, RedisError, RedisResult, Value};
use tidings_wire::{Channel, Delivery, Topic};
use tokio::sync::watch;

use super::counters::Counters;
use super::deferred::Deferred;
use super::dial::{Backoff, Dialer, is_refusal};
use super::envelope::bytes;
use super::ingest::Ingest;
use super::interest::Interest;
use super::key_expiry::KeyDeadlines;
use super::library;
use super::names::Names;
use super::queue::{Arg, Request, read_position};
use super::redirect::Redirect;
use super::state_reader::{self, Range, Read};
use super::track::NextStep;
use super::tracker::Tracker;
use crate::{BrokerError, SharedSink};

/// Topics in one command, and channels in one read of positions.
const BATCH: usize = 512;
/// Missed publications that are fetched at once.
const PAGE: u64 = 128;
/// Bytes of them; at least one publication is fetched.
const PAGE_BYTES: u64 = 4 << 20;

/// The messages that a connection receives.
#[derive(Clone)]
pub(super) enum LinkRole {
    /// All messages: there is one server.
    Whole,
    /// Messages that are published plainly anywhere in a cluster.
    Plain,
    /// Messages of the hash slots of one primary of a cluster.
    Sharded(Arc<dyn ShardedPrimary>),
}

/// The primary to which a connection with sharded messages belongs.
pub(super) trait ShardedPrimary: Send + Sync {
    /// Sets the messages of the subscriber connection; `None` when the connection is lost.
    fn set_ingest(&self, ingest: Option<Arc<Ingest>>);

    /// Reports that a slot is not here, so that the topology is read again.
    fn report_moved_slot(&self);

    /// Sends a request to the node that a redirection names. For `MOVED` the result is `Unavailable`, and the topology
    /// is read again.
    fn request_redirected(&self, request: Request, redirect: Redirect) -> RedirectedResponse<'_>;
}

/// The response of the node to which a request was redirected.
pub(super) type RedirectedResponse<'a> =
    Pin<Box<dyn Future<Output = Result<Value, BrokerError>> + Send + 'a>>;

/// The state of the task.
pub(super) struct Link {
    pub(super) role: LinkRole,
    pub(super) dialer: Dialer,
    pub(super) names: Arc<Names>,
    pub(super) interest: Arc<Interest>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) deadlines: Arc<KeyDeadlines>,
    /// Receives the messages.
    pub(super) sink: SharedSink,
    /// Receives the events of the connection and its subscriptions: the same sink, or one that joins several
    /// connections.
    pub(super) events: SharedSink,
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
        // The reason in the last log line about a missing connection.
        let mut logged = None;
        let mut connected_before = false;
        loop {
            let ingest = Arc::new(Ingest::new(
                Arc::clone(&self.names),
                Arc::clone(&self.sink),
                Arc::clone(&self.counters),
                Arc::clone(&self.tracker),
                Arc::clone(&self.deadlines),
                matches!(self.role, LinkRole::Plain),
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
                    logged = None;
                    let since = Instant::now();
                    let why = self.serve(connection, &ingest).await;
                    backoff.record_uptime(since.elapsed());
                    why
                }
                Err(why) => why,
            };
            if logged.as_ref() != Some(&why) {
                tracing::warn!("{}: no connection, trying again: {why}", self.dialer.target_name());
                self.events.down(&why);
                logged = Some(why);
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Serves one connection until it ends; returns the reason.
    async fn serve(&mut self, connection: MultiplexedConnection, ingest: &Arc<Ingest>) -> String {
        let mut resets = self.resets.clone();
        resets.mark_unchanged();
        self.tracker.retain(|channel| self.interest.is_wanted(&Topic::Channel(channel.clone())));
        if let LinkRole::Sharded(primary) = &self.role {
            primary.set_ingest(Some(Arc::clone(ingest)));
        }
        self.events.up();
        self.interest.connected();
        let why = tokio::select! {
            () = ingest.pump() => "connection lost".to_owned(),
            why = self.follow(connection.clone(), ingest) => why,
            why = self.heartbeat(connection, ingest) => why,
            reason = next_reset(&mut resets) => reason,
        };
        ingest.close();
        if let LinkRole::Sharded(primary) = &self.role {
            primary.set_ingest(None);
        }
        self.interest.disconnected();
        why
    }

    /// Applies changes of interest to the subscriptions, without end.
    async fn follow(&self, mut connection: MultiplexedConnection, ingest: &Ingest) -> String {
        let mut later = Deferred::default();
        loop {
            self.requeue_ended(ingest);
            let work = self.interest.take(BATCH);
            if work.is_empty() {
                let holes = self.tracker.take_holes();
                if holes.is_empty() {
                    tokio::select! {
                        () = self.interest.changed() => {}
                        () = self.tracker.unsettled() => {}
                        () = ingest.ended_any() => {}
                        () = later.due() => {
                            let gone = later.requeue(&self.interest, &self.tracker);
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
            self.report_live(&work.live);
            let done = async {
                self.unsubscribe(&mut connection, ingest, work.unsubscribe).await?;
                self.subscribe(&mut connection, ingest, work.subscribe, &mut later).await
            };
            if let Err(why) = done.await {
                return why;
            }
        }
    }

    /// Requeues the subscriptions that Redis has ended by itself; the slot may have moved to another primary.
    fn requeue_ended(&self, ingest: &Ingest) {
        let LinkRole::Sharded(primary) = &self.role else { return };
        let names = ingest.take_ended();
        if names.is_empty() {
            return;
        }
        let channel = |name: &Vec<u8>| self.names.parse_channel(Names::without_tag(name).0);
        let mut topics: Vec<_> = names.iter().filter_map(channel).map(Topic::Channel).collect();
        topics.dedup();
        tracing::debug!("{}: the slots of {} channels have moved", self.dialer.target_name(), topics.len());
        self.interest.ended(&topics);
        for channel in channels_of(&topics) {
            if !self.interest.is_wanted(&Topic::Channel(channel.clone())) {
                self.tracker.forget(channel);
            }
        }
        primary.report_moved_slot();
    }

    async fn unsubscribe(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        topics: Vec<Topic>,
    ) -> Result<(), String> {
        if matches!(self.role, LinkRole::Sharded(_)) {
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
                // When Redis refuses to unsubscribe, the set of subscriptions is unknown.
                answer.map_err(|e| self.dialer.describe(&e))?;
                channels_of(&topics).for_each(|channel| self.tracker.forget(channel));
                self.interest.unsubscribed(&topics);
            }
        }
        Ok(())
    }

    /// Subscribes the topics; reports refused ones to the sink.
    async fn subscribe(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        topics: Vec<Topic>,
        later: &mut Deferred,
    ) -> Result<(), String> {
        if matches!(self.role, LinkRole::Sharded(_)) {
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
                    if matches!(self.role, LinkRole::Whole) {
                        let unclear = self.settle(connection, ingest, &channels).await?;
                        topics.retain(|t| !matches!(t, Topic::Channel(channel) if unclear.contains(channel)));
                        later.topics(unclear.into_iter().map(Topic::Channel));
                    }
                    let live = self.interest.subscribed(topics);
                    self.report_live(&live);
                }
                // Redis refuses a command as a whole when its rules do not permit one of the names, so the halves are
                // tried: one such name among 512 costs 18 commands. Other errors do not depend on the names.
                Err(e) if e.code() == Some("NOPERM") && topics.len() > 1 => {
                    let half = topics.split_off(topics.len() / 2);
                    left.extend([half, topics]);
                }
                Err(e) if is_refusal(&e) => self.refuse(topics, &e, later),
                Err(e) => return Err(self.dialer.describe(&e)),
            }
        }
        Ok(())
    }

    /// Reports topics that Redis has refused to subscribe, and schedules another attempt.
    pub(super) fn refuse(&self, topics: Vec<Topic>, error: &RedisError, later: &mut Deferred) {
        let Some(first) = topics.first() else { return };
        let what = match topics.len() {
            1 => format!("subscribing to {}", first.as_str()),
            many => format!("subscribing to {} and {} more", first.as_str(), many - 1),
        };
        let error = self.counters.failures.error(error, &what);
        topics.into_iter().for_each(|topic| self.refused(topic, &error, later));
    }

    /// Reports one refused topic, where the error is known.
    pub(super) fn refused(&self, topic: Topic, error: &BrokerError, later: &mut Deferred) {
        tracing::debug!("{}: {} is refused: {error}", self.dialer.target_name(), topic.as_str());
        self.events.refused(&topic, error);
        later.refused(topic);
    }

    /// Reads the positions of these channels, and fetches the publications that unsettled ones have missed. Uses the
    /// subscriber connection, so that every message before the response has arrived. Returns the channels without a
    /// known position: their slot is being moved, or Redis is busy.
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
            if let Some((heard, term)) = self.tracker.unsettled_position(channel) {
                args = vec![Arg::Number(heard.offset), Arg::text(heard.epoch.as_str())];
                args.extend(term.map(Arg::Number));
            }
            requests.push(Request::Call(library::POSITION_READ, channel.clone(), args));
        }
        let mut answers = self.call(connection, ingest, &requests).await?;
        self.settle_by_writing(connection, ingest, &mut requests, &mut answers).await?;
        for ((channel, request), answer) in channels.iter().zip(requests).zip(answers) {
            let answer = self.follow_redirect(request, answer).await;
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
                            // A history that does not exist yet begins with term 1.
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
            while let NextStep::Fetch(after) = next {
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

    /// Calls the writing function where, according to the response, the history must be changed: it begins anew, or
    /// another primary has it now. A Redis that accepts no writes still responds to all other requests.
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

    /// Whether an error is independent of the channel's history, so that the request is to be repeated on this
    /// connection.
    fn may_pass(&self, error: &BrokerError) -> bool {
        match error {
            BrokerError::Failed(code) => *code == "BUSY",
            BrokerError::Unavailable => matches!(self.role, LinkRole::Sharded(_)),
            _ => false,
        }
    }

    /// The response, from another node of the cluster where the first one redirects.
    async fn follow_redirect(&self, request: Request, answer: Value) -> Result<Value, BrokerError> {
        let (LinkRole::Sharded(primary), Some(redirect)) = (&self.role, Redirect::read(&answer)) else {
            return self.counters.failures.result(answer);
        };
        let writing = by_writing(&request);
        let answer = primary.request_redirected(request, redirect.clone()).await?;
        match writing {
            Some(writing) if must_write(&answer) => primary.request_redirected(writing, redirect).await,
            _ => Ok(answer),
        }
    }

    /// Fetches publications that a channel has missed after an offset; `None` when Redis cannot respond yet.
    async fn fetch(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        channel: &Channel,
        after: u64,
    ) -> Result<Option<NextStep>, String> {
        let range =
            Range { lowest: Some(after + 1), count: Some(PAGE), bytes: Some(PAGE_BYTES), ..Range::default() };
        let request = state_reader::history_request(channel, range);
        let answer =
            self.call(connection, ingest, std::slice::from_ref(&request)).await?.pop().unwrap_or(Value::Nil);
        let answer = self.follow_redirect(request, answer).await;
        Ok(match answer.and_then(|answer| state_reader::read(channel, &answer, false)) {
            Ok(Read { position, publications }) => {
                self.counters.fetched.fetch_add(publications.len() as u64, Ordering::Relaxed);
                if publications.iter().any(|p| p.extra.as_ref().is_some_and(|extra| extra.map.is_some())) {
                    // The deadlines of these keys are unknown.
                    self.deadlines.set(channel, Instant::now());
                }
                let topic = Topic::Channel(channel.clone());
                let delivery = |publication| Delivery { topic: topic.clone(), publication };
                let missed = publications.into_iter().map(delivery).collect();
                Some(ingest.settle(|tracker, out| tracker.fill(channel, position, missed, out)))
            }
            Err(error) if self.may_pass(&error) => None,
            Err(error) => Some(self.abandon(ingest, channel, &error)?),
        })
    }

    /// Reports the missed publications of a channel as lost, because Redis does not return them. If Redis is only not
    /// ready (it loads its data from the disk, for example), the connection is closed instead, and the next one
    /// repeats the request.
    fn abandon(&self, ingest: &Ingest, channel: &Channel, error: &BrokerError) -> Result<NextStep, String> {
        if *error == BrokerError::Unavailable {
            return Err("Redis is not ready to answer".to_owned());
        }
        tracing::debug!("redis: cannot read the position of {channel}: {error}");
        ingest.settle(|tracker, out| tracker.abandon(channel, out));
        Ok(NextStep::Nothing)
    }

    /// Calls functions in one round trip; loads the library first where it is missing.
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
            let replies = self.answered(ingest, replies).await?.map_err(|e| self.dialer.describe(&e))?;
            if loaded || !replies.iter().any(library::is_missing) {
                return Ok(replies);
            }
            // All of these functions only read, or create a history that does not exist: a second call is harmless.
            match self.answered(ingest, library::load(connection, self.names.sharded())).await? {
                Err(e) if !is_refusal(&e) => return Err(self.dialer.describe(&e)),
                _ => loaded = true,
            }
        }
    }

    /// Checks at intervals that the peer responds, and its role; returns when it does not respond. A master that has
    /// become a replica still accepts publications but does not replicate them: both connections are closed then, and
    /// the address or the Sentinels lead to the new master.
    async fn heartbeat(&self, mut connection: MultiplexedConnection, ingest: &Ingest) -> String {
        let mut was_master = false;
        loop {
            let ask = async { redis::cmd("ROLE").query_async::<Value>(&mut connection).await };
            match self.answered(ingest, ask).await {
                Ok(Ok(answer)) => {
                    let replica = is_replica(&answer);
                    if was_master && replica && !matches!(self.role, LinkRole::Plain) {
                        self.reset.send_replace("the master has become a replica".to_owned());
                    }
                    was_master = !replica;
                }
                // A user without permission for `ROLE` still shows that the server responds.
                Ok(Err(e)) if is_refusal(&e) => {}
                Ok(Err(e)) => return self.dialer.describe(&e),
                Err(why) => return why,
            }
            tokio::time::sleep(self.ping_interval).await;
        }
    }

    /// Waits for the response to a request. While messages keep arriving there is no limit, since they precede the
    /// response in the connection; without messages the limit is the response timeout.
    pub(super) async fn answered<T>(
        &self,
        ingest: &Ingest,
        request: impl Future<Output = RedisResult<T>>,
    ) -> Result<Result<T, RedisError>, String> {
        let mut request = std::pin::pin!(request);
        ingest.pending_requests.fetch_add(1, Ordering::SeqCst);
        loop {
            let before = ingest.pushes();
            match tokio::time::timeout(self.response_timeout, &mut request).await {
                Ok(_) if ingest.has_unreliable_responses() => {
                    return Err("hash slots have left while an answer was due".to_owned());
                }
                Ok(answer) => {
                    ingest.pending_requests.fetch_sub(1, Ordering::SeqCst);
                    return Ok(answer);
                }
                Err(_) if ingest.pushes() != before => {}
                Err(_) => return Err(format!("no answer within {:?}", self.response_timeout)),
            }
        }
    }

    pub(super) fn report_live(&self, topics: &[Topic]) {
        if !topics.is_empty() {
            self.events.live(topics);
        }
    }

    fn names(&self, topics: &[Topic]) -> Vec<Vec<u8>> {
        let both = |topic| [Some(self.names.topic(topic).into_owned()), self.names.topic_envelopes(topic)];
        topics.iter().flat_map(both).flatten().collect()
    }
}

/// Whether a function that only reads has responded that it would have to write.
fn must_write(answer: &Value) -> bool {
    matches!(answer, Value::Array(parts) if parts.is_empty())
}

/// The same request to the writing function, for a request that reads a position.
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

/// Parses a number that is written as text.
fn read_number(value: &Value) -> Option<u64> {
    std::str::from_utf8(bytes(value)?).ok()?.parse().ok()
}

/// The channels among the topics.
pub(super) fn channels_of(topics: &[Topic]) -> impl Iterator<Item = &Channel> {
    topics.iter().filter_map(|topic| if let Topic::Channel(channel) = topic { Some(channel) } else { None })
}

/// Divides topics into channels and patterns.
pub(super) fn by_kind(topics: Vec<Topic>) -> (Vec<Topic>, Vec<Topic>) {
    topics.into_iter().partition(|topic| matches!(topic, Topic::Channel(_)))
}

/// Waits until the connection is to be closed; returns the reason.
pub(super) async fn next_reset(resets: &mut watch::Receiver<String>) -> String {
    match resets.changed().await {
        Ok(()) => format!("reset: {}", *resets.borrow_and_update()),
        // The broker is dropped, and its tasks are about to be aborted.
        Err(_) => std::future::pending().await,
    }
}
