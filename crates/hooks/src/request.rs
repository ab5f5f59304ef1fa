//! The request of a hook, as JSON; over gRPC, [`crate::grpc`] encodes it as a message.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tidings_hub::{Namespaces, Requester};
use tidings_wire::body::{self, DataFormat};
use tidings_wire::client::Encoding;
use tidings_wire::{Channel, Labels};

/// The command of a client that a hook authorizes.
#[derive(Clone, Copy)]
pub(super) enum HookEvent<'a> {
    /// A connection, with the name and version of the client library.
    Connect { name: &'a str, version: &'a str },
    /// A subscription to this channel.
    Subscribe(&'a HookChannel<'a>),
    /// A publication to this channel.
    Publish(&'a HookChannel<'a>),
    /// A call of this method.
    Rpc(&'a str),
    /// A connection that expires.
    Refresh,
    /// A subscription to this channel that expires.
    SubRefresh(&'a HookChannel<'a>),
}

/// The options of a hook that change its requests.
#[derive(Clone, Copy)]
pub(super) struct RequestEncoding {
    /// Encode the client's data in base64, also if it is JSON.
    pub(super) binary: bool,
    /// Include the connection's `meta`.
    pub(super) include_meta: bool,
}

/// The channel of a request, with the variables in its pattern and their values.
pub(super) struct HookChannel<'a> {
    channel: &'a Channel,
    variables: Vec<(&'a str, &'a str)>,
}

impl<'a> HookChannel<'a> {
    pub(super) fn new(namespaces: &'a Namespaces, channel: &'a Channel) -> Self {
        Self { channel, variables: namespaces.variables(channel.as_str()) }
    }
}

/// Names with values, as a JSON object.
pub(super) enum Pairs<'a> {
    Variables(&'a [(&'a str, &'a str)]),
    Labels(&'a [(String, String)]),
}

impl Pairs<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Variables(pairs) => pairs.is_empty(),
            Self::Labels(pairs) => pairs.is_empty(),
        }
    }
}

impl Pairs<'_> {
    /// The names with their values.
    pub(super) fn to_map(&self) -> BTreeMap<String, String> {
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match self {
            Self::Variables(pairs) => pairs.iter().map(|(name, value)| owned(name, value)).collect(),
            Self::Labels(pairs) => pairs.iter().map(|(name, value)| owned(name, value)).collect(),
        }
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Variables(pairs) => serializer.collect_map(pairs.iter().copied()),
            Self::Labels(pairs) => serializer.collect_map(pairs.iter().map(|(name, value)| (name, value))),
        }
    }
}

/// The body of a request. Fields without a value are omitted.
#[derive(Serialize)]
pub(super) struct HookRequest<'a> {
    pub(super) client: &'a str,
    pub(super) transport: &'a str,
    pub(super) protocol: &'static str,
    pub(super) encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    vars: Pairs<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) version: &'a str,
    #[serde(flatten)]
    pub(super) data: ClientData<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub(super) labels: Pairs<'a>,
}

/// The data of a client. In JSON it is the field `data`, or `b64data` if it is binary or with `is_encoded`.
#[derive(Clone, Copy)]
pub(super) struct ClientData<'a> {
    pub(super) bytes: Option<&'a [u8]>,
    /// Whether it is sent in base64, also if it is JSON.
    pub(super) is_encoded: bool,
}

impl Serialize for ClientData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(bytes) = self.bytes {
            match json(bytes).filter(|_| !self.is_encoded) {
                Some(value) => map.serialize_entry("data", &value)?,
                None => map.serialize_entry("b64data", &STANDARD.encode(bytes))?,
            }
        }
        map.end()
    }
}

impl<'a> HookRequest<'a> {
    /// A request about `event` of the client `requester`, with the client's data.
    pub(super) fn new(
        requester: &'a Requester,
        event: HookEvent<'a>,
        data: Option<&'a [u8]>,
        format: RequestEncoding,
    ) -> Self {
        let protocol = match requester.encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        };
        // The encoding of the data in this request, independent of the client's protocol.
        let encoding = if format.binary { "binary" } else { "json" };
        let meta = requester.meta.as_deref().filter(|_| format.include_meta);
        let mut request = Self {
            client: &requester.client,
            // Only connections over HTTP have `ConnectionInfo`.
            transport: requester.connection_info.as_ref().map_or("tcp", |about| about.transport),
            protocol,
            encoding,
            address: requester.address,
            user: Some(&requester.user),
            channel: None,
            vars: Pairs::Variables(&[]),
            method: "",
            name: "",
            version: "",
            data: ClientData { bytes: data, is_encoded: format.binary },
            meta: meta.and_then(|meta| serde_json::from_slice(meta).ok()),
            labels: Pairs::Labels(requester.labels.as_deref().map(Labels::as_slice).unwrap_or_default()),
        };
        match event {
            HookEvent::Connect { name, version } => {
                request.user = None;
                request.name = name;
                request.version = version;
            }
            HookEvent::Subscribe(target) | HookEvent::Publish(target) | HookEvent::SubRefresh(target) => {
                request.channel = Some(target.channel.as_str());
                request.vars = Pairs::Variables(&target.variables);
            }
            HookEvent::Rpc(method) => request.method = method,
            HookEvent::Refresh => {}
        }
        request
    }
}

/// The bytes as JSON clients get them: unchanged if they are JSON, a string if they are other text; `None` for binary
/// data.
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

    const PLAIN: RequestEncoding = RequestEncoding { binary: false, include_meta: false };

    fn who() -> Requester {
        Requester {
            client: "c1".into(),
            user: "42".into(),
            meta: Some(Bytes::from_static(b"{\"role\":\"admin\"}")),
            labels: Labels::new([("tier".to_owned(), "pro".to_owned())].into()).map(Arc::new),
            connection_info: Some(Arc::new(ConnectionInfo {
                transport: "websocket",
                headers: Vec::new(),
                user: None,
            })),
            address: Some([198, 51, 100, 7].into()),
            encoding: Encoding::Protobuf,
        }
    }

    fn request(
        requester: &Requester,
        event: HookEvent<'_>,
        data: Option<&[u8]>,
        format: RequestEncoding,
    ) -> Value {
        serde_json::to_value(HookRequest::new(requester, event, data, format)).expect("JSON")
    }

    #[test]
    fn a_request_has_the_documented_fields_and_omits_fields_without_a_value() {
        let connect = HookEvent::Connect { name: "js", version: "5" };
        assert_eq!(
            request(&Requester { client: "c1".into(), ..Requester::default() }, connect, None, PLAIN),
            json!({"client": "c1", "transport": "tcp", "protocol": "json", "encoding": "json", "name": "js", "version": "5"})
        );
        let channel = Channel::new("chat:1").expect("a name");
        let target = &HookChannel { channel: &channel, variables: Vec::new() };
        let with_meta = RequestEncoding { include_meta: true, ..PLAIN };
        assert_eq!(
            request(&who(), HookEvent::Subscribe(target), Some(b"{\"a\": 1}"), with_meta),
            json!({
                "client": "c1", "transport": "websocket", "protocol": "protobuf", "encoding": "json", "user": "42",
                "address": "198.51.100.7", "channel": "chat:1", "data": {"a": 1}, "meta": {"role": "admin"},
                "labels": {"tier": "pro"}
            })
        );
        assert_eq!(
            request(&Requester::default(), HookEvent::Rpc(""), None, PLAIN),
            json!({"client": "", "transport": "tcp", "protocol": "json", "encoding": "json", "user": ""})
        );
    }

    #[test]
    fn a_request_about_a_channel_of_a_pattern_has_its_variables() {
        let channel = Channel::new("/users/7").expect("a name");
        let target = &HookChannel { channel: &channel, variables: vec![("id", "7"), ("kind", "\"")] };
        for event in [HookEvent::Subscribe(target), HookEvent::Publish(target), HookEvent::SubRefresh(target)]
        {
            let request = request(&who(), event, None, PLAIN);
            assert_eq!(request["vars"], json!({"id": "7", "kind": "\""}));
        }
    }

    #[test]
    fn data_is_json_or_a_string_for_text_or_base64_for_binary_data() {
        let data = |bytes: &[u8], format| {
            let request = request(&who(), HookEvent::Rpc("m"), Some(bytes), format);
            (request.get("data").cloned(), request.get("b64data").cloned())
        };
        assert_eq!(data(b"[1, 2]", PLAIN), (Some(json!([1, 2])), None));
        assert_eq!(data(b"LAL 101", PLAIN), (Some(json!("LAL 101")), None));
        assert_eq!(data(b"\xff", PLAIN), (None, Some(json!("/w=="))));
        let binary = RequestEncoding { binary: true, ..PLAIN };
        assert_eq!(data(b"{}", binary), (None, Some(json!("e30="))));
        for (format, encoding) in [(PLAIN, "json"), (binary, "binary")] {
            assert_eq!(request(&who(), HookEvent::Rpc("m"), Some(b"{}"), format)["encoding"], encoding);
        }
    }
}
