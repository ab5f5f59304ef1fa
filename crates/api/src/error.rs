//! Errors of commands: their numbers, texts and HTTP statuses.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use tidings_broker::BrokerError;
use tidings_cluster::ClusterError;
use tidings_hub::Failure;
use tidings_keys::{ApiIdentity, Scope};
use tidings_reload::ReloadError;
use tidings_wire::code::{self, Code};

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiError {
    /// A number of [`tidings_wire::code`].
    pub code: u16,
    /// The reason, for the backend.
    pub message: Cow<'static, str>,
}

impl ApiError {
    /// The error (108) of a request with a field that this server does not support.
    pub fn not_available(field: &str) -> Self {
        Self {
            code: code::NOT_AVAILABLE.number,
            message: format!("{}: {field}", code::NOT_AVAILABLE.text).into(),
        }
    }

    /// The error of an invalid request, with the reason.
    pub fn bad_request(reason: impl std::fmt::Display) -> Self {
        Self {
            code: code::BAD_REQUEST.number,
            message: format!("{}: {reason}", code::BAD_REQUEST.text).into(),
        }
    }

    /// The error of a key without a scope.
    pub fn missing_scope(identity: &ApiIdentity, scope: Scope) -> Self {
        let text = code::PERMISSION_DENIED.text;
        let message = format!("{text}: the key \"{}\" does not have the scope {scope}", identity.name);
        Self { code: code::PERMISSION_DENIED.number, message: message.into() }
    }

    /// Whether the same command may succeed later without any change.
    pub fn is_temporary(&self) -> bool {
        [code::INTERNAL, code::TOO_MANY_REQUESTS].iter().any(|temporary| temporary.number == self.code)
    }

    /// Encodes it as JSON.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a number and a text")
    }

    /// The HTTP status of the error, as in Centrifugo's documentation ("Transport error mode"). Two statuses are added:
    /// those of too many requests and of permission denied.
    pub fn status(&self) -> StatusCode {
        const NUMBERS: [(Code, StatusCode); 7] = [
            (code::UNKNOWN_CHANNEL, StatusCode::NOT_FOUND),
            (code::METHOD_NOT_FOUND, StatusCode::NOT_FOUND),
            (code::BAD_REQUEST, StatusCode::BAD_REQUEST),
            (code::NOT_AVAILABLE, StatusCode::BAD_REQUEST),
            (code::UNRECOVERABLE_POSITION, StatusCode::RANGE_NOT_SATISFIABLE),
            (code::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS),
            (code::PERMISSION_DENIED, StatusCode::FORBIDDEN),
        ];
        let known = NUMBERS.iter().find(|(code, _)| code.number == self.code);
        known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self { code: code.number, message: code.text.into() }
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Overloaded => code::TOO_MANY_REQUESTS.into(),
            BrokerError::NotPermitted => code::PERMISSION_DENIED.into(),
            BrokerError::Invalid(why) => Self::bad_request(why),
            BrokerError::Full(why) => Self { code: code::LIMIT_EXCEEDED.number, message: why.into() },
            other => Self { code: code::INTERNAL.number, message: other.to_string().into() },
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable => BrokerError::Unavailable.into(),
            Failure::Overloaded => BrokerError::Overloaded.into(),
            Failure::Error(rejection) => Self { code: rejection.code, message: rejection.text.into() },
            Failure::Disconnect(code, reason) => Self { code, message: reason.into() },
        }
    }
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        let code = match error {
            ClusterError::Broker(error) => return error.into(),
            ClusterError::TooLong | ClusterError::TooMany(_) | ClusterError::TooLarge => code::LIMIT_EXCEEDED,
            ClusterError::NoReceiver | ClusterError::NoSuchNode | ClusterError::Timeout(_) => code::INTERNAL,
        };
        Self { code: code.number, message: error.to_string().into() }
    }
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let code = match error {
            ReloadError::NoSources => code::NOT_AVAILABLE,
            ReloadError::Invalid(_) => code::BAD_REQUEST,
            ReloadError::TooMany => code::TOO_MANY_REQUESTS,
            ReloadError::Timeout | ReloadError::Stopped => code::INTERNAL,
        };
        Self { code: code.number, message: format!("{}: {error}", code.text).into() }
    }
}
