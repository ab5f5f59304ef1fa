//! An app: its credentials, its limits, and what is counted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::channel::{ONLINE, SERVER_TO_USER};
use crate::signature::Key;

/// The limits of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections on one node; 0 is no limit.
    pub connections: usize,
    /// Most users of a presence channel.
    pub presence_members: usize,
    /// Largest data of an event in bytes.
    pub event_size: usize,
    /// Most client events of one connection in a second.
    pub client_event_rate: usize,
}

/// What is counted of an app on this node.
#[derive(Debug, Default)]
pub struct AppCounters {
    /// Connections now.
    pub connections: AtomicU64,
    /// Connections that were refused because of the limit.
    pub connections_refused: AtomicU64,
    /// Subscriptions and sign-ins with a wrong signature.
    pub unauthorized: AtomicU64,
    /// Events from clients that were published.
    pub client_events: AtomicU64,
    /// Events from clients that were rejected.
    pub client_events_rejected: AtomicU64,
    /// Subscriptions that were rejected because their presence channel has as many users as allowed.
    pub members_refused: AtomicU64,
    /// Events of the HTTP API that were published, once for each channel.
    pub api_events: AtomicU64,
    /// Requests of the HTTP API that were answered with an error.
    pub api_errors: AtomicU64,
}

/// An app: a set of channels, with the credentials of its clients and backends.
#[derive(Debug)]
pub struct App {
    /// Its id, part of the paths of the HTTP API.
    pub id: String,
    /// Its public key, part of the path of WebSockets.
    pub key: String,
    /// Its secret.
    pub secret: Key,
    /// The prefix of its channels and users on the server; empty, or ends in a colon.
    pub prefix: String,
    /// Whether clients may send events.
    pub client_events: bool,
    /// Whether subscribers get the number of subscriptions of their channel.
    pub subscription_count: bool,
    /// Whether clients get online and offline events of the users in their watchlist.
    pub watchlist_events: bool,
    /// Whether the application decides about connections (the connect hook).
    pub connect_hook: bool,
    /// The time without messages after which a client sends a ping, in seconds.
    pub activity_timeout: u64,
    /// Its limits.
    pub limits: Limits,
    /// Its counters, which stay when a reload changes its options.
    pub counters: Arc<AppCounters>,
}

impl App {
    /// The server's name of a channel.
    pub fn channel(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The server's id of a user.
    pub fn user(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// The name that clients use for the channel of a user.
    pub fn user_channel(id: &str) -> String {
        format!("{SERVER_TO_USER}{id}")
    }

    /// The channel whose members are the connections of a user, without the prefix.
    pub fn online_channel(id: &str) -> String {
        format!("{ONLINE}{id}")
    }

    /// Counts a new connection. Returns `false`, and counts a refusal, at the limit.
    pub fn open_connection(&self) -> bool {
        let AppCounters { connections, connections_refused, .. } = &*self.counters;
        let limit = self.limits.connections as u64;
        let open = connections.fetch_add(1, Ordering::Relaxed);
        let is_allowed = limit == 0 || open < limit;
        if !is_allowed {
            connections.fetch_sub(1, Ordering::Relaxed);
            connections_refused.fetch_add(1, Ordering::Relaxed);
        }
        is_allowed
    }

    /// Counts the end of a connection.
    pub fn close_connection(&self) {
        self.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
