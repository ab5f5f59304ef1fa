//! The JSON of responses: the one that the same response over HTTP has.
//!
//! Bytes of the application are in base64 there. An empty field is absent, because Protobuf does not distinguish the two.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value, json};
use tidings_grpc::messages::proxy;

use crate::HookKind;
use crate::response::InvalidReason;

/// Deepest nesting of a filter by tags.
const MAX_DEPTH: usize = 32;

/// The JSON of a response.
///
/// # Errors
/// For bytes that are not the message of the response, and for a field that cannot be JSON.
pub(crate) fn to_json(kind: HookKind, message: Bytes) -> Result<Vec<u8>, InvalidReason> {
    let value = match kind {
        HookKind::Connect => {
            let proxy::ConnectResponse { result, error, disconnect } = decode(message)?;
            outcome(result.map(connect).transpose()?, error, disconnect)
        }
        HookKind::Subscribe | HookKind::SubscribeStream => {
            let proxy::SubscribeResponse { result, error, disconnect } = decode(message)?;
            outcome(result.map(subscribe).transpose()?, error, disconnect)
        }
        HookKind::Publish => {
            let proxy::PublishResponse { result, error, disconnect } = decode(message)?;
            outcome(result.map(publish), error, disconnect)
        }
        HookKind::Rpc => {
            let proxy::RpcResponse { result, error, disconnect } = decode(message)?;
            let result = result.map(|result| {
                let mut fields = Map::new();
                base64("b64data", &result.data, result.b64data, &mut fields);
                fields
            });
            outcome(result, error, disconnect)
        }
        HookKind::Refresh => {
            let proxy::RefreshResponse { result, error, disconnect } = decode(message)?;
            outcome(result.map(refresh).transpose()?, error, disconnect)
        }
        HookKind::SubRefresh => {
            let proxy::SubRefreshResponse { result, error, disconnect } = decode(message)?;
            let result = result.map(|result| {
                let mut fields = Map::new();
                insert("expired", result.expired, &mut fields);
                insert("expire_at", result.expire_at, &mut fields);
                base64("b64info", &result.info, result.b64info, &mut fields);
                fields
            });
            outcome(result, error, disconnect)
        }
        HookKind::SharedPollRefresh => {
            let proxy::SharedPollRefreshResponse { result, error } = decode(message)?;
            outcome(result.map(values), error, None)
        }
    };
    serde_json::to_vec(&value).map_err(|error| format!("cannot be read: {error}"))
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, InvalidReason> {
    M::decode(message).map_err(|_| "is not the message of this method".to_owned())
}

/// A response with one of its three fields.
fn outcome(
    result: Option<Map<String, Value>>,
    error: Option<proxy::Error>,
    disconnect: Option<proxy::Disconnect>,
) -> Value {
    let mut fields = Map::new();
    if let Some(result) = result {
        fields.insert("result".to_owned(), Value::Object(result));
    }
    if let Some(proxy::Error { code, message, temporary }) = error {
        fields.insert("error".to_owned(), json!({"code": code, "message": message, "temporary": temporary}));
    }
    if let Some(proxy::Disconnect { code, reason }) = disconnect {
        fields.insert("disconnect".to_owned(), json!({"code": code, "reason": reason}));
    }
    Value::Object(fields)
}

/// Sets a field, unless it has the default value.
fn insert<T: Into<Value> + Default + PartialEq>(name: &str, value: T, fields: &mut Map<String, Value>) {
    if value != T::default() {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets a field with bytes, unless they are empty; `encoded` takes precedence.
fn base64(name: &str, bytes: &[u8], encoded: String, fields: &mut Map<String, Value>) {
    let text = if encoded.is_empty() { STANDARD.encode(bytes) } else { encoded };
    insert(name, text, fields);
}

/// Sets a field with the JSON in bytes, unless they are empty.
fn raw_json(name: &str, bytes: &[u8], fields: &mut Map<String, Value>) -> Result<(), InvalidReason> {
    if !bytes.is_empty() {
        let value = serde_json::from_slice(bytes).map_err(|_| format!("has a {name} that is no JSON"))?;
        fields.insert(name.to_owned(), value);
    }
    Ok(())
}

/// Sets the capabilities, unless there is no entry. An empty entry grants nothing: with it alone the list is set and empty, which
/// takes away the capabilities of a connection that is renewed.
fn capabilities(caps: Vec<proxy::ChannelsCapability>, fields: &mut Map<String, Value>) {
    if caps.is_empty() {
        return;
    }
    let granted = caps.into_iter().filter(|capability| *capability != proxy::ChannelsCapability::default());
    let capability = |proxy::ChannelsCapability { channels, allow, r#match }| {
        let mut fields = Map::new();
        insert("channels", channels, &mut fields);
        insert("allow", allow, &mut fields);
        insert("match", r#match, &mut fields);
        Value::Object(fields)
    };
    fields.insert("caps".to_owned(), granted.map(capability).collect());
}

fn overrides(overrides: Option<proxy::SubscribeOptionOverride>, fields: &mut Map<String, Value>) {
    let Some(overrides) = overrides else { return };
    let values = [
        ("presence", overrides.presence),
        ("join_leave", overrides.join_leave),
        ("force_recovery", overrides.force_recovery),
        ("force_positioning", overrides.force_positioning),
        ("force_push_join_leave", overrides.force_push_join_leave),
    ];
    let set = values
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!({"value": value?.value}))));
    fields.insert("override".to_owned(), Value::Object(set.collect()));
}

fn filter(node: proxy::FilterNode, depth: usize) -> Result<Value, InvalidReason> {
    if depth > MAX_DEPTH {
        return Err(format!("has a server_tags_filter with more than {MAX_DEPTH} levels"));
    }
    let proxy::FilterNode { op, key, cmp, val, vals, nodes } = node;
    let nodes = nodes.into_iter().map(|node| filter(node, depth + 1)).collect::<Result<Vec<_>, _>>()?;
    let mut fields = Map::new();
    for (name, text) in [("op", op), ("key", key), ("cmp", cmp), ("val", val)] {
        insert(name, text, &mut fields);
    }
    insert("vals", vals, &mut fields);
    insert("nodes", nodes, &mut fields);
    Ok(Value::Object(fields))
}

/// The fields that a subscription has in each response.
fn subscription(options: proxy::SubscribeOptions) -> Result<Map<String, Value>, InvalidReason> {
    let proxy::SubscribeOptions { expire_at, info, b64info, data, b64data, r#override, server_tags_filter } =
        options;
    let mut fields = Map::new();
    insert("expire_at", expire_at, &mut fields);
    base64("b64info", &info, b64info, &mut fields);
    base64("b64data", &data, b64data, &mut fields);
    overrides(r#override, &mut fields);
    if let Some(node) = server_tags_filter {
        fields.insert("server_tags_filter".to_owned(), filter(node, 0)?);
    }
    Ok(fields)
}

fn connect(result: proxy::ConnectResult) -> Result<Map<String, Value>, InvalidReason> {
    let mut fields = Map::new();
    insert("user", result.user, &mut fields);
    insert("expire_at", result.expire_at, &mut fields);
    base64("b64info", &result.info, result.b64info, &mut fields);
    base64("b64data", &result.data, result.b64data, &mut fields);
    insert("channels", result.channels, &mut fields);
    let subs = result
        .subs
        .into_iter()
        .map(|(channel, options)| Ok((channel, Value::Object(subscription(options)?))));
    let subs = subs.collect::<Result<Map<_, _>, InvalidReason>>()?;
    fields.insert("subs".to_owned(), Value::Object(subs));
    raw_json("meta", &result.meta, &mut fields)?;
    capabilities(result.caps, &mut fields);
    fields.insert("labels".to_owned(), json!(result.labels));
    Ok(fields)
}

fn subscribe(result: proxy::SubscribeResult) -> Result<Map<String, Value>, InvalidReason> {
    let proxy::SubscribeResult {
        expire_at,
        info,
        b64info,
        data,
        b64data,
        r#override,
        allow,
        server_tags_filter,
    } = result;
    let options =
        proxy::SubscribeOptions { expire_at, info, b64info, data, b64data, r#override, server_tags_filter };
    let mut fields = subscription(options)?;
    insert("allow", allow, &mut fields);
    Ok(fields)
}

fn publish(result: proxy::PublishResult) -> Map<String, Value> {
    let mut fields = Map::new();
    base64("b64data", &result.data, result.b64data, &mut fields);
    insert("skip_history", result.skip_history, &mut fields);
    fields.insert("tags".to_owned(), json!(result.tags));
    insert("idempotency_key", result.idempotency_key, &mut fields);
    insert("delta", result.delta, &mut fields);
    insert("version", result.version, &mut fields);
    fields
}

fn refresh(result: proxy::RefreshResult) -> Result<Map<String, Value>, InvalidReason> {
    let mut fields = Map::new();
    insert("expired", result.expired, &mut fields);
    insert("expire_at", result.expire_at, &mut fields);
    base64("b64info", &result.info, result.b64info, &mut fields);
    raw_json("meta", &result.meta, &mut fields)?;
    capabilities(result.caps, &mut fields);
    Ok(fields)
}

fn values(result: proxy::SharedPollRefreshResult) -> Map<String, Value> {
    let item = |item: proxy::SharedPollRefreshResultItem| {
        let mut fields = Map::new();
        fields.insert("key".to_owned(), item.key.into());
        base64("b64data", &item.data, String::new(), &mut fields);
        insert("version", item.version, &mut fields);
        insert("removed", item.removed, &mut fields);
        Value::Object(fields)
    };
    let mut fields = Map::new();
    insert("epoch", result.epoch, &mut fields);
    insert("items", result.items.into_iter().map(item).collect::<Vec<_>>(), &mut fields);
    fields
}

#[cfg(test)]
mod tests {
    use tidings_hub::{PollValue, PollValues};

    use super::*;
    use crate::{Renewal, response as json_response, values as json_values};

    fn encoded(kind: HookKind, message: &impl Message) -> Result<Vec<u8>, InvalidReason> {
        to_json(kind, message.encode_to_vec().into())
    }

    #[test]
    fn values_of_shared_polls_are_read() {
        let item = |key: &str, data: &'static [u8], removed| proxy::SharedPollRefreshResultItem {
            key: key.to_owned(),
            data: data.into(),
            version: 3,
            removed,
            prev_data: Bytes::new(),
        };
        let items = vec![item("a", b"\xff", false), item("b", b"", true)];
        let result = proxy::SharedPollRefreshResult { items, epoch: "e".to_owned() };
        let message = proxy::SharedPollRefreshResponse { result: Some(result), error: None };
        let json = encoded(HookKind::SharedPollRefresh, &message).expect("JSON");
        let value = |key: &str, data: Option<&'static [u8]>, removed| PollValue {
            key: key.to_owned(),
            data: data.map(Bytes::from_static),
            version: 3,
            removed,
        };
        let items = vec![value("a", Some(b"\xff"), false), value("b", None, true)];
        assert_eq!(json_values::read_values(&json), Ok(Ok(PollValues { epoch: "e".to_owned(), items })));
    }

    #[test]
    fn an_empty_response_permits_nothing_and_ends_what_expires() {
        let empty = |kind| to_json(kind, Bytes::new()).expect("JSON");
        assert!(json_response::read_connect(&empty(HookKind::Connect)).is_err());
        assert!(json_response::read_subscribe(&empty(HookKind::Subscribe)).is_err());
        assert!(json_response::read_publish(&empty(HookKind::Publish)).is_err());
        assert!(json_response::read_rpc(&empty(HookKind::Rpc)).is_err());
        assert!(json_values::read_values(&empty(HookKind::SharedPollRefresh)).is_err());
        let json = to_json(HookKind::Refresh, Bytes::new()).expect("JSON");
        assert_eq!(
            json_response::read_renewal(&json),
            Ok(Ok(Renewal { is_expired: true, ..Renewal::default() }))
        );
    }

    #[test]
    fn an_empty_capability_takes_away_those_of_a_connection() {
        let renewed = |caps| {
            let result = proxy::RefreshResult { caps, expire_at: 1, ..proxy::RefreshResult::default() };
            let message = proxy::RefreshResponse { result: Some(result), error: None, disconnect: None };
            let json = encoded(HookKind::Refresh, &message).expect("JSON");
            json_response::read_renewal(&json).expect("a response").expect("a renewal").capabilities
        };
        let empty = proxy::ChannelsCapability::default;
        let granted = proxy::ChannelsCapability {
            channels: vec!["a".to_owned()],
            allow: vec!["sub".to_owned()],
            ..empty()
        };
        assert_eq!(renewed(vec![]), None, "they stay");
        assert_eq!(renewed(vec![empty()]), Some(None), "they end");
        let replaced = renewed(vec![granted.clone()]);
        assert!(matches!(replaced, Some(Some(_))), "{replaced:?}");
        assert_eq!(renewed(vec![granted, empty()]), replaced);
    }

    #[test]
    fn a_response_that_is_no_message_or_has_a_field_that_is_no_json_is_invalid() {
        let broken = to_json(HookKind::Connect, Bytes::from_static(b"\xff"));
        assert_eq!(broken, Err("is not the message of this method".to_owned()));
        let result = proxy::ConnectResult { meta: "no JSON".into(), ..proxy::ConnectResult::default() };
        let message = proxy::ConnectResponse { result: Some(result), error: None, disconnect: None };
        assert_eq!(encoded(HookKind::Connect, &message), Err("has a meta that is no JSON".to_owned()));
        let nested = (0..MAX_DEPTH + 2).fold(proxy::FilterNode::default(), |node, _| proxy::FilterNode {
            nodes: vec![node],
            ..proxy::FilterNode::default()
        });
        let result =
            proxy::SubscribeResult { server_tags_filter: Some(nested), ..proxy::SubscribeResult::default() };
        let message = proxy::SubscribeResponse { result: Some(result), error: None, disconnect: None };
        assert!(encoded(HookKind::Subscribe, &message).is_err());
    }
}
