//! What the application answers, as JSON, and what that means.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::value::{RawValue, Value};
use tidings_hub::{Admission, ChannelOverrides, Connected, Failure, Rejection};
use tidings_wire::{Channel, code};

/// Longest reason of a disconnect in bytes: what a close frame takes (RFC 6455 §5.5), without its code.
const MAX_REASON: usize = 123;

/// Why an answer says nothing. Completes a sentence whose subject is the answer, and repeats nothing of it.
pub(super) type Complaint = String;

/// What is to be published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// This, instead of what the client sent.
    pub body: Option<Bytes>,
    /// Without keeping it in the channel's history.
    pub skip_history: bool,
    /// With these tags.
    pub tags: Vec<(String, String)>,
    /// Once only under this key.
    pub idempotency_key: Option<String>,
}

/// Any answer: one of the three.
#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
    error: Option<CustomError>,
    disconnect: Option<Disconnect>,
}

#[derive(Deserialize)]
struct CustomError {
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct Disconnect {
    code: u16,
    #[serde(default)]
    reason: String,
}

type Raw = Option<Box<RawValue>>;

#[derive(Deserialize)]
struct ConnectResult {
    #[serde(default)]
    user: String,
    expire_at: Option<i64>,
    info: Raw,
    b64info: Option<String>,
    data: Raw,
    b64data: Option<String>,
    channels: Option<Vec<String>>,
    subs: Option<BTreeMap<String, Option<SubscribeResult>>>,
    meta: Raw,
    tables: Option<Value>,
}

#[derive(Deserialize)]
struct SubscribeResult {
    expire_at: Option<i64>,
    info: Raw,
    b64info: Option<String>,
    data: Raw,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<Switches>,
}

#[derive(Default, Deserialize)]
struct Switches {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_push_join_leave: Option<Switch>,
    force_recovery: Option<Switch>,
    force_positioning: Option<Switch>,
}

#[derive(Deserialize)]
struct Switch {
    #[serde(default)]
    value: bool,
}

#[derive(Deserialize)]
struct PublishResult {
    data: Raw,
    b64data: Option<String>,
    #[serde(default)]
    skip_history: bool,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    version: Option<u64>,
}

#[derive(Deserialize)]
struct RpcResult {
    data: Raw,
    b64data: Option<String>,
}

/// The outcome of a question: what is allowed, or why nothing is, in the application's words.
pub(super) type Outcome<T> = Result<Result<T, Failure>, Complaint>;

/// Reads the answer to `connect`.
pub(super) fn connected(json: &[u8]) -> Outcome<Connected> {
    read(json, connection)
}

/// Reads the same answer, with whether the client may upload tables where it says so (`tables.upload`).
pub(super) fn uploader(json: &[u8]) -> Outcome<(Connected, Option<bool>)> {
    read(json, |mut result: ConnectResult| {
        let upload = match result.tables.take().as_ref().and_then(|tables| tables.get("upload")) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(upload)) => Some(*upload),
            Some(_) => return Err("has tables whose upload is neither true nor false".into()),
        };
        Ok((connection(result)?, upload))
    })
}

fn connection(result: ConnectResult) -> Result<Connected, Complaint> {
    let mut subs: BTreeMap<Channel, Admission> = BTreeMap::new();
    for name in result.channels.unwrap_or_default() {
        subs.insert(channel(&name)?, Admission::default());
    }
    for (name, options) in result.subs.unwrap_or_default() {
        // A subscription that the server makes ends with the connection.
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
        since: 0,
    })
}

/// Reads the answer to `subscribe`.
pub(super) fn allowed(json: &[u8]) -> Outcome<Admission> {
    read(json, admission)
}

/// Reads the answer to `publish`.
pub(super) fn publish(json: &[u8]) -> Outcome<Publish> {
    let published = read(json, |result: PublishResult| {
        if result.version.is_some_and(|version| version > 0) {
            // As in the server API: to publish it all the same would show an older state than subscribers have.
            let text = format!("{}: version", code::NOT_AVAILABLE.text);
            return Ok(Err(Rejection { text, ..code::NOT_AVAILABLE.into() }.into()));
        }
        Ok(Ok(Publish {
            body: bytes("b64data", result.b64data, result.data)?,
            skip_history: result.skip_history,
            tags: result.tags.unwrap_or_default().into_iter().collect(),
            idempotency_key: result.idempotency_key.filter(|key| !key.is_empty()),
        }))
    });
    published.map(Result::flatten)
}

/// Reads the answer to `rpc`.
pub(super) fn replied(json: &[u8]) -> Outcome<Option<Bytes>> {
    read(json, |result: RpcResult| bytes("b64data", result.b64data, result.data))
}

fn read<T: DeserializeOwned, A>(
    json: &[u8],
    understand: impl FnOnce(T) -> Result<A, Complaint>,
) -> Outcome<A> {
    let answer: Answer<T> = serde_json::from_slice(json).map_err(|error| {
        let sort = match error.classify() {
            Category::Eof => "is JSON that ends too early",
            Category::Data => "is JSON of another shape",
            _ => "is no JSON",
        };
        format!("{sort} (line {} column {})", error.line(), error.column())
    })?;
    if let Some(Disconnect { code, reason }) = answer.disconnect {
        // Codes of the protocol and of applications; others cannot be sent in a close frame (RFC 6455 §7.4.2).
        if !(3000..=4999).contains(&code) {
            return Err(format!("has the disconnect code {code}, which is not from 3000 to 4999"));
        }
        return Ok(Err(Failure::Disconnect(code, cut(reason))));
    }
    if let Some(CustomError { code, message, temporary }) = answer.error {
        if code == 0 {
            return Err("has the error code 0".into());
        }
        return Ok(Err(Failure::Error(Rejection { code, text: message, temporary })));
    }
    // An empty object may be anybody's; it is no permission.
    let result = answer.result.ok_or("has none of result, error and disconnect")?;
    understand(result).map(Ok)
}

fn admission(result: SubscribeResult) -> Result<Admission, Complaint> {
    let Switches { presence, join_leave, force_push_join_leave, force_recovery, force_positioning } =
        result.overrides.unwrap_or_default();
    let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
    Ok(Admission {
        info: bytes("b64info", result.b64info, result.info)?,
        data: bytes("b64data", result.b64data, result.data)?,
        expires: expires(result.expire_at),
        overrides: ChannelOverrides {
            presence: value(presence),
            join_leave: value(join_leave),
            force_push_join_leave: value(force_push_join_leave),
            force_recovery: value(force_recovery),
            force_positioning: value(force_positioning),
        },
        token: None,
    })
}

/// The bytes that `encoded` holds in base64, else the JSON of `plain`.
fn bytes(field: &str, encoded: Option<String>, plain: Raw) -> Result<Option<Bytes>, Complaint> {
    match encoded.filter(|text| !text.is_empty()) {
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).map_err(|_| format!("has a {field} that is no base64"))?;
            Ok(Some(bytes.into()))
        }
        None => Ok(plain.map(text)),
    }
}

fn text(raw: Box<RawValue>) -> Bytes {
    String::from(Box::<str>::from(raw)).into()
}

fn channel(name: &str) -> Result<Channel, Complaint> {
    Channel::new(name).map_err(|_| {
        "names a channel that is none (1 to 255 bytes of UTF-8 without control characters)".into()
    })
}

/// 0 is never.
fn expires(at: Option<i64>) -> Option<u64> {
    at.and_then(|at| u64::try_from(at).ok()).filter(|at| *at > 0)
}

/// At most [`MAX_REASON`] bytes, and whole characters.
fn cut(mut reason: String) -> String {
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
    fn a_connection_is_what_the_application_says() {
        let connected = connected(
            br#"{"result": {"user": "56", "expire_at": 1565436268, "info": {"n": 1}, "b64data": "/w==", "data": 3,
            "channels": ["a", "b"], "subs": {"b": {"data": [1], "override": {"presence": {"value": true}}, "expire_at": 7}},
            "meta": {"role": "admin"}, "something": "new"}}"#,
        );
        let b = Admission {
            data: Some("[1]".into()),
            overrides: ChannelOverrides { presence: Some(true), ..ChannelOverrides::default() },
            ..Admission::default()
        };
        let expected = Connected {
            user: "56".into(),
            expires: Some(1_565_436_268),
            info: Some(r#"{"n": 1}"#.into()),
            meta: Some(r#"{"role": "admin"}"#.into()),
            data: Some(Bytes::from_static(&[255])),
            subs: vec![(name("a"), Admission::default()), (name("b"), b)],
            token: None,
            since: 0,
        };
        assert_eq!(connected, Ok(Ok(expected)));
        assert_eq!(super::connected(br#"{"result": {}}"#), Ok(Ok(Connected::default())));
    }

    #[test]
    fn the_application_says_who_may_upload_tables() {
        for (tables, upload) in [
            (r#"{"upload": true}"#, Ok(Some(true))),
            (r#"{"upload": false}"#, Ok(Some(false))),
            ("{}", Ok(None)),
            ("null", Ok(None)),
            (r#"["its own"]"#, Ok(None)),
            (r#"{"upload": "no"}"#, Err(())),
        ] {
            let json = format!(r#"{{"result": {{"user": "56", "tables": {tables}}}}}"#);
            let read = uploader(json.as_bytes()).map(|answer| answer.expect("a yes").1);
            assert_eq!(read.map_err(|_| ()), upload, "{tables}");
        }
    }

    #[test]
    fn a_time_of_zero_is_none() {
        let allowed = allowed(br#"{"result": {"expire_at": 0, "info": null}}"#);
        assert_eq!(allowed, Ok(Ok(Admission::default())));
    }

    #[test]
    fn an_error_or_a_disconnect_is_passed_on_as_it_is() {
        let verdict = Rejection { code: 1000, text: "custom".into(), temporary: true };
        let error = br#"{"error": {"code": 1000, "message": "custom", "temporary": true}, "result": {}}"#;
        assert_eq!(publish(error), Ok(Err(Failure::Error(verdict))));
        let disconnect = br#"{"disconnect": {"code": 4501, "reason": "unauthorized"}, "error": {"code": 1}}"#;
        assert_eq!(replied(disconnect), Ok(Err(Failure::Disconnect(4501, "unauthorized".into()))));
        let long = format!(r#"{{"disconnect": {{"code": 4000, "reason": "{}"}}}}"#, "é".repeat(100));
        let cut = Failure::Disconnect(4000, "é".repeat(61));
        assert_eq!(replied(long.as_bytes()), Ok(Err(cut)));
    }

    #[test]
    fn nothing_but_a_result_is_a_yes() {
        for (json, complaint) in [
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
            let error = allowed(json.as_bytes()).expect_err(json);
            assert!(error.contains(complaint) && !error.contains("hunter2"), "{json}: {error}");
        }
        let wrong = connected(br#"{"result": {"user": "1", "channels": ["a\tb"]}}"#).expect_err("no channel");
        assert!(wrong.contains("names a channel that is none"), "{wrong}");
        assert!(connected(br#"{"result": {"user": 56}}"#).is_err());
    }

    #[test]
    fn a_publication_may_be_changed() {
        let changed = Publish {
            body: Some("{}".into()),
            skip_history: true,
            tags: vec![("a".into(), "b".into())],
            idempotency_key: Some("k".into()),
        };
        let json =
            br#"{"result": {"data": {}, "skip_history": true, "tags": {"a": "b"}, "idempotency_key": "k"}}"#;
        assert_eq!(publish(json), Ok(Ok(changed)));
        assert_eq!(publish(br#"{"result": {}}"#), Ok(Ok(Publish::default())));
        assert_eq!(publish(br#"{"result": {"version": 0}}"#), Ok(Ok(Publish::default())));
    }

    #[test]
    fn a_version_is_refused_as_in_the_server_api() {
        let refused = publish(br#"{"result": {"data": 1, "version": 7}}"#).expect("understood");
        let Err(Failure::Error(verdict)) = refused else { panic!("{refused:?}") };
        assert_eq!((verdict.code, verdict.temporary), (108, false));
        assert!(verdict.text.contains("version"), "{}", verdict.text);
    }

    #[test]
    fn a_sub_without_options_is_one_with_those_of_its_channel() {
        let connected = connected(br#"{"result": {"user": "56", "subs": {"a": null}}}"#);
        assert_eq!(connected.expect("JSON").expect("a yes").subs, [(name("a"), Admission::default())]);
    }
}
