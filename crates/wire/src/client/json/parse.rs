//! Commands, read with serde straight into the protocol's types.
//!
//! As everywhere in the JSON form of Protobuf messages, `null` means that a member is absent, and members that
//! nobody knows are passed over.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::client::{Command, Connect, Malformed, Method, Subscribe};

/// Longest description of what is wrong, in bytes; the parser's own words may quote the input.
const MAX_REASON: usize = 300;

/// Reads one command: one JSON object, with nothing but white space around it.
///
/// # Errors
/// [`Malformed`] when it is not UTF-8, not one JSON object, has several methods, or a member of the wrong type.
pub fn parse_json(line: &[u8]) -> Result<Command<'_>, Malformed> {
    let mut id = 0;
    let read = std::str::from_utf8(line).map_err(|_| "command is not UTF-8".to_owned()).and_then(|text| {
        let mut json = serde_json::Deserializer::from_str(text);
        let method = Reader { id: &mut id }.deserialize(&mut json).map_err(|e| e.to_string())?;
        json.end().map_err(|e| e.to_string())?;
        Ok(method)
    });
    match read {
        Ok(method) => Ok(Command { id, method }),
        Err(mut reason) => {
            let end = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
            reason.truncate(end.unwrap_or(0));
            Err(Malformed { id, reason })
        }
    }
}

/// Reads a command and leaves its id where it is known even when the rest is wrong.
struct Reader<'i> {
    id: &'i mut u32,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Method<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Method<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command, which is an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Option<(&'static str, Method<'de>)> = None;
        let mut empty = true;
        while let Some(Text(key)) = map.next_key()? {
            empty = false;
            if key == "id" {
                *self.id = map.next_value::<Option<u32>>()?.unwrap_or(0);
                continue;
            }
            let Some((name, method)) = method(&key, &mut map)? else { continue };
            if let Some((other, _)) = found {
                return Err(A::Error::custom(format_args!("command with two methods, {other} and {name}")));
            }
            found = Some((name, method));
        }
        Ok(match found {
            Some((_, method)) => method,
            None if empty => Method::Pong,
            None => Method::Unknown,
        })
    }
}

/// Reads the value of the member `key`: a method with its name, or `None` when it is null or no method.
fn method<'de, A: MapAccess<'de>>(
    key: &str,
    map: &mut A,
) -> Result<Option<(&'static str, Method<'de>)>, A::Error> {
    let named = |name: &'static str, method: Option<Method<'de>>| method.map(|method| (name, method));
    Ok(match key {
        "connect" => named("connect", object(map)?.map(|request: ConnectRequest<'de>| request.into())),
        "subscribe" => named("subscribe", object(map)?.map(|request: SubscribeRequest<'de>| request.into())),
        "unsubscribe" => named(
            "unsubscribe",
            object(map)?
                .map(|request: UnsubscribeRequest<'de>| Method::Unsubscribe { channel: request.channel.0 }),
        ),
        "publish" => match object(map)? {
            None => None,
            Some(PublishRequest { channel, data: Some(data) }) => {
                named("publish", Some(Method::Publish { channel: channel.0, data: raw(data) }))
            }
            Some(PublishRequest { data: None, .. }) => return Err(A::Error::custom("publish without data")),
        },
        "ping" => named("ping", object(map)?.map(|Nothing {}| Method::Ping)),
        _ => match OTHER.iter().find(|name| **name == key) {
            Some(name) => named(name, object(map)?.map(|Nothing {}| Method::Other(name))),
            None => {
                map.next_value::<IgnoredAny>()?;
                None
            }
        },
    })
}

/// Methods of the protocol that are not available.
const OTHER: [&str; 7] = ["presence", "presence_stats", "history", "send", "rpc", "refresh", "sub_refresh"];

fn object<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: &mut A) -> Result<Option<T>, A::Error> {
    map.next_value::<Object<T>>().map(|object| object.0)
}

fn raw(data: &RawValue) -> Cow<'_, [u8]> {
    Cow::Borrowed(data.get().as_bytes())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConnectRequest<'a> {
    #[serde(borrow)]
    token: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    version: Text<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl<'a> From<ConnectRequest<'a>> for Method<'a> {
    fn from(request: ConnectRequest<'a>) -> Self {
        Self::Connect(Connect {
            token: request.token.0,
            name: request.name.0,
            version: request.version.0,
            data: request.data.map(raw),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SubscribeRequest<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
    #[serde(borrow)]
    token: Text<'a>,
    recover: Option<bool>,
    #[serde(borrow)]
    epoch: Text<'a>,
    offset: Option<u64>,
}

impl<'a> From<SubscribeRequest<'a>> for Method<'a> {
    fn from(request: SubscribeRequest<'a>) -> Self {
        Self::Subscribe(Subscribe {
            channel: request.channel.0,
            token: request.token.0,
            recover: request.recover.unwrap_or(false),
            epoch: request.epoch.0,
            offset: request.offset.unwrap_or(0),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UnsubscribeRequest<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishRequest<'a> {
    #[serde(borrow)]
    channel: Text<'a>,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

/// Publishing `null` is publishing a value: only a member that is not there is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A method whose members are of no interest.
#[derive(Deserialize)]
struct Nothing {}

/// Text, borrowed where it holds no escapes; null is empty.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Text::default())
    }
}

/// An object, or null; never an array, which serde would otherwise take for a structure's members in order.
struct Object<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|value| Object(Some(value)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Object(None))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Command<'_> {
        parse_json(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"))
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
        for name in OTHER {
            assert_eq!(
                read(&format!(r#"{{"id":6,"{name}":{{"channel":"a"}}}}"#)).method,
                Method::Other(name)
            );
        }
        assert_eq!(read(r#"{"id":7,"fly":{}}"#), Command { id: 7, method: Method::Unknown });
        assert_eq!(read(r#"{"id":7}"#).method, Method::Unknown);
    }

    #[test]
    fn unknown_members_are_passed_over_and_null_means_absent() {
        let line = r#"{"x":[[{}]],"id":1,"connect":{"token":null,"later":{"y":[]},"data":null},"ping":null}"#;
        assert_eq!(read(line).method, Method::Connect(Connect::default()));
        assert_eq!(read(r#"{"id":null,"ping":{}}"#), Command { id: 0, method: Method::Ping });
        let line = r#"{"id":1,"subscribe":{"channel":"a","recover":null,"offset":null,"epoch":null}}"#;
        let expected = Subscribe { channel: "a".into(), ..Subscribe::default() };
        assert_eq!(read(line).method, Method::Subscribe(expected));
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
    fn what_is_wrong_is_told_with_the_id_where_it_is_known() {
        for (line, id, words) in [
            ("", 0, "EOF"),
            ("hello", 0, "expected value"),
            ("[]", 0, "expected a command, which is an object"),
            ("null", 0, "expected a command, which is an object"),
            ("{} {}", 0, "trailing"),
            (r#"{"id":1"#, 1, "EOF"),
            (r#"{"id":-1,"ping":{}}"#, 0, "expected u32"),
            (r#"{"id":4294967296,"ping":{}}"#, 0, "expected u32"),
            (r#"{"id":"1","ping":{}}"#, 0, "expected u32"),
            (r#"{"id":2,"ping":[]}"#, 2, "expected an object"),
            (r#"{"id":2,"connect":["t"]}"#, 2, "expected an object"),
            (r#"{"id":2,"connect":{"token":5}}"#, 2, "expected a string"),
            (r#"{"id":2,"subscribe":{"recover":1}}"#, 2, "expected a boolean"),
            (r#"{"id":2,"subscribe":{"offset":-1}}"#, 2, "expected u64"),
            (r#"{"id":2,"subscribe":{"channel":"a","channel":"b"}}"#, 2, "duplicate field `channel`"),
            (r#"{"id":2,"publish":{"channel":"a"}}"#, 2, "publish without data"),
            (r#"{"id":2,"connect":{},"ping":{}}"#, 2, "two methods, connect and ping"),
            (r#"{"id":2,"ping":{},"ping":{}}"#, 2, "two methods, ping and ping"),
        ] {
            let error = parse_json(line.as_bytes()).expect_err(line);
            assert_eq!(error.id, id, "{line}");
            assert!(error.reason.contains(words), "{line}: {error}");
        }
        assert_eq!(parse_json(b"{\"\xff\":1}").unwrap_err().reason, "command is not UTF-8");
    }

    #[test]
    fn words_stay_short_and_nesting_takes_no_stack_whatever_is_sent() {
        let long = format!(r#"{{"id":"{}"}}"#, "é".repeat(30_000));
        assert!(parse_json(long.as_bytes()).unwrap_err().reason.len() <= MAX_REASON);
        for nested in ["{\"x\":", "{\"id\":1,\"publish\":{\"data\":", "["] {
            assert!(parse_json(nested.repeat(30_000).as_bytes()).is_err());
        }
        let deep = format!(r#"{{"publish":{{"data":{}{}}}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert!(parse_json(deep.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_told_what_is_wrong(line in any::<Vec<u8>>(), text in r#"[{}\[\]:,"idpng01 ]{0,24}"#) {
            for input in [&line[..], text.as_bytes()] {
                if let Err(error) = parse_json(input) {
                    prop_assert!(!error.reason.is_empty() && error.reason.len() <= MAX_REASON);
                }
            }
        }
    }
}
