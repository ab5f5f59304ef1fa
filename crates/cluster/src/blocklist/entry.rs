//! Entries of the blocklist, as they are stored and sent.

use serde::{Deserialize, Serialize};
use tidings_hub::{Directive, Order, Rejection};
use tidings_wire::code;

use tidings_metrics::{Label as _, labels};

/// The subject of a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A user, whatever its credential.
    User(String),
    /// The token with this id (`jti`).
    Token(String),
    /// Tokens of this user that were issued before a time.
    UserTokens(String),
}

labels! {
    /// The kind of a [`Subject`].
    pub(crate) enum SubjectKind {
        User => "user",
        Token => "token",
        UserTokens => "user_tokens",
    }
}

impl Subject {
    /// The kind.
    pub(crate) fn kind(&self) -> SubjectKind {
        match self {
            Self::User(_) => SubjectKind::User,
            Self::Token(_) => SubjectKind::Token,
            Self::UserTokens(_) => SubjectKind::UserTokens,
        }
    }

    /// The key at the broker.
    pub fn name(&self) -> String {
        let (Self::User(id) | Self::Token(id) | Self::UserTokens(id)) = self;
        format!("{}:{id}", self.kind().label())
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The subject.
    pub subject: Subject,
    /// When the block expires, in Unix seconds; 0 is never.
    pub expire_at: u64,
    /// For [`Subject::UserTokens`]: tokens that were issued before this time are rejected, in Unix seconds.
    #[serde(default)]
    pub issued_before: u64,
}

/// A change of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Add an entry, or replace the one of the same subject.
    Add(Block),
    /// Remove an entry.
    Remove(Subject),
}

impl Block {
    /// Whether the block is in force at `now`.
    pub fn holds(&self, now: u64) -> bool {
        self.expire_at == 0 || self.expire_at > now
    }

    /// The reason, for clients.
    fn reason(&self) -> &'static str {
        match self.subject {
            Subject::User(_) => "user blocked",
            Subject::Token(_) => "token revoked",
            Subject::UserTokens(_) => "token invalidated",
        }
    }

    /// The rejection of a connection or a refresh.
    pub fn verdict(&self) -> Rejection {
        let code = match self.subject {
            Subject::User(_) => code::PERMISSION_DENIED,
            Subject::Token(_) | Subject::UserTokens(_) => code::UNAUTHORIZED,
        };
        Rejection { text: format!("{}: {}", code.text, self.reason()), ..Rejection::from(code) }
    }

    /// The order that ends the connections concerned, with a code after which clients do not reconnect.
    pub fn directive(&self) -> Directive {
        let (code, reason) = (code::FORCE_DISCONNECT.number, self.reason().to_owned());
        let (user, order) = match &self.subject {
            Subject::User(user) => (user, Order::Disconnect { code, reason, except: Vec::new() }),
            Subject::UserTokens(user) => {
                let issued_before = Some(self.issued_before);
                (user, Order::EndTokens { id: None, issued_before, code, reason })
            }
            Subject::Token(id) => {
                let order = Order::EndTokens { id: Some(id.clone()), issued_before: None, code, reason };
                (&String::new(), order)
            }
        };
        Directive { user: user.clone(), client: None, session: None, order }
    }
}
