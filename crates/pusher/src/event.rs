//! Messages of the server.

use crate::code::ErrorCode;
use crate::socket::SocketId;

/// The name of an event whose publication has none.
pub const DEFAULT_EVENT: &str = "message";

/// Whether an event is one of the protocol itself, which only the server sends.
pub fn is_reserved_event(name: &str) -> bool {
    name.starts_with("pusher:") || name.starts_with("pusher_internal:")
}

/// The name of the event of a publication with this tag: [`DEFAULT_EVENT`] without a tag, and for a name that is not allowed.
pub fn event_name(tag: Option<&str>) -> &str {
    tag.filter(|name| crate::check_event(name).is_ok()).unwrap_or(DEFAULT_EVENT)
}

/// Appends an event of a publication. `user_id` is the member of a presence channel that has sent it.
pub fn publication(event: &str, channel: &str, data: &str, user_id: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":");
    string(event, out);
    out.extend_from_slice(b",\"channel\":");
    string(channel, out);
    out.extend_from_slice(b",\"data\":");
    string(data, out);
    if let Some(user_id) = user_id {
        out.extend_from_slice(b",\"user_id\":");
        string(user_id, out);
    }
    out.push(b'}');
}

/// Appends an event of the protocol. `data` is JSON, and is sent as a text.
pub fn internal(event: &str, channel: Option<&str>, data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":");
    string(event, out);
    if let Some(channel) = channel {
        out.extend_from_slice(b",\"channel\":");
        string(channel, out);
    }
    out.extend_from_slice(b",\"data\":");
    string(data, out);
    out.push(b'}');
}

/// Appends `pusher:connection_established`. `activity_timeout` is in seconds.
pub fn established(socket: SocketId, activity_timeout: u64, out: &mut Vec<u8>) {
    let data = format!("{{\"socket_id\":\"{socket}\",\"activity_timeout\":{activity_timeout}}}");
    internal("pusher:connection_established", None, &data, out);
}

/// Appends `pusher:error`. Without a code, the error concerns one message.
pub fn error(code: Option<ErrorCode>, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":\"pusher:error\",\"data\":{\"code\":");
    match code {
        Some(code) => out.extend_from_slice(code.number.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"message\":");
    string(text, out);
    out.extend_from_slice(b"}}");
}

/// Appends `pusher:subscription_error` with a type, a text and a status of HTTP, as client libraries report errors of their own
/// authorization requests.
pub fn subscription_error(channel: &str, kind: &str, text: &str, status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":\"pusher:subscription_error\",\"channel\":");
    string(channel, out);
    out.extend_from_slice(b",\"data\":{\"type\":");
    string(kind, out);
    out.extend_from_slice(b",\"error\":");
    string(text, out);
    out.extend_from_slice(b",\"status\":");
    out.extend_from_slice(status.to_string().as_bytes());
    out.extend_from_slice(b"}}");
}

/// The data of `pusher_internal:watchlist_events` for one user who has come online or gone offline.
pub fn watchlist_event(is_online: bool, user: &str) -> String {
    let (name, user) = (if is_online { "online" } else { "offline" }, serde_json::Value::from(user));
    format!("{{\"events\":[{{\"name\":\"{name}\",\"user_ids\":[{user}]}}]}}")
}

/// Appends a JSON string.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_have_the_documented_form() {
        let client = "00000000-0000-0001-0000-000000000002";
        let socket = SocketId::from_client(client).unwrap();
        assert_eq!(
            text(|out| established(socket, 120, out)),
            r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":120}"}"#
        );
        assert_eq!(
            text(|out| error(Some(codes::CLIENT_EVENT_REJECTED), "a \"b\"", out)),
            r#"{"event":"pusher:error","data":{"code":4301,"message":"a \"b\""}}"#
        );
        assert_eq!(
            text(|out| error(None, "x", out)),
            r#"{"event":"pusher:error","data":{"code":null,"message":"x"}}"#
        );
        assert_eq!(
            text(|out| publication("e", "c", "{\"a\":1}", Some("u"), out)),
            r#"{"event":"e","channel":"c","data":"{\"a\":1}","user_id":"u"}"#
        );
        assert_eq!(
            text(|out| subscription_error("c", "AuthError", "no", 401, out)),
            r#"{"event":"pusher:subscription_error","channel":"c","data":{"type":"AuthError","error":"no","status":401}}"#
        );
    }

    #[test]
    fn a_watchlist_event_names_the_user() {
        assert_eq!(watchlist_event(true, "a\"b"), r#"{"events":[{"name":"online","user_ids":["a\"b"]}]}"#);
        assert_eq!(watchlist_event(false, "17"), r#"{"events":[{"name":"offline","user_ids":["17"]}]}"#);
    }

    #[test]
    fn a_publication_cannot_have_the_name_of_an_event_of_the_protocol() {
        for (tag, name) in [
            (None, "message"),
            (Some("order.created"), "order.created"),
            (Some(""), "message"),
            (Some("pusher:error"), "message"),
            (Some("pusher_internal:member_added"), "message"),
        ] {
            assert_eq!(event_name(tag), name);
        }
    }
}
