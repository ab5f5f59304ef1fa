//! The client protocol in JSON: one object per command, reply and push.

mod parse;
mod write;

pub use parse::parse_json;
pub use write::{
    PING, push_disconnect, push_publication, push_unsubscribe, reply_connect, reply_error, reply_ping,
    reply_publish, reply_subscribe, reply_unsubscribe,
};
