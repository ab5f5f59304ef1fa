//! Events as receivers get them.

use bytes::Bytes;
use serde_json::{Value, json};
use tidings_config::WebhookEvent;
use tidings_pusher::{SocketId, event_name};
use tidings_wire::{ClientInfo, Publication};

use crate::change::Change;

/// An event of a channel.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A change that the observing node has found.
    Change(&'a Change),
    /// A client has published.
    Published {
        /// The channel, the body and the tags.
        publication: &'a Publication,
        /// The client.
        client: &'a ClientInfo,
    },
    /// A subscriber of this channel has found no last publication.
    CacheMiss(&'a str),
}

/// A body as JSON: parsed, if it is JSON, otherwise as text, or in base64 if it is not UTF-8.
fn body(data: &Bytes) -> Value {
    if let Ok(value) = serde_json::from_slice(data) {
        return value;
    }
    match std::str::from_utf8(data) {
        Ok(text) => text.into(),
        Err(_) => {
            let mut out = Vec::new();
            tidings_wire::body::write_json(data, tidings_wire::body::DataFormat::Binary, &mut out);
            serde_json::from_slice(&out).unwrap_or_default()
        }
    }
}

impl Event<'_> {
    /// The channel's name on the server.
    pub(crate) fn channel(&self) -> &str {
        match self {
            Self::Change(change) => change.channel(),
            Self::Published { publication, .. } => publication.channel.as_str(),
            Self::CacheMiss(channel) => channel,
        }
    }

    pub(crate) fn kind(&self) -> WebhookEvent {
        match self {
            Self::Change(change) => change.event(),
            Self::Published { .. } => WebhookEvent::Published,
            Self::CacheMiss(_) => WebhookEvent::CacheMiss,
        }
    }

    /// The event for receivers of all channels.
    pub(crate) fn json(&self) -> Value {
        let mut event = json!({"event": self.kind().name(), "channel": self.channel()});
        match self {
            Self::Change(Change::Count(_, count)) => event["count"] = (*count).into(),
            Self::Change(Change::Joined(_, user) | Change::Left(_, user)) => event["user"] = (**user).into(),
            Self::Published { publication, client } => {
                event["user"] = (*client.user).into();
                event["client"] = (*client.client).into();
                event["data"] = body(&publication.body);
                let tags = publication.extra.iter().flat_map(|extra| &extra.tags);
                let tags: serde_json::Map<_, _> = tags.map(|(k, v)| (k.clone(), (**v).into())).collect();
                if !tags.is_empty() {
                    event["tags"] = tags.into();
                }
            }
            Self::Change(Change::Occupied(_) | Change::Vacated(_)) | Self::CacheMiss(_) => {}
        }
        event
    }

    /// The event for receivers of an app, with the channel's name for clients ("Webhooks", "Events"). `None` if the Pusher
    /// protocol has no such event: clients of other protocols publish without an event's name.
    pub(crate) fn pusher_json(&self, name: &str) -> Option<Value> {
        let mut event = json!({"name": self.kind().pusher_name(), "channel": name});
        match self {
            Self::Change(Change::Count(_, count)) => event["subscription_count"] = (*count).into(),
            Self::Change(Change::Joined(_, user) | Change::Left(_, user)) => {
                event["user_id"] = (**user).into();
            }
            Self::Published { publication, client } => {
                let tag = publication.extra.iter().flat_map(|extra| &extra.tags).find(|(k, _)| k == "event");
                let sent = event_name(tag.map(|(_, value)| &**value));
                if !sent.starts_with("client-") {
                    return None;
                }
                event["event"] = sent.into();
                event["data"] = String::from_utf8_lossy(&publication.body).into();
                if let Some(socket) = SocketId::from_client(&client.client) {
                    event["socket_id"] = socket.to_string().into();
                }
                let info = client.chan_info.as_ref().filter(|_| name.starts_with("presence-"));
                if let Some(user) = info.and_then(|info| tidings_pusher::user_id(info)) {
                    event["user_id"] = user.into();
                }
            }
            Self::Change(Change::Occupied(_) | Change::Vacated(_)) | Self::CacheMiss(_) => {}
        }
        Some(event)
    }
}
