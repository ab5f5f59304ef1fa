//! Channels that are maps.

use std::time::Duration;

use super::{HOUR, SECOND};
use crate::group::group;
use crate::setting::{count, millis};
use crate::value::{ClientKey, MapMode};

group! {
    /// Channels with `subscription_type = "map"`: a state of keys that clients follow.
    pub struct MapOptions {
        /// What a client that returns receives, and how long keys last. `ephemeral`: the whole state; keys end after
        /// `key_ttl`. `recoverable`: the missed changes, or else the whole state; keys end after `key_ttl`. `persistent`: as
        /// `recoverable`, but keys last until they are removed; with the memory
        /// broker until the server restarts.
        mode: MapMode = "ephemeral", ();
        /// Time after which a key is removed unless it is set again. Not for `persistent` maps.
        key_ttl: Duration = "60s", millis(10, 366 * 24 * HOUR);
        /// Whether the state is read in the order of the scores, the highest first, instead of that of the keys.
        ordered: bool = "false", ();
        /// Most keys of a channel. A new key beyond it is refused with error 106.
        max_keys: usize = "100000", count(1, 1_000_000);
        /// Most changes in the stream of a channel, from which clients continue. A client that missed more reads the state
        /// again.
        stream_size: usize = "1000", count(1, 1_000_000);
        /// Time for which a change stays in the stream.
        stream_ttl: Duration = "1m", millis(SECOND, 366 * 24 * HOUR);
        /// Time for which the position of a channel without keys is stored after the last change; at least `stream_ttl`.
        meta_ttl: Duration = "1h", millis(SECOND, 366 * 24 * HOUR);
        /// Keys of a page of the state when the client does not request a number; at most `max_page_size`.
        default_page_size: usize = "100", count(1, 10_000);
        /// Least keys of a page; a client that requests less receives this number.
        min_page_size: usize = "100", count(1, 10_000);
        /// Most keys of a page; a page also ends before the limit of bytes of an answer.
        max_page_size: usize = "1000", count(1, 10_000);
        /// The key that a client may set and remove. Empty: the key of its command. `client_id`: the id of its connection;
        /// `user_id`: its user; both in place of the key of its command.
        client_key: ClientKey = "", ();
        /// Whether the key that is the id of a client is removed when the client unsubscribes or disconnects.
        remove_client_on_unsubscribe: bool = "false", ();
        /// Whether a client with a user may set keys.
        allow_publish_for_client: bool = "false", ();
        /// Whether a client with a user may set keys while it is subscribed to the channel.
        allow_publish_for_subscriber: bool = "false", ();
        /// Whether an anonymous client may set keys as well. Has no effect without one of the two options above.
        allow_publish_for_anonymous: bool = "false", ();
        /// Whether a client with a user may remove keys.
        allow_remove_for_client: bool = "false", ();
        /// Whether a client with a user may remove keys while it is subscribed to the channel.
        allow_remove_for_subscriber: bool = "false", ();
        /// Whether an anonymous client may remove keys as well. Has no effect without one of the two options above.
        allow_remove_for_anonymous: bool = "false", ();
    }
}
