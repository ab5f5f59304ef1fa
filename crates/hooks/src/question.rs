//! What the application is asked, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_hub::Requester;
use tidings_wire::Channel;
use tidings_wire::body::{self, DataFormat};
use tidings_wire::client::Encoding;

/// What a question is about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// A connection, and what the client's software calls itself.
    Connect { name: &'a str, version: &'a str },
    /// A subscription.
    Subscribe(&'a Channel),
    /// A publication.
    Publish(&'a Channel),
    /// A method.
    Rpc(&'a str),
}

/// How a hook wants its questions.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// The client's data in base64, whatever they are.
    pub(super) binary: bool,
    /// With the connection's `meta`.
    pub(super) include_meta: bool,
}

/// A question. Fields without a value are not there.
#[derive(Serialize)]
pub(super) struct Question<'a> {
    client: &'a str,
    transport: &'a str,
    protocol: &'static str,
    encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

impl<'a> Question<'a> {
    /// Puts a question together.
    pub(super) fn new(who: &'a Requester, subject: Subject<'a>, data: Option<&[u8]>, how: How) -> Self {
        let protocol = match who.encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        };
        // How the data comes in this question, whatever the client speaks.
        let encoding = if how.binary { "binary" } else { "json" };
        let (data, b64data) = match data {
            None => (None, None),
            Some(bytes) if how.binary => (None, Some(STANDARD.encode(bytes))),
            Some(bytes) => match json(bytes) {
                Some(value) => (Some(value), None),
                None => (None, Some(STANDARD.encode(bytes))),
            },
        };
        let meta = who.meta.as_deref().filter(|_| how.include_meta);
        let mut question = Self {
            client: &who.client,
            // Only transports over HTTP have something to say of themselves.
            transport: who.about.as_ref().map_or("tcp", |about| about.transport),
            protocol,
            encoding,
            user: Some(&who.user),
            channel: None,
            method: "",
            name: "",
            version: "",
            data,
            b64data,
            meta: meta.and_then(|meta| serde_json::from_slice(meta).ok()),
        };
        match subject {
            Subject::Connect { name, version } => {
                question.user = None;
                question.name = name;
                question.version = version;
            }
            Subject::Subscribe(channel) | Subject::Publish(channel) => {
                question.channel = Some(channel.as_str());
            }
            Subject::Rpc(method) => question.method = method,
        }
        question
    }
}

/// What JSON clients would be shown of these bytes: themselves where they are JSON, a string where they are other text;
/// `None` for other bytes.
fn json(bytes: &[u8]) -> Option<Box<RawValue>> {
    std::str::from_utf8(bytes).ok()?;
    let mut text = Vec::with_capacity(bytes.len());
    body::write_json(bytes, DataFormat::Auto, &mut text);
    RawValue::from_string(String::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::{Value, json};
    use tidings_hub::ConnectionInfo;

    use super::*;

    const PLAIN: How = How { binary: false, include_meta: false };

    fn who() -> Requester {
        Requester {
            client: "c1".into(),
            user: "42".into(),
            meta: Some(Bytes::from_static(b"{\"role\":\"admin\"}")),
            about: Some(Arc::new(ConnectionInfo { transport: "websocket", headers: Vec::new() })),
            encoding: Encoding::Protobuf,
        }
    }

    fn asked(who: &Requester, subject: Subject<'_>, data: Option<&[u8]>, how: How) -> Value {
        serde_json::to_value(Question::new(who, subject, data, how)).expect("JSON")
    }

    #[test]
    fn a_question_holds_what_is_documented_and_leaves_out_what_there_is_not() {
        let hello = Subject::Connect { name: "js", version: "5" };
        assert_eq!(
            asked(&Requester { client: "c1".into(), ..Requester::default() }, hello, None, PLAIN),
            json!({"client": "c1", "transport": "tcp", "protocol": "json", "encoding": "json", "name": "js", "version": "5"})
        );
        let channel = Channel::new("chat:1").expect("a name");
        let with_meta = How { include_meta: true, ..PLAIN };
        assert_eq!(
            asked(&who(), Subject::Subscribe(&channel), Some(b"{\"a\": 1}"), with_meta),
            json!({
                "client": "c1", "transport": "websocket", "protocol": "protobuf", "encoding": "json", "user": "42",
                "channel": "chat:1", "data": {"a": 1}, "meta": {"role": "admin"}
            })
        );
        assert_eq!(
            asked(&Requester::default(), Subject::Rpc(""), None, PLAIN),
            json!({"client": "", "transport": "tcp", "protocol": "json", "encoding": "json", "user": ""})
        );
    }

    #[test]
    fn data_are_json_text_as_a_string_and_other_bytes_in_base64() {
        let data = |bytes: &[u8], how| {
            let asked = asked(&who(), Subject::Rpc("m"), Some(bytes), how);
            (asked.get("data").cloned(), asked.get("b64data").cloned())
        };
        assert_eq!(data(b"[1, 2]", PLAIN), (Some(json!([1, 2])), None));
        assert_eq!(data(b"LAL 101", PLAIN), (Some(json!("LAL 101")), None));
        assert_eq!(data(b"\xff", PLAIN), (None, Some(json!("/w=="))));
        let binary = How { binary: true, ..PLAIN };
        assert_eq!(data(b"{}", binary), (None, Some(json!("e30="))));
        for (how, encoding) in [(PLAIN, "json"), (binary, "binary")] {
            assert_eq!(asked(&who(), Subject::Rpc("m"), Some(b"{}"), how)["encoding"], encoding);
        }
    }
}
