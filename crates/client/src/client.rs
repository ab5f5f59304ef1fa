//! The client protocol over a sequence of connections.
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
//! Invariants: every publication is returned once and in order of arrival; each further `Subscribed` event of a
//! subscription reports whether publications were missed since the previous one.

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

/// The timeout of a subscription and of a call.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection of at least this duration, the first reconnect is immediate.
const STEADY: Duration = Duration::from_secs(10);
/// From this code on, an unsubscribe push requires the client to subscribe again.
const AGAIN: u32 = 2500;
/// The most bytes of publications that are queued for the caller during a call.
const MAX_WAITING: usize = 16 << 20;

/// Server address and credentials.
#[derive(Clone, Debug)]
pub struct Options {
    /// A WebSocket, or a line port (JSON lines).
    pub server: Server,
    /// The encoding of messages on a WebSocket. Protobuf preserves the bytes of bodies.
    pub encoding: Encoding,
    /// A connection token; `None` for an anonymous client.
    pub token: Option<String>,
    /// Application data for the `connect` command.
    pub data: Option<Vec<u8>>,
    /// The longest delay between two attempts to connect.
    pub max_delay: Duration,
}

impl Options {
    /// An anonymous client of `server`, in Protobuf where the connection supports it, with delays of at most ten
    /// seconds.
    pub fn new(server: Server) -> Self {
        Self {
            server,
            encoding: Encoding::Protobuf,
            token: None,
            data: None,
            max_delay: Duration::from_secs(10),
        }
    }
}

/// An event of the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The connection is established.
    Connected(Box<ConnectResult>),
    /// The connection was lost, or an attempt to connect has failed. The next attempt follows after the delay.
    Disconnected {
        /// The cause.
        why: Error,
        /// The delay.
        retry_in: Duration,
    },
    /// The subscription is active.
    Subscribed {
        /// The channel.
        channel: String,
        /// Whether publications were missed.
        how: Recovery,
        /// Data of the application.
        data: Option<Body>,
    },
    /// A subscription has ended, or the server rejected it.
    Unsubscribed {
        /// The channel.
        channel: String,
        /// The server's error.
        why: ServerError,
        /// Whether the client subscribes again by itself.
        again: bool,
    },
    /// A publication.
    Publication {
        /// The channel.
        channel: String,
        /// Its content.
        publication: Publication,
    },
    /// Another client subscribed to the channel.
    Join(String, Option<ClientInfo>),
    /// The subscription of another client ended.
    Leave(String, Option<ClientInfo>),
    /// A message of the backend to this client.
    Message(Option<Body>),
}

/// Whether publications were missed before a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// This is the first subscription.
    First,
    /// No publication is missing: this many were missed, and they follow.
    Recovered(usize),
    /// Publications are missing: the channel's history is too short.
    Gap,
    /// Publications are missing: the channel has no history.
    NoHistory,
}

/// A client that reconnects.
pub struct Client {
    options: Options,
    connection: Option<Connection>,
    /// The time at which the connection was established, or at which the next attempt is due.
    at: Instant,
    backoff: Backoff,
    subs: BTreeMap<String, Subscription>,
    /// Positions in the channels to which the server subscribed the client.
    server_subs: BTreeMap<String, Position>,
    /// The channels of subscribe commands without a reply, by the command's number.
    pending_subscribes: HashMap<u32, String>,
    events: VecDeque<Event>,
    /// Bytes of publications in the queue of events.
    queued_bytes: usize,
    /// The number of the current call, and its result once it is available.
    call: Option<(u32, Option<Result<Reply, Error>>)>,
}

/// A subscription that the client keeps active.
struct Subscription {
    token: Option<String>,
    state: SubscriptionState,
    backoff: Backoff,
    /// Whether it has been active before.
    was_active: bool,
    /// The position to recover from.
    position: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubscriptionState {
    /// The subscribe command is due at this time.
    Due(Instant),
    /// The subscribe command was sent at this time.
    Requested(Instant),
    Active,
}

impl Client {
    /// A client that connects with the first [`Self::next`] or call.
    pub fn new(options: Options) -> Self {
        let backoff = Backoff::new(options.max_delay);
        Self {
            options,
            connection: None,
            at: Instant::now(),
            backoff,
            subs: BTreeMap::new(),
            server_subs: BTreeMap::new(),
            pending_subscribes: HashMap::new(),
            events: VecDeque::new(),
            queued_bytes: 0,
            call: None,
        }
    }

    /// Adds a subscription; a private channel requires a `token`. No effect if the subscription exists.
    pub fn subscribe(&mut self, channel: &str, token: Option<&str>) {
        let backoff = Backoff::new(self.options.max_delay);
        self.subs.entry(channel.to_owned()).or_insert_with(|| Subscription {
            token: token.map(ToOwned::to_owned),
            state: SubscriptionState::Due(Instant::now()),
            backoff,
            was_active: false,
            position: None,
        });
    }

    /// Removes a subscription. Events that have already arrived are still returned.
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
    /// Errors that a retry cannot resolve: the server rejects the client, speaks another protocol, or sent a code that
    /// forbids reconnecting.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::Publication { publication, .. } = &event {
                    self.queued_bytes -= publication.body.raw.len();
                }
                return Ok(event);
            }
            self.step().await?;
        }
    }

    /// Sets the token of later connections.
    pub(crate) fn set_token(&mut self, token: &str) {
        self.options.token = Some(token.to_owned());
    }

    /// Sends a request, and connects first if necessary. Events that arrive meanwhile are queued for [`Self::next`].
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's text; [`Error::Lost`] and [`Error::Timeout`] without a response, when the
    /// command may or may not have been executed; [`Error::Overflow`] when too many events are queued.
    pub async fn call(&mut self, request: Request<'_>) -> Result<Reply, Error> {
        let end = Instant::now() + ANSWER_TIMEOUT;
        let silent = || Error::Timeout(ANSWER_TIMEOUT.as_secs());
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
                    Error::Refused { text, temporary, .. } => {
                        Error::Refused { what: name.to_owned(), text, temporary }
                    }
                    other => other,
                });
            }
            timeout_at(end, self.step()).await.map_err(|_| silent())??;
        }
    }

    /// Closes the connection and waits until the close frame is written.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }

    /// Runs one step: connects, sends due subscribe commands, or handles one message.
    async fn step(&mut self) -> Result<(), Error> {
        if self.queued_bytes > MAX_WAITING {
            return Err(Error::Overflow(MAX_WAITING));
        }
        if self.connection.is_none() {
            return self.connect().await;
        }
        let deadline = match self.send_subscribes() {
            Ok(deadline) => deadline,
            Err(error) => return self.on_lost(error),
        };
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let next = match deadline {
            Some(deadline) => timeout_at(deadline, connection.next()).await,
            None => Ok(connection.next().await),
        };
        match next {
            Ok(Ok(message)) => {
                self.on_message(message);
                Ok(())
            }
            Ok(Err(error)) => self.on_lost(error),
            Err(_) => {
                let late = |sub: &Subscription| matches!(sub.state, SubscriptionState::Requested(at) if at.elapsed() >= ANSWER_TIMEOUT);
                if self.subs.values().any(late) {
                    return self.on_lost(Error::Timeout(ANSWER_TIMEOUT.as_secs()));
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
                Err(error) => return self.on_lost(error),
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
            self.on_subscribed(&channel, subscribed, before);
        }
        Ok(())
    }

    /// Handles the loss of the connection.
    fn on_lost(&mut self, why: Error) -> Result<(), Error> {
        if self.connection.take().is_some() && self.at.elapsed() >= STEADY {
            self.backoff.reset();
        }
        self.pending_subscribes.clear();
        if let Some((_, answer)) = &mut self.call {
            *answer = Some(Err(why.clone()));
        }
        let retry_in = self.backoff.wait();
        self.at = Instant::now() + retry_in;
        if !why.is_retryable() {
            return Err(why);
        }
        self.events.push_back(Event::Disconnected { why, retry_in });
        Ok(())
    }

    /// Sends the subscribe commands that are due. Returns the time of the next one, or of the next timeout.
    fn send_subscribes(&mut self) -> Result<Option<Instant>, Error> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let now = Instant::now();
        let mut deadline: Option<Instant> = None;
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
                self.pending_subscribes.insert(id, channel.clone());
                sub.state = SubscriptionState::Requested(now);
            }
            let until = match sub.state {
                SubscriptionState::Due(at) => at,
                SubscriptionState::Requested(at) => at + ANSWER_TIMEOUT,
                SubscriptionState::Active => continue,
            };
            deadline = Some(deadline.map_or(until, |deadline| deadline.min(until)));
        }
        Ok(deadline)
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Reply(id, answer) => {
                if let Some(channel) = self.pending_subscribes.remove(&id) {
                    match answer {
                        Ok(Reply::Subscribed(subscribed)) => {
                            let before = self.subs.get(&channel).is_some_and(|sub| sub.was_active);
                            self.on_subscribed(&channel, *subscribed, before);
                        }
                        Ok(_) => {}
                        Err(refusal) => self.on_refused(channel, refusal),
                    }
                } else if let Some((of, result)) = &mut self.call
                    && *of == id
                {
                    *result = Some(answer.map_err(|refusal| Error::refused("", &refusal)));
                }
            }
            Message::Push(push) => self.on_push(push),
            Message::Ping => {}
        }
    }

    fn on_push(&mut self, push: Push) {
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
                    self.on_subscribed(&channel, subscribed, false);
                }
            }
            Push::Join(channel, who) => self.events.push_back(Event::Join(channel, who)),
            Push::Leave(channel, who) => self.events.push_back(Event::Leave(channel, who)),
            Push::Message(body) => self.events.push_back(Event::Message(body)),
            Push::Disconnect { .. } | Push::Other => {}
        }
    }

    /// Handles the start of a subscription, of the client or of the server.
    fn on_subscribed(&mut self, channel: &str, subscribed: SubscribeResult, before: bool) {
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
                sub.state = SubscriptionState::Active;
                sub.was_active = true;
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
        self.queued_bytes += publication.body.raw.len();
        self.events.push_back(Event::Publication { channel, publication });
    }

    fn on_refused(&mut self, channel: String, why: ServerError) {
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
