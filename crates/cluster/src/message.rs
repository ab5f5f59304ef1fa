//! Messages between nodes, as JSON: `{"say":{KIND:…}}`. The sender is authenticated by [`super::sealing`].
//!
//! Nodes of different versions run side by side during a rolling update: unknown fields are skipped, and a message of an
//! unknown kind is ignored. Bytes are encoded in base64, because Protobuf clients send binary data.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use tidings_hub::{Admission, ChannelOverrides, Directive, Order};
use tidings_wire::channel::ChannelError;
use tidings_wire::{Channel, Epoch, Position};

use super::NodeInfo;
use crate::blocklist::BlocklistChange;

/// A message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    #[serde(rename = "say")]
    pub(super) payload: Payload,
}

/// The kinds of messages. The names in JSON are those of earlier versions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Payload {
    /// To all nodes: announces the sender.
    Node(NodeInfo),
    /// To all nodes: the sender leaves.
    #[serde(rename = "gone")]
    Leave {},
    /// To all nodes: an order to sessions.
    Order(WireDirective),
    /// To all nodes: a user or token is blocked, or unblocked.
    Blocklist(BlocklistChange),
    /// To one node: commands of one of its sessions, received by the sender.
    Input {
        /// The session's secret.
        session: String,
        /// One frame of commands, in the session's encoding.
        data: Base64Bytes,
    },
    /// To all nodes: requests the list of channels.
    #[serde(rename = "ask")]
    ChannelsRequest {
        /// Returned with the response.
        id: u64,
        /// The pattern of the channels; all channels without one.
        pattern: Option<String>,
    },
    /// To one node: the list of channels.
    #[serde(rename = "answer")]
    ChannelsResponse {
        /// The id of the request.
        id: u64,
        /// Channels and their numbers of subscribers; `None` when the list is too long.
        channels: Option<BTreeMap<String, u64>>,
    },
}

impl Message {
    /// Parses a message.
    ///
    /// # Errors
    /// If the body is not JSON of a known kind.
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// Encodes the message.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and plain values")
    }
}

/// Bytes that are a base64 string in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base64Bytes(pub(super) Bytes);

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

/// A [`Directive`] as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WireDirective {
    user: String,
    client: Option<String>,
    session: Option<String>,
    order: WireOrder,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireOrder {
    Subscribe {
        channel: String,
        info: Option<Base64Bytes>,
        data: Option<Base64Bytes>,
        expires: Option<u64>,
        presence: Option<bool>,
        join_leave: Option<bool>,
        force_push_join_leave: Option<bool>,
        force_recovery: Option<bool>,
        force_positioning: Option<bool>,
        since: Option<(u64, String)>,
    },
    Unsubscribe {
        channel: Option<String>,
        code: u16,
        reason: String,
    },
    Disconnect {
        code: u16,
        reason: String,
        except: Vec<String>,
    },
    Replace {
        client: String,
        since: u64,
    },
    EndTokens {
        id: Option<String>,
        issued_before: Option<u64>,
        code: u16,
        reason: String,
    },
    Refresh {
        expired: bool,
        expires: Option<u64>,
    },
}

/// A directive with an invalid channel name.
#[derive(Debug, Error)]
#[error("a directive with an invalid channel name: {0}")]
pub(super) struct InvalidDirective(#[from] ChannelError);

impl From<&Directive> for WireDirective {
    fn from(directive: &Directive) -> Self {
        let order = match &directive.order {
            Order::Subscribe { channel, admission, since } => {
                // A subscription that the application orders has no token.
                let Admission { info, data, expires, overrides, token: _ } = &**admission;
                let ChannelOverrides {
                    presence,
                    join_leave,
                    force_push_join_leave,
                    force_recovery,
                    force_positioning,
                } = *overrides;
                WireOrder::Subscribe {
                    channel: channel.as_str().to_owned(),
                    info: info.clone().map(Base64Bytes),
                    data: data.clone().map(Base64Bytes),
                    expires: *expires,
                    presence,
                    join_leave,
                    force_push_join_leave,
                    force_recovery,
                    force_positioning,
                    since: since.as_ref().map(|p| (p.offset, p.epoch.as_str().to_owned())),
                }
            }
            Order::Unsubscribe { channel, code, reason } => WireOrder::Unsubscribe {
                channel: channel.as_ref().map(|c| c.as_str().to_owned()),
                code: *code,
                reason: reason.clone(),
            },
            Order::Disconnect { code, reason, except } => {
                WireOrder::Disconnect { code: *code, reason: reason.clone(), except: except.clone() }
            }
            Order::Replace { client, since } => WireOrder::Replace { client: client.clone(), since: *since },
            Order::EndTokens { id, issued_before, code, reason } => WireOrder::EndTokens {
                id: id.clone(),
                issued_before: *issued_before,
                code: *code,
                reason: reason.clone(),
            },
            Order::Refresh { expired, expires } => {
                WireOrder::Refresh { expired: *expired, expires: *expires }
            }
        };
        Self {
            user: directive.user.clone(),
            client: directive.client.clone(),
            session: directive.session.clone(),
            order,
        }
    }
}

impl TryFrom<WireDirective> for Directive {
    type Error = InvalidDirective;

    fn try_from(directive: WireDirective) -> Result<Self, InvalidDirective> {
        let WireDirective { user, client, session, order } = directive;
        let order = match order {
            WireOrder::Subscribe {
                channel,
                info,
                data,
                expires,
                presence,
                join_leave,
                force_push_join_leave,
                force_recovery,
                force_positioning,
                since,
            } => Order::Subscribe {
                channel: Channel::new(channel)?,
                admission: Box::new(Admission {
                    info: info.map(|data| data.0),
                    data: data.map(|data| data.0),
                    expires,
                    overrides: ChannelOverrides {
                        presence,
                        join_leave,
                        force_push_join_leave,
                        force_recovery,
                        force_positioning,
                    },
                    token: None,
                }),
                since: since.map(|(offset, epoch)| Position { offset, epoch: Epoch::from(&*epoch) }),
            },
            WireOrder::Unsubscribe { channel, code, reason } => {
                Order::Unsubscribe { channel: channel.map(Channel::new).transpose()?, code, reason }
            }
            WireOrder::Disconnect { code, reason, except } => Order::Disconnect { code, reason, except },
            WireOrder::Replace { client, since } => Order::Replace { client, since },
            WireOrder::EndTokens { id, issued_before, code, reason } => {
                Order::EndTokens { id, issued_before, code, reason }
            }
            WireOrder::Refresh { expired, expires } => Order::Refresh { expired, expires },
        };
        Ok(Self { user, client, session, order })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(directive: &Directive) -> Directive {
        let payload = Payload::Order(directive.into());
        let message = Message::parse(&Message { payload }.encode()).expect("a message");
        match message.payload {
            Payload::Order(wire) => wire.try_into().expect("a directive"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_directive_is_received_as_it_was_sent() {
        let channel = Channel::new("news:art").expect("a channel");
        let admission = Admission {
            info: Some(Bytes::from_static(b"{\"a\":1}")),
            data: Some(Bytes::from_static(b"\xff\x00")),
            expires: Some(7),
            overrides: ChannelOverrides {
                presence: Some(true),
                join_leave: Some(false),
                force_push_join_leave: None,
                force_recovery: Some(true),
                force_positioning: Some(false),
            },
            token: None,
        };
        let since = Some(Position { offset: u64::MAX, epoch: Epoch::from("x") });
        let orders = [
            Order::Subscribe { channel: channel.clone(), admission: Box::new(admission), since },
            Order::Subscribe { channel: channel.clone(), admission: Box::default(), since: None },
            Order::Unsubscribe { channel: Some(channel), code: 2000, reason: "because".into() },
            Order::Unsubscribe { channel: None, code: 2500, reason: String::new() },
            Order::Disconnect { code: 3503, reason: "ü\n".into(), except: vec!["c1".into(), "c2".into()] },
            Order::Replace { client: "c".into(), since: 7 },
            Order::EndTokens { id: Some("t".into()), issued_before: Some(7), code: 3503, reason: "x".into() },
            Order::Refresh { expired: true, expires: None },
            Order::Refresh { expired: false, expires: Some(1_800_000_000) },
        ];
        for order in orders {
            let directive =
                Directive { user: "42".into(), client: Some("c".into()), session: Some("s".into()), order };
            assert_eq!(round_trip(&directive), directive);
        }
    }

    #[test]
    fn commands_of_a_session_are_received_byte_for_byte() {
        let data = Base64Bytes(Bytes::from_static(b"\x00\xff{}\n"));
        let payload = Payload::Input { session: "s".into(), data: data.clone() };
        let message = Message::parse(&Message { payload }.encode()).expect("a message");
        assert!(
            matches!(message.payload, Payload::Input { session, data: same } if session == "s" && same == data)
        );
    }

    #[test]
    fn unknown_fields_are_skipped_and_unknown_kinds_are_errors() {
        let message = Message::parse(br#"{"at":1,"say":{"ask":{"id":1,"pattern":null,"limit":3}}}"#);
        assert!(matches!(
            message.expect("a message").payload,
            Payload::ChannelsRequest { id: 1, pattern: None }
        ));
        for body in [r#"{"say":{"dance":{}}}"#, r#"{"gone":{}}"#, "", "{", "\"x\""] {
            assert!(Message::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
