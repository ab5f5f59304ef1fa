//! The few commands and answers that sessions on JSON lines use, by function: thin layers over
//! [`Encoding::Json`](super::Encoding). Sessions that speak the whole protocol, or Protobuf, use that.

use std::borrow::Cow;

use super::push::{Disconnect, Event, Publication, Push, Unsubscribe};
use super::reply::{self, Outcome, Reply};
use super::request::Request;
use super::value::Data;
use super::{Encoding, Malformed};
use crate::body::DataFormat;

/// The server's ping; a client answers it with the same.
pub const PING: &[u8] = b"{}";

/// One command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// What its reply will carry; 0 when it has none, as for [`Method::Pong`] and `send`.
    pub id: u32,
    /// What is asked for.
    pub method: Method<'a>,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// The first command of a connection.
    Connect(Connect<'a>),
    /// Subscribe to a channel.
    Subscribe(Subscribe<'a>),
    /// End a subscription.
    Unsubscribe {
        /// Of this channel.
        channel: Cow<'a, str>,
    },
    /// Publish into a channel.
    Publish {
        /// Into this one.
        channel: Cow<'a, str>,
        /// The body: the raw text of a JSON value, which may hold line breaks between its tokens.
        data: Cow<'a, [u8]>,
    },
    /// Asks for an empty reply.
    Ping,
    /// The empty command: answers the server's ping.
    Pong,
    /// A method of the protocol that is not among these; its name.
    Other(&'static str),
    /// None that the protocol knows.
    Unknown,
}

/// What a client says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Who it is; empty when it does not say.
    pub token: Cow<'a, str>,
    /// What it calls itself, for logs.
    pub name: Cow<'a, str>,
    /// In which version.
    pub version: Cow<'a, str>,
    /// What the application adds, raw as a publication's body.
    pub data: Option<Cow<'a, [u8]>>,
}

/// A subscription that a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// To this channel.
    pub channel: Cow<'a, str>,
    /// What allows it; empty when there is none.
    pub token: Cow<'a, str>,
    /// Whether to send what was published since the position below.
    pub recover: bool,
    /// In which life of the channel's history `offset` counts.
    pub epoch: Cow<'a, str>,
    /// The last publication that the client has seen.
    pub offset: u64,
}

/// What a client is told when it has connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectResult<'a> {
    /// The id of this connection.
    pub client: &'a str,
    /// Which server this is.
    pub version: &'a str,
    /// How often the server pings, in seconds; 0 when it does not.
    pub ping: u32,
    /// Whether pings are to be answered.
    pub pong: bool,
}

/// Reads one command: one JSON object, with nothing but white space around it.
///
/// # Errors
/// [`Malformed`] when it is not UTF-8, not one JSON object, has several methods, or a member of the wrong type.
pub fn parse_json(line: &[u8]) -> Result<Command<'_>, Malformed> {
    let command = Encoding::Json.parse_command(line)?;
    let id = command.id;
    let name = command.request.name();
    let method = match command.request {
        Request::Connect(connect) => Method::Connect(Connect {
            token: connect.token,
            name: connect.name,
            version: connect.version,
            data: connect.data.map(|data| data.bytes).filter(|bytes| bytes[..] != *b"null"),
        }),
        Request::Subscribe(subscribe) => Method::Subscribe(Subscribe {
            channel: subscribe.channel,
            token: subscribe.token,
            recover: subscribe.recover,
            epoch: subscribe.epoch,
            offset: subscribe.offset,
        }),
        Request::Unsubscribe(unsubscribe) => Method::Unsubscribe { channel: unsubscribe.channel },
        Request::Publish(publish) => match publish.data {
            Some(data) => Method::Publish { channel: publish.channel, data: data.bytes },
            None => return Err(Malformed { id, reason: "publish without data".to_owned() }),
        },
        Request::Ping => Method::Ping,
        Request::Pong => Method::Pong,
        Request::Unknown => Method::Unknown,
        _ => Method::Other(name),
    };
    Ok(Command { id, method })
}

/// Appends the reply to a command that failed: an error of [`crate::code`] with its number, words, and whether
/// trying again may help.
pub fn reply_error(id: u32, number: u16, message: &str, temporary: bool, out: &mut Vec<u8>) {
    let error = reply::Error { code: number.into(), message: message.into(), temporary };
    reply(id, Outcome::Error(error), out);
}

/// Appends the reply to `connect`.
pub fn reply_connect(id: u32, result: &ConnectResult<'_>, out: &mut Vec<u8>) {
    let ConnectResult { client, version, ping, pong } = *result;
    let (client, version) = (client.into(), version.into());
    let result = reply::Connect { client, version, ping, pong, ..Default::default() };
    reply(id, Outcome::Connect(result), out);
}

/// Appends the reply to `subscribe`.
pub fn reply_subscribe(id: u32, out: &mut Vec<u8>) {
    reply(id, Outcome::Subscribe(reply::Subscribe::default()), out);
}

/// Appends the reply to `unsubscribe`.
pub fn reply_unsubscribe(id: u32, out: &mut Vec<u8>) {
    reply(id, Outcome::Unsubscribe, out);
}

/// Appends the reply to `publish`.
pub fn reply_publish(id: u32, out: &mut Vec<u8>) {
    reply(id, Outcome::Publish, out);
}

/// Appends the reply to `ping`.
pub fn reply_ping(id: u32, out: &mut Vec<u8>) {
    reply(id, Outcome::Pong, out);
}

/// Appends a publication, its body as `format` says (see [`crate::body::write_json`]).
pub fn push_publication(channel: &str, body: &[u8], format: DataFormat, out: &mut Vec<u8>) {
    let publication = Publication { data: Data::new(body, format), ..Default::default() };
    push(channel, Event::Publication(publication), out);
}

/// Appends the end of a subscription; from code 2500 on the client subscribes again.
pub fn push_unsubscribe(channel: &str, code: u16, reason: &str, out: &mut Vec<u8>) {
    let event = Event::Unsubscribe(Unsubscribe { code: code.into(), reason: reason.into() });
    push(channel, event, out);
}

/// Appends the end of the connection, for transports that cannot say it in their own way. SDKs go by the code
/// (below 3500: come back); `reconnect` tells it to those that do not know codes.
pub fn push_disconnect(code: u16, reason: &str, reconnect: bool, out: &mut Vec<u8>) {
    let event = Event::Disconnect(Disconnect { code: code.into(), reason: reason.into(), reconnect });
    push("", event, out);
}

fn push(channel: &str, event: Event<'_>, out: &mut Vec<u8>) {
    reply(0, Outcome::Push(Push { channel: channel.into(), event }), out);
}

fn reply(id: u32, outcome: Outcome<'_>, out: &mut Vec<u8>) {
    Encoding::Json.write_reply(&Reply { id, outcome }, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(line: &str) -> Command<'_> {
        parse_json(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b">".to_vec();
        encode(&mut out);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    #[test]
    fn every_method_reads_into_its_type() {
        assert_eq!(
            read(r#"{"id":1,"connect":{"token":"t","name":"js","version":"5","data":{"a": 1},"subs":{}}}"#),
            Command {
                id: 1,
                method: Method::Connect(Connect {
                    token: "t".into(),
                    name: "js".into(),
                    version: "5".into(),
                    data: Some(br#"{"a": 1}"#.into()),
                }),
            }
        );
        assert_eq!(
            read(
                r#"{"subscribe":{"channel":"a\u0062","recover":true,"epoch":"e","offset":18446744073709551615},"id":2}"#
            ),
            Command {
                id: 2,
                method: Method::Subscribe(Subscribe {
                    channel: "ab".into(),
                    token: "".into(),
                    recover: true,
                    epoch: "e".into(),
                    offset: u64::MAX,
                }),
            }
        );
        assert_eq!(
            read(r#"{"id":3,"unsubscribe":{"channel":"a"}}"#).method,
            Method::Unsubscribe { channel: "a".into() }
        );
        assert_eq!(
            read(r#" {"id":4,"publish":{"channel":"a","data": [1.50,"x"] }} "#).method,
            Method::Publish { channel: "a".into(), data: br#"[1.50,"x"]"#.into() }
        );
        assert_eq!(
            read(r#"{"id":4,"publish":{"channel":"a","data":null}}"#).method,
            Method::Publish { channel: "a".into(), data: b"null".into() }
        );
        assert_eq!(read(r#"{"id":5,"ping":{}}"#), Command { id: 5, method: Method::Ping });
        assert_eq!(read("{}"), Command { id: 0, method: Method::Pong });
        for name in ["presence", "presence_stats", "history", "send", "rpc", "refresh", "sub_refresh"] {
            assert_eq!(
                read(&format!(r#"{{"id":6,"{name}":{{"channel":"a"}}}}"#)).method,
                Method::Other(name)
            );
        }
        assert_eq!(read(r#"{"id":7,"fly":{}}"#), Command { id: 7, method: Method::Unknown });
        assert_eq!(read(r#"{"id":7}"#).method, Method::Unknown);
    }

    #[test]
    fn a_publish_needs_data_and_connecting_with_null_is_connecting_without() {
        let error = parse_json(br#"{"id":2,"publish":{"channel":"a"}}"#).unwrap_err();
        assert_eq!((error.id, &*error.reason), (2, "publish without data"));
        let line = r#"{"id":1,"connect":{"token":null,"data":null}}"#;
        assert_eq!(read(line).method, Method::Connect(Connect::default()));
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        let line = r#"{"id":1,"publish":{"channel":"a","data":"b"}}"#;
        let Method::Publish { channel: Cow::Borrowed("a"), data: Cow::Borrowed(b"\"b\"") } =
            read(line).method
        else {
            panic!("copied");
        };
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
            let mut expected = json!({"push": {"channel": channel, "unsubscribe": {"code": 2000, "reason": words}}});
            if words.is_empty() {
                expected["push"]["unsubscribe"].as_object_mut().unwrap().remove("reason");
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&push).unwrap(), expected);
        }
    }
}
