//! Requests of the HTTP API with events.

use serde::Deserialize;
use thiserror::Error;

use crate::channel::{MAX_USER_ID, SERVER_TO_USER, check_channel, check_event, check_user_id};
use crate::socket::SocketId;

/// Most channels of one event.
const MAX_CHANNELS: usize = 100;
/// Most events of a batch.
const MAX_BATCH: usize = 10;

/// Why a request is not valid; the text of the response.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// The body is no JSON of the expected form.
    #[error("the body is not valid: {0}")]
    Body(String),
    /// A name.
    #[error("{0}: {1:?}")]
    Name(crate::NameError, String),
    /// There is no channel.
    #[error("an event needs a channel: channel, or channels with 1 to {MAX_CHANNELS} names")]
    NoChannel,
    /// There are too many channels.
    #[error("{0} channels are more than {MAX_CHANNELS}, the limit of an event")]
    TooManyChannels(usize),
    /// There are too many events.
    #[error("{0} events are more than {MAX_BATCH}, the limit of a batch")]
    TooManyEvents(usize),
    /// The data is too large.
    #[error("the data of the event has {0} bytes, more than {1} (pusher.apps limits.event_size)")]
    TooLarge(usize, usize),
    /// The socket id is not valid.
    #[error("socket_id is not the id of a connection: {0:?}")]
    SocketId(String),
    /// Encrypted data belongs to one channel.
    #[error("an event of an encrypted channel has no other channels")]
    Encrypted,
    /// The info is unknown.
    #[error("info may contain user_count, subscription_count and cache, not {0:?}")]
    Info(String),
    /// The number of users was requested for a channel that has none.
    #[error("user_count is available for presence channels only")]
    NoUsers,
}

impl RequestError {
    /// The status of the response.
    pub fn status(&self) -> u16 {
        if matches!(self, Self::TooLarge(..)) { 413 } else { 400 }
    }
}

/// An event for channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name.
    pub name: String,
    /// The data.
    pub data: String,
    /// The channels, by the names that clients use.
    pub channels: Vec<String>,
    /// The connection that does not get it.
    pub except: Option<SocketId>,
    /// The requested information about the channels, separated by commas.
    pub info: String,
}

/// The body of `POST /apps/{id}/events`.
#[derive(Debug, Deserialize)]
pub struct EventRequest {
    name: String,
    data: Data,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    socket_id: Option<String>,
    #[serde(default)]
    info: Option<String>,
}

/// The body of `POST /apps/{id}/batch_events`.
#[derive(Debug, Deserialize)]
pub struct EventBatch {
    batch: Vec<EventRequest>,
}

/// The events of a batch.
pub type Batch = Vec<Event>;

/// The data of an event: a text, or JSON, which is sent as its text.
#[derive(Debug)]
struct Data(String);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        let json = raw.get();
        if json.starts_with('"') {
            return serde_json::from_str(json).map(Self).map_err(serde::de::Error::custom);
        }
        Ok(Self(json.to_owned()))
    }
}

impl EventRequest {
    /// Parses the body of a request with one event, whose data has `max_data` bytes at most.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(body: &[u8], max_data: usize) -> Result<Event, RequestError> {
        let request: Self =
            serde_json::from_slice(body).map_err(|error| RequestError::Body(error.to_string()))?;
        request.check(max_data)
    }

    fn check(self, max_data: usize) -> Result<Event, RequestError> {
        let Self { name, data: Data(data), channel, channels, socket_id, info } = self;
        check_event(&name).map_err(|error| RequestError::Name(error, shown(&name)))?;
        let channels = match channels {
            Some(channels) => channels,
            None => channel.into_iter().collect(),
        };
        if channels.is_empty() {
            return Err(RequestError::NoChannel);
        }
        if channels.len() > MAX_CHANNELS {
            return Err(RequestError::TooManyChannels(channels.len()));
        }
        for channel in &channels {
            check_target(channel)?;
        }
        if channels.len() > 1 && channels.iter().any(|channel| channel.starts_with("private-encrypted-")) {
            return Err(RequestError::Encrypted);
        }
        if data.len() > max_data {
            return Err(RequestError::TooLarge(data.len(), max_data));
        }
        let except = match socket_id.filter(|id| !id.is_empty()) {
            None => None,
            Some(id) => Some(id.parse().map_err(|_| RequestError::SocketId(shown(&id)))?),
        };
        Ok(Event { name, data, channels, except, info: info.unwrap_or_default() })
    }
}

impl EventBatch {
    /// Parses the body of a request with a batch of events.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(body: &[u8], max_data: usize) -> Result<Batch, RequestError> {
        let request: Self =
            serde_json::from_slice(body).map_err(|error| RequestError::Body(error.to_string()))?;
        if request.batch.len() > MAX_BATCH {
            return Err(RequestError::TooManyEvents(request.batch.len()));
        }
        request.batch.into_iter().map(|event| event.check(max_data)).collect()
    }
}

/// Checks the name of a channel for an event: one of the app's channels, or the channel of a user.
fn check_target(name: &str) -> Result<(), RequestError> {
    let checked = match name.strip_prefix(SERVER_TO_USER) {
        Some(user) => check_user_id(user),
        None => check_channel(name),
    };
    checked.map_err(|error| RequestError::Name(error, shown(name)))
}

/// The beginning of a text for an error.
fn shown(text: &str) -> String {
    text.chars().take(MAX_USER_ID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Event, RequestError> {
        EventRequest::parse(body.as_bytes(), 20)
    }

    #[test]
    fn an_event_has_a_name_data_and_channels() {
        let event = parse(
            r##"{"name":"a","data":"{\"x\":1}","channels":["b","#server-to-user-u 1"],"socket_id":"1.2"}"##,
        );
        let event = event.unwrap();
        assert_eq!(event.data, "{\"x\":1}");
        assert_eq!(event.channels, ["b", "#server-to-user-u 1"]);
        assert_eq!(event.except.unwrap().to_string(), "1.2");
        let event = parse(r#"{"name":"a","data":{"x":1},"channel":"b","info":"user_count"}"#).unwrap();
        assert_eq!((&*event.data, &*event.info, event.channels.len()), ("{\"x\":1}", "user_count", 1));
    }

    #[test]
    fn a_request_beyond_a_limit_is_refused_with_the_limit() {
        let many: Vec<_> = (0..101).map(|n| format!("\"c{n}\"")).collect();
        let cases = [
            (r#"{"name":"","data":"","channel":"b"}"#.to_owned(), 400),
            (r#"{"name":"pusher:x","data":"","channel":"b"}"#.to_owned(), 400),
            (r#"{"name":"a","data":"","channel":"b c"}"#.to_owned(), 400),
            (r#"{"name":"a","data":"","channels":[]}"#.to_owned(), 400),
            (r#"{"name":"a","data":""}"#.to_owned(), 400),
            (r#"{"name":"a","channel":"b"}"#.to_owned(), 400),
            (r#"{"name":"a","data":"","channel":"b","socket_id":"x"}"#.to_owned(), 400),
            (r#"{"name":"a","data":"","channels":["b","private-encrypted-c"]}"#.to_owned(), 400),
            (format!(r#"{{"name":"a","data":"","channels":[{}]}}"#, many.join(",")), 400),
            (format!(r#"{{"name":"a","data":"{}","channel":"b"}}"#, "x".repeat(21)), 413),
        ];
        for (body, status) in cases {
            assert_eq!(parse(&body).unwrap_err().status(), status, "{body}");
        }
        assert_eq!(
            parse(&format!(r#"{{"name":"a","data":"{}","channel":"b"}}"#, "x".repeat(21)))
                .unwrap_err()
                .to_string(),
            "the data of the event has 21 bytes, more than 20 (pusher.apps limits.event_size)"
        );
    }

    #[test]
    fn a_batch_has_ten_events_at_most() {
        let batch = |count| {
            let events = vec![r#"{"name":"a","data":"","channel":"b"}"#; count];
            EventBatch::parse(format!("{{\"batch\":[{}]}}", events.join(",")).as_bytes(), 10)
        };
        assert_eq!(batch(10).unwrap().len(), 10);
        assert_eq!(batch(11), Err(RequestError::TooManyEvents(11)));
    }
}
