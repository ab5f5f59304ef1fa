//! The one table of codes: what a peer is told when something is refused, dropped or ended.
//!
//! Numbers and meanings are those of the Centrifugo client protocol (its public documentation, "Error codes"
//! and "Disconnect codes"), so that SDKs know which ones to retry: an error may be `temporary`; a disconnect in
//! 3000–3499 asks the client to reconnect, one in 3500–3999 asks it not to; an unsubscribe from 2500 on asks it
//! to subscribe again.

/// A reason with its number: the answer to one command, or the end of a subscription or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// The number on the wire.
    pub number: u16,
    /// The words that go with it when there is nothing more precise to say.
    pub text: &'static str,
    /// Whether the same command may succeed later without any change.
    pub temporary: bool,
}

const fn fixed(number: u16, text: &'static str) -> Code {
    Code { number, text, temporary: false }
}

const fn passing(number: u16, text: &'static str) -> Code {
    Code { number, text, temporary: true }
}

/// Something inside failed, or the broker is away.
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
/// A limit of the server was reached (channels a connection, for instance).
pub const LIMIT_EXCEEDED: Code = fixed(106, "limit exceeded");
/// The command could not be understood.
pub const BAD_REQUEST: Code = fixed(107, "bad request");
/// The command exists, but is not switched on for this channel or server.
pub const NOT_AVAILABLE: Code = fixed(108, "not available");
/// The token was valid once.
pub const TOKEN_EXPIRED: Code = fixed(109, "token expired");
/// Too much at once.
pub const TOO_MANY_REQUESTS: Code = passing(111, "too many requests");

/// The server ended the subscription for good.
pub const UNSUBSCRIBED_BY_SERVER: Code = fixed(2000, "server unsubscribe");
/// Publications were missed; subscribe again, and recover where the channel keeps history.
pub const INSUFFICIENT_STATE: Code = fixed(2500, "insufficient state");

/// The connection ended in the ordinary way.
pub const CLOSED: Code = passing(3000, "connection closed");
/// The server is stopping.
pub const SHUTDOWN: Code = passing(3001, "shutdown");
/// The client did not read as fast as its channels were published to.
pub const SLOW: Code = passing(3008, "slow");
/// A ping was not answered in time.
pub const NO_PONG: Code = passing(3012, "no pong");
/// The server keeps as much input of its clients as it may.
pub const OVERLOADED: Code = passing(3013, "too many requests");
/// The first thing a client said was not a connect command, or it broke the protocol.
pub const BAD_PROTOCOL: Code = fixed(3501, "bad request");
/// The connection was opened and then never used.
pub const STALE: Code = fixed(3502, "stale");
/// The server holds as many connections as it may.
pub const CONNECTION_LIMIT: Code = passing(3504, "connection limit");
