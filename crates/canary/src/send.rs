//! One operation on one path: sends it to the broker and records the response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_broker::{BrokerError, HistoryOptions, PublishOptions, Stateful};
use tidings_wire::{Channel, ClientInfo, HistoryQuery};

use crate::{Canary, Operation};

/// How long the broker keeps the histories and members of canaries of an ended node.
const TTL: Duration = Duration::from_secs(60);
/// Most bytes of a history that is read. A canary takes about 20.
const MAX_HISTORY: usize = 1 << 10;

/// Tries one operation on one path. Does not block; the outcome is recorded in `canary` later.
pub(crate) fn send(
    canary: &Arc<Canary>,
    broker: &Arc<dyn Stateful>,
    channel: &Channel,
    operation: Operation,
) {
    let sent = canary.began.elapsed();
    let body = Bytes::from(sent.as_micros().to_string());
    let (canary, on) = (Arc::clone(canary), channel.clone());
    let done = move |outcome: Result<(), BrokerError>| match outcome {
        Ok(()) if operation.succeeds_by_response() => canary.succeeded(&on, operation, sent),
        Ok(()) => canary.accepted(&on, operation),
        Err(error) => canary.failed(&on, operation, error),
    };
    match operation {
        Operation::Publish => broker.publish(channel, body, Box::new(move |outcome| done(outcome.map(drop)))),
        Operation::PublishWithHistory => {
            let history = Some(HistoryOptions { size: 1, ttl: TTL, meta_ttl: TTL });
            let options = PublishOptions { history, ..PublishOptions::default() };
            broker.publish_with(channel, body, options, Box::new(move |outcome| done(outcome.map(drop))));
        }
        Operation::History => {
            let query = HistoryQuery {
                limit: Some(1),
                since: None,
                reverse: true,
                for_subscriber: false,
                max_bytes: MAX_HISTORY,
            };
            broker.history(channel, query, Box::new(move |outcome| done(outcome.map(drop))));
        }
        Operation::Presence => add_and_count(broker, channel, done),
    }
}

/// Adds a member to the channel and counts the members, which must not be none then.
fn add_and_count(
    broker: &Arc<dyn Stateful>,
    channel: &Channel,
    done: impl FnOnce(Result<(), BrokerError>) + Send + 'static,
) {
    let info = ClientInfo { client: "canary".to_owned(), ..ClientInfo::default() };
    let (counting, counted) = (Arc::clone(broker), channel.clone());
    let count = move |outcome: Result<(), BrokerError>| match outcome {
        Err(error) => done(Err(error)),
        Ok(()) => counting.presence_stats(
            &counted,
            Box::new(move |outcome| {
                done(outcome.and_then(|stats| match stats.clients {
                    0 => Err(BrokerError::Failed("the member that was added is not present")),
                    _ => Ok(()),
                }));
            }),
        ),
    };
    broker.presence_add(channel, &info, TTL, Box::new(count));
}
