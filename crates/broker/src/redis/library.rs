//! The Function library that does in Redis what must be one step (Redis 7 or newer; `FUNCTION LOAD`, `FCALL`).
//!
//! It is loaded on every new publishing connection, replacing what was there: by then Redis may be another one, or have
//! come back without its data. Anybody may call it: `FCALL tidings_publish 1 channel body` publishes as tidings does.
//! The user needs `+fcall +function|load`, the keys `~tidings:*` and those named as the channels, and the Pub/Sub
//! channels `&name` and `&name?tidings` for each (an ACL takes no space, and `?` stands for any one character).

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, ServerError, Value};

/// The library's text.
const SOURCE: &str = include_str!("library.lua");

pub(super) const PUBLISH: &str = "tidings_publish";
pub(super) const HISTORY: &str = "tidings_history";
pub(super) const POSITION: &str = "tidings_position";
pub(super) const HISTORY_REMOVE: &str = "tidings_history_remove";
pub(super) const PRESENCE_ADD: &str = "tidings_presence_add";
pub(super) const PRESENCE_REMOVE: &str = "tidings_presence_remove";
pub(super) const PRESENCE: &str = "tidings_presence";
pub(super) const PRESENCE_STATS: &str = "tidings_presence_stats";

/// Loads the library.
///
/// # Errors
/// What Redis answers: it may be too old, or the user may not.
pub(super) async fn load(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(SOURCE).query_async(connection).await
}

/// Whether a function was called that Redis does not have, so that nothing was done.
pub(super) fn is_missing(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if says_missing(error))
}

fn says_missing(error: &ServerError) -> bool {
    error.details().is_some_and(|details| details.starts_with("Function not found"))
}
