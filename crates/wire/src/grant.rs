//! Parts of a grant: what a token, a connect hook or the server API gives one connection or one subscription.
//!
//! The values are shared by the readers of grants (tokens, hook responses, API requests) and by the sessions that
//! apply them.

/// Identifies a token, so that it can be revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenId {
    /// The token's id: the claim `jti` (RFC 7519 §4.1.7).
    pub id: Option<String>,
    /// When the token was issued: the claim `iat` (RFC 7519 §4.1.6), in Unix seconds.
    pub issued: Option<u64>,
}

/// Options of a channel that a grant sets for one subscription; `None` leaves the channel's option in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelOverrides {
    /// `presence`.
    pub presence: Option<bool>,
    /// `join_leave`.
    pub join_leave: Option<bool>,
    /// `force_push_join_leave`.
    pub force_push_join_leave: Option<bool>,
    /// `force_recovery`.
    pub force_recovery: Option<bool>,
    /// `force_positioning`.
    pub force_positioning: Option<bool>,
}
