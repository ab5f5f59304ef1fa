//! Requests of sessions: implements the shards' [`Control`]. Each call starts an operation and returns at once.
//!
//! Invariants:
//! - No call blocks: the response is posted to the shard's mailbox later.
//! - A session never changes the broker's subscriptions of internal channels: the server manages these itself.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::Bytes;
use tidings_broker::{BrokerError, Change, PublishOptions, Published};
use tidings_hub::{Failure, Interest, Query};
use tidings_map_state::{KeyChange, KeyMode, SetKey};
use tidings_mqtt_session as mqtt;
use tidings_session::{Notification, Request, Response};
use tidings_shard::{Control, Reply};
use tidings_shared_poll::SharedPolls;
use tidings_webhooks::Webhooks;
use tidings_wire::{Channel, Publication, Topic, code};

use crate::authority::Authorizer;
use crate::info::ServerInfo;
use crate::internal::is_internal;
use crate::mqtt_sessions::MqttSessions;
use crate::router::{BrokerOperation, Router, failure, response_too_large};
use crate::shards::Shards;
use tidings_cluster::PRESENCE_TTL;
use tidings_topic_table::Route;

/// Bytes of a channel in a list besides its name: the length and line breaks of RESP.
const CHANNEL_OVERHEAD: usize = 16;

/// Serves the requests of sessions.
pub(crate) struct SessionControl {
    pub(crate) router: Arc<Router>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) authorizer: Authorizer,
    pub(crate) info: ServerInfo,
    pub(crate) sessions: MqttSessions,
    pub(crate) webhooks: Option<Arc<Webhooks>>,
    pub(crate) polls: SharedPolls,
}

impl SessionControl {
    /// Responds to a query about this node.
    fn query(&self, query: &Query) -> Response {
        match query {
            Query::Channels(pattern) => {
                let max_bytes = self.router.settings().recovery_bytes;
                let topics = self.router.topic_table().read();
                let (mut channels, mut bytes) = (Vec::new(), 0);
                for (topic, _) in topics.subscribed() {
                    if let Topic::Channel(c) = topic
                        && pattern.as_ref().is_none_or(|p| p.matches(c.as_str()))
                    {
                        bytes += c.as_str().len() + CHANNEL_OVERHEAD;
                        if bytes > max_bytes {
                            return Response::Failed(Failure::Error(response_too_large(max_bytes)));
                        }
                        channels.push(c.clone());
                    }
                }
                Response::Channels(channels)
            }
            Query::Subscribers(names) => {
                let topics = self.router.topic_table().read();
                let count = |name: &Bytes| {
                    let topic = Channel::new(name).ok().map(Topic::Channel)?;
                    topics.route(&topic).map(Route::subscribers)
                };
                let counts = names.iter().map(|name| (name.clone(), count(name).unwrap_or(0)));
                Response::Subscribers(counts.collect())
            }
            Query::Patterns => Response::Count(self.router.subscribed_counts().1 as u64),
            Query::Info => Response::Text(self.info.text()),
        }
    }
}

impl Control for SessionControl {
    fn subscribe_topic(&self, shard: usize, topic: &Topic) -> (Interest, Arc<AtomicU64>) {
        self.router.topic_table().subscribe(shard, topic, |topic| {
            if !is_internal(topic) {
                self.router.broker().subscribe(topic);
            }
        })
    }

    fn unsubscribe_topic(&self, shard: usize, topic: &Topic) {
        self.router.topic_table().unsubscribe(shard, topic, Instant::now());
    }

    fn request(&self, request: Request, reply: Reply) {
        match request {
            Request::Publish(channel, body, extra) => {
                let published = self.webhooks.as_ref().filter(|webhooks| webhooks.wants_published(&channel));
                let published = published.map(|webhooks| {
                    let (channel, body, extra) = (channel.clone(), body.clone(), extra.clone());
                    (Arc::clone(webhooks), Publication { channel, body, position: None, extra })
                });
                let options = PublishOptions { extra, ..PublishOptions::default() };
                let done = Box::new(move |outcome: Result<_, _>| {
                    if let Some((webhooks, publication)) = published.filter(|_| outcome.is_ok()) {
                        webhooks.published(&publication);
                    }
                    reply.send(to_response(outcome, |published: Published| {
                        Response::Published(published.receivers)
                    }));
                });
                self.router.publish(&channel, body, options, done);
            }
            Request::Query(query) => reply.send(self.query(&query)),
            Request::History(channel, query) => {
                self.router.history(&channel, query, |page| reply.send(to_response(page, Response::History)));
            }
            Request::Presence(channel) => {
                self.router.evict_ended(&channel);
                let request = self.router.broker_request(BrokerOperation::Presence, &channel);
                self.router.broker().presence(
                    &channel,
                    self.router.settings().recovery_bytes,
                    Box::new(|members| {
                        request.complete(&members);
                        reply.send(to_response(members.map_err(failure), Response::Members));
                    }),
                );
            }
            Request::PresenceStats(channel) => {
                self.router.evict_ended(&channel);
                let request = self.router.broker_request(BrokerOperation::PresenceStats, &channel);
                self.router.broker().presence_stats(
                    &channel,
                    Box::new(|stats| {
                        request.complete(&stats);
                        let stats = stats.map_err(failure);
                        reply.send(to_response(stats, |s| Response::Presence(s.clients, s.users)));
                    }),
                );
            }
            Request::Protocol(mqtt::Request::Retained(filter, max_bytes)) => {
                self.router.read_retained(&filter, max_bytes, |response| reply.send(response));
            }
            Request::MapState(channel, query) => {
                let options = self.router.options(&channel).unwrap_or_default();
                self.router.maps().state(&channel, &options, query, |page| {
                    reply.send(to_response(page.map_err(failure), |page| Response::MapState(Box::new(page))));
                });
            }
            Request::MapChange(channel, change) => {
                let options = self.router.options(&channel).unwrap_or_default();
                self.router.maps().change(&channel, &options, *change, None, |applied| {
                    reply.send(to_response(applied.map_err(failure), |_| Response::Published(0)));
                });
            }
            Request::Poll(channel, subscriber, request) => {
                match self.router.options(&channel).and_then(|options| options.shared_poll) {
                    Some(options) => self.polls.request(channel, *options, subscriber, request, reply),
                    None => reply.send(Response::Failed(Failure::Error(code::NOT_AVAILABLE.into()))),
                }
            }
            Request::Protocol(mqtt::Request::JoinGroup(request)) => self.sessions.join(&request, reply),
            Request::Protocol(mqtt::Request::OpenSession(request)) => self.sessions.open(*request, reply),
            Request::Protocol(mqtt::Request::StoreSteps(request)) => {
                self.sessions.store_steps(&request, reply);
            }
            Request::Protocol(mqtt::Request::ReadMessages(request)) => {
                self.sessions.read_messages(&request, reply);
            }
            Request::Protocol(mqtt::Request::OpenWill(request)) => self.sessions.open_will(*request, reply),
            Request::StreamPublish(stream, body) => {
                reply.send(to_response(stream.stream().publish(body), |()| Response::Published(0)));
            }
            Request::Authorize(request) => self.authorizer.handle(*request, reply),
        }
    }

    fn notify(&self, notification: Notification) {
        let broker = self.router.broker();
        // Errors are ignored: presence is refreshed periodically, and expires if that fails.
        let ignore = || Box::new(|_: Result<(), BrokerError>| {});
        match notification {
            Notification::Present(channel, info, announced) => {
                broker.presence_add_for_node(&channel, &info, PRESENCE_TTL, announced, ignore());
            }
            Notification::Absent(channel, info) => {
                broker.presence_remove(&channel, &info.client, ignore());
                if let Some(webhooks) = &self.webhooks {
                    webhooks.touch(&channel);
                }
            }
            Notification::CacheMiss(channel) => {
                if let Some(webhooks) = &self.webhooks {
                    webhooks.cache_miss(&channel);
                }
            }
            Notification::Joined(channel, info) => broker.announce(&channel, Change::Join(*info), ignore()),
            Notification::Left(channel, info) => broker.announce(&channel, Change::Leave(*info), ignore()),
            Notification::MapEntered(channel, key, info) => {
                let options = self.router.options(&channel).unwrap_or_default();
                let set = Some(SetKey { mode: KeyMode::IfChanged, ..SetKey::default() });
                let change = KeyChange { key, set, tags: Vec::new(), info: info.map(|info| *info) };
                self.router.maps().change(&channel, &options, change, None, |_| {});
            }
            Notification::MapLeft(channel, key) => {
                let options = self.router.options(&channel).unwrap_or_default();
                let change = KeyChange { key, set: None, tags: Vec::new(), info: None };
                self.router.maps().change(&channel, &options, change, None, |_| {});
            }
            Notification::StreamStarted(stream) => stream.stream().start(),
            Notification::PollLeft(channel, subscriber) => self.polls.leave(channel, subscriber),
            Notification::Protocol(change) => self.sessions.apply(*change),
            Notification::TakenOver { user, name, client } => self.authorizer.take_over(user, name, client),
        }
    }

    fn congested(&self) -> bool {
        self.shards.is_congested()
    }
}

fn to_response<T>(outcome: Result<T, Failure>, convert: impl FnOnce(T) -> Response) -> Response {
    match outcome {
        Ok(value) => convert(value),
        Err(failure) => Response::Failed(failure),
    }
}
