//! Requests of sessions: the shards' [`Control`], which starts what takes time and returns at once.
//!
//! Invariants:
//! - No call blocks: a response is posted to the shard's mailbox later.
//! - Sessions subscribe only to topics that are not internal at the broker; the server manages its internal channels
//!   itself.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::Bytes;
use tidings_broker::{BrokerError, Change, PublishOptions, Published};
use tidings_hub::{Failure, Interest, Notification, Query, Request, Response};
use tidings_shard::{Control, Reply};
use tidings_wire::{Channel, Extra, Topic};

use crate::authority::Decisions;
use tidings_cluster::PRESENCE_TTL;
use crate::info::Info;
use crate::interest::Route;
use crate::internal::is_internal;
use crate::router::{Router, failure, too_large};
use crate::shards::Shards;

/// Bytes that a channel's name adds to a list besides its own: its length and line breaks in RESP.
const CHANNEL_OVERHEAD: usize = 16;

/// Serves the requests of sessions.
pub(crate) struct SessionControl {
    pub(crate) router: Arc<Router>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) decisions: Decisions,
    pub(crate) info: Info,
}

impl SessionControl {
    /// Responds to a query about this node.
    fn query(&self, query: &Query) -> Response {
        match query {
            Query::Channels(pattern) => {
                let most = self.router.settings().recovery_bytes;
                let table = self.router.interests().read();
                let (mut channels, mut bytes) = (Vec::new(), 0);
                for (topic, _) in table.subscribed() {
                    if let Topic::Channel(c) = topic
                        && pattern.as_ref().is_none_or(|p| p.matches(c.as_str()))
                    {
                        bytes += c.as_str().len() + CHANNEL_OVERHEAD;
                        if bytes > most {
                            return Response::Failed(Failure::Error(too_large(most)));
                        }
                        channels.push(c.clone());
                    }
                }
                Response::Channels(channels)
            }
            Query::Subscribers(names) => {
                let table = self.router.interests().read();
                let count = |name: &Bytes| {
                    let topic = Channel::new(name).ok().map(Topic::Channel)?;
                    table.route(&topic).map(Route::subscribers)
                };
                let counts = names.iter().map(|name| (name.clone(), count(name).unwrap_or(0)));
                Response::Subscribers(counts.collect())
            }
            Query::Patterns => Response::Count(self.router.subscribed().1 as u64),
            Query::Info => Response::Text(self.info.text()),
        }
    }
}

impl Control for SessionControl {
    fn subscribe_topic(&self, shard: usize, topic: &Topic) -> (Interest, Arc<AtomicU64>) {
        self.router.interests().want(shard, topic, |topic| {
            if !is_internal(topic) {
                self.router.broker().subscribe(topic);
            }
        })
    }

    fn unsubscribe_topic(&self, shard: usize, topic: &Topic) {
        self.router.interests().unwant(shard, topic, Instant::now());
    }

    fn request(&self, request: Request, reply: Reply) {
        match request {
            Request::Publish(channel, body, extra) => {
                let Extra { info, tags } = extra.map(|extra| *extra).unwrap_or_default();
                let more = PublishOptions { info, tags, ..PublishOptions::default() };
                let done = Box::new(move |outcome| {
                    reply.send(answer(outcome, |published: Published| {
                        Response::Published(published.receivers)
                    }));
                });
                self.router.publish(&channel, body, more, done);
            }
            Request::Query(query) => reply.send(self.query(&query)),
            Request::History(channel, query) => {
                self.router.history(&channel, query, |page| reply.send(answer(page, Response::History)));
            }
            Request::Presence(channel) => {
                self.router.evict_ended(&channel);
                self.router.broker().presence(
                    &channel,
                    self.router.settings().recovery_bytes,
                    Box::new(|members| reply.send(answer(members.map_err(failure), Response::Members))),
                );
            }
            Request::PresenceStats(channel) => {
                self.router.evict_ended(&channel);
                self.router.broker().presence_stats(
                    &channel,
                    Box::new(|stats| {
                        let stats = stats.map_err(failure);
                        reply.send(answer(stats, |s| Response::Presence(s.clients, s.users)));
                    }),
                );
            }
            Request::Decide(question) => self.decisions.decide(*question, reply),
        }
    }

    fn notify(&self, note: Notification) {
        let broker = self.router.broker();
        // An error needs no handling: presence is refreshed periodically, and expires where that fails.
        let settled = || Box::new(|_: Result<(), BrokerError>| {});
        match note {
            Notification::Present(channel, info, announced) => {
                broker.presence_keep(&channel, &info, PRESENCE_TTL, announced, settled());
            }
            Notification::Absent(channel, info) => broker.presence_remove(&channel, &info.client, settled()),
            Notification::Joined(channel, info) => broker.announce(&channel, Change::Join(*info), settled()),
            Notification::Left(channel, info) => broker.announce(&channel, Change::Leave(*info), settled()),
        }
    }

    fn congested(&self) -> bool {
        self.shards.is_congested()
    }
}

fn answer<T>(outcome: Result<T, Failure>, then: impl FnOnce(T) -> Response) -> Response {
    match outcome {
        Ok(value) => then(value),
        Err(failure) => Response::Failed(failure),
    }
}
