//! The table of codes for errors, disconnects and unsubscribes.
//!
//! Numbers and meanings are those of the Centrifugo client protocol (its public documentation, "Error codes" and
//! "Disconnect codes"), so that SDKs retry correctly: an error may be `temporary`; a disconnect in 3000–3499 requests
//! reconnecting, one in 3500–3999 forbids it; an unsubscribe from 2500 on requests subscribing again.

use std::fmt;

/// A reason with its number: the answer to one command, or the end of a subscription or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// The number on the wire.
    pub number: u16,
    /// The default message.
    pub text: &'static str,
    /// Whether the same command may succeed later without any change.
    pub temporary: bool,
}

/// A number with its noun, for messages: `1 connection`, `2 connections`.
pub fn counted<N: Copy + fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A status of HTTP (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpStatus {
    /// Three digits.
    pub number: u16,
    /// The reason phrase of the status line.
    pub reason: &'static str,
}

/// The status of an HTTP response that refuses a request with the code `number`; 400 for the application's own codes.
pub const fn http_status(number: u16) -> HttpStatus {
    let (number, reason) = match number {
        101 | 109 | 110 | 3005 | 3500 => (401, "Unauthorized"),
        103 | 3503 | 3507 => (403, "Forbidden"),
        102 | 108 => (404, "Not Found"),
        111 | 3013 => (429, "Too Many Requests"),
        100 | 3000..3500 | 3504 => (503, "Service Unavailable"),
        _ => (400, "Bad Request"),
    };
    HttpStatus { number, reason }
}

const fn fixed(number: u16, text: &'static str) -> Code {
    Code { number, text, temporary: false }
}

const fn passing(number: u16, text: &'static str) -> Code {
    Code { number, text, temporary: true }
}

/// An internal error, or the broker is away.
pub const INTERNAL: Code = passing(100, "internal server error");
/// The token or key was missing or not accepted.
pub const UNAUTHORIZED: Code = fixed(101, "unauthorized");
/// The channel's namespace does not exist.
pub const UNKNOWN_CHANNEL: Code = fixed(102, "unknown channel");
/// The channel's options do not allow it.
pub const PERMISSION_DENIED: Code = fixed(103, "permission denied");
/// The command does not exist.
pub const METHOD_NOT_FOUND: Code = fixed(104, "method not found");
/// The session is subscribed to the channel already.
pub const ALREADY_SUBSCRIBED: Code = fixed(105, "already subscribed");
/// A limit of the server was reached (channels per connection, for instance).
pub const LIMIT_EXCEEDED: Code = fixed(106, "limit exceeded");
/// The command is invalid.
pub const BAD_REQUEST: Code = fixed(107, "bad request");
/// The command exists, but is not enabled for this channel or server.
pub const NOT_AVAILABLE: Code = fixed(108, "not available");
/// The token has expired.
pub const TOKEN_EXPIRED: Code = fixed(109, "token expired");
/// The connection's or subscription's time is over, and it has no token to renew.
pub const EXPIRED: Code = fixed(110, "expired");
/// Too many requests at once.
pub const TOO_MANY_REQUESTS: Code = passing(111, "too many requests");
/// The channel's history does not reach back to the requested position, or has another epoch.
pub const UNRECOVERABLE_POSITION: Code = fixed(112, "unrecoverable position");

/// The server ended the subscription permanently.
pub const UNSUBSCRIBED_BY_SERVER: Code = fixed(2000, "server unsubscribe");
/// Publications were missed; subscribe again, and recover where the channel keeps history.
pub const INSUFFICIENT_STATE: Code = fixed(2500, "insufficient state");
/// The subscription's time is over; subscribe again with a new token.
pub const SUBSCRIPTION_EXPIRED: Code = fixed(2501, "expired");

/// The connection ended normally.
pub const CLOSED: Code = passing(3000, "connection closed");
/// The server is stopping.
pub const SHUTDOWN: Code = passing(3001, "shutdown");
/// An internal error.
pub const SERVER_ERROR: Code = passing(3004, "internal server error");
/// The connection's time is over; the client reconnects with a new token.
pub const CONNECTION_EXPIRED: Code = passing(3005, "connection expired");
/// The client did not read as fast as its channels were published to.
pub const SLOW: Code = passing(3008, "slow");
/// Publications of a server-side subscription were missed; the client reconnects and recovers.
pub const POSITION_LOST: Code = passing(3010, "insufficient state");
/// The application requested that the client reconnects.
pub const FORCE_RECONNECT: Code = passing(3011, "force reconnect");
/// A ping was not answered in time.
pub const NO_PONG: Code = passing(3012, "no pong");
/// The buffered input of clients has reached its limit.
pub const OVERLOADED: Code = passing(3013, "too many requests");
/// The token was not accepted.
pub const INVALID_TOKEN: Code = fixed(3500, "invalid token");
/// The first command was not `connect`, or another violation of the protocol.
pub const BAD_PROTOCOL: Code = fixed(3501, "bad request");
/// The connection was opened and then never used.
pub const STALE: Code = fixed(3502, "stale");
/// The application requested that the connection is closed.
pub const FORCE_DISCONNECT: Code = fixed(3503, "force disconnect");
/// The number of connections has reached its limit.
pub const CONNECTION_LIMIT: Code = passing(3504, "connection limit");
/// The client has reached its limit of channels and requests another one.
pub const CHANNEL_LIMIT: Code = fixed(3505, "channel limit");
/// The client is not permitted to connect.
pub const NO_PERMISSION: Code = fixed(3507, "permission denied");
/// The client sent a message without a reply, which the server does not support.
pub const SEND_NOT_AVAILABLE: Code = fixed(3508, "not available");
/// A newer connection of the same client of MQTT has taken over.
pub const SESSION_TAKEN_OVER: Code = fixed(3590, "session taken over");
/// The client made too many errors.
pub const TOO_MANY_ERRORS: Code = fixed(3509, "too many errors");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_http_status_of_its_code() {
        for (code, status) in [
            (INTERNAL, 503),
            (UNAUTHORIZED, 401),
            (UNKNOWN_CHANNEL, 404),
            (PERMISSION_DENIED, 403),
            (LIMIT_EXCEEDED, 400),
            (BAD_REQUEST, 400),
            (TOKEN_EXPIRED, 401),
            (TOO_MANY_REQUESTS, 429),
            (OVERLOADED, 429),
            (SHUTDOWN, 503),
            (INVALID_TOKEN, 401),
            (BAD_PROTOCOL, 400),
        ] {
            assert_eq!(http_status(code.number).number, status, "{code:?}");
        }
        assert_eq!(http_status(4000).number, 400, "an application's own code");
    }
}
