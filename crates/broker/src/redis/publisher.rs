//! The publishing connection, and the task that empties the queue before it.
//!
//! Everything that waits goes out as one pipeline, and the next one when that is answered: one round trip per up to
//! 512 requests, their order kept, nothing to sort out when the connection breaks.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tidings_log_throttle::LogThrottle;
use tokio::sync::{Notify, watch};

use super::cluster::{Fleet, Redirect};
use super::dial::{Backoff, Dialer, is_refusal};
use super::library;
use super::link::next_reset;
use super::names::Names;
use super::queue::{Queue, Waiting};

/// Lines about a function library that is gone.
static RELOADS: LogThrottle = LogThrottle::new();

/// The task's belongings.
pub(super) struct Publisher {
    pub(super) dialer: Dialer,
    pub(super) names: Arc<Names>,
    pub(super) queue: Arc<Queue>,
    pub(super) resets: watch::Receiver<String>,
    pub(super) ping_interval: Duration,
    pub(super) response_timeout: Duration,
    /// Of which this is the connection to one node, if it is.
    pub(super) fleet: Option<Weak<Fleet>>,
}

impl Publisher {
    /// Runs until the task is aborted.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let lost = Arc::new(Notify::new());
            let pushes = {
                let lost = Arc::clone(&lost);
                move |push: PushInfo| -> Result<(), redis::aio::SendError> {
                    if push.kind == PushKind::Disconnection {
                        lost.notify_one();
                    }
                    Ok(())
                }
            };
            match self.dialer.open("tidings-publisher", pushes).await {
                Ok(connection) => {
                    let since = Instant::now();
                    let mut resets = self.resets.clone();
                    resets.mark_unchanged();
                    let why = tokio::select! {
                        why = self.serve(connection) => why,
                        () = lost.notified() => "connection lost".to_owned(),
                        reason = next_reset(&mut resets) => reason,
                    };
                    tracing::debug!("redis: the publishing connection has ended: {why}");
                    backoff.stood(since.elapsed());
                }
                // The hearing connection has the same trouble, and says so where it is seen.
                Err(why) => tracing::debug!("redis: no publishing connection: {why}"),
            }
            // Also what has waited for the first connection.
            self.queue.close();
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Sends what waits until the connection fails; gives why it did.
    async fn serve(&self, mut connection: MultiplexedConnection) -> String {
        if let Err(why) = self.load(&mut connection).await {
            return why;
        }
        let _open = self.queue.open();
        loop {
            let batch = self.queue.take();
            if batch.is_empty() {
                if tokio::time::timeout(self.ping_interval, self.queue.pushed.notified()).await.is_err()
                    && let Err(why) = self.send(&mut connection, redis::pipe().cmd("PING")).await
                {
                    return why;
                }
                continue;
            }
            let orphans = match self.answer(&mut connection, batch, true).await {
                Ok(orphans) => orphans,
                Err(why) => return why,
            };
            if !orphans.is_empty() {
                // Somebody has flushed the functions. Nothing was done for these, so they may be sent again.
                if let Some(times) = RELOADS.count() {
                    tracing::warn!(times, "redis: the function library is gone, loading it again");
                }
                if let Err(why) = self.load(&mut connection).await {
                    return why;
                }
                if let Err(why) = self.answer(&mut connection, orphans, false).await {
                    return why;
                }
            }
        }
    }

    /// Sends a batch and answers it. Calls of functions that Redis does not have are given back when `again`.
    async fn answer(
        &self,
        connection: &mut MultiplexedConnection,
        batch: Vec<Waiting>,
        again: bool,
    ) -> Result<Vec<Waiting>, String> {
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        for waiting in &batch {
            if waiting.asking {
                pipeline.cmd("ASKING");
            }
            waiting.request.put(&self.names, &mut pipeline);
        }
        let replies = self.send(connection, &pipeline).await?;
        let (mut orphans, mut elsewhere) = (Vec::new(), Vec::new());
        let mut replies = replies.into_iter();
        for waiting in batch {
            if waiting.asking {
                replies.next();
            }
            let Some(reply) = replies.next() else { break };
            if again && library::is_missing(&reply) {
                orphans.push(waiting);
            } else if self.fleet.is_some()
                && let Some(redirect) = Redirect::read(&reply)
            {
                elsewhere.push((waiting, redirect));
            } else {
                waiting.answer.give(reply);
            }
        }
        if !elsewhere.is_empty()
            && let Some(fleet) = self.fleet.as_ref().and_then(Weak::upgrade)
        {
            fleet.send_on(elsewhere);
        }
        Ok(orphans)
    }

    async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        pipeline: &redis::Pipeline,
    ) -> Result<Vec<Value>, String> {
        let replies = connection.send_packed_commands(pipeline, 0, pipeline.len());
        match tokio::time::timeout(self.response_timeout, replies).await {
            Ok(replies) => replies.map_err(|e| self.dialer.words(&e)),
            Err(_) => Err(format!("no answer within {:?}", self.response_timeout)),
        }
    }

    /// Loads the function library. A Redis that will not have it serves plain publications all the same.
    async fn load(&self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        match tokio::time::timeout(self.response_timeout, library::load(connection, self.names.sharded()))
            .await
        {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) if is_refusal(&e) => {
                let why = self.dialer.words(&e);
                tracing::warn!(
                    "redis: no history, presence and idempotency, for the functions are refused: {why}"
                );
                Ok(())
            }
            Ok(Err(e)) => Err(self.dialer.words(&e)),
            Err(_) => Err(format!("no answer within {:?}", self.response_timeout)),
        }
    }
}
