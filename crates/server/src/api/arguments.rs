//! Checks of arguments that several methods have.

use std::time::{SystemTime, UNIX_EPOCH};

use tidings_api::ApiError;
use tidings_hub::NamespaceOptions;
use tidings_wire::channel::RESERVED_PREFIX;
use tidings_wire::{Channel, code};

use super::Services;

/// Checks the channel name of a request. Returns the channel and its options.
///
/// # Errors
/// If the name is missing or invalid, its namespace does not exist, or the channel is internal.
pub(super) fn check_channel(
    services: &Services,
    name: &str,
) -> Result<(Channel, NamespaceOptions), ApiError> {
    if name.is_empty() {
        return Err(ApiError::bad_request("channel is required"));
    }
    let channel = Channel::new(name).map_err(ApiError::bad_request)?;
    if name.starts_with(RESERVED_PREFIX) {
        return Err(code::PERMISSION_DENIED.into());
    }
    let options = services.router.options(&channel).ok_or(code::UNKNOWN_CHANNEL)?;
    Ok((channel, options))
}

/// Checks an expiry time in Unix seconds; zero means none.
///
/// # Errors
/// If it has passed.
pub(super) fn expiry_time(seconds: i64) -> Result<Option<u64>, ApiError> {
    if seconds == 0 {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > now => Ok(Some(seconds)),
        _ => Err(ApiError::bad_request("expire_at must be a time in the future, in Unix seconds")),
    }
}
