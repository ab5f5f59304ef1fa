//! The publisher connection, and the task that sends the requests of its queue.
//!
//! All waiting requests are sent as one pipeline, and the next one after its response: one round trip for up to 512
//! requests, in order. When the connection breaks, no response has to be matched to a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tidings_log_throttle::LogThrottle;
use tokio::sync::{Notify, watch};

use super::dial::{Backoff, Dialer, is_refusal};
use super::library;
use super::link::next_reset;
use super::names::Names;
use super::queue::{PendingRequest, Queue};
use super::redirect::Redirect;

/// Throttles log lines about a missing function library.
static RELOADS: LogThrottle = LogThrottle::new();

/// Forwards requests to the nodes to which they were redirected, in order.
pub(super) type Forward = Box<dyn Fn(Vec<(PendingRequest, Redirect)>) + Send + Sync>;

/// The state of the task.
pub(super) struct Publisher {
    pub(super) dialer: Dialer,
    pub(super) names: Arc<Names>,
    pub(super) queue: Arc<Queue>,
    pub(super) resets: watch::Receiver<String>,
    pub(super) ping_interval: Duration,
    pub(super) response_timeout: Duration,
    /// Forwards redirected requests, where this is the connection to a node of a cluster.
    pub(super) forward: Option<Forward>,
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
                    tracing::debug!("redis: the publisher connection has ended: {why}");
                    backoff.record_uptime(since.elapsed());
                }
                // The subscriber connection has the same problem, and logs it.
                Err(why) => tracing::debug!("redis: cannot open the publisher connection: {why}"),
            }
            // Completes the requests that waited for the first connection, too.
            self.queue.close();
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Sends the queued requests until the connection fails; returns the reason.
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
            let unloaded = match self.exchange(&mut connection, batch, true).await {
                Ok(unloaded) => unloaded,
                Err(why) => return why,
            };
            if !unloaded.is_empty() {
                // The functions were flushed. None of these calls was carried out, so they may be sent again.
                if let Some(times) = RELOADS.count() {
                    tracing::warn!(times, "redis: the function library is missing, loading it again");
                }
                if let Err(why) = self.load(&mut connection).await {
                    return why;
                }
                if let Err(why) = self.exchange(&mut connection, unloaded, false).await {
                    return why;
                }
            }
        }
    }

    /// Sends a batch and completes its requests. With `again`, calls of functions that Redis does not have are
    /// returned.
    async fn exchange(
        &self,
        connection: &mut MultiplexedConnection,
        batch: Vec<PendingRequest>,
        again: bool,
    ) -> Result<Vec<PendingRequest>, String> {
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        for waiting in &batch {
            if waiting.asking {
                pipeline.cmd("ASKING");
            }
            waiting.request.put(&self.names, &mut pipeline);
        }
        let replies = self.send(connection, &pipeline).await?;
        let (mut unloaded, mut redirected) = (Vec::new(), Vec::new());
        let mut replies = replies.into_iter();
        for waiting in batch {
            if waiting.asking {
                replies.next();
            }
            let Some(reply) = replies.next() else { break };
            if again && library::is_missing(&reply) {
                unloaded.push(waiting);
            } else if self.forward.is_some()
                && let Some(redirect) = Redirect::read(&reply)
            {
                redirected.push((waiting, redirect));
            } else {
                waiting.reply.complete(reply);
            }
        }
        if !redirected.is_empty()
            && let Some(forward) = &self.forward
        {
            forward(redirected);
        }
        Ok(unloaded)
    }

    async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        pipeline: &redis::Pipeline,
    ) -> Result<Vec<Value>, String> {
        let replies = connection.send_packed_commands(pipeline, 0, pipeline.len());
        match tokio::time::timeout(self.response_timeout, replies).await {
            Ok(replies) => replies.map_err(|e| self.dialer.describe(&e)),
            Err(_) => Err(format!("no answer within {:?}", self.response_timeout)),
        }
    }

    /// Loads the function library. A Redis that refuses it still serves plain publications.
    async fn load(&self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        match tokio::time::timeout(self.response_timeout, library::load(connection, self.names.sharded()))
            .await
        {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) if is_refusal(&e) => {
                let why = self.dialer.describe(&e);
                tracing::warn!(
                    "redis: the function library is refused, so there is no history, presence and idempotency: {why}"
                );
                Ok(())
            }
            Ok(Err(e)) => Err(self.dialer.describe(&e)),
            Err(_) => Err(format!("no answer within {:?}", self.response_timeout)),
        }
    }
}
