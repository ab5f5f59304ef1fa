//! The method of the server API about shared polls.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tidings_api::ApiError;
use tidings_api::shared_poll::SharedPollPublish;
use tidings_hub::{NamespaceOptions, PollPublication};
use tidings_wire::{Channel, code};

use crate::delivery::Value;
use crate::polls::MAX_KEY;

/// The publication of a request, in a channel with these options.
///
/// # Errors
/// If the channel is not a shared poll with versions, or a field is invalid.
pub fn publication(
    channel: Channel,
    options: &NamespaceOptions,
    request: SharedPollPublish,
) -> Result<PollPublication, ApiError> {
    let not_available = |what: &str| ApiError {
        code: code::NOT_AVAILABLE.number,
        message: format!("{}: {what}", code::NOT_AVAILABLE.text).into(),
    };
    let Some(poll) = &options.shared_poll else {
        return Err(not_available("the channel is not a shared poll (subscription_type)"));
    };
    if !poll.versioned {
        return Err(not_available("values without versions are requested alone (shared_poll.mode)"));
    }
    let SharedPollPublish { key, data, b64data, version, epoch, .. } = request;
    if key.is_empty() || key.len() > MAX_KEY {
        let reason = format!("key must have 1 to {MAX_KEY} bytes, not {}", key.len());
        return Err(ApiError::bad_request(reason));
    }
    if version == 0 {
        return Err(ApiError::bad_request("version is required, from 1 on"));
    }
    let data: Option<Bytes> = match b64data.as_deref() {
        Some(text) if !text.is_empty() || data.is_none() => {
            let bytes = STANDARD.decode(text);
            Some(bytes.map_err(|error| ApiError::bad_request(format_args!("b64data: {error}")))?.into())
        }
        _ => data.map(|json| Box::<str>::from(json).into_string().into()),
    };
    let data = Some(data.ok_or_else(|| ApiError::bad_request("data is required"))?);
    Ok(PollPublication { channel, value: Value { key, data, version, removed: false }, epoch })
}
