//! Messages between nodes, as JSON: `{"say":{KIND:…}}`. The sender is authenticated by [`super::sealing`].
//!
//! Nodes of different versions run side by side during a rolling update: unknown fields are skipped, and a message of an
//! unknown kind is ignored. Bytes are encoded in base64, because Protobuf clients send binary data.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;
use tidings_hub::{Admission, ChannelOverrides, SessionAction, SessionCommand};
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
    /// To all nodes: a command to sessions.
    #[serde(rename = "order")]
    SessionCommand(WireSessionCommand),
    /// To all nodes: a user or token is blocked, or unblocked.
    Blocklist(BlocklistChange),
    /// To all nodes: a value of a shared poll that the application publishes.
    PollPublication { channel: String, key: String, data: Base64Bytes, version: u64, epoch: String },
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
    /// To all nodes, or to one: a query of an operator.
    ReportRequest {
        /// Returned with the response.
        id: u64,
        /// The query.
        query: Value,
    },
    /// To one node: the response to such a query.
    ReportResponse {
        /// The id of the request.
        id: u64,
        /// The response.
        report: Value,
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

/// A [`SessionCommand`] as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WireSessionCommand {
    user: String,
    client: Option<String>,
    session: Option<String>,
    #[serde(rename = "order")]
    action: WireSessionAction,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireSessionAction {
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
    TakeOver {
        name: String,
        client: String,
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

/// A command with an invalid channel name.
#[derive(Debug, Error)]
#[error("a command with an invalid channel name: {0}")]
pub(super) struct InvalidSessionCommand(#[from] ChannelError);

impl From<&SessionCommand> for WireSessionCommand {
    fn from(command: &SessionCommand) -> Self {
        let action = match &command.action {
            SessionAction::Subscribe { channel, admission, since } => {
                // A subscription that the application makes has no token, filter and capabilities.
                let Admission { info, data, expires, overrides, filter: _, allow: _, token: _, stream: _ } =
                    &**admission;
                let ChannelOverrides {
                    presence,
                    join_leave,
                    force_push_join_leave,
                    force_recovery,
                    force_positioning,
                } = *overrides;
                WireSessionAction::Subscribe {
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
            SessionAction::Unsubscribe { channel, code, reason } => WireSessionAction::Unsubscribe {
                channel: channel.as_ref().map(|c| c.as_str().to_owned()),
                code: *code,
                reason: reason.clone(),
            },
            SessionAction::Disconnect { code, reason, except } => {
                WireSessionAction::Disconnect { code: *code, reason: reason.clone(), except: except.clone() }
            }
            SessionAction::Replace { client, since } => {
                WireSessionAction::Replace { client: client.clone(), since: *since }
            }
            SessionAction::TakeOver { name, client } => {
                WireSessionAction::TakeOver { name: name.clone(), client: client.clone() }
            }
            SessionAction::EndTokens { id, issued_before, code, reason } => WireSessionAction::EndTokens {
                id: id.clone(),
                issued_before: *issued_before,
                code: *code,
                reason: reason.clone(),
            },
            SessionAction::Refresh { expired, expires } => {
                WireSessionAction::Refresh { expired: *expired, expires: *expires }
            }
        };
        Self {
            user: command.user.clone(),
            client: command.client.clone(),
            session: command.session.clone(),
            action,
        }
    }
}

impl TryFrom<WireSessionCommand> for SessionCommand {
    type Error = InvalidSessionCommand;

    fn try_from(command: WireSessionCommand) -> Result<Self, InvalidSessionCommand> {
        let WireSessionCommand { user, client, session, action } = command;
        let action = match action {
            WireSessionAction::Subscribe {
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
            } => SessionAction::Subscribe {
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
                    ..Admission::default()
                }),
                since: since.map(|(offset, epoch)| Position { offset, epoch: Epoch::from(&*epoch) }),
            },
            WireSessionAction::Unsubscribe { channel, code, reason } => {
                SessionAction::Unsubscribe { channel: channel.map(Channel::new).transpose()?, code, reason }
            }
            WireSessionAction::Disconnect { code, reason, except } => {
                SessionAction::Disconnect { code, reason, except }
            }
            WireSessionAction::Replace { client, since } => SessionAction::Replace { client, since },
            WireSessionAction::TakeOver { name, client } => SessionAction::TakeOver { name, client },
            WireSessionAction::EndTokens { id, issued_before, code, reason } => {
                SessionAction::EndTokens { id, issued_before, code, reason }
            }
            WireSessionAction::Refresh { expired, expires } => SessionAction::Refresh { expired, expires },
        };
        Ok(Self { user, client, session, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(command: &SessionCommand) -> SessionCommand {
        let payload = Payload::SessionCommand(command.into());
        let message = Message::parse(&Message { payload }.encode()).expect("a message");
        match message.payload {
            Payload::SessionCommand(wire) => wire.try_into().expect("a command"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_session_command_is_received_as_it_was_sent() {
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
            ..Admission::default()
        };
        let since = Some(Position { offset: u64::MAX, epoch: Epoch::from("x") });
        let actions = [
            SessionAction::Subscribe { channel: channel.clone(), admission: Box::new(admission), since },
            SessionAction::Subscribe { channel: channel.clone(), admission: Box::default(), since: None },
            SessionAction::Unsubscribe { channel: Some(channel), code: 2000, reason: "because".into() },
            SessionAction::Unsubscribe { channel: None, code: 2500, reason: String::new() },
            SessionAction::Disconnect {
                code: 3503,
                reason: "ü\n".into(),
                except: vec!["c1".into(), "c2".into()],
            },
            SessionAction::Replace { client: "c".into(), since: 7 },
            SessionAction::TakeOver { name: "sensor".into(), client: "c".into() },
            SessionAction::EndTokens {
                id: Some("t".into()),
                issued_before: Some(7),
                code: 3503,
                reason: "x".into(),
            },
            SessionAction::Refresh { expired: true, expires: None },
            SessionAction::Refresh { expired: false, expires: Some(1_800_000_000) },
        ];
        for action in actions {
            let command = SessionCommand {
                user: "42".into(),
                client: Some("c".into()),
                session: Some("s".into()),
                action,
            };
            assert_eq!(round_trip(&command), command);
        }
    }

    #[test]
    fn a_session_command_has_the_names_in_json_that_earlier_versions_read() {
        let action = SessionAction::Refresh { expired: true, expires: None };
        let command = SessionCommand { user: "42".into(), client: None, session: None, action };
        let message = Message { payload: Payload::SessionCommand((&command).into()) }.encode();
        assert_eq!(
            String::from_utf8(message).expect("JSON"),
            r#"{"say":{"order":{"user":"42","client":null,"session":null,"order":{"refresh":{"expired":true,"expires":null}}}}}"#
        );
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
