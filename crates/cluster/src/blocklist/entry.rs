//! Entries of the blocklist in the format in which they are stored at the broker and sent to nodes.

use serde::{Deserialize, Serialize};
use tidings_hub::{Rejection, SessionAction, SessionCommand};
use tidings_wire::code;

use tidings_metrics::{Label as _, labels};

/// The subject of a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockSubject {
    /// A user, with any credential.
    User(String),
    /// The token with this id (`jti`).
    Token(String),
    /// Tokens of this user that were issued before a time.
    UserTokens(String),
}

labels! {
    /// The kind of a [`BlockSubject`].
    pub(crate) enum BlockKind {
        User => "user",
        Token => "token",
        UserTokens => "user_tokens",
    }
}

impl BlockSubject {
    /// The kind of the subject.
    pub(crate) fn kind(&self) -> BlockKind {
        match self {
            Self::User(_) => BlockKind::User,
            Self::Token(_) => BlockKind::Token,
            Self::UserTokens(_) => BlockKind::UserTokens,
        }
    }

    /// The key at the broker.
    pub fn name(&self) -> String {
        let (Self::User(id) | Self::Token(id) | Self::UserTokens(id)) = self;
        format!("{}:{id}", self.kind().label())
    }
}

/// An entry of the blocklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The subject.
    pub subject: BlockSubject,
    /// When the block expires, in Unix seconds; 0 is never.
    pub expire_at: u64,
    /// For [`BlockSubject::UserTokens`]: tokens that were issued before this time are rejected, in Unix seconds.
    #[serde(default)]
    pub issued_before: u64,
}

/// A change of the blocklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlocklistChange {
    /// Add an entry, or replace the one of the same subject.
    Add(Block),
    /// Remove an entry.
    Remove(BlockSubject),
}

impl Block {
    /// Whether the block is in force at `now`.
    pub fn is_active(&self, now: u64) -> bool {
        self.expire_at == 0 || self.expire_at > now
    }

    /// The reason, for clients.
    fn reason(&self) -> &'static str {
        match self.subject {
            BlockSubject::User(_) => "user blocked",
            BlockSubject::Token(_) => "token revoked",
            BlockSubject::UserTokens(_) => "token invalidated",
        }
    }

    /// The rejection of a connection or a refresh.
    pub fn rejection(&self) -> Rejection {
        let code = match self.subject {
            BlockSubject::User(_) => code::PERMISSION_DENIED,
            BlockSubject::Token(_) | BlockSubject::UserTokens(_) => code::UNAUTHORIZED,
        };
        Rejection { text: format!("{}: {}", code.text, self.reason()), ..Rejection::from(code) }
    }

    /// The command that closes the blocked connections, with a code after which clients do not reconnect.
    pub fn session_command(&self) -> SessionCommand {
        let (code, reason) = (code::FORCE_DISCONNECT.number, self.reason().to_owned());
        let (user, action) = match &self.subject {
            BlockSubject::User(user) => {
                (user, SessionAction::Disconnect { code, reason, except: Vec::new() })
            }
            BlockSubject::UserTokens(user) => {
                let issued_before = Some(self.issued_before);
                (user, SessionAction::EndTokens { id: None, issued_before, code, reason })
            }
            BlockSubject::Token(id) => {
                let action =
                    SessionAction::EndTokens { id: Some(id.clone()), issued_before: None, code, reason };
                (&String::new(), action)
            }
        };
        SessionCommand { user: user.clone(), client: None, session: None, action }
    }
}
