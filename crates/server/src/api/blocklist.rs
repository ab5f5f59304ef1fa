//! The methods that block users and revoke tokens, on all nodes; see [`crate::blocklist_sync`].

use std::time::{SystemTime, UNIX_EPOCH};

use tidings_api::command::{BlockUser, InvalidateUserTokens, RevokeToken, UnblockUser};
use tidings_api::{ApiError, CommandReply, CommandResult};

use super::Services;
use super::arguments::expiry_time;
use tidings_cluster::blocklist::{Block, BlockSubject};

/// Longest name of a user or id of a token, in bytes.
const MAX_NAME: usize = 1_024;

pub(super) async fn block_user(services: &Services, request: BlockUser) -> CommandReply {
    let BlockUser { user, expire_at } = request;
    let block = Block {
        subject: BlockSubject::User(check_name("user", user)?),
        expire_at: expiry_time(expire_at)?.unwrap_or(0),
        issued_before: 0,
    };
    services.blocklist.block(block).await?;
    Ok(CommandResult::Done {})
}

pub(super) async fn unblock_user(services: &Services, request: UnblockUser) -> CommandReply {
    services.blocklist.unblock(BlockSubject::User(check_name("user", request.user)?)).await?;
    Ok(CommandResult::Done {})
}

pub(super) async fn revoke_token(services: &Services, request: RevokeToken) -> CommandReply {
    let RevokeToken { jti, expire_at } = request;
    let block = Block {
        subject: BlockSubject::Token(check_name("jti", jti)?),
        expire_at: expiry_time(expire_at)?.unwrap_or(0),
        issued_before: 0,
    };
    services.blocklist.block(block).await?;
    Ok(CommandResult::Done {})
}

pub(super) async fn invalidate_user_tokens(
    services: &Services,
    request: InvalidateUserTokens,
) -> CommandReply {
    let InvalidateUserTokens { user, issued_before, expire_at, channel } = request;
    if !channel.is_empty() {
        // Without this check all tokens of the user would become invalid.
        return Err(ApiError::not_available("channel"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let issued_before = match u64::try_from(issued_before) {
        Ok(0) => now,
        Ok(time) if time <= now => time,
        _ => {
            return Err(ApiError::bad_request(
                "issued_before must be a time in Unix seconds, not in the future",
            ));
        }
    };
    let block = Block {
        subject: BlockSubject::UserTokens(check_name("user", user)?),
        expire_at: expiry_time(expire_at)?.unwrap_or(0),
        issued_before,
    };
    services.blocklist.block(block).await?;
    Ok(CommandResult::Done {})
}

/// Checks that a name is not empty and not too long.
fn check_name(field: &str, name: String) -> Result<String, ApiError> {
    match name.len() {
        0 => Err(ApiError::bad_request(format_args!("{field} is required"))),
        1..=MAX_NAME => Ok(name),
        length => {
            Err(ApiError::bad_request(format_args!("{field} has {length} bytes, more than {MAX_NAME}")))
        }
    }
}
