//! A world for a hub: carries out its effects against a broker of one variable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tidings_hub::{
    Access, Decide, Effect, Effects, Failure, Flow, Interest, Namespaces, Notification, Query, Rejection,
    Request, Response, SessionId, SessionKey, Settings, Slot, Timer, TopicKey, Usage,
};
use tidings_session::{Hub, Link};
use tidings_wire::Secret;
use tidings_wire::{Channel, Form, Publication, Topic, code, form};

/// How the broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    /// Confirms at once.
    Up,
    /// Confirms when told to.
    Slow,
    /// Away.
    Down,
}

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) broker: Broker,
    pub(crate) sent: BTreeMap<Slot, Vec<u8>>,
    pub(crate) closed: BTreeSet<Slot>,
    /// Sessions whose streams are open.
    pub(crate) opened: BTreeSet<Slot>,
    pub(crate) timers: Vec<(SessionId, Timer, Duration)>,
    pub(crate) wanted: BTreeSet<Topic>,
    pub(crate) counts: BTreeMap<Topic, Arc<AtomicU64>>,
    /// Publishes that wait for an answer.
    pub(crate) asked: VecDeque<(SessionId, u32, Channel, Vec<u8>)>,
    /// Whether publishes are answered at once.
    pub(crate) answers: bool,
    /// Decides what clients may do.
    pub(crate) authority: fn(&Decide) -> Response,
    /// Questions about channels, which wait for an answer.
    pub(crate) questions: VecDeque<(SessionId, u32, Request)>,
    /// What others were told.
    pub(crate) told: Vec<Notification>,
    /// The tags of the last publication.
    pub(crate) tags: Vec<(String, String)>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        default_channel: Channel::new("updates").unwrap(),
        auto_subscribe: vec![Channel::new("updates").unwrap()],
        echo: true,
        escape: Default::default(),
        max_line: 65536,
        input_limit: 1 << 20,
        first_byte_wait: Duration::from_millis(250),
        channel_limit: 128,
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(8),
        stale_close_delay: Duration::from_secs(10),
        access: Access {
            open: true,
            api_key: None,
            anonymous_connect: false,
            tokens: false,
            reserved: Some("tidings.".into()),
        },
        namespaces: Namespaces::default(),
        max_message: 65536,
        recovery_bytes: 1 << 20,
        recovery_limit: 1000,
        connect_proxy: false,
        private_prefix: "$".into(),
        personal_channel: None,
        expired_close_delay: Duration::from_secs(25),
        expired_sub_close_delay: Duration::from_secs(25),
        usage: Usage::default(),
        session_key: key(7),
        node: "n".into(),
    }
}

/// The link with this label in metrics.
pub(crate) fn named(name: &str) -> Link {
    Link::all().find(|link| link.name() == name).expect("a link with this name")
}

/// A key of a node; the same for the same number.
pub(crate) fn key(number: u8) -> SessionKey {
    SessionKey::new(&[number; SessionKey::LEN])
}

/// As the articles' part III has it.
pub(crate) fn part_three() -> Settings {
    Settings { echo: false, auto_subscribe: vec![], ..settings() }
}

pub(crate) fn with_key(namespaces: Namespaces) -> Settings {
    let access = Access {
        open: false,
        api_key: Some(Secret::new("sesame")),
        anonymous_connect: false,
        tokens: false,
        reserved: Some("tidings.".into()),
    };
    Settings { access, namespaces, ..settings() }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            hub: Hub::new(Arc::new(settings), 0, 1),
            broker: Broker::Up,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            opened: BTreeSet::new(),
            timers: Vec::new(),
            wanted: BTreeSet::new(),
            counts: BTreeMap::new(),
            asked: VecDeque::new(),
            authority: |_| Response::Failed(Rejection::from(code::UNAUTHORIZED).into()),
            questions: VecDeque::new(),
            told: Vec::new(),
            tags: Vec::new(),
            answers: true,
        }
    }

    pub(crate) fn open(&mut self) -> Slot {
        let mut fx = Effects::default();
        let id = self.hub.open(&mut fx);
        self.settle(&mut fx);
        id.slot
    }

    pub(crate) fn input(&mut self, slot: Slot, bytes: impl AsRef<[u8]>) -> Flow {
        let mut fx = Effects::default();
        let flow = tidings_session::input(&mut self.hub, slot, bytes.as_ref(), &mut fx);
        self.settle(&mut fx);
        flow
    }

    /// What was sent to the session since the last look.
    pub(crate) fn output(&mut self, slot: Slot) -> String {
        String::from_utf8(self.sent.remove(&slot).unwrap_or_default()).unwrap()
    }

    /// The same, which may be no text.
    pub(crate) fn bytes(&mut self, slot: Slot) -> Vec<u8> {
        self.sent.remove(&slot).unwrap_or_default()
    }

    /// Sends and gives what comes back.
    pub(crate) fn say(&mut self, slot: Slot, bytes: impl AsRef<[u8]>) -> String {
        self.input(slot, bytes);
        self.output(slot)
    }

    pub(crate) fn close(&mut self, slot: Slot) {
        let mut fx = Effects::default();
        self.hub.closed(slot, &mut fx);
        self.settle(&mut fx);
    }

    pub(crate) fn with(&mut self, act: impl FnOnce(&mut Hub, &mut Effects)) {
        let mut fx = Effects::default();
        act(&mut self.hub, &mut fx);
        self.settle(&mut fx);
    }

    pub(crate) fn fire(&mut self, slot: Slot, timer: Timer) {
        let id = self.hub.id(slot).expect("a session");
        self.with(|hub, fx| hub.expired(id, timer, fx));
    }

    pub(crate) fn set_broker(&mut self, broker: Broker) {
        self.broker = broker;
        match broker {
            Broker::Down => self.with(Hub::broker_down),
            Broker::Up => {
                for topic in self.wanted.clone() {
                    self.with(|hub, fx| hub.live(&topic, fx));
                }
            }
            Broker::Slow => {}
        }
    }

    /// Fans a publication out as a shard does.
    pub(crate) fn publish(&mut self, channel: &str, body: &str) {
        let publication = Publication::new(Channel::new(channel).unwrap(), body.to_owned());
        if self.broker == Broker::Down {
            return;
        }
        for topic in self.wanted.clone() {
            let hit = match &topic {
                Topic::Channel(c) => *c == publication.channel,
                Topic::Pattern(p) => p.matches(channel),
            };
            let Some(key) = self.hub.topic(&topic).filter(|_| hit) else { continue };
            let entry = self.hub.entry(key).unwrap();
            let subscribers: Vec<_> = entry
                .forms()
                .flat_map(|form| entry.subscribers(form).iter().map(move |slot| (form, *slot)))
                .collect();
            for (form, slot) in subscribers {
                self.deliver(key, form, slot, &publication);
            }
        }
    }

    /// Fans publications out as a shard does, past those who know of them already.
    pub(crate) fn fan_out(&mut self, topic: &Topic, publications: &[Arc<Publication>]) {
        let Some(key) = self.hub.topic(topic) else { return };
        let told: BTreeMap<Slot, _> = self.hub.fanning_out(key, publications).into_iter().collect();
        let entry = self.hub.entry(key).unwrap();
        let subscribers: Vec<_> = entry
            .forms()
            .flat_map(|form| entry.subscribers(form).iter().map(move |slot| (form, *slot)))
            .collect();
        for (form, slot) in subscribers {
            for publication in publications {
                if told.get(&slot).is_none_or(|position| !tidings_hub::is_told(publication, position)) {
                    self.deliver(key, form, slot, publication);
                }
            }
        }
    }

    fn deliver(&mut self, key: TopicKey, form: Form, slot: Slot, publication: &Publication) {
        let mut bytes = Vec::new();
        form::encode(form, &self.hub.entry(key).unwrap().context(), publication, &mut bytes);
        if form.is_addressed() {
            let shared = std::mem::take(&mut bytes);
            tidings_session::address(&mut self.hub, slot, key, &shared, &mut bytes);
        }
        self.sent.entry(slot).or_default().extend_from_slice(&bytes);
    }

    pub(crate) fn answer_next(&mut self, answer: Response) {
        let (id, ticket, ..) = self.asked.pop_front().expect("a publish under way");
        self.with(|hub, fx| hub.respond(id, ticket, answer, fx));
    }

    fn settle(&mut self, fx: &mut Effects) {
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
                    self.wanted.insert(topic.clone());
                    let state = match self.broker {
                        Broker::Up => Interest::Live,
                        Broker::Slow => Interest::Pending,
                        Broker::Down => Interest::Unavailable,
                    };
                    let count = Arc::clone(self.counts.entry(topic.clone()).or_default());
                    self.hub.interest(&topic, state, count, fx);
                }
                Effect::UnsubscribeTopic(topic) => {
                    self.wanted.remove(&topic);
                }
                Effect::Request(id, ticket, Request::Publish(channel, body, extra)) => {
                    self.tags = extra.map(|extra| extra.tags).unwrap_or_default();
                    if self.broker == Broker::Down {
                        self.hub.respond(id, ticket, Response::Failed(Failure::Unavailable), fx);
                    } else if self.answers {
                        self.publish(channel.as_str(), std::str::from_utf8(&body).unwrap());
                        self.hub.respond(id, ticket, Response::Published(1), fx);
                    } else {
                        self.asked.push_back((id, ticket, channel, body.to_vec()));
                    }
                }
                Effect::Request(id, ticket, Request::Query(query)) => {
                    let answer = match query {
                        Query::Patterns => Response::Count(0),
                        Query::Channels(_) => Response::Channels(vec![]),
                        Query::Subscribers(c) => {
                            Response::Subscribers(c.into_iter().map(|c| (c, 0)).collect())
                        }
                        Query::Info => Response::Text("# Server\r\n".into()),
                    };
                    self.hub.respond(id, ticket, answer, fx);
                }
                Effect::Request(id, ticket, Request::Decide(question)) => {
                    let answer = (self.authority)(&question);
                    self.hub.respond(id, ticket, answer, fx);
                }
                Effect::Request(id, ticket, other) => self.questions.push_back((id, ticket, other)),
                Effect::Notify(note) => self.told.push(note),
            }
        }
        fx.clear();
    }
}
