//! The methods that block users and revoke tokens, on all nodes; see [`crate::blocking`].

use std::time::{SystemTime, UNIX_EPOCH};

use super::Services;
use super::command::{BlockUser, InvalidateUserTokens, RevokeToken, UnblockUser};
use super::methods::time;
use super::reply::{ApiError, Outcome, Reply};
use tidings_cluster::blocklist::{Block, Subject};

/// Longest name of a user or id of a token, in bytes.
const LONGEST: usize = 1_024;

pub(super) async fn block_user(services: &Services, request: BlockUser) -> Reply {
    let BlockUser { user, expire_at } = request;
    let block = Block {
        subject: Subject::User(named("user", user)?),
        expire_at: time(expire_at)?.unwrap_or(0),
        issued_before: 0,
    };
    services.blocking.block(block).await?;
    Ok(Outcome::Done {})
}

pub(super) async fn unblock_user(services: &Services, request: UnblockUser) -> Reply {
    services.blocking.unblock(Subject::User(named("user", request.user)?)).await?;
    Ok(Outcome::Done {})
}

pub(super) async fn revoke_token(services: &Services, request: RevokeToken) -> Reply {
    let RevokeToken { jti, expire_at } = request;
    let block = Block {
        subject: Subject::Token(named("jti", jti)?),
        expire_at: time(expire_at)?.unwrap_or(0),
        issued_before: 0,
    };
    services.blocking.block(block).await?;
    Ok(Outcome::Done {})
}

pub(super) async fn invalidate_user_tokens(services: &Services, request: InvalidateUserTokens) -> Reply {
    let InvalidateUserTokens { user, issued_before, expire_at } = request;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let issued_before = match u64::try_from(issued_before) {
        Ok(0) => now,
        Ok(time) if time <= now => time,
        _ => return Err(ApiError::bad("issued_before must be a time in Unix seconds, not in the future")),
    };
    let block = Block {
        subject: Subject::UserTokens(named("user", user)?),
        expire_at: time(expire_at)?.unwrap_or(0),
        issued_before,
    };
    services.blocking.block(block).await?;
    Ok(Outcome::Done {})
}

/// A name that is there and not too long.
fn named(field: &str, name: String) -> Result<String, ApiError> {
    match name.len() {
        0 => Err(ApiError::bad(format_args!("{field} is required"))),
        1..=LONGEST => Ok(name),
        length => Err(ApiError::bad(format_args!("{field} has {length} bytes, more than {LONGEST}"))),
    }
}
