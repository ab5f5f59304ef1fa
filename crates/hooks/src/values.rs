//! The request for the values of a shared poll, and its response.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_hub::{PollValue, PollValues};

use crate::response::{HookOutcome, InvalidReason};

/// Most values in a response.
const MAX_VALUES: usize = 100_000;

/// The body of the request.
#[derive(Serialize)]
pub(crate) struct ValuesRequest<'a> {
    pub(crate) channel: &'a str,
    pub(crate) items: Vec<RequestedKey<'a>>,
}

#[derive(Serialize)]
pub(crate) struct RequestedKey<'a> {
    pub(crate) key: &'a str,
    /// The version that this node has, where the application numbers the values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
}

impl<'a> ValuesRequest<'a> {
    /// A request for keys, with the versions that this node has if they are `versioned`.
    pub(crate) fn new(channel: &'a str, keys: impl Iterator<Item = (&'a str, u64)>, versioned: bool) -> Self {
        let key = |(key, version)| RequestedKey { key, version: versioned.then_some(version) };
        Self { channel, items: keys.map(key).collect() }
    }
}

#[derive(Deserialize)]
struct ValuesResponse {
    result: Option<ValuesResult>,
    error: Option<ApplicationError>,
}

#[derive(Deserialize)]
struct ApplicationError {
    #[serde(default)]
    code: u64,
}

#[derive(Deserialize)]
struct ValuesResult {
    #[serde(default)]
    epoch: String,
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    key: String,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    removed: bool,
}

/// Reads the response. An error of the application counts as a failure of the request.
pub(crate) fn read_values(json: &[u8]) -> HookOutcome<PollValues> {
    let response: ValuesResponse =
        serde_json::from_slice(json).map_err(|error| crate::response::describe(&error))?;
    if let Some(error) = response.error {
        return Err(format!("is an error with code {}", error.code));
    }
    let result = response.result.ok_or("has neither result nor error")?;
    let items = result.items.unwrap_or_default();
    if items.len() > MAX_VALUES {
        return Err(format!("has more than {MAX_VALUES} values"));
    }
    let items = items.into_iter().map(value).collect::<Result<_, _>>()?;
    Ok(Ok(PollValues { epoch: result.epoch, items }))
}

fn value(item: Item) -> Result<PollValue, InvalidReason> {
    let Item { key, data, b64data, version, removed } = item;
    let data = match b64data.filter(|text| !text.is_empty()) {
        Some(text) => Some(STANDARD.decode(text).map_err(|_| "has b64data that is not base64")?.into()),
        // The box becomes the buffer, without a copy.
        None => data.map(|json| Box::<str>::from(json).into_string().into()),
    };
    Ok(PollValue { key, data, version, removed })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_the_versions_of_keys_only_where_the_application_numbers_values() {
        let request = |versioned| {
            let keys = [("a", 0), ("b", 5)];
            serde_json::to_value(ValuesRequest::new("votes:1", keys.into_iter(), versioned)).expect("JSON")
        };
        let plain = json!({"channel": "votes:1", "items": [{"key": "a"}, {"key": "b"}]});
        assert_eq!(request(false), plain);
        let versioned =
            json!({"channel": "votes:1", "items": [{"key": "a", "version": 0}, {"key": "b", "version": 5}]});
        assert_eq!(request(true), versioned);
    }

    #[test]
    fn values_are_read_with_their_versions_and_an_error_is_a_failure() {
        let values = |text: &str| read_values(text.as_bytes()).map(|outcome| outcome.expect("values"));
        let read = values(
            r#"{"result":{"epoch":"e","items":[{"key":"a","data":{"v": 1},"version":2},{"key":"b","b64data":"AAE="},
               {"key":"c","version":3},{"key":"d","data":null,"removed":true}]}}"#,
        )
        .expect("a response");
        let value = |key: &str, data: Option<&'static [u8]>, version, removed| PollValue {
            key: key.to_owned(),
            data: data.map(bytes::Bytes::from_static),
            version,
            removed,
        };
        let items = vec![
            value("a", Some(b"{\"v\": 1}"), 2, false),
            value("b", Some(&[0, 1]), 0, false),
            value("c", None, 3, false),
            value("d", None, 0, true),
        ];
        assert_eq!(read, PollValues { epoch: "e".to_owned(), items });
        assert_eq!(values(r#"{"result":{}}"#), Ok(PollValues::default()));
        for (text, reason) in [
            (r#"{"error":{"code":1000,"message":"secret"}}"#, "is an error with code 1000"),
            ("{}", "has neither result nor error"),
            (r#"{"result":{"items":[{"key":"a","b64data":"?"}]}}"#, "has b64data that is not base64"),
        ] {
            assert_eq!(values(text), Err(reason.to_owned()));
        }
        assert!(values("no JSON").is_err() && values(r#"{"result":{"items":[{}]}}"#).is_err());
    }
}
