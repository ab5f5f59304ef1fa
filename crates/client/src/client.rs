//! The client protocol over as many connections as it takes.
//!
//! A [`Client`] connects, subscribes, and reconnects after a loss: after a random wait (full jitter), with the position
//! of every subscription, so that the server sends missed publications. [`Recovery`] reports whether any are missing.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidings_client::Error> {
//! use tidings_client::{Client, Event, Options};
//!
//! let server = "ws://127.0.0.1:8000".parse().expect("an address");
//! let mut client = Client::new(Options::new(server));
//! client.subscribe("scores:nba", None);
//! loop {
//!     if let Event::Publication { channel, publication } = client.next().await? {
//!         println!("{channel}: {}", String::from_utf8_lossy(&publication.body.bytes()));
//!     }
//! }
//! # }
//! ```
//!
//! Invariants: every publication is given once and in the order in which it came; a subscription that is given as
//! `Subscribed` again says what became of the time between.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tidings_wire::client::Encoding;
use tidings_wire::client::request::{self, Request};
use tidings_wire::code;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::message::{
    ClientInfo, ConnectResult, Message, Position, Publication, Push, Reply, ServerError, SubscribeResult,
};
use crate::{Backoff, Body, ConnectOptions, Connection, Error, Server};

/// How long an answer may take: to a subscription, to a call.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that held for this long counts as good: the next loss is retried at once.
const STEADY: Duration = Duration::from_secs(10);
/// The first of these codes of an unsubscribe push asks the client to subscribe again.
const AGAIN: u32 = 2500;
/// How many bytes of publications may wait for the caller while a call is answered.
const MAX_WAITING: usize = 16 << 20;

/// Server address and credentials.
#[derive(Clone, Debug)]
pub struct Options {
    /// A WebSocket, or a line port (JSON lines).
    pub server: Server,
    /// How messages are written down on a WebSocket. In Protobuf, bodies are exact.
    pub encoding: Encoding,
    /// A connection token; `None` for an anonymous client.
    pub token: Option<String>,
    /// What the application adds to `connect`.
    pub data: Option<Vec<u8>>,
    /// The longest wait between two attempts to connect.
    pub longest_wait: Duration,
}

impl Options {
    /// An anonymous client of `server`, in Protobuf where that is possible, that comes back within ten seconds.
    pub fn new(server: Server) -> Self {
        Self {
            server,
            encoding: Encoding::Protobuf,
            token: None,
            data: None,
            longest_wait: Duration::from_secs(10),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// There is a connection.
    Connected(Box<ConnectResult>),
    /// There is none any more, or none yet; the next attempt is made after the wait.
    Disconnected {
        /// Why.
        why: Error,
        /// How long the wait is.
        retry_in: Duration,
    },
    /// A subscription stands.
    Subscribed {
        /// To this channel.
        channel: String,
        /// What became of the time before.
        how: Recovery,
        /// What the application adds.
        data: Option<Body>,
    },
    /// A subscription ended, or could not be made.
    Unsubscribed {
        /// To this channel.
        channel: String,
        /// What the server says.
        why: ServerError,
        /// Whether it will be made again without further ado.
        again: bool,
    },
    /// Something was published.
    Publication {
        /// In this channel.
        channel: String,
        /// What.
        publication: Publication,
    },
    /// Somebody subscribed.
    Join(String, Option<ClientInfo>),
    /// Somebody's subscription ended.
    Leave(String, Option<ClientInfo>),
    /// A message of the backend to this client.
    Message(Option<Body>),
}

/// What became of the time before a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It is the first.
    First,
    /// Nothing is missing: so many publications were missed, and they come now.
    Recovered(usize),
    /// The channel's history did not reach back far enough: publications are missing.
    Gap,
    /// The channel has no history: publications of the time without a connection are missing.
    NoHistory,
}

/// A client that comes back.
pub struct Client {
    options: Options,
    connection: Option<Connection>,
    /// When the connection was made, or the next attempt is due.
    at: Instant,
    backoff: Backoff,
    subs: BTreeMap<String, Subscription>,
    /// Where we stand in what the server subscribed us to.
    server_subs: BTreeMap<String, Position>,
    /// Which channel a subscribe command was for.
    asked: HashMap<u32, String>,
    events: VecDeque<Event>,
    /// Bytes of publications among the events.
    waiting: usize,
    /// The number of the call under way, and its answer once it is there.
    call: Option<(u32, Option<Result<Reply, Error>>)>,
}

/// A subscription that is wanted.
struct Subscription {
    token: Option<String>,
    state: SubscriptionState,
    backoff: Backoff,
    /// Whether it has stood before.
    stood: bool,
    /// Where to recover from.
    position: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubscriptionState {
    /// To be asked for at this time.
    Due(Instant),
    /// Asked for at this time.
    Asked(Instant),
    Stands,
}

impl Client {
    /// Begins to connect with the first [`Self::next`] or call.
    pub fn new(options: Options) -> Self {
        let backoff = Backoff::new(options.longest_wait);
        Self {
            options,
            connection: None,
            at: Instant::now(),
            backoff,
            subs: BTreeMap::new(),
            server_subs: BTreeMap::new(),
            asked: HashMap::new(),
            events: VecDeque::new(),
            waiting: 0,
            call: None,
        }
    }

    /// Wants a subscription from now on; a private channel needs a `token`. Does nothing when there is one.
    pub fn subscribe(&mut self, channel: &str, token: Option<&str>) {
        let backoff = Backoff::new(self.options.longest_wait);
        self.subs.entry(channel.to_owned()).or_insert_with(|| Subscription {
            token: token.map(ToOwned::to_owned),
            state: SubscriptionState::Due(Instant::now()),
            backoff,
            stood: false,
            position: None,
        });
    }

    /// Wants a subscription no more. What has come of it is still given.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection cannot send.
    pub fn unsubscribe(&mut self, channel: &str) -> Result<(), Error> {
        if self.subs.remove(channel).is_some()
            && let Some(connection) = &mut self.connection
        {
            connection.send(Request::Unsubscribe(request::Unsubscribe { channel: channel.into() }))?;
        }
        Ok(())
    }

    /// The next event. May be dropped half-way and called again.
    ///
    /// # Errors
    /// What another attempt would not change: the client is not let in, the server speaks another protocol, or asked
    /// not to come back.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::Publication { publication, .. } = &event {
                    self.waiting -= publication.body.raw.len();
                }
                return Ok(event);
            }
            self.step().await?;
        }
    }

    /// The token with which the next connection is made.
    pub(crate) fn set_token(&mut self, token: &str) {
        self.options.token = Some(token.to_owned());
    }

    /// Asks the server, connecting first where need be. Events that come meanwhile wait for [`Self::next`].
    ///
    /// # Errors
    /// [`Error::Refused`] in the server's words; [`Error::Lost`] and [`Error::Silent`] when there is no answer, and
    /// it is not known whether the command was carried out; [`Error::Behind`] when more events wait than may.
    pub async fn call(&mut self, request: Request<'_>) -> Result<Reply, Error> {
        let end = Instant::now() + ANSWER_TIMEOUT;
        let silent = || Error::Silent(ANSWER_TIMEOUT.as_secs());
        while self.connection.is_none() {
            timeout_at(end, self.step()).await.map_err(|_| silent())??;
        }
        let name = request.name();
        let Some(connection) = &mut self.connection else { return Err(silent()) };
        self.call = Some((connection.send(request)?, None));
        loop {
            if let Some((_, answer)) = &mut self.call
                && let Some(answer) = answer.take()
            {
                self.call = None;
                return answer.map_err(|error| match error {
                    Error::Refused { words, temporary, .. } => {
                        Error::Refused { what: name.to_owned(), words, temporary }
                    }
                    other => other,
                });
            }
            timeout_at(end, self.step()).await.map_err(|_| silent())??;
        }
    }

    /// Leaves in good order.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }

    /// Runs one step: connects, subscribes what is due, or handles one message.
    async fn step(&mut self) -> Result<(), Error> {
        if self.waiting > MAX_WAITING {
            return Err(Error::Behind(MAX_WAITING));
        }
        if self.connection.is_none() {
            return self.connect().await;
        }
        let patience = match self.ask() {
            Ok(patience) => patience,
            Err(error) => return self.lost(error),
        };
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let next = match patience {
            Some(patience) => timeout_at(patience, connection.next()).await,
            None => Ok(connection.next().await),
        };
        match next {
            Ok(Ok(message)) => {
                self.take(message);
                Ok(())
            }
            Ok(Err(error)) => self.lost(error),
            Err(_) => {
                let late = |sub: &Subscription| matches!(sub.state, SubscriptionState::Asked(at) if at.elapsed() >= ANSWER_TIMEOUT);
                if self.subs.values().any(late) {
                    return self.lost(Error::Silent(ANSWER_TIMEOUT.as_secs()));
                }
                Ok(())
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        sleep_until(self.at).await;
        let hello = ConnectOptions {
            token: self.options.token.clone(),
            data: self.options.data.clone(),
            subs: self.server_subs.iter().map(|(channel, at)| (channel.clone(), at.clone())).collect(),
        };
        let (connection, mut welcome) =
            match Connection::open(&self.options.server, self.options.encoding, &hello).await {
                Ok(opened) => opened,
                Err(error) => return self.lost(error),
            };
        self.connection = Some(connection);
        self.at = Instant::now();
        for sub in self.subs.values_mut() {
            sub.state = SubscriptionState::Due(self.at);
        }
        let subs = std::mem::take(&mut welcome.subs);
        self.events.push_back(Event::Connected(Box::new(welcome)));
        for (channel, subscribed) in subs {
            let before = self.server_subs.remove(&channel).is_some();
            self.subscribed(&channel, subscribed, before);
        }
        Ok(())
    }

    /// There is no connection (any more).
    fn lost(&mut self, why: Error) -> Result<(), Error> {
        if self.connection.take().is_some() && self.at.elapsed() >= STEADY {
            self.backoff.reset();
        }
        self.asked.clear();
        if let Some((_, answer)) = &mut self.call {
            *answer = Some(Err(why.clone()));
        }
        let retry_in = self.backoff.wait();
        self.at = Instant::now() + retry_in;
        if !why.may_pass() {
            return Err(why);
        }
        self.events.push_back(Event::Disconnected { why, retry_in });
        Ok(())
    }

    /// Asks for the subscriptions that are due; gives when the next one is, or an answer is late.
    fn ask(&mut self) -> Result<Option<Instant>, Error> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let now = Instant::now();
        let mut patience: Option<Instant> = None;
        for (channel, sub) in &mut self.subs {
            if matches!(sub.state, SubscriptionState::Due(at) if at <= now) {
                let position = sub.position.clone().unwrap_or_default();
                let id = connection.send(Request::Subscribe(request::Subscribe {
                    channel: channel.into(),
                    token: sub.token.as_deref().unwrap_or_default().into(),
                    recover: sub.position.is_some(),
                    epoch: position.epoch.into(),
                    offset: position.offset,
                    recoverable: true,
                    ..request::Subscribe::default()
                }))?;
                self.asked.insert(id, channel.clone());
                sub.state = SubscriptionState::Asked(now);
            }
            let until = match sub.state {
                SubscriptionState::Due(at) => at,
                SubscriptionState::Asked(at) => at + ANSWER_TIMEOUT,
                SubscriptionState::Stands => continue,
            };
            patience = Some(patience.map_or(until, |patience| patience.min(until)));
        }
        Ok(patience)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Reply(id, answer) => {
                if let Some(channel) = self.asked.remove(&id) {
                    match answer {
                        Ok(Reply::Subscribed(subscribed)) => {
                            let before = self.subs.get(&channel).is_some_and(|sub| sub.stood);
                            self.subscribed(&channel, *subscribed, before);
                        }
                        Ok(_) => {}
                        Err(refusal) => self.refused(channel, refusal),
                    }
                } else if let Some((of, waiting)) = &mut self.call
                    && *of == id
                {
                    *waiting = Some(answer.map_err(|refusal| Error::refused("", &refusal)));
                }
            }
            Message::Push(push) => self.pushed(push),
            Message::Ping => {}
        }
    }

    fn pushed(&mut self, push: Push) {
        match push {
            Push::Publication(channel, publication) => {
                let position = match self.subs.get_mut(&channel) {
                    Some(sub) => sub.position.as_mut(),
                    None => self.server_subs.get_mut(&channel),
                };
                if let Some(position) = position
                    && publication.offset > 0
                {
                    position.offset = publication.offset;
                }
                self.publication(channel, publication);
            }
            Push::Unsubscribe { channel, code, reason } => {
                let again = code >= AGAIN && self.subs.contains_key(&channel);
                match self.subs.get_mut(&channel) {
                    Some(sub) if again => sub.state = SubscriptionState::Due(Instant::now()),
                    _ => {
                        self.subs.remove(&channel);
                        self.server_subs.remove(&channel);
                    }
                }
                let why = ServerError { code, message: reason, temporary: again };
                self.events.push_back(Event::Unsubscribed { channel, why, again });
            }
            Push::Subscribe(channel, subscribed) => {
                if !self.subs.contains_key(&channel) {
                    self.subscribed(&channel, subscribed, false);
                }
            }
            Push::Join(channel, who) => self.events.push_back(Event::Join(channel, who)),
            Push::Leave(channel, who) => self.events.push_back(Event::Leave(channel, who)),
            Push::Message(body) => self.events.push_back(Event::Message(body)),
            Push::Disconnect { .. } | Push::Other => {}
        }
    }

    /// A subscription stands: by our wish, or the server's where it is not among ours.
    fn subscribed(&mut self, channel: &str, subscribed: SubscribeResult, before: bool) {
        let SubscribeResult { position, publications, recovered, data, .. } = subscribed;
        let had_position = match self.subs.get(channel) {
            Some(sub) => sub.position.is_some(),
            None => before,
        };
        let how = match (before, recovered, had_position) {
            (false, ..) => Recovery::First,
            (true, true, _) => Recovery::Recovered(publications.len()),
            (true, false, true) => Recovery::Gap,
            (true, false, false) => Recovery::NoHistory,
        };
        match self.subs.get_mut(channel) {
            Some(sub) => {
                sub.state = SubscriptionState::Stands;
                sub.stood = true;
                sub.backoff.reset();
                sub.position = position;
            }
            None => {
                if let Some(position) = position {
                    self.server_subs.insert(channel.to_owned(), position);
                }
            }
        }
        self.events.push_back(Event::Subscribed { channel: channel.to_owned(), how, data });
        for publication in publications {
            self.publication(channel.to_owned(), publication);
        }
    }

    fn publication(&mut self, channel: String, publication: Publication) {
        self.waiting += publication.body.raw.len();
        self.events.push_back(Event::Publication { channel, publication });
    }

    fn refused(&mut self, channel: String, why: ServerError) {
        let Some(sub) = self.subs.get_mut(&channel) else { return };
        let unrecoverable = why.code == u32::from(code::UNRECOVERABLE_POSITION.number);
        let again = why.temporary || (unrecoverable && sub.position.is_some());
        if again {
            let wait = if unrecoverable { Duration::ZERO } else { sub.backoff.wait() };
            if unrecoverable {
                sub.position = None;
            }
            sub.state = SubscriptionState::Due(Instant::now() + wait);
        } else {
            self.subs.remove(&channel);
        }
        self.events.push_back(Event::Unsubscribed { channel, why, again });
    }
}
