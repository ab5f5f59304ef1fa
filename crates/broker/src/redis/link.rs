//! The task of the hearing connection: connects for ever, subscribes what is wanted, hands over what is heard.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, RedisError, RedisResult, Value};
use tidings_wire::Topic;
use tokio::sync::watch;

use super::Counters;
use super::dial::{Backoff, Dialer, is_refusal};
use super::ingest::Ingest;
use super::interest::Interest;
use super::names::Names;
use crate::SharedSink;

/// How many topics one command names.
const BATCH: usize = 512;

/// The task's belongings.
pub(super) struct Link {
    pub(super) dialer: Dialer,
    pub(super) names: Arc<Names>,
    pub(super) interest: Arc<Interest>,
    pub(super) sink: SharedSink,
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
                tracing::warn!("redis: no connection, trying again: {why}");
                self.sink.down(&why);
                said = Some(why);
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Keeps one connection until it ends; gives why it did.
    async fn serve(&mut self, connection: MultiplexedConnection, ingest: &Ingest) -> String {
        let mut resets = self.resets.clone();
        resets.mark_unchanged();
        self.sink.up();
        self.interest.connected();
        let why = tokio::select! {
            () = ingest.pump() => "connection lost".to_owned(),
            why = self.follow(connection.clone(), ingest) => why,
            why = self.heartbeat(connection, ingest) => why,
            reason = next_reset(&mut resets) => reason,
        };
        ingest.close();
        self.interest.disconnected();
        why
    }

    /// Makes the subscriptions what they ought to be, for ever.
    async fn follow(&self, mut connection: MultiplexedConnection, ingest: &Ingest) -> String {
        loop {
            let work = self.interest.take(BATCH);
            if work.is_empty() {
                self.interest.changed().await;
                continue;
            }
            self.say_live(&work.live);
            let done = async {
                self.unsubscribe(&mut connection, ingest, work.unsubscribe).await?;
                self.subscribe(&mut connection, ingest, work.subscribe).await
            };
            if let Err(why) = done.await {
                return why;
            }
        }
    }

    async fn unsubscribe(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        topics: Vec<Topic>,
    ) -> Result<(), String> {
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
    ) -> Result<(), String> {
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
                    let live = self.interest.subscribed(topics);
                    self.say_live(&live);
                }
                // Redis refuses a command as a whole for one name in it, so the halves are tried: one bad name among
                // 512 costs 18 commands.
                Err(e) if is_refusal(&e) && topics.len() > 1 => {
                    let half = topics.split_off(topics.len() / 2);
                    left.extend([half, topics]);
                }
                Err(e) if is_refusal(&e) => {
                    let why = self.dialer.words(&e);
                    tracing::warn!("redis: {} is refused: {why}", topics[0].as_str());
                    self.sink.refused(&topics[0], &why);
                }
                Err(e) => return Err(self.dialer.words(&e)),
            }
        }
        Ok(())
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
                    if was_master && replica {
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
    async fn answered<T>(
        &self,
        ingest: &Ingest,
        request: impl Future<Output = RedisResult<T>>,
    ) -> Result<Result<T, RedisError>, String> {
        let mut request = std::pin::pin!(request);
        loop {
            let before = ingest.pushes();
            match tokio::time::timeout(self.response_timeout, &mut request).await {
                Ok(answer) => return Ok(answer),
                Err(_) if ingest.pushes() != before => {}
                Err(_) => return Err(format!("no answer within {:?}", self.response_timeout)),
            }
        }
    }

    fn say_live(&self, topics: &[Topic]) {
        if !topics.is_empty() {
            self.sink.live(topics);
        }
    }

    fn names(&self, topics: &[Topic]) -> Vec<Vec<u8>> {
        topics.iter().map(|topic| self.names.topic(topic).into_owned()).collect()
    }
}

/// Reads the answer to `ROLE`: an array that begins with `master` or `slave`.
fn is_replica(answer: &Value) -> bool {
    matches!(answer, Value::Array(items) if items.first() == Some(&Value::BulkString(b"slave".to_vec())))
}

/// The channels and the patterns among these.
fn by_kind(topics: Vec<Topic>) -> (Vec<Topic>, Vec<Topic>) {
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
