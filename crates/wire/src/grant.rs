//! Parts of a grant: what a token, a connect hook or the server API gives one connection or one subscription.
//!
//! The values are shared by the readers of grants (tokens, hook responses, API requests) and by the sessions that
//! apply them.

use serde::{Deserialize, Deserializer};

use crate::Object;

/// Identifies a token, so that it can be revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenId {
    /// The token's id: the claim `jti` (RFC 7519 §4.1.7).
    pub id: Option<String>,
    /// When the token was issued: the claim `iat` (RFC 7519 §4.1.6), in Unix seconds.
    pub issued: Option<u64>,
}

/// Options of a channel that a grant sets for one subscription; `None` leaves the channel's option in force.
///
/// In tokens, in responses of hooks and in requests to the server API it is an object: `{"presence":{"value":true}}`.
/// Unknown fields are ignored; `null` is the same as an absent field.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct ChannelOverrides {
    /// `presence`.
    #[serde(default, deserialize_with = "read_value")]
    pub presence: Option<bool>,
    /// `join_leave`.
    #[serde(default, deserialize_with = "read_value")]
    pub join_leave: Option<bool>,
    /// `force_push_join_leave`.
    #[serde(default, deserialize_with = "read_value")]
    pub force_push_join_leave: Option<bool>,
    /// `force_recovery`.
    #[serde(default, deserialize_with = "read_value")]
    pub force_recovery: Option<bool>,
    /// `force_positioning`.
    #[serde(default, deserialize_with = "read_value")]
    pub force_positioning: Option<bool>,
}

/// The value of one option in [`ChannelOverrides`]; `false` if it is absent.
#[derive(Debug, Deserialize)]
pub struct OverrideValue {
    /// The value.
    #[serde(default)]
    pub value: bool,
}

fn read_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let object = Option::<Object<OverrideValue>>::deserialize(deserializer)?;
    Ok(object.map(|Object(OverrideValue { value })| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_from_objects_with_a_value() {
        let read = serde_json::from_str::<ChannelOverrides>;
        let all = r#"{"presence":{"value":true},"join_leave":{"value":false},"force_recovery":{},"force_positioning":null,"new":1}"#;
        let expected = ChannelOverrides {
            presence: Some(true),
            join_leave: Some(false),
            force_push_join_leave: None,
            force_recovery: Some(false),
            force_positioning: None,
        };
        assert_eq!(read(all).expect("overrides"), expected);
        for wrong in [r#"{"presence":true}"#, r#"{"presence":[true]}"#, r#"{"presence":{"value":1}}"#, "1"] {
            read(wrong).expect_err(wrong);
        }
    }
}
