//! The events, and their form in the log and in a file.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::ser::to_vec;

use crate::time::Rfc3339;

/// Most bytes of a text in an event; the rest is cut off.
pub const MAX_TEXT: usize = 256;

/// An event of the audit log. Texts may come from clients: they are cut off at [`MAX_TEXT`] bytes.
#[derive(Clone, Copy, Debug)]
pub enum AuditEvent<'a> {
    /// A credential was not accepted.
    AuthenticationFailed {
        /// The kind: `token`, `password` (AUTH), `api_key`.
        credential: &'a str,
        /// Why: `wrong`, `missing`, or `too_many` (rejected without a check after too many failures).
        reason: &'a str,
        /// The address of the client, if it is known.
        address: Option<IpAddr>,
    },
    /// An API key was used for an operation outside of its scopes.
    PermissionDenied {
        /// The name of the key.
        key: &'a str,
        /// The method of the server API, or the path of the request.
        method: &'a str,
        /// The scope that the key lacks.
        scope: &'a str,
        /// The address of the sender, if it is known.
        address: Option<IpAddr>,
    },
    /// A backend changed something by the server API.
    ApiCommand {
        /// The method.
        method: &'a str,
        /// The name of the key; empty if none was required.
        key: &'a str,
        /// The address of the backend, if it is known.
        address: Option<IpAddr>,
        /// The subject of the command.
        subject: Subject<'a>,
        /// The code of the error; `None` if the command was accepted.
        error: Option<u32>,
    },
    /// A table was created.
    TableCreated {
        /// The id.
        table: &'a str,
        /// The address of the creator, if it is known.
        address: Option<IpAddr>,
    },
    /// The owner deleted a table.
    TableDeleted {
        /// The id.
        table: &'a str,
        /// The address of the owner, if it is known.
        address: Option<IpAddr>,
    },
    /// The configuration was read again.
    ConfigurationReloaded {
        /// The cause: `SIGHUP` or `api`.
        cause: &'a str,
        /// The name of the key; empty without one.
        key: &'a str,
        /// The address of the sender of the request; `None` for a signal.
        address: Option<IpAddr>,
        /// Why the previous configuration stays in use; `None` if the new one is in use.
        error: Option<&'a str>,
    },
    /// An administrator logged in on the admin page, or tried to.
    AdminLogin {
        /// The name of the key or account; empty if there is none.
        key: &'a str,
        /// The address, if it is known.
        address: Option<IpAddr>,
        /// Whether the login was accepted.
        accepted: bool,
    },
}

/// The subject of a command; empty texts are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The user.
    pub user: &'a str,
    /// The client or session id, or the id of a token.
    pub id: &'a str,
}

impl AuditEvent<'_> {
    /// Whether a client without credentials, or with a stolen key, can cause the event without end.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::AuthenticationFailed { .. }
                | Self::PermissionDenied { .. }
                | Self::AdminLogin { accepted: false, .. }
        )
    }
}

/// An event in its written form. Fields without a value are left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record<'a> {
    #[serde(skip_serializing_if = "String::is_empty")]
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a str>,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Events of this kind since the last one that are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u64>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(event: &AuditEvent<'a>, left_out: u64) -> Self {
        let address = |address: Option<IpAddr>| address.map(|address| address.to_string());
        let (ok, failed) = ("ok", "failed");
        let mut record = match *event {
            AuditEvent::AuthenticationFailed { credential, reason, address: from } => Self {
                event: "authentication_failed",
                credential: text(credential),
                address: address(from),
                result: failed,
                reason: text(reason),
                ..Self::default()
            },
            AuditEvent::PermissionDenied { key, method, scope, address: from } => Self {
                event: "permission_denied",
                method: text(method),
                key: text(key),
                scope: text(scope),
                address: address(from),
                result: failed,
                ..Self::default()
            },
            AuditEvent::ApiCommand { method, key, address: from, subject, error } => Self {
                event: "api_command",
                method: text(method),
                key: text(key),
                address: address(from),
                channel: text(subject.channel),
                user: text(subject.user),
                id: text(subject.id),
                result: if error.is_none() { ok } else { failed },
                code: error,
                ..Self::default()
            },
            AuditEvent::TableCreated { table, address: from } => Self {
                event: "table_created",
                table: text(table),
                address: address(from),
                result: ok,
                ..Self::default()
            },
            AuditEvent::TableDeleted { table, address: from } => Self {
                event: "table_deleted",
                table: text(table),
                address: address(from),
                result: ok,
                ..Self::default()
            },
            AuditEvent::ConfigurationReloaded { cause, key, address: from, error } => Self {
                event: "configuration_reloaded",
                cause: text(cause),
                key: text(key),
                address: address(from),
                result: if error.is_none() { ok } else { failed },
                reason: error.and_then(text),
                ..Self::default()
            },
            AuditEvent::AdminLogin { key, address: from, accepted } => Self {
                event: "admin_login",
                key: text(key),
                address: address(from),
                result: if accepted { ok } else { failed },
                ..Self::default()
            },
        };
        record.left_out = Some(left_out).filter(|count| *count > 0);
        record
    }

    /// Writes the event to the log.
    pub(crate) fn log(&self) {
        let Self { event, method, key, credential, scope, cause, channel, user, id, table, result, .. } =
            *self;
        let (address, code, reason, left_out) =
            (self.address.as_deref(), self.code, self.reason, self.left_out);
        tracing::info!(
            target: "audit",
            method, key, credential, scope, cause, address, channel, user, id, table, result, code, reason, left_out,
            "{event}"
        );
    }

    /// The event as a line of JSON.
    pub(crate) fn json(mut self, now: SystemTime) -> Vec<u8> {
        self.time = Rfc3339(now).to_string();
        let mut line = to_vec(&self).expect("text and numbers");
        line.push(b'\n');
        line
    }
}

/// A text of an event, at most [`MAX_TEXT`] bytes; `None` if it is empty.
fn text(text: &str) -> Option<&str> {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Some(&text[..end]).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::file::MAX_LINE;

    fn json(event: &AuditEvent<'_>, left_out: u64) -> String {
        String::from_utf8(Record::new(event, left_out).json(UNIX_EPOCH)).expect("JSON is text")
    }

    #[test]
    fn an_event_is_a_line_of_json_without_empty_fields() {
        let address = Some([192, 0, 2, 7].into());
        let failed = AuditEvent::AuthenticationFailed { credential: "api_key", reason: "wrong", address };
        assert_eq!(
            json(&failed, 3),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"authentication_failed\",\"credential\":\"api_key\",\
             \"address\":\"192.0.2.7\",\"result\":\"failed\",\"reason\":\"wrong\",\"left_out\":3}\n"
        );
        let subject = Subject { user: "ann", ..Subject::default() };
        let command = AuditEvent::ApiCommand {
            method: "disconnect",
            key: "",
            address: None,
            subject,
            error: Some(107),
        };
        assert_eq!(
            json(&command, 0),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"api_command\",\"method\":\"disconnect\",\"user\":\"ann\",\
             \"result\":\"failed\",\"code\":107}\n"
        );
    }

    #[test]
    fn a_text_of_a_client_cannot_break_a_line_or_exceed_its_bound() {
        let user = "ü\n".repeat(MAX_TEXT);
        let subject = Subject { user: &user, channel: &user, id: &user };
        let command =
            AuditEvent::ApiCommand { method: "disconnect", key: &user, address: None, subject, error: None };
        let line = json(&command, 0);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.len() < MAX_LINE, "{}", line.len());
    }
}
