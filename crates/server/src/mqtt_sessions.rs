//! Sessions of MQTT whose clients are away: moves them between shards and the store, and delivers to the store.
//!
//! Invariant: a session and the routes of its topics move in one step under the lock of the topic table, with the message to the
//! shard. So each publication reaches either the store or the shard, and none is missed.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tidings_broker::PublishOptions;
use tidings_hub::{Failure, Rejection, SessionId, Slot};
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{
    Connection, JoinGroup, OpenSession, OpenWill, ReadMessages, SessionChange, SharedDelivery, Step,
    StoreSteps, WillMessage,
};
use tidings_mqtt_state::{
    Outcome, PublishWill, SessionEffects, SessionLimits, Sessions, SharedError, SharedSessions, SharedWills,
};
use tidings_session::Response;
use tidings_shard::{Reply, ShardMessage};
use tidings_wire::{Topic, code};

use crate::router::{Router, failure};
use crate::shards::Shards;
use tidings_topic_table::{SESSIONS, Topics};

/// The store of sessions, whose responses go to sessions of shards.
pub(crate) type SessionStore = Sessions<Reply>;

/// The sessions of MQTT of this node.
#[derive(Clone)]
pub(crate) struct MqttSessions {
    pub(crate) store: Arc<SessionStore>,
    pub(crate) router: Arc<Router>,
    pub(crate) shards: Arc<Shards>,
    /// The wills, where the broker stores them.
    pub(crate) wills: Option<Arc<SharedWills>>,
    /// The sessions, where the broker stores them.
    pub(crate) shared: Option<Arc<SharedSessions>>,
}

/// The time in Unix seconds.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl MqttSessions {
    /// A client requests its session.
    pub(crate) fn open(&self, request: OpenSession, reply: Reply) {
        if let Some(shared) = &self.shared {
            return shared.open(&request, move |opened| {
                reply.send(shared_response(opened, |opened| mqtt::Response::Opened(Box::new(opened))));
            });
        }
        let now = unix_seconds();
        let mut wills = Vec::new();
        self.router.topic_table().exchange(|topics| {
            wills = self.carry_out(topics, self.store.open(request, reply, now));
        });
        self.publish(wills);
    }

    /// Replaces the limits, for messages, sessions and wills from now on.
    pub(crate) fn set_limits(&self, limits: SessionLimits) {
        self.store.set_limits(limits);
        if let Some(shared) = &self.shared {
            shared.set_limits(limits);
        }
        if let Some(wills) = &self.wills {
            wills.set_max_bytes(limits.total_bytes);
        }
    }

    /// A client connects to a server whose broker stores the wills.
    pub(crate) fn open_will(&self, request: OpenWill, reply: Reply) {
        let opened = || Response::Protocol(mqtt::Response::WillOpened);
        let Some(wills) = &self.wills else { return reply.send(opened()) };
        wills.open(request, move |outcome| {
            reply.send(match outcome {
                Ok(()) => opened(),
                Err(error) => Response::Failed(failure(error)),
            });
        });
    }

    /// Steps of a session that the broker stores.
    pub(crate) fn store_steps(&self, request: &StoreSteps, reply: Reply) {
        let Some(shared) = &self.shared else { return };
        shared.store(request, move |stored| {
            reply.send(shared_response(stored, |()| mqtt::Response::Stored));
        });
    }

    /// A connection reads messages of a session that the broker stores.
    pub(crate) fn read_messages(&self, request: &ReadMessages, reply: Reply) {
        let Some(shared) = &self.shared else { return };
        shared.read(request, move |page| {
            reply.send(shared_response(page, |page| mqtt::Response::Messages(Box::new(page))));
        });
    }

    /// A connection joins the group of a shared subscription.
    pub(crate) fn join(&self, request: &JoinGroup, reply: Reply) {
        let topics = self.router.topic_table();
        topics.exchange(|_| self.store.join(request));
        // The memory broker confirms a topic during the call.
        topics.subscribe(SESSIONS, &request.shared.topic, |topic| self.router.broker().subscribe(topic));
        reply.send(Response::Protocol(mqtt::Response::Joined));
    }

    /// Continues the sessions of an earlier start, which are subscribed to these topics, and publishes the wills of its connections.
    pub(crate) fn restore(&self, topics: &[Topic]) {
        for topic in topics {
            let table = self.router.topic_table();
            table.subscribe(SESSIONS, topic, |topic| self.router.broker().subscribe(topic));
        }
        for (number, will) in self.store.earlier_wills() {
            self.publish(vec![will]);
            self.store.end_will(number);
        }
        self.sweep();
    }

    /// A connection changes its session.
    pub(crate) fn apply(&self, change: SessionChange) {
        if let SessionChange::Ended { key, connection: None } = &change
            && !self.store.contains(key)
        {
            return;
        }
        if let (SessionChange::CloseWill(request), Some(wills)) = (&change, &self.wills) {
            return wills.close(request.clone());
        }
        match (&change, &self.shared) {
            (SessionChange::StoreSteps(request), Some(shared)) => return shared.store(request, |_| {}),
            (SessionChange::CloseSession(request), Some(shared)) => return shared.close(request),
            _ => {}
        }
        let changes_routes = match &change {
            SessionChange::Steps(_, steps) => steps.iter().any(Step::changes_topics),
            SessionChange::Will(..)
            | SessionChange::CloseWill(_)
            | SessionChange::StoreSteps(_)
            | SessionChange::CloseSession(_) => false,
            _ => true,
        };
        if !changes_routes {
            self.store.apply(change, unix_seconds());
            return;
        }
        let parking = match &change {
            SessionChange::Parking(parking) => Some(parking.connection),
            _ => None,
        };
        let now = unix_seconds();
        let mut wills = Vec::new();
        self.router.topic_table().exchange(|topics| {
            wills = self.carry_out(topics, self.store.apply(change, now));
            if let Some(Connection { shard, slot, generation }) = parking
                && let Some(mailbox) = self.shards.mailbox(shard as usize)
            {
                mailbox.post(ShardMessage::Parked(SessionId { slot: Slot::new(slot), generation }));
            }
        });
        self.publish(wills);
    }

    /// Publishes the wills that are due, and ends the sessions that have expired.
    pub(crate) fn sweep(&self) {
        // Times in the store are the seconds in which they began: no delay and no session is shorter than its time.
        let now = unix_seconds().saturating_sub(1);
        if !self.store.is_due(now) {
            return;
        }
        let mut wills = Vec::new();
        self.router.topic_table().exchange(|topics| {
            wills = self.carry_out(topics, self.store.sweep(now));
        });
        self.publish(wills);
    }

    /// Carries out the effects of a change, except for the wills, which are returned.
    fn carry_out(&self, topics: &mut Topics, effects: SessionEffects<Reply>) -> Vec<WillMessage> {
        let SessionEffects { joined, responses, released, wills, shared } = effects;
        post_shared(&self.shards, shared);
        for topic in &joined {
            topics.add_sessions(topic);
        }
        for (reply, connection, outcome) in responses {
            if let Outcome::Resumed(state) = &outcome {
                for subscription in &state.subscriptions {
                    topics.add_shard(connection.shard as usize, &subscription.topic);
                }
            }
            reply.send_in_order(response(outcome));
        }
        let now = Instant::now();
        for topic in &released {
            topics.remove_sessions(topic, now);
        }
        wills
    }

    fn publish(&self, wills: Vec<WillMessage>) {
        for will in wills {
            PublishWill::publish(&*self.router, will, Box::new(|_| {}));
        }
    }
}

impl PublishWill for Router {
    fn publish(&self, will: WillMessage, done: Box<dyn FnOnce(bool) + Send>) {
        let WillMessage { channel, body, extra, .. } = will;
        let options = PublishOptions { extra, ..PublishOptions::default() };
        let topic = channel.clone();
        let published = Box::new(move |outcome: Result<_, Failure>| {
            if let Err(failure) = &outcome {
                tracing::warn!(channel = topic.as_str(), ?failure, "the will of a client is not published");
            }
            // A permanent error would come again.
            done(match outcome {
                Ok(_) | Err(Failure::Disconnect(..)) => true,
                Err(Failure::Error(rejection)) => !rejection.temporary,
                Err(Failure::Unavailable | Failure::Overloaded) => false,
            });
        });
        Self::publish(self, &channel, body, options, published);
    }
}

/// Posts publications to members of groups. A member whose shard has no room for one is ended, so that its client connects
/// again.
pub(crate) fn post_shared(shards: &Shards, shared: Vec<(Connection, SharedDelivery)>) {
    for (Connection { shard, slot, generation }, delivery) in shared {
        let Some(mailbox) = shards.mailbox(shard as usize) else { continue };
        let id = SessionId { slot: Slot::new(slot), generation };
        if !mailbox.deliver_shared(id, delivery) {
            mailbox.post(ShardMessage::SharedLost(id));
        }
        mailbox.wake();
    }
}

fn rejection(code: code::Code, text: String) -> Response {
    Response::Failed(Failure::Error(Rejection { code: code.number, text, temporary: code.temporary }))
}

fn full(most: usize) -> Response {
    let text = format!("limit exceeded: {} (mqtt.sessions_limit)", code::counted(most, "session"));
    rejection(code::LIMIT_EXCEEDED, text)
}

/// The response to a request for a session that the broker stores.
fn shared_response<T>(
    outcome: Result<T, SharedError>,
    convert: impl FnOnce(T) -> mqtt::Response,
) -> Response {
    match outcome {
        Ok(value) => Response::Protocol(convert(value)),
        Err(SharedError::Full(most)) => full(most),
        Err(SharedError::Broker(error)) => Response::Failed(failure(error)),
        Err(SharedError::Lost) => {
            rejection(code::INTERNAL, "the session is not in Redis any more".to_owned())
        }
        Err(SharedError::TakenOver) => {
            let code = code::SESSION_TAKEN_OVER;
            Response::Failed(Failure::Disconnect(code.number, code.text.to_owned()))
        }
    }
}

fn response(outcome: Outcome) -> Response {
    match outcome {
        Outcome::New => Response::Protocol(mqtt::Response::Session(None)),
        Outcome::Resumed(state) => Response::Protocol(mqtt::Response::Session(Some(state))),
        Outcome::Full(most) => full(most),
        Outcome::Replaced => rejection(code::SESSION_TAKEN_OVER, code::SESSION_TAKEN_OVER.text.to_owned()),
    }
}
