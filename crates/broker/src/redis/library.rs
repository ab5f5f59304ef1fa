//! The Function library for operations that must be atomic in Redis (Redis 7 or newer; `FUNCTION LOAD`, `FCALL`).
//!
//! Every new publisher connection loads it if it is missing or different: the server may be another one, or may have
//! lost its data. Loading it again gives channels without a history other epochs, so the same library is not loaded
//! twice. Any client may call it: `FCALL tidings_publish 1 channel body` publishes as tidings does. The user needs
//! `+fcall +function|load`, the keys `~tidings:*` and those named like the channels, and the Pub/Sub channels `&name`
//! and `&name?tidings` for each (`?` stands for any one character, here the control character 31). In a cluster also
//! `&{name}?tidings`, and `&tidings?patterns`.

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, ServerError, Value};

use crate::SessionFunction;

/// The source of the library.
const SOURCE: [&str; 3] = [include_str!("library.lua"), include_str!("maps.lua"), tidings_mqtt_redis::SOURCE];

/// The line that differs for a cluster.
const SINGLE: &str = "local SHARDED = false";

/// The line that receives the fingerprint of the source.
const VERSION: &str = "local VERSION = ''";

/// One function of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Name of the function that takes a channel's name as its key.
    pub(super) name: &'static str,
    /// Name of the function that takes a key of the channel, in a cluster.
    pub(super) keyed: &'static str,
    /// Prefix of that key; the channel's tag follows.
    pub(super) key: &'static str,
}

macro_rules! functions {
    ($($constant:ident = $name:literal, $key:literal;)*) => {
        $(pub(super) const $constant: Function = Function {
            name: concat!("tidings_", $name),
            keyed: concat!("tidings_keyed_", $name),
            key: $key,
        };)*
    };
}

functions! {
    PUBLISH = "publish", "tidings:meta:";
    HISTORY = "history", "tidings:meta:";
    POSITION = "position", "tidings:meta:";
    POSITION_READ = "position_read", "tidings:meta:";
    HISTORY_REMOVE = "history_remove", "tidings:meta:";
    PRESENCE_ADD = "presence_add", "tidings:present:";
    PRESENCE_REMOVE = "presence_remove", "tidings:present:";
    PRESENCE_EVICT = "presence_evict", "tidings:present:";
    PRESENCE = "presence", "tidings:present:";
    PRESENCE_STATS = "presence_stats", "tidings:present:";
    KEEP = "keep", "tidings:kept:";
    FORGET = "forget", "tidings:kept:";
    KEPT = "kept", "tidings:kept:";
    RETAIN = "retain", "tidings:retained:";
    RETAINED = "retained", "tidings:retained:";
    MAP_CHANGE = "map_change", "tidings:meta:";
    MAP_REMOVE = "map_remove", "tidings:meta:";
    MAP_EXPIRE = "map_expire", "tidings:meta:";
    MAP_ORDER = "map_order", "tidings:meta:";
    MAP_STATE = "map_state", "tidings:meta:";
    MAP_COUNT = "map_count", "tidings:meta:";
    MAP_CLEAR = "map_clear", "tidings:meta:";
    WILL_OPEN = "will_open", "tidings:wills:";
    WILL_CLOSE = "will_close", "tidings:wills:";
    WILL_DONE = "will_done", "tidings:wills:";
    WILL_CLAIM = "will_claim", "tidings:wills:";
    MQTT_OPEN = "mqtt_open", "tidings:mqttuntil:";
    MQTT_STEPS = "mqtt_steps", "tidings:mqttuntil:";
    MQTT_READ = "mqtt_read", "tidings:mqttuntil:";
    MQTT_CLOSE = "mqtt_close", "tidings:mqttuntil:";
    MQTT_APPEND = "mqtt_append", "tidings:mqttuntil:";
    MQTT_SWEEP = "mqtt_sweep", "tidings:mqttuntil:";
}

/// A function for the sessions of MQTT.
pub(super) fn of_sessions(function: SessionFunction) -> Function {
    match function {
        SessionFunction::Open => MQTT_OPEN,
        SessionFunction::Steps => MQTT_STEPS,
        SessionFunction::Read => MQTT_READ,
        SessionFunction::Close => MQTT_CLOSE,
        SessionFunction::Append => MQTT_APPEND,
        SessionFunction::Sweep => MQTT_SWEEP,
    }
}

/// Loads the library if it is missing or different: the variant for a cluster when `sharded`.
///
/// # Errors
/// The response of Redis: it may be too old, or the user may lack the permission.
pub(super) async fn load(connection: &mut MultiplexedConnection, sharded: bool) -> RedisResult<()> {
    let mut source = SOURCE.concat();
    if sharded {
        source = source.replacen(SINGLE, "local SHARDED = true", 1);
    }
    let version = fingerprint(&source);
    let there: RedisResult<String> =
        redis::cmd("FCALL").arg("tidings_version").arg(0).query_async(connection).await;
    match there {
        Ok(there) if there == version => return Ok(()),
        // Without a connection, a second attempt fails as well.
        Err(error) if error.is_io_error() || error.is_timeout() => return Err(error),
        _ => {}
    }
    let source = source.replacen(VERSION, &format!("local VERSION = '{version}'"), 1);
    redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(source).query_async(connection).await
}

/// Fingerprint of a text: FNV-1a, the same in every build.
fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Whether Redis does not have the called function, so that nothing was done.
pub(super) fn is_missing(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if says_missing(error))
}

fn says_missing(error: &ServerError) -> bool {
    error.details().is_some_and(|details| details.starts_with("Function not found"))
}
