//! The responses of the application to hooks, read from JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::value::{RawValue, Value};
use tidings_capabilities::{Allow, Capabilities};
use tidings_hub::{Admission, ChannelOverrides, Connected, Failure, Rejection, Renewed};
use tidings_tags_filter::Filter;
use tidings_wire::labels::LABELS_EXPECTED;
use tidings_wire::{Channel, Labels, code};

/// Longest reason of a disconnect in bytes: the payload of a close frame (RFC 6455 §5.5) without its code.
const MAX_REASON: usize = 123;

/// Why a response is invalid. Completes the sentence "the response …", and contains nothing of the response.
pub(super) type InvalidReason = String;

/// A publication that the application allows, with its changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AllowedPublish {
    /// Replaces the body of the client.
    pub body: Option<Bytes>,
    /// Do not add it to the channel's history.
    pub skip_history: bool,
    /// The tags of the publication.
    pub tags: Vec<(String, String)>,
    /// Publications with the same key are published once.
    pub idempotency_key: Option<String>,
    /// Subscribers with deltas get it as a delta.
    pub delta: bool,
}

/// The response about a connection or a subscription that expires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// It must end.
    pub is_expired: bool,
    /// When it expires next, in Unix seconds; `None` is never.
    pub expires: Option<u64>,
    /// Replaces the information about the client for other clients.
    pub info: Option<Bytes>,
    /// Replaces the data about the client for hooks; of a connection alone.
    pub meta: Option<Bytes>,
    /// Replaces what the connection may do besides the options of channels; of a connection alone.
    pub capabilities: Option<Option<Arc<Capabilities>>>,
    /// Replaces what the client may do in the channel besides its options; of a subscription alone.
    pub allow: Option<Allow>,
}

impl From<Renewal> for Renewed {
    fn from(renewal: Renewal) -> Self {
        let Renewal { expires, info, meta, capabilities, allow, is_expired: _ } = renewal;
        Self { expires, info, meta, capabilities, allow, token: None }
    }
}

/// The response to any hook: one of the three fields. `disconnect` takes precedence over `error`, and that over `result`.
#[derive(Deserialize)]
struct HookResponse<T> {
    result: Option<T>,
    error: Option<HookError>,
    disconnect: Option<HookDisconnect>,
}

#[derive(Deserialize)]
struct HookError {
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct HookDisconnect {
    code: u16,
    #[serde(default)]
    reason: String,
}

/// Any JSON value, as it is written.
type RawJson = Box<RawValue>;

#[derive(Deserialize)]
struct ConnectHookResult {
    #[serde(default)]
    user: String,
    expire_at: Option<i64>,
    info: Option<RawJson>,
    b64info: Option<String>,
    data: Option<RawJson>,
    b64data: Option<String>,
    channels: Option<Vec<String>>,
    subs: Option<BTreeMap<String, Option<SubscribeHookResult>>>,
    meta: Option<RawJson>,
    caps: Option<RawJson>,
    labels: Option<RawJson>,
    tables: Option<Value>,
}

#[derive(Deserialize)]
struct SubscribeHookResult {
    expire_at: Option<i64>,
    info: Option<RawJson>,
    b64info: Option<String>,
    data: Option<RawJson>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<ChannelOverrides>,
    server_tags_filter: Option<RawJson>,
    allow: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct PublishHookResult {
    data: Option<RawJson>,
    b64data: Option<String>,
    #[serde(default)]
    skip_history: bool,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    #[serde(default)]
    delta: bool,
    version: Option<u64>,
}

#[derive(Deserialize)]
struct RenewalHookResult {
    #[serde(default)]
    expired: bool,
    expire_at: Option<i64>,
    info: Option<RawJson>,
    b64info: Option<String>,
    meta: Option<RawJson>,
    caps: Option<RawJson>,
    allow: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RpcHookResult {
    data: Option<RawJson>,
    b64data: Option<String>,
}

/// The outcome of a hook: the permission, the application's error or disconnect, or why the response is invalid.
pub(super) type HookOutcome<T> = Result<Result<T, Failure>, InvalidReason>;

/// Reads the response to `connect`.
pub(super) fn read_connect(json: &[u8]) -> HookOutcome<Connected> {
    read(json, connection)
}

/// Reads the response to `connect` with the permission to upload tables (`tables.upload`), if it has one.
pub(super) fn read_upload(json: &[u8]) -> HookOutcome<(Connected, Option<bool>)> {
    read(json, |mut result: ConnectHookResult| {
        let upload = match result.tables.take().as_ref().and_then(|tables| tables.get("upload")) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(upload)) => Some(*upload),
            Some(_) => return Err("has a value of tables.upload that is neither true nor false".into()),
        };
        Ok((connection(result)?, upload))
    })
}

fn connection(result: ConnectHookResult) -> Result<Connected, InvalidReason> {
    let mut subs: BTreeMap<Channel, Admission> = BTreeMap::new();
    for name in result.channels.unwrap_or_default() {
        subs.insert(channel(&name)?, Admission::default());
    }
    for (name, options) in result.subs.unwrap_or_default() {
        // `expire_at` has no effect: a server-side subscription ends with the connection.
        let options = options.map(admission).transpose()?.unwrap_or_default();
        subs.insert(channel(&name)?, Admission { expires: None, ..options });
    }
    Ok(Connected {
        user: result.user,
        expires: expires(result.expire_at),
        info: bytes("b64info", result.b64info, result.info)?,
        meta: result.meta.map(text),
        data: bytes("b64data", result.b64data, result.data)?,
        subs: subs.into_iter().collect(),
        token: None,
        capabilities: capabilities(result.caps)?.flatten(),
        labels: labels(result.labels)?,
        since: 0,
    })
}

/// Reads the response to `subscribe`.
pub(super) fn read_subscribe(json: &[u8]) -> HookOutcome<Admission> {
    read(json, admission)
}

/// Reads the response in the first message of a stream, which accepts the subscription without a result too.
pub(super) fn read_stream_subscribe(json: &[u8]) -> HookOutcome<Admission> {
    read_any(json, |result: Option<SubscribeHookResult>| result.map_or(Ok(Admission::default()), admission))
}

/// Reads the response to `publish`.
pub(super) fn read_publish(json: &[u8]) -> HookOutcome<AllowedPublish> {
    let published = read(json, |result: PublishHookResult| {
        if result.version.is_some_and(|version| version > 0) {
            // As in the server API. Publishing without checking the version could show subscribers an older state.
            let text = format!("{}: version", code::NOT_AVAILABLE.text);
            return Ok(Err(Rejection { text, ..code::NOT_AVAILABLE.into() }.into()));
        }
        Ok(Ok(AllowedPublish {
            body: bytes("b64data", result.b64data, result.data)?,
            skip_history: result.skip_history,
            tags: result.tags.unwrap_or_default().into_iter().collect(),
            idempotency_key: result.idempotency_key.filter(|key| !key.is_empty()),
            delta: result.delta,
        }))
    });
    published.map(Result::flatten)
}

/// Reads the response to `refresh` and `sub_refresh`. One without a result ends what expires, as in Centrifugo.
pub(super) fn read_renewal(json: &[u8]) -> HookOutcome<Renewal> {
    read_any(json, |result: Option<RenewalHookResult>| {
        let Some(result) = result else { return Ok(Renewal { is_expired: true, ..Renewal::default() }) };
        Ok(Renewal {
            is_expired: result.expired,
            expires: expires(result.expire_at),
            info: bytes("b64info", result.b64info, result.info)?,
            meta: result.meta.map(text),
            capabilities: capabilities(result.caps)?,
            allow: allow(result.allow)?,
        })
    })
}

/// Reads the response to `rpc`.
pub(super) fn read_rpc(json: &[u8]) -> HookOutcome<Option<Bytes>> {
    read(json, |result: RpcHookResult| bytes("b64data", result.b64data, result.data))
}

/// Reads a response that needs a result. An empty object is no permission: it may come from a server that is not the
/// application.
fn read<T: DeserializeOwned, A>(
    json: &[u8],
    convert: impl FnOnce(T) -> Result<A, InvalidReason>,
) -> HookOutcome<A> {
    read_any(json, |result: Option<T>| convert(result.ok_or("has none of result, error and disconnect")?))
}

/// The reason of an error of the parser, without a part of the response.
pub(super) fn describe(error: &serde_json::Error) -> InvalidReason {
    let reason = match error.classify() {
        Category::Eof => "is JSON that ends too early",
        Category::Data => "is JSON of another shape",
        _ => "is no JSON",
    };
    format!("{reason} (line {} column {})", error.line(), error.column())
}

fn read_any<T: DeserializeOwned, A>(
    json: &[u8],
    convert: impl FnOnce(Option<T>) -> Result<A, InvalidReason>,
) -> HookOutcome<A> {
    let response: HookResponse<T> = serde_json::from_slice(json).map_err(|error| describe(&error))?;
    if let Some(HookDisconnect { code, reason }) = response.disconnect {
        // Codes for frameworks and for private use; a close frame cannot contain others (RFC 6455 §7.4.2).
        if !(3000..=4999).contains(&code) {
            return Err(format!("has the disconnect code {code}, which is not from 3000 to 4999"));
        }
        return Ok(Err(Failure::Disconnect(code, truncate(reason))));
    }
    if let Some(HookError { code, message, temporary }) = response.error {
        if code == 0 {
            return Err("has the error code 0".into());
        }
        return Ok(Err(Failure::Error(Rejection { code, text: message, temporary })));
    }
    convert(response.result).map(Ok)
}

fn admission(result: SubscribeHookResult) -> Result<Admission, InvalidReason> {
    Ok(Admission {
        info: bytes("b64info", result.b64info, result.info)?,
        data: bytes("b64data", result.b64data, result.data)?,
        expires: expires(result.expire_at),
        overrides: result.overrides.unwrap_or_default(),
        filter: result.server_tags_filter.map(|json| filter(&json)).transpose()?,
        allow: allow(result.allow)?.unwrap_or_default(),
        token: None,
        stream: None,
    })
}

/// Capabilities of a connection: `None` if the field is absent, `Some(None)` for an empty list.
fn capabilities(json: Option<RawJson>) -> Result<Option<Option<Arc<Capabilities>>>, InvalidReason> {
    let Some(json) = json else { return Ok(None) };
    let capabilities = Capabilities::from_json(json.get());
    let capabilities = capabilities.map_err(|error| format!("has a field caps that is {error}"))?;
    Ok(Some(Some(capabilities).filter(|capabilities| !capabilities.is_empty()).map(Arc::new)))
}

fn labels(json: Option<RawJson>) -> Result<Option<Arc<Labels>>, InvalidReason> {
    let labels: Option<Option<Labels>> = json
        .map(|json| serde_json::from_str(json.get()))
        .transpose()
        .map_err(|_| format!("has a field labels that is not {LABELS_EXPECTED}"))?;
    Ok(labels.flatten().filter(|labels| !labels.is_empty()).map(Arc::new))
}

fn allow(names: Option<Vec<String>>) -> Result<Option<Allow>, InvalidReason> {
    let names = names.map(|names| Allow::from_names(names.iter().map(String::as_str))).transpose();
    names.map_err(|error| format!("has a field allow that is {error}"))
}

fn filter(json: &RawValue) -> Result<Arc<Filter>, InvalidReason> {
    let filter = Filter::from_json(json.get().as_bytes());
    filter.map(Arc::new).map_err(|error| format!("has a server_tags_filter that is refused: {error}"))
}

/// The bytes of `encoded` in base64, or without it the JSON of `plain`.
fn bytes(
    field: &str,
    encoded: Option<String>,
    plain: Option<RawJson>,
) -> Result<Option<Bytes>, InvalidReason> {
    match encoded.filter(|text| !text.is_empty()) {
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).map_err(|_| format!("has a {field} that is no base64"))?;
            Ok(Some(bytes.into()))
        }
        None => Ok(plain.map(text)),
    }
}

fn text(raw: RawJson) -> Bytes {
    String::from(Box::<str>::from(raw)).into()
}

fn channel(name: &str) -> Result<Channel, InvalidReason> {
    Channel::new(name).map_err(|_| {
        "has an invalid channel name (1 to 255 bytes of UTF-8 without control characters)".into()
    })
}

/// The expiry time; 0 and negative values mean none.
fn expires(at: Option<i64>) -> Option<u64> {
    at.and_then(|at| u64::try_from(at).ok()).filter(|at| *at > 0)
}

/// Truncates to at most [`MAX_REASON`] bytes at the end of a character.
fn truncate(mut reason: String) -> String {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Channel {
        Channel::new(text).expect("a name")
    }

    #[test]
    fn every_field_of_a_connect_result_is_read() {
        let connected = read_connect(
            br#"{"result": {"user": "56", "expire_at": 1565436268, "info": {"n": 1}, "b64data": "/w==", "data": 3,
            "channels": ["a", "b"], "subs": {"b": {"data": [1], "override": {"presence": {"value": true}}, "expire_at": 7,
                "server_tags_filter": {"key": "team", "cmp": "eq", "val": "a"}}},
            "meta": {"role": "admin"}, "something": "new"}}"#,
        );
        let b = Admission {
            data: Some("[1]".into()),
            overrides: ChannelOverrides { presence: Some(true), ..ChannelOverrides::default() },
            filter: Some(Arc::new(
                Filter::from_json(br#"{"key": "team", "cmp": "eq", "val": "a"}"#).expect("a filter"),
            )),
            ..Admission::default()
        };
        let expected = Connected {
            user: "56".into(),
            expires: Some(1_565_436_268),
            info: Some(r#"{"n": 1}"#.into()),
            meta: Some(r#"{"role": "admin"}"#.into()),
            data: Some(Bytes::from_static(&[255])),
            subs: vec![(name("a"), Admission::default()), (name("b"), b)],
            ..Connected::default()
        };
        assert_eq!(connected, Ok(Ok(expected)));
        assert_eq!(read_connect(br#"{"result": {}}"#), Ok(Ok(Connected::default())));
    }

    #[test]
    fn the_permission_to_upload_tables_is_read_from_the_connect_result() {
        for (tables, upload) in [
            (r#"{"upload": true}"#, Ok(Some(true))),
            (r#"{"upload": false}"#, Ok(Some(false))),
            ("{}", Ok(None)),
            ("null", Ok(None)),
            (r#"["its own"]"#, Ok(None)),
            (r#"{"upload": "no"}"#, Err(())),
        ] {
            let json = format!(r#"{{"result": {{"user": "56", "tables": {tables}}}}}"#);
            let read = read_upload(json.as_bytes()).map(|result| result.expect("a permission").1);
            assert_eq!(read.map_err(|_| ()), upload, "{tables}");
        }
    }

    #[test]
    fn an_expiry_time_of_zero_is_none() {
        let allowed = read_subscribe(br#"{"result": {"expire_at": 0, "info": null}}"#);
        assert_eq!(allowed, Ok(Ok(Admission::default())));
    }

    #[test]
    fn an_error_or_a_disconnect_of_the_application_is_passed_on_unchanged() {
        let rejection = Rejection { code: 1000, text: "custom".into(), temporary: true };
        let error = br#"{"error": {"code": 1000, "message": "custom", "temporary": true}, "result": {}}"#;
        assert_eq!(read_publish(error), Ok(Err(Failure::Error(rejection))));
        let disconnect = br#"{"disconnect": {"code": 4501, "reason": "unauthorized"}, "error": {"code": 1}}"#;
        assert_eq!(read_rpc(disconnect), Ok(Err(Failure::Disconnect(4501, "unauthorized".into()))));
        let long = format!(r#"{{"disconnect": {{"code": 4000, "reason": "{}"}}}}"#, "é".repeat(100));
        let truncated = Failure::Disconnect(4000, "é".repeat(61));
        assert_eq!(read_rpc(long.as_bytes()), Ok(Err(truncated)));
    }

    #[test]
    fn only_a_valid_result_is_a_permission() {
        for (json, reason) in [
            ("", "JSON that ends too early"),
            ("<html>", "no JSON"),
            ("[]", "JSON of another shape"),
            ("{}", "none of result, error and disconnect"),
            (r#"{"result": null}"#, "none of result"),
            (r#"{"result": true}"#, "another shape"),
            (r#"{"result": {"b64info": "!"}}"#, "b64info that is no base64"),
            (r#"{"result": {"info": hunter2}}"#, "no JSON"),
            (r#"{"result": {"expire_at": "hunter2"}}"#, "another shape"),
            (r#"{"error": {"message": "no"}}"#, "another shape"),
            (r#"{"error": {"code": 0}}"#, "error code 0"),
            (r#"{"error": {"code": 70000}}"#, "another shape"),
            (r#"{"disconnect": {"code": 1000}}"#, "not from 3000 to 4999"),
            (r#"{"result": {}} {}"#, "no JSON"),
        ] {
            let error = read_subscribe(json.as_bytes()).expect_err(json);
            assert!(error.contains(reason) && !error.contains("hunter2"), "{json}: {error}");
        }
        let wrong =
            read_connect(br#"{"result": {"user": "1", "channels": ["a\tb"]}}"#).expect_err("an invalid name");
        assert!(wrong.contains("invalid channel name"), "{wrong}");
        assert!(read_connect(br#"{"result": {"user": 56}}"#).is_err());
    }

    #[test]
    fn the_application_may_change_a_publication() {
        let changed = AllowedPublish {
            body: Some("{}".into()),
            skip_history: true,
            tags: vec![("a".into(), "b".into())],
            idempotency_key: Some("k".into()),
            delta: true,
        };
        let json =
            br#"{"result": {"data": {}, "skip_history": true, "tags": {"a": "b"}, "idempotency_key": "k", "delta": true}}"#;
        assert_eq!(read_publish(json), Ok(Ok(changed)));
        assert_eq!(read_publish(br#"{"result": {}}"#), Ok(Ok(AllowedPublish::default())));
        assert_eq!(read_publish(br#"{"result": {"version": 0}}"#), Ok(Ok(AllowedPublish::default())));
    }

    #[test]
    fn a_renewal_has_the_next_expiry_or_is_none() {
        let json = br#"{"result": {"expire_at": 7, "info": {"n":1}, "meta": {"m":2}}}"#;
        let (info, meta) = (Some(r#"{"n":1}"#.into()), Some(r#"{"m":2}"#.into()));
        let renewed = Renewal { expires: Some(7), info, meta, ..Renewal::default() };
        assert_eq!(read_renewal(json), Ok(Ok(renewed)));
        let over = Renewal { is_expired: true, ..Renewal::default() };
        for json in [r#"{"result": {"expired": true}}"#, r#"{"result": null}"#, "{}"] {
            assert_eq!(read_renewal(json.as_bytes()), Ok(Ok(over.clone())), "{json}");
        }
        assert_eq!(read_renewal(br#"{"result": {}}"#), Ok(Ok(Renewal::default())));
    }

    #[test]
    fn capabilities_and_labels_are_read_and_invalid_ones_are_no_permission() {
        let caps = r#"[{"channels": ["a"], "allow": ["sub"]}]"#;
        let expected = Capabilities::from_json(caps).ok().map(Arc::new);
        let json = format!(r#"{{"result": {{"caps": {caps}, "labels": {{"tier": "pro"}}}}}}"#);
        let connected = read_connect(json.as_bytes()).expect("JSON").expect("a permission");
        assert_eq!(connected.capabilities, expected);
        assert_eq!(connected.labels.expect("labels").as_slice(), [("tier".to_owned(), "pro".to_owned())]);
        let renewed = |json: &str| read_renewal(json.as_bytes()).expect("JSON").expect("a renewal");
        assert_eq!(renewed(r#"{"result": {}}"#).capabilities, None, "they stay");
        assert_eq!(renewed(r#"{"result": {"caps": []}}"#).capabilities, Some(None), "they end");
        assert_eq!(renewed(&json).capabilities, Some(expected));
        let allowed =
            read_subscribe(br#"{"result": {"allow": ["pub"]}}"#).expect("JSON").expect("a permission");
        assert!(allowed.allow.contains(Allow::PUBLISH) && !allowed.allow.contains(Allow::HISTORY));
        let wrong = read_connect(br#"{"result": {"caps": [{"channels": ["a"], "allow": ["all"]}]}}"#);
        assert!(wrong.expect_err("caps").contains("unknown capability"));
        assert!(read_connect(br#"{"result": {"labels": {"a": 1}}}"#).is_err());
        assert!(read_subscribe(br#"{"result": {"allow": ["all"]}}"#).is_err());
    }

    #[test]
    fn a_version_is_rejected_as_in_the_server_api() {
        let outcome = read_publish(br#"{"result": {"data": 1, "version": 7}}"#).expect("a valid response");
        let Err(Failure::Error(rejection)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((rejection.code, rejection.temporary), (108, false));
        assert!(rejection.text.contains("version"), "{}", rejection.text);
    }

    #[test]
    fn a_sub_without_options_has_those_of_its_channel() {
        let connected = read_connect(br#"{"result": {"user": "56", "subs": {"a": null}}}"#);
        assert_eq!(connected.expect("JSON").expect("a permission").subs, [(name("a"), Admission::default())]);
    }
}
