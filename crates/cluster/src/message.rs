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
use crate::blocklist::Change;

/// A message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    #[serde(rename = "say")]
    pub(super) payload: Payload,
}

/// The kinds of messages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Payload {
    /// To all nodes: announces the sender.
    Node(NodeInfo),
    /// To all nodes: the sender leaves.
    Gone {},
    /// To all nodes: an order to sessions.
    Order(WireDirective),
    /// To all nodes: a user or token is blocked, or unblocked.
    Blocklist(Change),
    /// To one node: commands of one of its sessions, received by the sender.
    Input {
        /// The session's secret.
        session: String,
        /// One frame of commands, in the session's encoding.
        data: Data,
    },
    /// To all nodes: requests the list of channels.
    Ask {
        /// Returned with the response.
        id: u64,
        /// Which channels; all without a pattern.
        pattern: Option<String>,
    },
    /// To one node: the list of channels.
    Answer {
        /// The id of the request.
        id: u64,
        /// Channels and their numbers of subscribers; `None` when the list is too long.
        channels: Option<BTreeMap<String, u64>>,
    },
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is no JSON, or not of a kind and form that is known here.
    pub(super) fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// Writes it.
    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and plain values")
    }
}

/// Bytes, in base64 where they are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data(pub(super) Bytes);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

/// A [`Directive`] on its way.
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
        info: Option<Data>,
        data: Option<Data>,
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

/// A directive that names a channel which cannot be one.
#[derive(Debug, Error)]
#[error("a directive for a channel that cannot be: {0}")]
pub(super) struct Impossible(#[from] ChannelError);

impl From<&Directive> for WireDirective {
    fn from(directive: &Directive) -> Self {
        let order = match &directive.order {
            Order::Subscribe { channel, admission, since } => {
                // What the application orders needs no token.
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
                    info: info.clone().map(Data),
                    data: data.clone().map(Data),
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
    type Error = Impossible;

    fn try_from(directive: WireDirective) -> Result<Self, Impossible> {
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

    fn there_and_back(directive: &Directive) -> Directive {
        let payload = Payload::Order(directive.into());
        let message = Message::read(&Message { payload }.write()).expect("a message");
        match message.payload {
            Payload::Order(wire) => wire.try_into().expect("a directive"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_directive_arrives_as_it_was_sent() {
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
            assert_eq!(there_and_back(&directive), directive);
        }
    }

    #[test]
    fn what_a_session_has_sent_arrives_byte_by_byte() {
        let data = Data(Bytes::from_static(b"\x00\xff{}\n"));
        let payload = Payload::Input { session: "s".into(), data: data.clone() };
        let message = Message::read(&Message { payload }.write()).expect("a message");
        assert!(
            matches!(message.payload, Payload::Input { session, data: same } if session == "s" && same == data)
        );
    }

    #[test]
    fn what_a_newer_node_adds_is_passed_over_and_what_it_invents_is_no_message() {
        let message = Message::read(br#"{"at":1,"say":{"ask":{"id":1,"pattern":null,"limit":3}}}"#);
        assert!(matches!(message.expect("a message").payload, Payload::Ask { id: 1, pattern: None }));
        for body in [r#"{"say":{"dance":{}}}"#, r#"{"gone":{}}"#, "", "{", "\"x\""] {
            assert!(Message::read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
