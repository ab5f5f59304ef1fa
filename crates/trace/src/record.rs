//! Events of traces, and their form in JSON.

use serde::Serialize;

/// Most bytes of a text in an event; the rest is left out.
pub const MAX_TEXT: usize = 512;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// A client has connected.
    Connected,
    /// The connection of a client has ended.
    Disconnected,
    /// A client has subscribed.
    Subscribed,
    /// A subscription has ended.
    Unsubscribed,
    /// A client has sent a publication.
    Publish,
    /// The broker has delivered a publication.
    Publication,
    /// A command of a client has failed.
    Error,
    /// Events were left out because the reader was too slow.
    Dropped,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent<'a> {
    /// What has happened.
    pub kind: TraceKind,
    /// The user; `None` for an anonymous one.
    pub user: Option<&'a str>,
    /// The id of the client.
    pub client: Option<&'a str>,
    /// The protocol of the client.
    pub protocol: Option<&'a str>,
    /// The channel.
    pub channel: Option<&'a str>,
    /// The code of an error or of an end.
    pub code: Option<u16>,
    /// The reason.
    pub reason: Option<&'a str>,
    /// Bytes of the data of a publication.
    pub bytes: Option<usize>,
    /// The offset of a publication in the history.
    pub offset: Option<u64>,
    /// The number of events that were left out.
    pub count: Option<u64>,
}

impl TraceEvent<'_> {
    /// An event without details.
    pub fn new(kind: TraceKind) -> Self {
        Self {
            kind,
            user: None,
            client: None,
            protocol: None,
            channel: None,
            code: None,
            reason: None,
            bytes: None,
            offset: None,
            count: None,
        }
    }

    /// The event as one line of JSON, at this time in Unix milliseconds.
    pub(crate) fn to_line(self, time: u64) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            time: u64,
            event: TraceKind,
            #[serde(skip_serializing_if = "Option::is_none")]
            user: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            client: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            protocol: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            channel: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            bytes: Option<usize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            offset: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            count: Option<u64>,
        }
        let line = Line {
            time,
            event: self.kind,
            user: self.user.map(cut),
            client: self.client,
            protocol: self.protocol,
            channel: self.channel.map(cut),
            code: self.code,
            reason: self.reason.map(cut),
            bytes: self.bytes,
            offset: self.offset,
            count: self.count,
        };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The beginning of a text, at most [`MAX_TEXT`] bytes of it.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_without_absent_fields_and_with_bounded_texts() {
        let long = "ü\n".repeat(1_000);
        let event =
            TraceEvent { code: Some(3501), reason: Some(&long), ..TraceEvent::new(TraceKind::Disconnected) };
        let line = event.to_line(7);
        assert!(line.ends_with("}\n") && line.lines().count() == 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&value["time"], &value["event"], &value["code"]),
            (&7.into(), &"disconnected".into(), &3501.into())
        );
        assert!(value.get("user").is_none());
        assert!(value["reason"].as_str().is_some_and(|text| text.len() <= MAX_TEXT));
    }
}
