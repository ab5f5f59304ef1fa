//! Channels and their users.

use std::collections::BTreeSet;

use axum::response::Response;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value, json};
use tidings_pusher::{App, ChannelKind, RequestError, check_channel, check_user_id, is_cache, user_id};
use tidings_wire::{Channel, ClientInfo, Pattern};

use crate::Api;
use crate::respond::{ApiError, ApiResult, json};

/// Requests for members in progress for one list of channels.
const READS: usize = 8;

/// The requested information about a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    users: bool,
    subscriptions: bool,
    cache: bool,
}

impl Info {
    /// Parses names separated by commas.
    pub(crate) fn parse(text: &str) -> ApiResult<Self> {
        let mut info = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "user_count" => info.users = true,
                "subscription_count" => info.subscriptions = true,
                "cache" => info.cache = true,
                other => return Err(RequestError::Info(other.chars().take(64).collect()).into()),
            }
        }
        Ok(info)
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether it is available for this channel.
    pub(crate) fn check(self, name: &str) -> ApiResult<()> {
        let is_available = !self.users || ChannelKind::of(name) == ChannelKind::Presence;
        if is_available { Ok(()) } else { Err(RequestError::NoUsers.into()) }
    }
}

impl Api {
    /// `GET /apps/{id}/channels`.
    pub(crate) async fn channel_list(&self, app: &App, filter: &str, info: &str) -> ApiResult<Response> {
        let info = Info::parse(info)?;
        if info.users && !filter.starts_with("presence-") {
            return Err(RequestError::NoUsers.into());
        }
        let counts = self.backend.channels(pattern(&app.channel(filter), "*")?).await?;
        let own = counts.into_iter().filter_map(|(channel, count)| {
            let name = channel.strip_prefix(&app.prefix)?;
            (check_channel(name).is_ok() && count > 0).then(|| (name.to_owned(), count))
        });
        let described = own.map(|(name, count)| async move {
            let mut about = Map::new();
            if info.users {
                about.insert("user_count".into(), self.user_ids(app, &name).await?.len().into());
            }
            if info.subscriptions {
                about.insert("subscription_count".into(), count.into());
            }
            Ok::<_, ApiError>((name, Value::Object(about)))
        });
        let channels: Map<String, Value> = stream::iter(described).buffered(READS).try_collect().await?;
        Ok(json(&json!({"channels": channels})))
    }

    /// `GET /apps/{id}/channels/{name}`.
    pub(crate) async fn channel(&self, app: &App, name: &str, info: &str) -> ApiResult<Response> {
        check_channel(name).map_err(|error| ApiError::new(400, error.to_string()))?;
        let info = Info::parse(info)?;
        info.check(name)?;
        let count = self.subscriptions(app, name).await?;
        let mut about = self.describe(app, name, Info { subscriptions: false, ..info }).await?;
        about["occupied"] = (count > 0).into();
        if info.subscriptions {
            about["subscription_count"] = count.into();
        }
        Ok(json(&about))
    }

    /// `GET /apps/{id}/channels/{name}/users`.
    pub(crate) async fn users(&self, app: &App, name: &str) -> ApiResult<Response> {
        check_channel(name).map_err(|error| ApiError::new(400, error.to_string()))?;
        if ChannelKind::of(name) != ChannelKind::Presence {
            return Err(ApiError::new(400, "users are available for presence channels only"));
        }
        let users = self.user_ids(app, name).await?;
        let users: Vec<Value> = users.into_iter().map(|id| json!({"id": id})).collect();
        Ok(json(&json!({"users": users})))
    }

    /// `POST /apps/{id}/users/{user}/terminate_connections`.
    pub(crate) async fn terminate(&self, app: &App, user: &str) -> ApiResult<Response> {
        check_user_id(user).map_err(|error| ApiError::new(400, error.to_string()))?;
        self.backend.disconnect(app.user(user)).await?;
        Ok(json(&json!({})))
    }

    /// The requested information about one channel.
    pub(crate) async fn describe(&self, app: &App, name: &str, info: Info) -> ApiResult<Value> {
        let mut about = Map::new();
        if info.users {
            about.insert("user_count".into(), self.user_ids(app, name).await?.len().into());
        }
        if info.subscriptions {
            about.insert("subscription_count".into(), self.subscriptions(app, name).await?.into());
        }
        if info.cache && is_cache(name) {
            let cached = self.backend.cached(channel(app, name)?).await?;
            let data = cached.map(|data| String::from_utf8_lossy(&data).into_owned());
            about.insert("cache".into(), data.map_or(Value::Null, |data| json!({"data": data})));
        }
        Ok(Value::Object(about))
    }

    async fn subscriptions(&self, app: &App, name: &str) -> ApiResult<u64> {
        let channel = app.channel(name);
        let counts = self.backend.channels(pattern(&channel, "")?).await?;
        Ok(counts.get(&channel).copied().unwrap_or(0))
    }

    /// The ids of the users in a presence channel.
    async fn user_ids(&self, app: &App, name: &str) -> ApiResult<BTreeSet<String>> {
        let members = self.backend.members(channel(app, name)?).await?;
        let id = |info: &ClientInfo| {
            let id = info.chan_info.as_deref().and_then(user_id);
            id.unwrap_or_else(|| if info.user.is_empty() { &info.client } else { &info.user }.clone())
        };
        Ok(members.iter().map(id).collect())
    }
}

fn channel(app: &App, name: &str) -> ApiResult<Channel> {
    Channel::new(app.channel(name)).map_err(|error| ApiError::new(400, error.to_string()))
}

/// A text as a part of a pattern that matches it literally.
pub fn escaped(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            glob.push('\\');
        }
        glob.push(letter);
    }
    glob
}

/// The pattern of names that begin with a text, with `end` after it.
fn pattern(text: &str, end: &str) -> ApiResult<Pattern> {
    Pattern::new(escaped(text) + end)
        .map_err(|error| ApiError::new(400, format!("filter_by_prefix: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_a_list_of_known_names() {
        let all = Info { users: true, subscriptions: true, cache: true };
        assert_eq!(Info::parse("user_count, subscription_count,cache").unwrap(), all);
        assert!(Info::parse("").unwrap().is_empty());
        assert_eq!(Info::parse("users").unwrap_err().status(), 400);
        assert!(all.check("presence-a").is_ok());
        assert_eq!(all.check("a").unwrap_err().status(), 400);
    }

    #[test]
    fn a_filter_matches_literally() {
        let pattern = pattern("shop:a[b]*", "*").unwrap();
        assert!(pattern.matches("shop:a[b]*c") && !pattern.matches("shop:abc"));
    }
}
