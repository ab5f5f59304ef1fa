//! `GET /api/openapi.json`: what the server API takes and gives, in OpenAPI 3.1.

use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

/// The description. The tests below hold it against the types that requests are read into and answers written from.
const DESCRIPTION: &str = include_str!("openapi.json");

/// Answers with the description. It is the same for every server, so it takes no key.
pub(super) async fn serve(method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
    }
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], DESCRIPTION).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::de::{self, DeserializeOwned, Visitor};
    use serde::{Deserialize, Deserializer};
    use serde_json::value::RawValue;
    use serde_json::{Value, json};
    use tidings_wire::{ClientInfo, Epoch, Position};

    use super::super::batch::{Batch, Envelope};
    use super::super::command::{self, Command, Entry, MAX_CHANNELS, MAX_COMMANDS};
    use super::super::reply::{self, ApiError, Client, Outcome, PublishResult, Response};
    use super::DESCRIPTION;
    use tidings_cluster::NodeInfo;

    fn description() -> Value {
        serde_json::from_str(DESCRIPTION).expect("JSON")
    }

    fn schema(name: &str) -> Value {
        let schema = description()["components"]["schemas"][name].take();
        assert!(schema.is_object(), "{name} is not described");
        schema
    }

    fn properties(schema: &Value) -> BTreeMap<String, Value> {
        let object = schema["properties"].as_object().unwrap_or_else(|| panic!("{schema}"));
        object.clone().into_iter().collect()
    }

    /// Finds out which fields a type is read from: it asks its deserializer for them.
    struct Fields<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            _visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            Err(de::Error::custom("seen"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
            panic!("not a struct")
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn fields<T: for<'de> Deserialize<'de>>() -> BTreeSet<String> {
        let mut fields = Vec::new();
        let _ = T::deserialize(Fields(&mut fields));
        fields.into_iter().map(str::to_owned).collect()
    }

    /// Something of the type that a schema asks for, and something that is not.
    fn samples(schema: &Value) -> (Value, Option<Value>) {
        match (schema["type"].as_str(), schema["$ref"].as_str()) {
            (Some("string"), _) => (json!(""), Some(json!(1))),
            (Some("integer"), _) => (json!(0), Some(json!("0"))),
            (Some("boolean"), _) => (json!(true), Some(json!(1))),
            (Some("array"), _) => (json!([]), Some(json!({}))),
            (Some("object"), _) | (None, Some(_)) => (json!({}), Some(json!("x"))),
            // Any JSON.
            (None, None) => (json!([1]), None),
            other => panic!("{other:?}"),
        }
    }

    /// Holds a described object against the type that it is read into: the same fields, of the same types, all of
    /// which may be `null`.
    fn reads<T: DeserializeOwned>(name: &str) {
        let properties = properties(&schema(name));
        assert_eq!(properties.keys().cloned().collect::<BTreeSet<_>>(), fields::<T>(), "{name}");
        let read = |field: &str, value: &Value| serde_json::from_value::<T>(json!({field: value})).is_ok();
        for (field, schema) in properties {
            let (right, wrong) = samples(&schema);
            assert!(read(&field, &right), "{name}.{field} does not take {right}");
            // What a command is given is looked at with its method, and then is its own error.
            if let Some(wrong) = wrong.filter(|_| field != "params") {
                assert!(!read(&field, &wrong), "{name}.{field} takes {wrong}");
            }
            let inner = ["id", "method", "value"].contains(&&*field);
            assert!(inner || read(&field, &Value::Null), "{name}.{field} does not take null");
        }
    }

    /// Holds a described object against one that is written with all its fields.
    fn writes(name: &str, written: &impl serde::Serialize) {
        let written = serde_json::to_value(written).expect("JSON");
        let written = written.as_object().unwrap_or_else(|| panic!("{name}: {written}"));
        let schema = schema(name);
        let properties = properties(&schema);
        let keys = |keys: Vec<&String>| keys.into_iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(properties.keys().collect()), keys(written.keys().collect()), "{name}");
        for (field, value) in written {
            let (same, _) = samples(&properties[field]);
            let alike = std::mem::discriminant(&same) == std::mem::discriminant(value);
            assert!(alike || properties[field].get("type").is_none(), "{name}.{field} is {value}");
        }
    }

    /// A description of nothing else may be left out of what is required.
    fn requires(name: &str, written: &impl serde::Serialize) {
        let written = serde_json::to_value(written).expect("JSON");
        let keys: BTreeSet<_> = written.as_object().expect("an object").keys().cloned().collect();
        let schema = schema(name);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let required: BTreeSet<_> = required.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        assert_eq!(required, keys, "{name}: what is always there");
    }

    #[test]
    fn every_method_is_described_and_nothing_else() {
        let described = description();
        let paths: BTreeSet<_> = described["paths"].as_object().expect("paths").keys().cloned().collect();
        let more = ["/api", "/api/batch", "/api/openapi.json"].map(str::to_owned);
        let methods = Command::METHODS.map(|method| format!("/api/{method}"));
        assert_eq!(paths, methods.into_iter().chain(more).collect());
        for method in Command::METHODS {
            let post = &described["paths"][format!("/api/{method}")]["post"];
            let camel: String = method.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            let of = |content: &Value| content["content"]["application/json"]["schema"]["$ref"].clone();
            assert_eq!(of(&post["requestBody"]), format!("#/components/schemas/{camel}Request"));
            assert_eq!(of(&post["responses"]["200"]), format!("#/components/schemas/{camel}Response"));
            let response = properties(&schema(&format!("{camel}Response")));
            assert_eq!(response["result"]["$ref"], format!("#/components/schemas/{camel}Result"));
            assert_eq!(response["error"]["$ref"], "#/components/schemas/Error");
            let batch = properties(&schema("Command"));
            assert_eq!(batch[method]["$ref"], format!("#/components/schemas/{camel}Request"));
            let reply = properties(&schema("Reply"));
            assert_eq!(reply[method]["$ref"], format!("#/components/schemas/{camel}Result"));
        }
        assert_eq!(properties(&schema("Command")).len(), Command::METHODS.len());
        assert_eq!(properties(&schema("Reply")).len(), Command::METHODS.len() + 1);
        let named = properties(&schema("Envelope"))["method"]["enum"].clone();
        assert_eq!(named, json!(Command::METHODS));
    }

    #[test]
    fn every_field_that_is_read_is_described_and_every_described_field_is_read() {
        reads::<command::Publish>("PublishRequest");
        reads::<command::Broadcast>("BroadcastRequest");
        reads::<command::Subscribe>("SubscribeRequest");
        reads::<command::Unsubscribe>("UnsubscribeRequest");
        reads::<command::Disconnect>("DisconnectRequest");
        reads::<command::Refresh>("RefreshRequest");
        reads::<command::Presence>("PresenceRequest");
        reads::<command::PresenceStats>("PresenceStatsRequest");
        reads::<command::History>("HistoryRequest");
        reads::<command::HistoryRemove>("HistoryRemoveRequest");
        reads::<command::Channels>("ChannelsRequest");
        reads::<command::Info>("InfoRequest");
        reads::<command::BlockUser>("BlockUserRequest");
        reads::<command::UnblockUser>("UnblockUserRequest");
        reads::<command::RevokeToken>("RevokeTokenRequest");
        reads::<command::InvalidateUserTokens>("InvalidateUserTokensRequest");
        reads::<command::StreamPosition>("StreamPosition");
        reads::<command::Override>("Override");
        reads::<command::BoolValue>("BoolValue");
        reads::<command::Farewell>("Disconnect");
        reads::<Batch>("BatchRequest");
        reads::<Envelope>("Envelope");
        for method in Command::METHODS {
            let entry: Entry = serde_json::from_value(json!({method: {}})).expect("a command");
            assert!(matches!(entry, Entry::Command(command) if command.method() == method), "{method}");
        }
    }

    #[test]
    fn every_field_that_is_written_is_described_and_every_described_field_is_written() {
        let epoch = Epoch::from("e");
        let published = tidings_broker::Published {
            position: Some(Position { offset: 1, epoch }),
            ..tidings_broker::Published::default()
        };
        writes("PublishResult", &PublishResult::from(published));
        requires("BroadcastResult", &Outcome::Broadcast { responses: Vec::new() });
        writes("BroadcastResult", &Outcome::Broadcast { responses: Vec::new() });
        let error = ApiError::bad("x");
        writes("Error", &error);
        requires("Error", &error);
        let response = [Response::Result(PublishResult::default()), Response::Error(error)];
        for (key, response) in ["result", "error"].into_iter().zip(&response) {
            let written = serde_json::to_value(response).expect("JSON");
            assert!(written.get(key).is_some() && properties(&schema("PublishResponse")).contains_key(key));
        }
        let info = ClientInfo {
            user: "u".into(),
            client: "c".into(),
            conn_info: Some("{}".into()),
            chan_info: Some("{}".into()),
        };
        let client = |info: &ClientInfo| Client::from(info);
        writes("ClientInfo", &client(&info));
        requires("ClientInfo", &client(&ClientInfo::default()));
        let presence = Outcome::Presence { presence: BTreeMap::new() };
        writes("PresenceResult", &presence);
        requires("PresenceResult", &presence);
        let stats = Outcome::PresenceStats { num_clients: 1, num_users: 1 };
        writes("PresenceStatsResult", &stats);
        requires("PresenceStatsResult", &stats);
        let history = Outcome::History { publications: Vec::new(), offset: 0, epoch: String::new() };
        writes("HistoryResult", &history);
        requires("HistoryResult", &history);
        let publication =
            |tags, info| reply::Publication { data: RawValue::TRUE.to_owned(), offset: 1, tags, info };
        writes("Publication", &publication(Some(BTreeMap::new()), Some(client(&info))));
        requires("Publication", &publication(None, None));
        let channels = Outcome::Channels { channels: BTreeMap::new() };
        writes("ChannelsResult", &channels);
        requires("ChannelsResult", &channels);
        writes("ChannelInfo", &reply::Channel { num_clients: 1 });
        let nodes = Outcome::Info { nodes: Vec::new() };
        writes("InfoResult", &nodes);
        writes("Node", &NodeInfo::default());
        requires("Node", &NodeInfo::default());
        for name in [
            "Subscribe",
            "Unsubscribe",
            "Disconnect",
            "Refresh",
            "HistoryRemove",
            "BlockUser",
            "UnblockUser",
            "RevokeToken",
            "InvalidateUserTokens",
        ] {
            writes(&format!("{name}Result"), &Outcome::Done {});
        }
    }

    #[test]
    fn the_bounds_that_are_described_are_those_that_hold() {
        assert_eq!(properties(&schema("BatchRequest"))["commands"]["maxItems"], MAX_COMMANDS);
        assert_eq!(properties(&schema("BroadcastRequest"))["channels"]["maxItems"], MAX_CHANNELS);
        let publish = properties(&schema("PublishRequest"));
        assert_eq!(publish["idempotency_key"]["maxLength"], tidings_broker::MAX_IDEMPOTENCY_KEY);
        assert_eq!(publish["channel"]["maxLength"], tidings_wire::channel::MAX_CHANNEL);
        let pattern = &properties(&schema("ChannelsRequest"))["pattern"]["maxLength"];
        assert_eq!(*pattern, tidings_wire::channel::MAX_PATTERN);
        let described = description();
        let broadcast = properties(&schema("BroadcastRequest"));
        for (name, field) in &publish {
            assert!(name == "channel" || broadcast[name] == *field, "{name} is another one in a broadcast");
        }
        assert_eq!(described["openapi"], "3.1.0");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn follow(at: &Value, root: &Value) {
            if let Some(reference) = at["$ref"].as_str() {
                let pointer = reference.strip_prefix('#').expect("a reference within the description");
                assert!(root.pointer(pointer).is_some(), "{reference}");
            }
            let inner: Vec<&Value> = match at {
                Value::Object(object) => object.values().collect(),
                Value::Array(array) => array.iter().collect(),
                _ => Vec::new(),
            };
            inner.into_iter().for_each(|value| follow(value, root));
        }
        let described = description();
        follow(&described, &described);
    }
}
