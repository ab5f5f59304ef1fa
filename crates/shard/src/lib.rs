//! The data plane: threads that own connections.
//!
//! A shard is one thread with an epoll loop. It owns its sockets, passes their input to a [`tidings_hub::Hub`], and
//! writes the output of the hub and the publications of the broker. Other threads reach it only through its
//! [`Mailbox`].
//!
//! Invariants:
//! - A shard's thread never blocks: sockets are non-blocking, and work of the control plane is a request through
//!   [`Control`], with a message as the response.
//! - A publication is encoded once per wire form, joined with the waiting publications of its channel, and written
//!   directly to every socket. Only bytes that a socket does not accept are queued, and a queue exists only then.
//! - A queue is bounded in bytes. At the bound the policy of the channel applies, and the peer is notified of missed
//!   publications. Control traffic is never dropped: a peer that leaves its responses unread is not read from.
//! - An idle connection owns no buffer and no timer. One with TLS owns the state of rustls, in its own box.

mod accept;
mod address;
mod body;
mod chunk;
mod conn;
mod control;
mod counters;
mod deltas;
mod drain;
mod end_log;
mod event_stream;
mod failover;
mod fanout;
mod limits;
mod mailbox;
mod metrics;
mod overflow;
mod pipe;
mod polls;
mod process;
mod queue;
mod rate;
mod read_scheduler;
mod reading;
mod rebalance;
mod reconfigure;
mod returns;
mod shard;
mod socket;
mod streams;
mod survey;
mod tls;
mod unread_responses;
mod wheel;
mod write_layer;
mod writing;

pub use address::{AddressLimits, AddressRange, ClientPath, client_network, network};
pub use body::{Body, ResponseStart};
pub use control::{AcceptedConnection, Control, Handoffs, ProxyHandoff, Reply, TlsHandoff};
pub use counters::{CounterKey, Counters, TransportKind};
pub use event_stream::EventStream;
pub use limits::Limits;
pub use mailbox::{Arrival, LineConnection, Mailbox, PresenceUpdate, ShardMessage, ShardSettings};
pub use metrics::{CompressionBytes, FanOuts, Metrics};
pub use pipe::{PipeEnd, PipeOutput, ResponseOutcome};
pub use polls::PollDelivery;
pub use process::Process;
pub use rate::{Clock, RateLimit};
pub use returns::Returns;
pub use shard::{PreparedShards, prepare};
pub use socket::{LineRules, Listener, Socket};
pub use streams::StreamDelivery;
pub use survey::{ConnectionFilter, ConnectionPage, ConnectionSummary, ConnectionSurvey, MAX_EXAMINED};
pub use tidings_tcp_info::TcpInfo;
pub use tls::{Tls, Transport};
