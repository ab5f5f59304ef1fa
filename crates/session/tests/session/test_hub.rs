//! A test environment for a hub: executes its effects against a broker with three states.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::Value;
use tidings_hub::{
    Access, AuthorizationRequest, Failure, Flow, Interest, Namespaces, Query, Rejection, SessionId,
    SessionKey, Settings, Slot, Timer, TopicKey,
};
use tidings_keys::{ApiKey, ApiKeys, Scopes};
use tidings_mqtt::Qos;
use tidings_mqtt::topic::Filter;
use tidings_mqtt_session as mqtt;
use tidings_mqtt_session::{Connection, SessionChange, SharedDelivery, Step};
use tidings_mqtt_state::{Outcome, SessionEffects, SessionLimits, Sessions};
use tidings_session::{Effect, Effects, Notification, Request, Response};
use tidings_session::{Hub, Link, ProtocolSettings, Protocols};
use tidings_wire::Secret;
use tidings_wire::{Channel, Delivery, Form, Publication, Topic, code, form};

/// The bounds of sessions of MQTT.
const SESSION_LIMITS: SessionLimits = SessionLimits {
    sessions: 100,
    queue_bytes: 1 << 20,
    total_bytes: 1 << 24,
    default_qos: Qos::AtLeastOnce,
};

/// The state of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    /// Confirms at once.
    Up,
    /// Confirms when the test sets [`Broker::Up`].
    Slow,
    /// Unavailable.
    Down,
}

pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) broker: Broker,
    pub(crate) sent: BTreeMap<Slot, Vec<u8>>,
    pub(crate) closed: BTreeSet<Slot>,
    /// Sessions without room for a publication.
    pub(crate) overflowed: BTreeSet<Slot>,
    /// Sessions with an open stream.
    pub(crate) opened: BTreeSet<Slot>,
    pub(crate) timers: Vec<(SessionId, Timer, Duration)>,
    pub(crate) subscribed_topics: BTreeSet<Topic>,
    pub(crate) counts: BTreeMap<Topic, Arc<AtomicU64>>,
    /// Publishes without a response.
    pub(crate) pending_publishes: VecDeque<(SessionId, u32, Channel, Vec<u8>)>,
    /// Whether publishes get their response at once.
    pub(crate) respond_at_once: bool,
    /// Responds to [`Request::Authorize`].
    pub(crate) authority: fn(&AuthorizationRequest) -> Response,
    /// Requests about channels, without a response.
    pub(crate) pending_requests: VecDeque<(SessionId, u32, Request)>,
    /// Whether the broker has the sessions of MQTT: their requests are answered by the test, and their changes are collected.
    pub(crate) is_at_broker: bool,
    pub(crate) changes: Vec<SessionChange>,
    /// Published changes of presence.
    pub(crate) notifications: Vec<Notification>,
    /// The retained messages.
    pub(crate) retained: Vec<Arc<Publication>>,
    /// The sessions of MQTT that outlive their connection, and the time in Unix seconds.
    pub(crate) sessions: Sessions<(SessionId, u32)>,
    pub(crate) time: u64,
    /// Whether sessions that are parking are finished by [`TestHub::finish_parking`].
    pub(crate) is_parking_held: bool,
    pub(crate) parking: Vec<SessionId>,
    pub(crate) session_topics: BTreeSet<Topic>,
    /// Whether publications of shared subscriptions wait for [`TestHub::deliver_shared`].
    pub(crate) is_shared_held: bool,
    shared: Vec<(Connection, SharedDelivery)>,
    /// The tags of the last publication.
    pub(crate) tags: Vec<(String, String)>,
    /// Steps of sessions of MQTT, and the bytes that were sent to the session before each.
    pub(crate) steps: Vec<(Step, usize)>,
    /// The body of each will that the files get, and `None` where they have it no more; and the bytes that were sent before.
    pub(crate) wills: Vec<(Option<bytes::Bytes>, usize)>,
    /// The changes of the wills at the broker, as text.
    pub(crate) shared_wills: Vec<String>,
    pending_wills: VecDeque<(SessionId, u32)>,
}

pub(crate) fn settings() -> Settings {
    Settings::workbench(key(7))
}

/// The link with this label in metrics.
pub(crate) fn named(name: &str) -> Link {
    Link::all().find(|link| link.name() == name).expect("a link with this name")
}

/// A key of a node; the same for equal numbers.
pub(crate) fn key(number: u8) -> SessionKey {
    SessionKey::new(&[number; SessionKey::LEN])
}

/// API keys by name, key and scopes.
pub(crate) fn api_keys(keys: &[(&str, &str, Scopes)]) -> ApiKeys {
    let key = |(name, secret, scopes): &(&str, &str, Scopes)| ApiKey {
        name: (*name).into(),
        secret: Secret::new(*secret),
        scopes: *scopes,
    };
    keys.iter().map(key).collect()
}

/// The protocol settings of the articles' part III.
pub(crate) fn part_three() -> ProtocolSettings {
    ProtocolSettings { echo: false, auto_subscribe: vec![], ..ProtocolSettings::workbench() }
}

pub(crate) fn with_key(namespaces: Namespaces) -> Settings {
    let access = Access {
        open: false,
        keys: api_keys(&[("http_api.key", "sesame", Scopes::ALL)]),
        anonymous_connect: false,
        tokens: false,
        reserved: Some("tidings.".into()),
    };
    Settings { access, namespaces, ..settings() }
}

fn is_hit(topic: &Topic, publication: &Publication) -> bool {
    match topic {
        Topic::Channel(channel) => *channel == publication.channel,
        Topic::Pattern(pattern) => pattern.matches(publication.channel.as_str()),
    }
}

impl TestHub {
    /// With the protocol settings of the articles' parts I and II.
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with_protocols(settings, ProtocolSettings::workbench())
    }

    /// Without automatic subscriptions.
    pub(crate) fn without_auto_subscribe(settings: Settings) -> Self {
        let protocols = ProtocolSettings { auto_subscribe: vec![], ..ProtocolSettings::workbench() };
        Self::with_protocols(settings, protocols)
    }

    pub(crate) fn with_protocols(settings: Settings, protocols: ProtocolSettings) -> Self {
        Self {
            hub: Hub::new(Arc::new(settings), Protocols::new(Arc::new(protocols)), 0, 1),
            broker: Broker::Up,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            overflowed: BTreeSet::new(),
            opened: BTreeSet::new(),
            timers: Vec::new(),
            subscribed_topics: BTreeSet::new(),
            counts: BTreeMap::new(),
            pending_publishes: VecDeque::new(),
            authority: |_| Response::Failed(Rejection::from(code::UNAUTHORIZED).into()),
            pending_requests: VecDeque::new(),
            is_at_broker: false,
            changes: Vec::new(),
            notifications: Vec::new(),
            respond_at_once: true,
            retained: Vec::new(),
            sessions: Sessions::new(SESSION_LIMITS),
            time: 1_000_000,
            is_parking_held: false,
            parking: Vec::new(),
            session_topics: BTreeSet::new(),
            is_shared_held: false,
            shared: Vec::new(),
            tags: Vec::new(),
            steps: Vec::new(),
            wills: Vec::new(),
            shared_wills: Vec::new(),
            pending_wills: VecDeque::new(),
        }
    }

    /// Answers the requests to store wills.
    pub(crate) fn answer_wills(&mut self) {
        let is_up = self.broker != Broker::Down;
        for (id, ticket) in std::mem::take(&mut self.pending_wills) {
            let response = if is_up {
                Response::Protocol(mqtt::Response::WillOpened)
            } else {
                Response::Failed(Failure::Unavailable)
            };
            self.with(|hub, fx| hub.respond(id, ticket, response, fx));
        }
    }

    pub(crate) fn open(&mut self) -> Slot {
        let mut fx = Effects::default();
        let id = self.hub.open(&mut fx);
        self.apply_effects(&mut fx);
        id.slot
    }

    pub(crate) fn input(&mut self, slot: Slot, bytes: impl AsRef<[u8]>) -> Flow {
        let mut fx = Effects::default();
        let flow = tidings_session::input(&mut self.hub, slot, bytes.as_ref(), &mut fx);
        self.apply_effects(&mut fx);
        flow
    }

    /// The output to the session since the last call, which must be text.
    pub(crate) fn output(&mut self, slot: Slot) -> String {
        String::from_utf8(self.sent.remove(&slot).unwrap_or_default()).unwrap()
    }

    /// The output to the session since the last call.
    pub(crate) fn bytes(&mut self, slot: Slot) -> Vec<u8> {
        self.sent.remove(&slot).unwrap_or_default()
    }

    /// Passes input to the session, and returns its output.
    pub(crate) fn exchange(&mut self, slot: Slot, bytes: impl AsRef<[u8]>) -> String {
        self.input(slot, bytes);
        self.output(slot)
    }

    pub(crate) fn close(&mut self, slot: Slot) {
        let mut fx = Effects::default();
        self.hub.closed(slot, &mut fx);
        self.apply_effects(&mut fx);
    }

    pub(crate) fn with(&mut self, act: impl FnOnce(&mut Hub, &mut Effects)) {
        let mut fx = Effects::default();
        act(&mut self.hub, &mut fx);
        self.apply_effects(&mut fx);
    }

    pub(crate) fn expire(&mut self, slot: Slot, timer: Timer) {
        let id = self.hub.get_session_id(slot).expect("a session");
        self.with(|hub, fx| hub.expired(id, timer, fx));
    }

    pub(crate) fn set_broker(&mut self, broker: Broker) {
        self.broker = broker;
        match broker {
            Broker::Down => self.with(Hub::on_broker_down),
            Broker::Up => {
                for topic in self.subscribed_topics.clone() {
                    self.with(|hub, fx| hub.on_topic_live(&topic, fx));
                }
            }
            Broker::Slow => {}
        }
    }

    /// Fans out a publication like a shard.
    pub(crate) fn publish(&mut self, channel: &str, body: &str) {
        self.publish_with(Publication::new(Channel::new(channel).unwrap(), body.to_owned()));
    }

    pub(crate) fn publish_with(&mut self, publication: Publication) {
        if self.broker == Broker::Down {
            return;
        }
        let publication = Arc::new(publication);
        self.deliver_to_store(&publication);
        self.deliver_to_shard(&publication);
    }

    /// Fans out a publication that was published before a session moved.
    pub(crate) fn publish_to_shard(&mut self, channel: &str, body: &str) {
        let publication = Publication::new(Channel::new(channel).unwrap(), body.to_owned());
        self.deliver_to_shard(&Arc::new(publication));
    }

    /// Adds a publication to sessions without a connection alone.
    pub(crate) fn publish_to_store(&mut self, channel: &str, body: &str) {
        let publication = Publication::new(Channel::new(channel).unwrap(), body.to_owned());
        self.deliver_to_store(&Arc::new(publication));
    }

    fn deliver_to_store(&mut self, publication: &Arc<Publication>) {
        for topic in self.session_topics.clone() {
            if is_hit(&topic, publication) {
                let delivery = Delivery { topic, publication: Arc::clone(publication) };
                self.shared.extend(self.sessions.deliver(&delivery, self.time));
            }
        }
        if !self.is_shared_held {
            self.deliver_shared();
        }
    }

    /// Delivers publications of shared subscriptions to their members.
    pub(crate) fn deliver_shared(&mut self) {
        for (Connection { slot, generation, .. }, delivery) in std::mem::take(&mut self.shared) {
            let id = SessionId { slot: Slot::new(slot), generation };
            self.with(|hub, fx| tidings_session::deliver_shared(hub, id, delivery, fx));
        }
        if !self.shared.is_empty() {
            self.deliver_shared();
        }
    }

    fn deliver_to_shard(&mut self, publication: &Arc<Publication>) {
        for topic in self.subscribed_topics.clone() {
            if is_hit(&topic, publication) {
                self.fan_out(&topic, std::slice::from_ref(publication));
            }
        }
    }

    /// Lets this time in seconds pass.
    pub(crate) fn advance(&mut self, seconds: u64) {
        self.time += seconds;
        let time = self.time;
        let effects = self.sessions.sweep(time);
        self.with(|hub, _| hub.set_time(Duration::from_secs(time)));
        let mut fx = Effects::default();
        self.apply_session_effects(effects, &mut fx);
        self.apply_effects(&mut fx);
    }

    pub(crate) fn set_session_limits(&mut self, change: impl FnOnce(&mut SessionLimits)) {
        let mut limits = SESSION_LIMITS;
        change(&mut limits);
        self.sessions.set_limits(limits);
    }

    /// The messages arrive that sessions which are parking wait for.
    pub(crate) fn finish_parking(&mut self) {
        for id in std::mem::take(&mut self.parking) {
            self.with(|hub, fx| tidings_session::parked(hub, id, fx));
        }
    }

    fn apply_session_effects(&mut self, effects: SessionEffects<(SessionId, u32)>, fx: &mut Effects) {
        let SessionEffects { joined, responses, released, wills, shared } = effects;
        self.shared.extend(shared);
        self.session_topics.extend(joined);
        for ((id, ticket), _, outcome) in responses {
            let response = match outcome {
                Outcome::New => Response::Protocol(mqtt::Response::Session(None)),
                Outcome::Resumed(state) => {
                    for subscription in &state.subscriptions {
                        self.subscribed_topics.insert(subscription.topic.clone());
                    }
                    Response::Protocol(mqtt::Response::Session(Some(state)))
                }
                Outcome::Full(_) => Response::Failed(Rejection::from(code::LIMIT_EXCEEDED).into()),
                Outcome::Replaced => Response::Failed(Rejection::from(code::SESSION_TAKEN_OVER).into()),
            };
            self.hub.respond(id, ticket, response, fx);
        }
        for topic in released {
            self.session_topics.remove(&topic);
        }
        for will in wills {
            self.publish_with(Publication { extra: will.extra, ..Publication::new(will.channel, will.body) });
        }
    }

    /// Fans out publications like a shard; skips subscribers that already have them.
    pub(crate) fn fan_out(&mut self, topic: &Topic, publications: &[Arc<Publication>]) {
        let Some(key) = self.hub.topic(topic) else { return };
        let partial = self.hub.prepare_fan_out(key, publications);
        let partial: BTreeMap<Slot, _> = partial.into_iter().map(|one| (one.slot, one)).collect();
        let entry = self.hub.entry(key).unwrap();
        let mut deliveries = Vec::new();
        for form in entry.forms() {
            deliveries
                .extend(entry.subscribers(form).iter().map(|slot| (form, *slot, publications.to_vec())));
        }
        for selection in entry.selections().filter_map(|id| entry.selection(id)) {
            let selected = selection.select(publications);
            for group in selection.groups() {
                let subscribers = selection.subscribers(group).iter();
                deliveries.extend(subscribers.map(|slot| (group.form, *slot, selected.to_vec())));
            }
        }
        for (form, slot, publications) in deliveries {
            for publication in &publications {
                if partial.get(&slot).is_none_or(|one| one.receives(publication)) {
                    self.deliver(key, form, slot, publication);
                }
            }
        }
    }

    fn deliver(&mut self, key: TopicKey, form: Form, slot: Slot, publication: &Arc<Publication>) {
        let mut bytes = Vec::new();
        form::encode(form, &self.hub.entry(key).unwrap().context(), publication, &mut bytes);
        if form.is_addressed() {
            let shared = std::mem::take(&mut bytes);
            let hub = &mut self.hub;
            let result =
                tidings_session::address(hub, slot, key, publication, &shared, &mut bytes, &mut Vec::new());
            for change in self.hub.protocols.take_session_steps() {
                self.record_steps(&change);
                self.sessions.apply(change, self.time);
            }
            if result == tidings_session::Addressed::Overflow {
                self.overflowed.insert(slot);
            }
        }
        self.sent.entry(slot).or_default().extend_from_slice(&bytes);
    }

    fn record_steps(&mut self, change: &SessionChange) {
        let sent = |connection: &Connection| self.sent.get(&Slot::new(connection.slot)).map_or(0, Vec::len);
        match change {
            SessionChange::Steps(connection, steps) => {
                let sent = sent(connection);
                self.steps.extend(steps.iter().cloned().map(|step| (step, sent)));
            }
            SessionChange::CloseWill(closed) => {
                let end = if closed.is_published { "publish" } else { "discard" };
                self.shared_wills.push(format!("{end} {:?} {}", &*closed.key, closed.expiry));
            }
            SessionChange::Will(connection, will) => {
                let sent = sent(connection);
                self.wills.push((will.as_ref().map(|will| will.body.clone()), sent));
            }
            _ => {}
        }
    }

    pub(crate) fn respond_next(&mut self, response: Response) {
        let (id, ticket, ..) = self.pending_publishes.pop_front().expect("a publish under way");
        self.with(|hub, fx| hub.respond(id, ticket, response, fx));
    }

    fn apply_effects(&mut self, fx: &mut Effects) {
        let mut i = 0;
        while i < fx.list.len() {
            let effect = std::mem::replace(&mut fx.list[i], Effect::Close(Slot::NONE));
            i += 1;
            match effect {
                Effect::Send(slot, range) => {
                    self.sent.entry(slot).or_default().extend_from_slice(&fx.bytes[range]);
                }
                Effect::Opened(slot) => {
                    self.opened.insert(slot);
                }
                Effect::Refused { slot, status, error } => {
                    let sent = self.sent.entry(slot).or_default();
                    sent.extend_from_slice(format!("{} ", status.number).as_bytes());
                    sent.extend_from_slice(&fx.bytes[error]);
                }
                Effect::Close(slot) => {
                    self.closed.insert(slot);
                }
                Effect::Resume(slot) => {
                    tidings_session::input(&mut self.hub, slot, &[], fx);
                }
                Effect::Start(id, timer, after) => self.timers.push((id, timer, after)),
                Effect::SubscribeTopic(topic) => {
                    self.subscribed_topics.insert(topic.clone());
                    let state = match self.broker {
                        Broker::Up => Interest::Live,
                        Broker::Slow => Interest::Pending,
                        Broker::Down => Interest::Unavailable,
                    };
                    let count = Arc::clone(self.counts.entry(topic.clone()).or_default());
                    self.hub.on_topic_state(&topic, state, count, fx);
                }
                Effect::UnsubscribeTopic(topic) => {
                    self.subscribed_topics.remove(&topic);
                }
                Effect::Request(id, ticket, Request::Publish(channel, body, extra)) => {
                    self.tags = extra.as_ref().map(|extra| extra.tags.clone()).unwrap_or_default();
                    if self.broker == Broker::Down {
                        self.hub.respond(id, ticket, Response::Failed(Failure::Unavailable), fx);
                    } else if self.respond_at_once {
                        let extra = extra.map(|mut extra| {
                            extra.origin = extra.info.take().map(|info| info.client.into());
                            extra
                        });
                        self.publish_with(Publication { extra, ..Publication::new(channel, body) });
                        self.hub.respond(id, ticket, Response::Published(1), fx);
                    } else {
                        self.pending_publishes.push_back((id, ticket, channel, body.to_vec()));
                    }
                }
                Effect::Request(id, ticket, Request::Query(query)) => {
                    let response = match query {
                        Query::Patterns => Response::Count(0),
                        Query::Channels(_) => Response::Channels(vec![]),
                        Query::Subscribers(c) => {
                            Response::Subscribers(c.into_iter().map(|c| (c, 0)).collect())
                        }
                        Query::Info => Response::Text("# Server\r\n".into()),
                    };
                    self.hub.respond(id, ticket, response, fx);
                }
                Effect::Request(id, ticket, Request::Authorize(decision)) => {
                    let response = (self.authority)(&decision);
                    self.hub.respond(id, ticket, response, fx);
                }
                Effect::Request(id, ticket, Request::Protocol(mqtt::Request::Retained(filter, _))) => {
                    let filter = Filter::new(&filter).expect("a filter");
                    let matching = self.retained.iter().filter(|p| filter.matches(p.channel.as_str()));
                    let response = Response::Protocol(mqtt::Response::Retained(matching.cloned().collect()));
                    self.hub.respond(id, ticket, response, fx);
                }
                Effect::Request(id, ticket, Request::Protocol(mqtt::Request::JoinGroup(request))) => {
                    self.sessions.join(&request);
                    self.session_topics.insert(request.shared.topic);
                    self.hub.respond(id, ticket, Response::Protocol(mqtt::Response::Joined), fx);
                }
                Effect::Request(id, ticket, request @ Request::Protocol(_)) if self.is_at_broker => {
                    self.pending_requests.push_back((id, ticket, request));
                }
                Effect::Notify(Notification::Protocol(change)) if self.is_at_broker => {
                    self.changes.push(*change);
                }
                Effect::Request(id, ticket, Request::Protocol(mqtt::Request::OpenSession(request))) => {
                    let effects = self.sessions.open(*request, (id, ticket), self.time);
                    self.apply_session_effects(effects, fx);
                }
                Effect::Request(id, ticket, Request::Protocol(mqtt::Request::OpenWill(request))) => {
                    let body = request.will.map(|will| String::from_utf8_lossy(&will.body).into_owned());
                    self.shared_wills.push(format!("open {:?} {body:?}", &*request.key));
                    self.pending_wills.push_back((id, ticket));
                    if self.broker != Broker::Slow {
                        self.answer_wills();
                    }
                }
                Effect::Notify(Notification::Protocol(change)) => {
                    self.record_steps(&change);
                    let parking = match &*change {
                        SessionChange::Parking(parking) => Some(parking.connection),
                        _ => None,
                    };
                    let effects = self.sessions.apply(*change, self.time);
                    self.apply_session_effects(effects, fx);
                    if let Some(Connection { slot, generation, .. }) = parking {
                        let id = SessionId { slot: Slot::new(slot), generation };
                        if self.is_parking_held {
                            self.parking.push(id);
                        } else {
                            tidings_session::parked(&mut self.hub, id, fx);
                        }
                    }
                }
                Effect::Request(id, ticket, other) => self.pending_requests.push_back((id, ticket, other)),
                Effect::Notify(note) => self.notifications.push(note),
            }
        }
        fx.clear();
    }
}

/// Opens a session that is connected by the client protocol.
pub(crate) fn connect(w: &mut TestHub) -> Slot {
    let slot = w.open();
    w.input(slot, "{\"id\":1,\"connect\":{}}\n");
    w.bytes(slot);
    slot
}

/// The next reply to a session, as JSON.
pub(crate) fn reply(w: &mut TestHub, slot: Slot) -> Value {
    let sent = w.bytes(slot);
    serde_json::from_slice(&sent).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&sent)))
}
