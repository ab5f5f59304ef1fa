//! Requests with several commands: `batch`, and `POST /api` with one command a line.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidings_keys::Scopes;
use tidings_wire::{Object, code};

use crate::command::{Command, CommandMethod, MAX_COMMANDS};
use crate::error::ApiError;
use crate::fields::{RawJson, list};

/// The request of `batch`.
#[derive(Debug, Deserialize)]
pub struct Batch {
    /// The commands.
    #[serde(default, deserialize_with = "list::<_, _, MAX_COMMANDS>")]
    pub commands: Vec<BatchItem>,
    /// Whether the commands run at the same time.
    #[serde(default)]
    pub parallel: Option<bool>,
}

impl Batch {
    /// Parses a request.
    ///
    /// # Errors
    /// If it is invalid, or has more than [`MAX_COMMANDS`] commands.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json).map(|Object(batch)| batch)
    }

    /// The scopes that a key needs for the commands.
    pub fn scopes(&self) -> Scopes {
        let scope = |item: &BatchItem| match item {
            BatchItem::Command(command) => Some(command.method().scope()),
            BatchItem::Unknown | BatchItem::Several => None,
        };
        self.commands.iter().filter_map(scope).collect()
    }
}

/// A command with its method: `{"method":"publish","params":{…}}`.
#[derive(Debug, Deserialize)]
pub struct Envelope {
    /// The number of the command, which its reply repeats; 0 for none.
    #[serde(default)]
    pub id: u64,
    #[serde(default)]
    method: String,
    #[serde(default)]
    params: Option<RawJson>,
}

impl Envelope {
    /// Parses one or more commands, usually one a line.
    ///
    /// # Errors
    /// If there is none, more than [`MAX_COMMANDS`], or an invalid one.
    pub fn parse(json: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        let too_many = || serde::de::Error::custom(format_args!("more than {MAX_COMMANDS} commands"));
        let mut envelopes = Vec::new();
        for envelope in serde_json::Deserializer::from_slice(json).into_iter() {
            if envelopes.len() == MAX_COMMANDS {
                return Err(too_many());
            }
            let Object(envelope) = envelope?;
            envelopes.push(envelope);
        }
        if envelopes.is_empty() {
            return Err(serde::de::Error::custom("no command"));
        }
        Ok(envelopes)
    }

    /// The scopes that a key needs for the commands.
    pub fn scopes(envelopes: &[Self]) -> Scopes {
        let method = |envelope: &Self| CommandMethod::from_name(&envelope.method);
        envelopes.iter().filter_map(method).map(CommandMethod::scope).collect()
    }

    /// The command.
    ///
    /// # Errors
    /// If the method is unknown, or the parameters are not its fields.
    pub fn command(&self) -> Result<Command, ApiError> {
        let params = self.params.as_deref().unwrap_or(RawValue::NULL).get();
        let params = if params == "null" { "{}" } else { params };
        let method = CommandMethod::from_name(&self.method).ok_or(code::METHOD_NOT_FOUND)?;
        Command::parse(method, params.as_bytes()).map_err(ApiError::bad_request)
    }
}

/// An item of a batch: `{"METHOD":{…}}`.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all items are commands")]
pub enum BatchItem {
    /// One command.
    Command(Command),
    /// An object without a known method.
    Unknown,
    /// More than one command in one object.
    Several,
}

impl<'de> Deserialize<'de> for BatchItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = BatchItem;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a method")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BatchItem, A::Error> {
                let mut item = BatchItem::Unknown;
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    let Some(method) = CommandMethod::from_name(&key) else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    };
                    if let Some(command) = Command::next_value(method, &mut map)? {
                        item = match item {
                            BatchItem::Unknown => BatchItem::Command(command),
                            _ => BatchItem::Several,
                        };
                    }
                }
                Ok(item)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
