//! Entries of a stream as commands.

use std::fmt;

use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_config::RedisStreamOptions;

use crate::MAX_PARAMS;

/// An entry of a stream.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its id in the stream.
    pub(crate) id: String,
    /// Its fields; empty for an entry that was deleted before it was read.
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The id of an entry, in the order of the stream: milliseconds and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId(u64, u64);

impl EntryId {
    /// Parses an id, `MILLISECONDS-NUMBER`; `None` for another form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        Some(Self(time.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// A command in an entry: its method and its parameters in JSON.
pub(crate) type Command = (String, Bytes);

impl Entry {
    /// Parses an entry of a reply: its id, and its fields and values in turn. `None` for another form.
    pub(crate) fn parse(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        let id = text(parts.next()?)?;
        let fields = match parts.next()? {
            Value::Nil => Vec::new(),
            Value::Array(values) => {
                let mut values = values.into_iter();
                let pair = || Some((bytes(values.next()?)?, bytes(values.next()?)?));
                std::iter::from_fn(pair).collect()
            }
            // RESP3 may use a map.
            Value::Map(pairs) => {
                pairs.into_iter().filter_map(|(name, value)| Some((bytes(name)?, bytes(value)?))).collect()
            }
            _ => return None,
        };
        Some(Self { id, fields })
    }

    /// Bytes of its fields and values.
    pub(crate) fn size(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// A hash of the name of its stream, its fields and its values (FNV-1a with 64 bits, RFC 9923 §2). It distinguishes entries with the same id, which the back
    /// end can choose again after it has deleted the stream.
    pub(crate) fn hash(&self, stream: &str) -> u64 {
        let fields = self.fields.iter().flat_map(|(name, value)| [&**name, &**value]);
        let parts = std::iter::once(stream.as_bytes()).chain(fields);
        let bytes = parts.flat_map(|part| part.len().to_le_bytes().into_iter().chain(part.iter().copied()));
        bytes
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(key, _)| key == name.as_bytes());
        field.map(|(_, value)| &**value).filter(|value| !name.is_empty() && !value.is_empty())
    }

    fn text(&self, name: &str) -> Result<Option<&str>, String> {
        let value = self.field(name).map(std::str::from_utf8).transpose();
        value.map_err(|_| format!("the field {name} is not UTF-8"))
    }

    /// The command of the entry.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn command(&self, options: &RedisStreamOptions) -> Result<Command, String> {
        let name = &options.payload_value;
        let payload = self.field(name).ok_or_else(|| format!("the entry has no field {name}"))?;
        if i64::try_from(payload.len()).is_ok_and(|length| length > MAX_PARAMS) {
            return Err(format!("the payload has {} bytes, more than {MAX_PARAMS}", payload.len()));
        }
        if options.publication_data_mode.enabled {
            return self.publication(payload, options);
        }
        if let Some(method) = self.text(&options.method_value)? {
            return Ok((method.to_owned(), Bytes::copy_from_slice(payload)));
        }
        /// A command in one JSON object.
        #[derive(Deserialize)]
        struct Whole<'a> {
            method: String,
            #[serde(borrow)]
            payload: &'a RawValue,
        }
        let whole: Whole<'_> = serde_json::from_slice(payload).map_err(|error| {
            format!("the payload is not {{\"method\": …, \"payload\": …}}, and there is no field with a method: {error}")
        })?;
        Ok((whole.method, Bytes::copy_from_slice(whole.payload.get().as_bytes())))
    }

    /// A broadcast of the payload.
    fn publication(&self, payload: &[u8], options: &RedisStreamOptions) -> Result<Command, String> {
        let mode = &options.publication_data_mode;
        let channels = self.text(&mode.channels_value)?.unwrap_or_default();
        let channels: Vec<&str> =
            channels.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if channels.is_empty() {
            return Err(format!("the entry has no channels in the field {}", mode.channels_value));
        }
        let is_true = |text: &str| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True");
        let prefix = mode.tags_value_prefix.as_bytes();
        let tags = self.fields.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
            Some((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()))
        });
        /// The request of `broadcast`.
        #[derive(Serialize)]
        struct Broadcast<'a> {
            channels: Vec<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            b64data: Option<String>,
            idempotency_key: &'a str,
            delta: bool,
            tags: std::collections::BTreeMap<String, String>,
        }
        let data = serde_json::from_slice(payload).ok();
        let request = Broadcast {
            channels,
            b64data: data
                .is_none()
                .then(|| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, payload)),
            data,
            idempotency_key: self.text(&mode.idempotency_key_value)?.unwrap_or_default(),
            delta: self.text(&mode.delta_value)?.is_some_and(is_true),
            tags: tags.collect(),
        };
        let request = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
        Ok(("broadcast".to_owned(), request.into()))
    }
}

/// The bytes of a string of Redis.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        _ => None,
    }
}

/// The text of a string of Redis.
pub(super) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use tidings_config::StreamPublicationOptions;

    use super::*;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let string = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = fields.iter().flat_map(|(name, value)| [string(name), string(value)]).collect();
        Entry::parse(Value::Array(vec![string("1-0"), Value::Array(fields)])).expect("an entry")
    }

    fn command(fields: &[(&str, &str)]) -> Result<(String, String), String> {
        let command = entry(fields).command(&RedisStreamOptions::default());
        command.map(|(method, params)| (method, String::from_utf8(params.to_vec()).expect("UTF-8")))
    }

    fn publication(fields: &[(&str, &str)]) -> Result<serde_json::Value, String> {
        let mode = StreamPublicationOptions { enabled: true, ..StreamPublicationOptions::default() };
        let options = RedisStreamOptions { publication_data_mode: mode, ..RedisStreamOptions::default() };
        let (method, params) = entry(fields).command(&options)?;
        assert_eq!(method, "broadcast");
        Ok(serde_json::from_slice(&params).expect("JSON"))
    }

    #[test]
    fn a_command_has_its_method_in_a_field_or_in_the_payload() {
        let expected = Ok(("publish".to_owned(), r#"{"channel": "a"}"#.to_owned()));
        assert_eq!(command(&[("method", "publish"), ("payload", r#"{"channel": "a"}"#)]), expected);
        assert_eq!(command(&[("payload", r#"{"method":"publish","payload":{"channel": "a"}}"#)]), expected);
        for (fields, part) in [
            (&[("method", "publish")][..], "no field payload"),
            (&[("payload", "{}")], "no field with a method"),
            (&[("payload", "x")], "no field with a method"),
            (&[], "no field payload"),
        ] {
            let error = command(fields).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_publication_is_a_broadcast_of_the_payload() {
        let request = publication(&[
            ("payload", r#"{"a":1}"#),
            ("centrifugo-channels", "one, two,"),
            ("centrifugo-idempotency-key", "k"),
            ("centrifugo-delta", "true"),
            ("centrifugo-tag-team", "red"),
            ("other", "x"),
        ]);
        let expected = serde_json::json!({"channels": ["one", "two"], "data": {"a": 1}, "idempotency_key": "k",
            "delta": true, "tags": {"team": "red"}});
        assert_eq!(request, Ok(expected));
        let text = publication(&[("payload", "plain"), ("centrifugo-channels", "one")]).expect("a request");
        assert_eq!(text["b64data"], "cGxhaW4=");
        assert!(publication(&[("payload", "1")]).unwrap_err().contains("no channels"));
    }

    #[test]
    fn entries_with_other_fields_have_other_hashes() {
        let hashes =
            [&[("a", "b")][..], &[("a", "c")], &[("ab", "")], &[("", "ab")], &[("a", "b"), ("", "")], &[]]
                .map(|fields| entry(fields).hash("news"));
        let distinct: std::collections::BTreeSet<_> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        assert_ne!(entry(&[]).hash("news"), entry(&[]).hash("sport"));
    }

    #[test]
    fn ids_are_compared_as_numbers() {
        let id = |text| EntryId::parse(text).expect("an id");
        assert!(id("9-5") < id("10-0") && id("10-9") < id("10-10"));
        assert_eq!(id("10-3").to_string(), "10-3");
        assert_eq!(EntryId::parse("x"), None);
    }

    #[test]
    fn an_entry_that_was_deleted_has_no_command() {
        let deleted = Value::Array(vec![Value::BulkString(b"1-0".to_vec()), Value::Nil]);
        let entry = Entry::parse(deleted).expect("an entry");
        assert!(entry.command(&RedisStreamOptions::default()).is_err());
        assert!(Entry::parse(Value::Nil).is_none());
    }
}
