//! Members of presence channels, and users that sign in.

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::channel::{NameError, check_user_id};

/// Largest information about a member in bytes.
pub const MAX_USER_INFO: usize = 1024;
/// Most users in a watchlist ("Watchlist events", Limits).
pub const MAX_WATCHLIST: usize = 100;

/// Why the data of a member is not valid.
#[derive(Debug, Error)]
pub enum MemberError {
    /// It is no JSON object with a `user_id`.
    #[error("channel_data must be a JSON object with a user_id")]
    Invalid,
    /// The id.
    #[error("channel_data: {0}")]
    Id(NameError),
    /// The information is too large.
    #[error("channel_data: user_info is larger than {MAX_USER_INFO} bytes")]
    TooLarge,
}

/// The user of a subscription to a presence channel, from `channel_data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The id of the user. A number is used in its text form.
    pub user_id: String,
    /// The application's information about the user, as JSON.
    pub user_info: Option<String>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    user_id: &'a RawValue,
    #[serde(borrow, default)]
    user_info: Option<&'a RawValue>,
}

impl Member {
    /// Parses `channel_data`.
    ///
    /// # Errors
    /// [`MemberError`].
    pub fn parse(data: &str) -> Result<Self, MemberError> {
        let raw: Raw<'_> = serde_json::from_str(data).map_err(|_| MemberError::Invalid)?;
        let user_id = id_text(raw.user_id.get()).ok_or(MemberError::Invalid)?;
        check_user_id(&user_id).map_err(MemberError::Id)?;
        let user_info = raw.user_info.map(|info| info.get().to_owned());
        if user_info.as_ref().is_some_and(|info| info.len() > MAX_USER_INFO) {
            return Err(MemberError::TooLarge);
        }
        Ok(Self { user_id, user_info })
    }

    /// The data of the member without further fields of `channel_data`, as JSON: at most some hundred bytes more than
    /// [`MAX_USER_INFO`].
    pub fn data(&self) -> String {
        let id = serde_json::Value::from(self.user_id.as_str());
        match &self.user_info {
            Some(info) => format!("{{\"user_id\":{id},\"user_info\":{info}}}"),
            None => format!("{{\"user_id\":{id}}}"),
        }
    }
}

/// A text, or a number as its text.
pub(crate) fn id_text(json: &str) -> Option<String> {
    if json.starts_with('"') {
        return serde_json::from_str(json).ok();
    }
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| json.to_owned())
}

/// The id of the user in the data of a member; `None` if there is none.
pub fn user_id(data: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        user_id: &'a RawValue,
    }
    let id: Id<'_> = serde_json::from_slice(data).ok()?;
    id_text(id.user_id.get())
}

/// The id of the user in the `user_data` of a sign-in.
///
/// # Errors
/// [`NameError::User`] if there is none, or it is not valid.
pub fn signed_in_user(data: &str) -> Result<String, NameError> {
    #[derive(Deserialize)]
    struct User<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let user: User<'_> = serde_json::from_str(data).map_err(|_| NameError::User)?;
    let id = id_text(user.id.get()).ok_or(NameError::User)?;
    check_user_id(&id)?;
    Ok(id)
}

/// Why a watchlist is not valid.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WatchlistError {
    /// It is not a list of ids.
    #[error("the watchlist must be a list of user ids")]
    Invalid,
    /// It has too many users.
    #[error("the watchlist has more than {MAX_WATCHLIST} users")]
    TooLong,
    /// An id is not valid.
    #[error(transparent)]
    Id(#[from] NameError),
}

/// The ids of the users in the `watchlist` of the `user_data` of a sign-in, in ascending order, each of them once; none without a
/// watchlist.
///
/// # Errors
/// [`WatchlistError`].
pub fn watchlist(data: &str) -> Result<Vec<String>, WatchlistError> {
    #[derive(Deserialize)]
    struct User<'a> {
        #[serde(borrow, default)]
        watchlist: Option<Vec<&'a RawValue>>,
    }
    let user: User<'_> = serde_json::from_str(data).map_err(|_| WatchlistError::Invalid)?;
    let listed = user.watchlist.unwrap_or_default();
    if listed.len() > MAX_WATCHLIST {
        return Err(WatchlistError::TooLong);
    }
    let id = |id: &&RawValue| {
        let id = id_text(id.get()).ok_or(WatchlistError::Invalid)?;
        check_user_id(&id)?;
        Ok(id)
    };
    let mut ids = listed.iter().map(id).collect::<Result<Vec<_>, WatchlistError>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_an_id_and_information_within_their_limits() {
        let parsed = Member::parse(r#"{"user_id":"ann","user_info":{"name":"Ann"}}"#).unwrap();
        assert_eq!(parsed, Member { user_id: "ann".into(), user_info: Some(r#"{"name":"Ann"}"#.into()) });
        assert_eq!(
            Member::parse(r#"{"user_id":17}"#).unwrap(),
            Member { user_id: "17".into(), user_info: None }
        );
        assert_eq!(parsed.data(), r#"{"user_id":"ann","user_info":{"name":"Ann"}}"#);
        let more = Member::parse(r#"{"user_id":17,"more":"x"}"#).unwrap();
        assert_eq!(more.data(), r#"{"user_id":"17"}"#, "further fields are not kept");
        let large = format!(r#"{{"user_id":1,"user_info":"{}"}}"#, "x".repeat(MAX_USER_INFO));
        assert!(matches!(Member::parse(&large), Err(MemberError::TooLarge)));
        for data in ["", "1", "{}", r#"{"user_id":null}"#, r#"{"user_id":["a"]}"#] {
            assert!(matches!(Member::parse(data), Err(MemberError::Invalid)), "{data}");
        }
        assert!(matches!(Member::parse(r#"{"user_id":""}"#), Err(MemberError::Id(_))));
        assert_eq!(user_id(br#"{"user_id":"ann","user_info":null}"#).as_deref(), Some("ann"));
        assert_eq!(user_id(b"{\"name\":1}"), None);
        assert_eq!(signed_in_user(r#"{"id":"ann","watchlist":["bob"]}"#).as_deref(), Ok("ann"));
        assert_eq!(signed_in_user(r#"{"user_id":"ann"}"#), Err(NameError::User));
    }

    #[test]
    fn a_watchlist_has_at_most_a_hundred_valid_ids() {
        assert_eq!(watchlist(r#"{"id":"ann"}"#), Ok(Vec::new()));
        assert_eq!(watchlist(r#"{"id":"ann","watchlist":null}"#), Ok(Vec::new()));
        assert_eq!(
            watchlist(r#"{"id":"ann","watchlist":["cat","bob",17,"bob"]}"#),
            Ok(vec!["17".to_owned(), "bob".to_owned(), "cat".to_owned()])
        );
        let of = |count| format!(r#"{{"watchlist":[{}]}}"#, vec!["1"; count].join(","));
        assert_eq!(watchlist(&of(MAX_WATCHLIST)), Ok(vec!["1".to_owned()]));
        assert_eq!(watchlist(&of(MAX_WATCHLIST + 1)), Err(WatchlistError::TooLong));
        for invalid in [r#"{"watchlist":"bob"}"#, r#"{"watchlist":[["bob"]]}"#, r#"{"watchlist":[null]}"#] {
            assert_eq!(watchlist(invalid), Err(WatchlistError::Invalid), "{invalid}");
        }
        assert!(matches!(watchlist(r#"{"watchlist":[""]}"#), Err(WatchlistError::Id(_))));
    }
}
