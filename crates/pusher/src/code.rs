//! Error codes of the protocol ("Error Codes"). A client connects again after 4200–4299 at once, after 4100–4199 with a delay,
//! and after 4000–4099 not at all.

/// A code of `pusher:error`, which is also the close code of the WebSocket if the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The number on the wire.
    pub number: u16,
    /// The default message.
    pub text: &'static str,
}

/// The codes that the server uses.
pub mod codes {
    use super::ErrorCode;

    const fn code(number: u16, text: &'static str) -> ErrorCode {
        ErrorCode { number, text }
    }

    /// The key in the path is that of no app.
    pub const UNKNOWN_APP: ErrorCode = code(4001, "no app has this key");
    /// The app, or a presence channel of it, has reached its limit.
    pub const OVER_QUOTA: ErrorCode = code(4004, "over the limit of connections");
    /// The parameter `protocol` is not a number.
    pub const INVALID_VERSION: ErrorCode = code(4006, "the parameter protocol must be a number");
    /// The version is not supported.
    pub const UNSUPPORTED_VERSION: ErrorCode = code(4007, "the version of the protocol must be 5, 6 or 7");
    /// The parameter `protocol` is missing.
    pub const NO_VERSION: ErrorCode = code(4008, "the parameter protocol is missing");
    /// The client is not authorized, or the application has ended its connection.
    pub const UNAUTHORIZED: ErrorCode = code(4009, "not authorized");
    /// The server has no room for the connection; a later attempt may succeed.
    pub const OVER_CAPACITY: ErrorCode = code(4100, "over capacity");
    /// The client should connect again at once.
    pub const RECONNECT: ErrorCode = code(4200, "reconnect");
    /// The client did not answer a ping.
    pub const NO_PONG: ErrorCode = code(4201, "no pong in time");
    /// A client event was rejected. The connection stays open.
    pub const CLIENT_EVENT_REJECTED: ErrorCode = code(4301, "client event rejected");
    /// The users of a watchlist cannot be watched. The user is signed in.
    pub const WATCHLIST_REJECTED: ErrorCode = code(4302, "watchlist rejected");
}
