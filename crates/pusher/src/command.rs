//! Messages of clients.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a message is not valid.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It is no JSON object with an `event`.
    #[error("a message must be a JSON object with an event")]
    Invalid,
    /// The `data` of an event is not valid.
    #[error("the data of {0} is not valid: expected an object with {1}")]
    Data(&'static str, &'static str),
    /// The event is unknown.
    #[error("the event {0} is unknown")]
    Unknown(String),
}

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `pusher:ping`.
    Ping,
    /// `pusher:pong`.
    Pong,
    /// `pusher:subscribe`.
    Subscribe(Subscribe<'a>),
    /// `pusher:unsubscribe` from this channel.
    Unsubscribe(Cow<'a, str>),
    /// `pusher:signin`.
    SignIn(SignIn<'a>),
    /// An event for the other subscribers of a channel, with a name that begins with `client-`.
    ClientEvent {
        /// The name.
        event: Cow<'a, str>,
        /// The channel; empty without one.
        channel: Cow<'a, str>,
        /// The data: the content of a text, other values as JSON.
        data: Cow<'a, str>,
    },
}

/// The data of `pusher:subscribe`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The channel.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// `key:signature`, for channels that are not public.
    #[serde(borrow, default)]
    pub auth: Option<Cow<'a, str>>,
    /// The member of a presence channel, as JSON.
    #[serde(borrow, default)]
    pub channel_data: Option<Cow<'a, str>>,
}

/// The data of `pusher:signin`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct SignIn<'a> {
    /// `key:signature`.
    #[serde(borrow)]
    pub auth: Cow<'a, str>,
    /// The user, as JSON with an `id`.
    #[serde(borrow)]
    pub user_data: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Unsubscribe<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Parses a message.
///
/// # Errors
/// [`CommandError`].
pub fn parse(message: &[u8]) -> Result<Command<'_>, CommandError> {
    let message: Message<'_> = serde_json::from_slice(message).map_err(|_| CommandError::Invalid)?;
    let data = message.data.map_or("{}", RawValue::get);
    match &*message.event {
        "pusher:ping" => Ok(Command::Ping),
        "pusher:pong" => Ok(Command::Pong),
        "pusher:subscribe" => {
            let error =
                || CommandError::Data("pusher:subscribe", "a channel, and auth and channel_data as texts");
            serde_json::from_str(data).map(Command::Subscribe).map_err(|_| error())
        }
        "pusher:unsubscribe" => {
            let parsed: Unsubscribe<'_> = serde_json::from_str(data)
                .map_err(|_| CommandError::Data("pusher:unsubscribe", "a channel"))?;
            Ok(Command::Unsubscribe(parsed.channel))
        }
        "pusher:signin" => serde_json::from_str(data)
            .map(Command::SignIn)
            .map_err(|_| CommandError::Data("pusher:signin", "auth and user_data as texts")),
        event if event.starts_with("client-") => {
            let data = match message.data.map(RawValue::get) {
                None => Cow::Borrowed("null"),
                Some(text) if text.starts_with('"') => {
                    let text: Text<'_> = serde_json::from_str(text).map_err(|_| CommandError::Invalid)?;
                    text.0
                }
                Some(json) => Cow::Borrowed(json),
            };
            let channel = message.channel.unwrap_or_default();
            Ok(Command::ClientEvent { event: message.event, channel, data })
        }
        event => Err(CommandError::Unknown(event.chars().take(64).collect())),
    }
}

/// A text, borrowed where it contains no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_clients_are_read() {
        assert_eq!(parse(br#"{"event":"pusher:ping","data":{}}"#).unwrap(), Command::Ping);
        assert_eq!(parse(br#"{"data":"{}","event":"pusher:pong"}"#).unwrap(), Command::Pong);
        let subscribe = br#"{"event":"pusher:subscribe","data":{"auth":"k:s","channel_data":"{\"user_id\":1}","channel":"presence-a"}}"#;
        let expected = Subscribe {
            channel: "presence-a".into(),
            auth: Some("k:s".into()),
            channel_data: Some("{\"user_id\":1}".into()),
        };
        assert_eq!(parse(subscribe).unwrap(), Command::Subscribe(expected));
        let unsubscribe = br#"{"event":"pusher:unsubscribe","data":{"channel":"a"}}"#;
        assert_eq!(parse(unsubscribe).unwrap(), Command::Unsubscribe("a".into()));
        let signin = br#"{"event":"pusher:signin","data":{"auth":"k:s","user_data":"{}"}}"#;
        assert_eq!(
            parse(signin).unwrap(),
            Command::SignIn(SignIn { auth: "k:s".into(), user_data: "{}".into() })
        );
    }

    #[test]
    fn the_data_of_a_client_event_is_a_text_or_json() {
        for (json, data) in
            [(r#"{"a": 1}"#, r#"{"a": 1}"#), (r#""a\"b""#, "a\"b"), ("17", "17"), ("null", "null")]
        {
            let message = format!(r#"{{"event":"client-x","channel":"private-a","data":{json}}}"#);
            let Ok(Command::ClientEvent { event, channel, data: got }) = parse(message.as_bytes()) else {
                panic!("{json}");
            };
            assert_eq!((&*event, &*channel, &*got), ("client-x", "private-a", data));
        }
    }

    #[test]
    fn an_error_says_what_was_expected() {
        for message in ["", "[]", "{}", "{\"event\":1}", "{\"event\":\"client-x\",\"data\":"] {
            assert!(matches!(parse(message.as_bytes()), Err(CommandError::Invalid)), "{message}");
        }
        let error = parse(br#"{"event":"pusher:subscribe","data":{}}"#).unwrap_err().to_string();
        assert_eq!(
            error,
            "the data of pusher:subscribe is not valid: expected an object with a channel, and auth and channel_data as texts"
        );
        let unknown = format!("{{\"event\":\"{}\"}}", "é".repeat(100));
        assert_eq!(
            parse(unknown.as_bytes()).unwrap_err().to_string(),
            format!("the event {} is unknown", "é".repeat(64))
        );
    }
}
