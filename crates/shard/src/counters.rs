//! Counters by key: one atomic number for each value of an enum.

use std::marker::PhantomData;
use std::ops::Index;
use std::sync::atomic::AtomicU64;

use tidings_hub::Overflow;
use tidings_mqtt::{PacketType, Qos};
use tidings_session::Link;

use crate::socket::Socket;

/// A key of [`Counters`].
pub trait CounterKey: Copy + 'static {
    /// Number of keys.
    const COUNT: usize;

    /// All keys, in the order of [`CounterKey::index`].
    fn all() -> impl Iterator<Item = Self>;

    /// The index of the key, below [`CounterKey::COUNT`].
    fn index(self) -> usize;

    /// The label in metrics.
    fn label(self) -> &'static str;
}

/// One counter for each key.
#[derive(Debug)]
pub struct Counters<K> {
    counters: Box<[AtomicU64]>,
    key: PhantomData<K>,
}

impl<K: CounterKey> Default for Counters<K> {
    fn default() -> Self {
        Self { counters: (0..K::COUNT).map(|_| AtomicU64::default()).collect(), key: PhantomData }
    }
}

impl<K: CounterKey> Index<K> for Counters<K> {
    type Output = AtomicU64;

    fn index(&self, key: K) -> &AtomicU64 {
        &self.counters[key.index()]
    }
}

/// The transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// TCP.
    Tcp,
    /// A Unix socket.
    Unix,
    /// The body of a response of HTTP/1.1, with or without TLS.
    Http,
    /// TLS over TCP.
    Tls,
    /// A stream of HTTP/2.
    Http2,
}

impl From<&Socket> for TransportKind {
    fn from(socket: &Socket) -> Self {
        match socket {
            Socket::Tcp(_) => Self::Tcp,
            Socket::Unix(_) => Self::Unix,
            Socket::Body(body) if body.as_pipe().is_some() => Self::Http2,
            Socket::Body(_) => Self::Http,
            Socket::Tls(_) => Self::Tls,
            Socket::Pipe(_) => Self::Http2,
        }
    }
}

impl CounterKey for TransportKind {
    const COUNT: usize = 5;

    fn all() -> impl Iterator<Item = Self> {
        [Self::Tcp, Self::Unix, Self::Http, Self::Tls, Self::Http2].into_iter()
    }

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Http2 => "http2",
        }
    }
}

impl CounterKey for Overflow {
    const COUNT: usize = Self::COUNT;

    fn all() -> impl Iterator<Item = Self> {
        [Self::Cut, Self::Latest, Self::DropOldest, Self::Unsubscribe].into_iter()
    }

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Latest => "latest",
            Self::DropOldest => "drop_oldest",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

impl CounterKey for Link {
    const COUNT: usize = Self::COUNT;

    fn all() -> impl Iterator<Item = Self> {
        Self::all()
    }

    fn index(self) -> usize {
        self.index()
    }

    fn label(self) -> &'static str {
        self.name()
    }
}

impl CounterKey for PacketType {
    const COUNT: usize = Self::ALL.len();

    fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    fn index(self) -> usize {
        self as usize - 1
    }

    fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnAck => "connack",
            Self::Publish => "publish",
            Self::PubAck => "puback",
            Self::PubRec => "pubrec",
            Self::PubRel => "pubrel",
            Self::PubComp => "pubcomp",
            Self::Subscribe => "subscribe",
            Self::SubAck => "suback",
            Self::Unsubscribe => "unsubscribe",
            Self::UnsubAck => "unsuback",
            Self::PingReq => "pingreq",
            Self::PingResp => "pingresp",
            Self::Disconnect => "disconnect",
            Self::Auth => "auth",
        }
    }
}

impl CounterKey for Qos {
    const COUNT: usize = Self::ALL.len();

    fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        ["0", "1", "2"][self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<K: CounterKey>() {
        let indices: Vec<usize> = K::all().map(CounterKey::index).collect();
        assert_eq!(indices, (0..K::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn every_key_has_its_own_counter() {
        check::<TransportKind>();
        check::<Overflow>();
        check::<Link>();
    }
}
