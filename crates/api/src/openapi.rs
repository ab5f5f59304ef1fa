//! The description of the server API, in OpenAPI 3.1.

/// The description. The tests below compare it with the types of requests and replies.
pub const DESCRIPTION: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::de::{self, DeserializeOwned, Visitor};
    use serde::{Deserialize, Deserializer};
    use serde_json::{Value, json};
    use tidings_wire::body::DataFormat;
    use tidings_wire::{ClientInfo, Epoch, Position};

    use super::DESCRIPTION;
    use crate::batch::{Batch, BatchItem, Envelope};
    use crate::command::{self, CommandMethod, MAX_CHANNELS, MAX_COMMANDS};
    use crate::error::ApiError;
    use crate::map;
    use crate::reply::{
        Body, BroadcastResponse, ChannelJson, ClientJson, CommandResult, ConnectionJson, PublicationJson,
        PublishResult,
    };
    use crate::shared_poll;
    use tidings_cluster::NodeInfo;
    use tidings_metrics::Label as _;
    use tidings_reload::ReloadReport;

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

    /// A deserializer that collects the fields which a type requests from it.
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

    /// A value that matches a schema, and one that does not, if there is one.
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

    /// Compares a described request with the type that it is parsed into: same fields, same types, and every field may be
    /// `null`.
    fn check_request<T: DeserializeOwned>(name: &str) {
        let properties = properties(&schema(name));
        assert_eq!(properties.keys().cloned().collect::<BTreeSet<_>>(), fields::<T>(), "{name}");
        let read = |field: &str, value: &Value| serde_json::from_value::<T>(json!({field: value})).is_ok();
        for (field, schema) in properties {
            let (right, wrong) = samples(&schema);
            assert!(read(&field, &right), "{name}.{field} does not take {right}");
            // `params` are parsed later, with the method, and have an error of their own.
            if let Some(wrong) = wrong.filter(|_| field != "params") {
                assert!(!read(&field, &wrong), "{name}.{field} takes {wrong}");
            }
            let inner = ["id", "method", "value"].contains(&&*field);
            assert!(inner || read(&field, &Value::Null), "{name}.{field} does not take null");
        }
    }

    /// Compares a described object with a value that is encoded with all its fields.
    fn check_result(name: &str, written: &impl serde::Serialize) {
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

    /// Compares the required fields of a described object with a value that is encoded without its optional fields.
    fn check_required(name: &str, written: &impl serde::Serialize) {
        let written = serde_json::to_value(written).expect("JSON");
        let keys: BTreeSet<_> = written.as_object().expect("an object").keys().cloned().collect();
        let schema = schema(name);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let required: BTreeSet<_> = required.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        assert_eq!(required, keys, "{name}: required fields");
    }

    #[test]
    fn exactly_the_methods_are_described() {
        let described = description();
        let paths: BTreeSet<_> = described["paths"].as_object().expect("paths").keys().cloned().collect();
        let more = ["/api", "/api/batch", "/api/openapi.json"].map(str::to_owned);
        let methods: Vec<_> = CommandMethod::ALL.iter().map(|method| method.label()).collect();
        assert_eq!(paths, methods.iter().map(|method| format!("/api/{method}")).chain(more).collect());
        for method in &methods {
            let post = &described["paths"][format!("/api/{method}")]["post"];
            let camel: String = method.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            let reference =
                |content: &Value| content["content"]["application/json"]["schema"]["$ref"].clone();
            assert_eq!(reference(&post["requestBody"]), format!("#/components/schemas/{camel}Request"));
            assert_eq!(reference(&post["responses"]["200"]), format!("#/components/schemas/{camel}Response"));
            let response = properties(&schema(&format!("{camel}Response")));
            assert_eq!(response["result"]["$ref"], format!("#/components/schemas/{camel}Result"));
            assert_eq!(response["error"]["$ref"], "#/components/schemas/Error");
            let scope = CommandMethod::from_name(method).expect("a method").scope().name();
            assert_eq!(
                post["security"],
                json!([{"key": [scope]}, {"authorization": [scope]}, {}]),
                "{method}"
            );
            let batch = properties(&schema("Command"));
            assert_eq!(batch[*method]["$ref"], format!("#/components/schemas/{camel}Request"));
            let reply = properties(&schema("Reply"));
            assert_eq!(reply[*method]["$ref"], format!("#/components/schemas/{camel}Result"));
        }
        assert_eq!(properties(&schema("Command")).len(), methods.len());
        assert_eq!(properties(&schema("Reply")).len(), methods.len() + 1);
        let named = properties(&schema("Envelope"))["method"]["enum"].clone();
        assert_eq!(named, json!(methods));
    }

    #[test]
    fn the_fields_of_requests_are_the_described_ones() {
        check_request::<command::Publish>("PublishRequest");
        check_request::<command::Broadcast>("BroadcastRequest");
        check_request::<command::Subscribe>("SubscribeRequest");
        check_request::<command::Unsubscribe>("UnsubscribeRequest");
        check_request::<command::Disconnect>("DisconnectRequest");
        check_request::<command::Refresh>("RefreshRequest");
        check_request::<command::Presence>("PresenceRequest");
        check_request::<command::PresenceStats>("PresenceStatsRequest");
        check_request::<command::History>("HistoryRequest");
        check_request::<command::HistoryRemove>("HistoryRemoveRequest");
        check_request::<map::MapPublish>("MapPublishRequest");
        check_request::<map::MapRemove>("MapRemoveRequest");
        check_request::<map::MapReadState>("MapReadStateRequest");
        check_request::<map::MapReadStream>("MapReadStreamRequest");
        check_request::<map::MapStats>("MapStatsRequest");
        check_request::<map::MapClear>("MapClearRequest");
        check_request::<shared_poll::SharedPollPublish>("SharedPollPublishRequest");
        check_request::<command::Channels>("ChannelsRequest");
        check_request::<command::Info>("InfoRequest");
        check_request::<command::Connections>("ConnectionsRequest");
        check_request::<command::Reload>("ReloadRequest");
        check_request::<command::BlockUser>("BlockUserRequest");
        check_request::<command::UnblockUser>("UnblockUserRequest");
        check_request::<command::RevokeToken>("RevokeTokenRequest");
        check_request::<command::InvalidateUserTokens>("InvalidateUserTokensRequest");
        check_request::<command::StreamPosition>("StreamPosition");
        check_request::<tidings_wire::grant::ChannelOverrides>("Override");
        check_request::<tidings_wire::grant::OverrideValue>("BoolValue");
        check_request::<command::DisconnectReason>("Disconnect");
        check_request::<Batch>("BatchRequest");
        check_request::<Envelope>("Envelope");
        for method in CommandMethod::ALL {
            let item: BatchItem = serde_json::from_value(json!({method.label(): {}})).expect("a command");
            assert!(matches!(item, BatchItem::Command(command) if command.method() == *method), "{method:?}");
        }
    }

    #[test]
    fn the_fields_of_results_are_the_described_ones() {
        let epoch = Epoch::from("e");
        let published = tidings_broker::Published {
            position: Some(Position { offset: 1, epoch }),
            ..tidings_broker::Published::default()
        };
        check_result("PublishResult", &PublishResult::from(published));
        check_required("BroadcastResult", &CommandResult::Broadcast { responses: Vec::new() });
        check_result("BroadcastResult", &CommandResult::Broadcast { responses: Vec::new() });
        let error = ApiError::bad_request("x");
        check_result("Error", &error);
        check_required("Error", &error);
        let response = [BroadcastResponse::Result(PublishResult::default()), BroadcastResponse::Error(error)];
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
        let client = |info: &ClientInfo| ClientJson::from(info);
        check_result("ClientInfo", &client(&info));
        check_required("ClientInfo", &client(&ClientInfo::default()));
        let presence = CommandResult::Presence { presence: BTreeMap::new() };
        check_result("PresenceResult", &presence);
        check_required("PresenceResult", &presence);
        let stats = CommandResult::PresenceStats { num_clients: 1, num_users: 1 };
        check_result("PresenceStatsResult", &stats);
        check_required("PresenceStatsResult", &stats);
        let history = CommandResult::History { publications: Vec::new(), offset: 0, epoch: String::new() };
        check_result("HistoryResult", &history);
        check_required("HistoryResult", &history);
        let body = || Body { bytes: "true".into(), format: DataFormat::Auto };
        let publication = |tags, info| PublicationJson { data: body(), offset: 1, tags, info };
        check_result("Publication", &publication(Some(BTreeMap::new()), Some(client(&info))));
        check_required("Publication", &publication(None, None));
        for method in ["MapPublish", "MapRemove"] {
            let suppressed = map::MapChanged {
                suppressed: true,
                suppress_reason: "version",
                ..map::MapChanged::default()
            };
            check_result(&format!("{method}Result"), &suppressed);
            check_required(&format!("{method}Result"), &map::MapChanged::default());
        }
        for method in ["MapReadState", "MapReadStream"] {
            let page = |cursor: &str| CommandResult::MapEntries {
                entries: Vec::new(),
                offset: 0,
                epoch: String::new(),
                cursor: cursor.to_owned(),
            };
            check_result(&format!("{method}Result"), &page("c"));
            check_required(&format!("{method}Result"), &page(""));
        }
        let entry = |data, score, removed, tags, info| map::MapEntryJson {
            key: "k".into(),
            data,
            offset: 1,
            score,
            removed,
            tags,
            info,
        };
        let data = Some(body());
        check_result("MapEntry", &entry(data, 1, true, Some(BTreeMap::new()), Some(client(&info))));
        check_required("MapEntry", &entry(None, 0, false, None, None));
        check_result("MapStatsResult", &CommandResult::MapStats { num_keys: 1 });
        let channels = CommandResult::Channels { channels: BTreeMap::new() };
        check_result("ChannelsResult", &channels);
        check_required("ChannelsResult", &channels);
        check_result("ChannelInfo", &ChannelJson { num_clients: 1 });
        let nodes = CommandResult::Info { nodes: Vec::new() };
        check_result("InfoResult", &nodes);
        let connections = CommandResult::Connections { connections: BTreeMap::new(), cursor: "c".into() };
        check_result("ConnectionsResult", &connections);
        let last = CommandResult::Connections { connections: BTreeMap::new(), cursor: String::new() };
        check_required("ConnectionsResult", &last);
        let connection = |address: Option<String>| ConnectionJson {
            labels: address.iter().map(|_| ("tier".to_owned(), "pro".to_owned())).collect(),
            user: String::new(),
            transport: String::new(),
            protocol: String::new(),
            address,
            since: 0,
            queued_bytes: 0,
            num_subs: 0,
            node: String::new(),
        };
        check_result("ConnectionInfo", &connection(Some("::1".into())));
        check_required("ConnectionInfo", &connection(None));
        let reloaded = CommandResult::Reloaded(ReloadReport::default());
        check_result("ReloadResult", &reloaded);
        check_required("ReloadResult", &reloaded);
        check_result("Node", &NodeInfo { ready: Some(true), num_moving: 1, ..NodeInfo::default() });
        check_required("Node", &NodeInfo::default());
        for name in [
            "Subscribe",
            "Unsubscribe",
            "Disconnect",
            "Refresh",
            "HistoryRemove",
            "MapClear",
            "SharedPollPublish",
            "BlockUser",
            "UnblockUser",
            "RevokeToken",
            "InvalidateUserTokens",
        ] {
            check_result(&format!("{name}Result"), &CommandResult::Done {});
        }
    }

    #[test]
    fn the_described_bounds_are_the_enforced_ones() {
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
            assert!(name == "channel" || broadcast[name] == *field, "{name} differs in a broadcast");
        }
        assert_eq!(described["openapi"], "3.1.0");
    }

    #[test]
    fn every_reference_can_be_resolved() {
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
