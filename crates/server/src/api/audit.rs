//! Commands of the server API in the audit log: all that change something, except publications.

use std::net::IpAddr;
use std::sync::Arc;

use tidings_api::{Command, CommandMethod, CommandReply};
use tidings_audit::{AuditEvent, Subject};
use tidings_keys::ApiIdentity;
use tidings_metrics::Label as _;
use tidings_shard::RateLimit;

use super::Services;

/// The sender of a request to the server API.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its key, by name; an empty name if none was required.
    pub(crate) identity: ApiIdentity,
    /// The rate limit of the key, if it has one.
    pub(crate) rate: Option<Arc<RateLimit>>,
    /// Its address, if it is known.
    pub(crate) address: Option<IpAddr>,
}

/// A command that is recorded when it has completed.
pub(super) struct AuditedCommand {
    method: CommandMethod,
    channel: String,
    user: String,
    id: String,
}

impl AuditedCommand {
    /// What the audit log records of a command; `None` if it does not record the command.
    pub(super) fn from_command(services: &Services, command: &Command) -> Option<Self> {
        if !services.audit.is_on() {
            return None;
        }
        let either = |client: &String, session: &String| {
            if client.is_empty() { session.clone() } else { client.clone() }
        };
        let (channel, user, id) = match command {
            Command::Subscribe(fields) => {
                (fields.channel.clone(), fields.user.clone(), either(&fields.client, &fields.session))
            }
            Command::Unsubscribe(fields) => {
                (fields.channel.clone(), fields.user.clone(), either(&fields.client, &fields.session))
            }
            Command::Disconnect(fields) => {
                (String::new(), fields.user.clone(), either(&fields.client, &fields.session))
            }
            Command::Refresh(fields) => {
                (String::new(), fields.user.clone(), either(&fields.client, &fields.session))
            }
            Command::HistoryRemove(fields) => (fields.channel.clone(), String::new(), String::new()),
            Command::MapClear(fields) => (fields.channel.clone(), String::new(), String::new()),
            Command::BlockUser(fields) => (String::new(), fields.user.clone(), String::new()),
            Command::UnblockUser(fields) => (String::new(), fields.user.clone(), String::new()),
            Command::RevokeToken(fields) => (String::new(), String::new(), fields.jti.clone()),
            Command::InvalidateUserTokens(fields) => (String::new(), fields.user.clone(), String::new()),
            Command::Publish(_)
            | Command::Broadcast(_)
            | Command::Presence(_)
            | Command::PresenceStats(_)
            | Command::History(_)
            | Command::MapPublish(_)
            | Command::SharedPollPublish(_)
            | Command::MapRemove(_)
            | Command::MapReadState(_)
            | Command::MapReadStream(_)
            | Command::MapStats(_)
            | Command::Channels(_)
            | Command::Connections(_)
            | Command::Reload(_)
            | Command::Info(_) => return None,
        };
        Some(Self { method: command.method(), channel, user, id })
    }

    /// Records the command with its result.
    pub(super) fn record(&self, services: &Services, caller: &Caller, reply: &CommandReply) {
        services.audit.record(&AuditEvent::ApiCommand {
            method: self.method.label(),
            key: &caller.identity.name,
            address: caller.address,
            subject: Subject { channel: &self.channel, user: &self.user, id: &self.id },
            error: reply.as_ref().err().map(|error| u32::from(error.code)),
        });
    }
}
