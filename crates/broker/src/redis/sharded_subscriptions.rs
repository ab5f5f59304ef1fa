//! Subscriptions at one primary: sharded names, one command for each, because all names of one command must share their
//! slot.

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tidings_wire::Topic;

use super::deferred::Deferred;
use super::dial::is_refusal;
use super::ingest::Ingest;
use super::link::{Link, LinkRole, ShardedPrimary, by_kind, channels_of};
use super::redirect::Redirect;
use crate::BrokerError;

/// The channel that a node subscribes on every primary while it has patterns: see the function library.
const PATTERNS: &str = "tidings\x1fpatterns";

/// The result of the subscription of one channel.
enum Outcome {
    Subscribed,
    Deferred,
    Refused(BrokerError),
}

impl Link {
    /// Subscribes the topics; defers those with a slot elsewhere, reports those that are refused.
    pub(super) async fn subscribe_sharded(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        topics: Vec<Topic>,
        later: &mut Deferred,
    ) -> Result<(), String> {
        let LinkRole::Sharded(primary) = &self.role else { return Ok(()) };
        let (channels, patterns) = by_kind(topics);
        if !patterns.is_empty() {
            match self.answered(ingest, connection.subscribe(PATTERNS)).await? {
                Ok(()) => {
                    let live = self.interest.subscribed(patterns);
                    self.report_live(&live);
                }
                Err(e) if is_refusal(&e) => {
                    self.refuse(patterns, &e, later);
                }
                Err(e) => return Err(self.dialer.describe(&e)),
            }
        }
        if channels.is_empty() {
            return Ok(());
        }
        let outcomes = self.each(connection, ingest, "SSUBSCRIBE", &channels).await?;
        let mut good = Vec::with_capacity(channels.len());
        for (topic, answers) in channels.into_iter().zip(outcomes) {
            match self.outcome(&**primary, answers) {
                Outcome::Subscribed => good.push(topic),
                Outcome::Deferred => later.topics([topic]),
                Outcome::Refused(error) => self.refused(topic, &error, later),
            }
        }
        let asked: Vec<_> = channels_of(&good).cloned().collect();
        let unclear = self.settle(connection, ingest, &asked).await?;
        good.retain(|topic| !matches!(topic, Topic::Channel(channel) if unclear.contains(channel)));
        later.topics(unclear.into_iter().map(Topic::Channel));
        let live = self.interest.subscribed(good);
        self.report_live(&live);
        Ok(())
    }

    /// Ends these subscriptions; those of a slot that has moved away have ended already.
    pub(super) async fn unsubscribe_sharded(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        topics: Vec<Topic>,
    ) -> Result<(), String> {
        let (channels, patterns) = by_kind(topics);
        if !patterns.is_empty() {
            if !self.interest.has_patterns() {
                let answer = self.answered(ingest, connection.unsubscribe(PATTERNS)).await?;
                answer.map_err(|e| self.dialer.describe(&e))?;
            }
            self.interest.unsubscribed(&patterns);
        }
        if channels.is_empty() {
            return Ok(());
        }
        for channel in channels_of(&channels) {
            ingest.leaving(&self.names.sharded_names(channel));
        }
        let outcomes = self.each(connection, ingest, "SUNSUBSCRIBE", &channels).await?;
        for (channel, answers) in channels_of(&channels).zip(outcomes) {
            if answers.iter().any(|answer| matches!(answer, Value::ServerError(_))) {
                ingest.left(&self.names.sharded_names(channel));
            }
            self.tracker.forget(channel);
        }
        self.interest.unsubscribed(&channels);
        Ok(())
    }

    /// Sends a command for every sharded name of every channel; returns the responses for each channel.
    async fn each(
        &self,
        connection: &mut MultiplexedConnection,
        ingest: &Ingest,
        command: &str,
        channels: &[Topic],
    ) -> Result<Vec<Vec<Value>>, String> {
        let names: Vec<_> = channels_of(channels).map(|channel| self.names.sharded_names(channel)).collect();
        let mut pipeline = Pipeline::with_capacity(2 * names.len());
        for name in names.iter().flatten() {
            pipeline.cmd(command).arg(&name[..]);
        }
        let replies = connection.send_packed_commands(&pipeline, 0, pipeline.len());
        let mut replies =
            self.answered(ingest, replies).await?.map_err(|e| self.dialer.describe(&e))?.into_iter();
        Ok(names.iter().map(|names| replies.by_ref().take(names.len()).collect()).collect())
    }

    fn outcome(&self, primary: &dyn ShardedPrimary, answers: Vec<Value>) -> Outcome {
        for answer in answers {
            if Redirect::read(&answer).is_some() {
                primary.report_moved_slot();
                return Outcome::Deferred;
            }
            match self.counters.failures.result(answer) {
                Ok(_) => {}
                Err(BrokerError::Unavailable) => return Outcome::Deferred,
                Err(error) => return Outcome::Refused(error),
            }
        }
        Outcome::Subscribed
    }
}
