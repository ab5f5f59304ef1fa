//! Replies and pushes, written without a serializer: the shape of each is known, and pushes run once per
//! publication.

use crate::body::{DataFormat, write_json, write_json_string};
use crate::client::ConnectResult;
use crate::decimal;

/// The server's ping; a client answers it with the same.
pub const PING: &[u8] = b"{}";

/// Appends the reply to a command that failed: an error of [`crate::code`] with its number, words, and whether
/// trying again may help.
pub fn reply_error(id: u32, number: u16, message: &str, temporary: bool, out: &mut Vec<u8>) {
    reply(id, b"\"error\":{\"code\":", out);
    decimal::write(number.into(), out);
    out.extend_from_slice(b",\"message\":");
    write_json_string(message, out);
    if temporary {
        out.extend_from_slice(b",\"temporary\":true");
    }
    out.extend_from_slice(b"}}");
}

/// Appends the reply to `connect`.
pub fn reply_connect(id: u32, result: &ConnectResult<'_>, out: &mut Vec<u8>) {
    reply(id, b"\"connect\":{\"client\":", out);
    write_json_string(result.client, out);
    out.extend_from_slice(b",\"version\":");
    write_json_string(result.version, out);
    if result.ping > 0 {
        out.extend_from_slice(b",\"ping\":");
        decimal::write(result.ping.into(), out);
    }
    if result.pong {
        out.extend_from_slice(b",\"pong\":true");
    }
    out.extend_from_slice(b"}}");
}

/// Appends the reply to `subscribe`.
pub fn reply_subscribe(id: u32, out: &mut Vec<u8>) {
    reply(id, b"\"subscribe\":{}}", out);
}

/// Appends the reply to `unsubscribe`.
pub fn reply_unsubscribe(id: u32, out: &mut Vec<u8>) {
    reply(id, b"\"unsubscribe\":{}}", out);
}

/// Appends the reply to `publish`.
pub fn reply_publish(id: u32, out: &mut Vec<u8>) {
    reply(id, b"\"publish\":{}}", out);
}

/// Appends the reply to `ping`.
pub fn reply_ping(id: u32, out: &mut Vec<u8>) {
    reply(id, b"\"ping\":{}}", out);
}

/// Appends a publication, its body as `format` says (see [`write_json`]).
pub fn push_publication(channel: &str, body: &[u8], format: DataFormat, out: &mut Vec<u8>) {
    // The fixed bytes and the quotes of a text; escapes make room for themselves.
    out.reserve(channel.len() + body.len() + 48);
    out.extend_from_slice(b"{\"push\":{\"channel\":");
    write_json_string(channel, out);
    out.extend_from_slice(b",\"pub\":{\"data\":");
    write_json(body, format, out);
    out.extend_from_slice(b"}}}");
}

/// Appends the end of a subscription; from code 2500 on the client subscribes again.
pub fn push_unsubscribe(channel: &str, code: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"push\":{\"channel\":");
    write_json_string(channel, out);
    out.extend_from_slice(b",\"unsubscribe\":");
    code_and_reason(code, reason, out);
    out.extend_from_slice(b"}}}");
}

/// Appends the end of the connection, for transports that cannot say it in their own way. SDKs go by the code
/// (below 3500: come back); `reconnect` tells it to those that do not know codes.
pub fn push_disconnect(code: u16, reason: &str, reconnect: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"push\":{\"disconnect\":");
    code_and_reason(code, reason, out);
    if reconnect {
        out.extend_from_slice(b",\"reconnect\":true");
    }
    out.extend_from_slice(b"}}}");
}

/// Appends an object's first two members, and leaves it open.
fn code_and_reason(code: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"code\":");
    decimal::write(code.into(), out);
    out.extend_from_slice(b",\"reason\":");
    write_json_string(reason, out);
}

/// Appends the start of a reply, up to and with `rest`. An id of 0 is left out, as everywhere in this protocol.
fn reply(id: u32, rest: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    if id > 0 {
        out.extend_from_slice(b"\"id\":");
        decimal::write(id.into(), out);
        out.push(b',');
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b">".to_vec();
        encode(&mut out);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    #[test]
    fn replies_carry_their_id_and_one_result() {
        assert_eq!(encoded(|out| reply_subscribe(7, out)), r#"{"id":7,"subscribe":{}}"#);
        assert_eq!(encoded(|out| reply_unsubscribe(8, out)), r#"{"id":8,"unsubscribe":{}}"#);
        assert_eq!(encoded(|out| reply_publish(9, out)), r#"{"id":9,"publish":{}}"#);
        assert_eq!(encoded(|out| reply_ping(u32::MAX, out)), r#"{"id":4294967295,"ping":{}}"#);
        let result = ConnectResult { client: "c1", version: "0.1.0", ping: 25, pong: true };
        assert_eq!(
            encoded(|out| reply_connect(1, &result, out)),
            r#"{"id":1,"connect":{"client":"c1","version":"0.1.0","ping":25,"pong":true}}"#
        );
        let silent = ConnectResult { ping: 0, pong: false, ..result };
        assert_eq!(
            encoded(|out| reply_connect(1, &silent, out)),
            r#"{"id":1,"connect":{"client":"c1","version":"0.1.0"}}"#
        );
    }

    #[test]
    fn errors_say_whether_to_try_again() {
        assert_eq!(
            encoded(|out| reply_error(3, 103, "permission denied", false, out)),
            r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#
        );
        assert_eq!(
            encoded(|out| reply_error(0, 100, "a \"b\"", true, out)),
            r#"{"error":{"code":100,"message":"a \"b\"","temporary":true}}"#
        );
    }

    #[test]
    fn pushes_have_no_id() {
        assert_eq!(
            encoded(|out| push_publication("updates", br#"{"a":1}"#, DataFormat::Auto, out)),
            r#"{"push":{"channel":"updates","pub":{"data":{"a":1}}}}"#
        );
        assert_eq!(
            encoded(|out| push_unsubscribe("a\"b", 2500, "insufficient state", out)),
            r#"{"push":{"channel":"a\"b","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#
        );
        assert_eq!(
            encoded(|out| push_disconnect(3008, "slow", true, out)),
            r#"{"push":{"disconnect":{"code":3008,"reason":"slow","reconnect":true}}}"#
        );
        assert_eq!(
            encoded(|out| push_disconnect(3501, "bad request", false, out)),
            r#"{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}"#
        );
    }

    proptest! {
        #[test]
        fn a_push_is_one_object_on_one_line_whatever_the_channel_and_the_body(
            channel in "[!-~]{1,20}",
            body in any::<Vec<u8>>(),
            words in ".*",
        ) {
            let push = encoded(|out| push_publication(&channel, &body, DataFormat::Text, out));
            prop_assert!(!push.contains(['\r', '\n']));
            let value: Value = serde_json::from_str(&push).unwrap();
            prop_assert_eq!(&value["push"]["channel"], &json!(channel));
            if let Ok(text) = std::str::from_utf8(&body) {
                prop_assert_eq!(&value["push"]["pub"]["data"], &json!(text));
            }
            let push = encoded(|out| push_unsubscribe(&channel, 2000, &words, out));
            let expected = json!({"push": {"channel": channel, "unsubscribe": {"code": 2000, "reason": words}}});
            prop_assert_eq!(serde_json::from_str::<Value>(&push).unwrap(), expected);
        }
    }
}
