//! The Pusher Channels protocol, version 7 ([specification](https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol/)),
//! without I/O: messages in both directions, names of channels and events, signatures, requests of the HTTP API, webhooks.
//!
//! Invariants:
//! - No function panics, whatever the bytes; parsed text is borrowed where it needs no unescaping.
//! - A signature is compared in a time that does not depend on the position of the first difference.
//! - No secret is part of an error, or of a `Debug` output.

mod api;
mod app;
mod channel;
mod code;
mod command;
mod event;
mod member;
mod signature;
mod socket;

pub use api::{Batch, Event, EventBatch, EventRequest, RequestError};
pub use app::{App, AppCounters, Limits};
pub use channel::{
    ChannelKind, MAX_CHANNEL, MAX_EVENT, MAX_USER_ID, NameError, ONLINE, SERVER_TO_USER, check_channel,
    check_event, check_user_id, is_cache, visible_name,
};
pub use code::{ErrorCode, codes};
pub use command::{Command, CommandError, SignIn, Subscribe, parse as parse_command};
pub use event::{
    DEFAULT_EVENT, error, established, event_name, internal, is_reserved_event, publication,
    subscription_error, watchlist_event,
};
pub use member::{
    MAX_USER_INFO, MAX_WATCHLIST, Member, MemberError, WatchlistError, signed_in_user, user_id, watchlist,
};
pub use signature::{Key, Query, SignatureError, TIMESTAMP_WINDOW, check_body};
pub use socket::SocketId;

/// The versions of the protocol that are accepted: 5 and 6 differ from 7 in nothing that a server sends.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 5..=7;
