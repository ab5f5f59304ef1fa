//! Responses.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use crate::Failure;

/// A response, or the error of the request.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// The status and the text of an error.
#[derive(Debug)]
pub(crate) struct ApiError(Failure);

impl ApiError {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self(Failure { status, text: text.into() })
    }

    pub(crate) fn status(&self) -> u16 {
        self.0.status
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<tidings_pusher::RequestError> for ApiError {
    fn from(error: tidings_pusher::RequestError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl From<ApiError> for Response {
    fn from(ApiError(Failure { status, text }): ApiError) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, format!("{text}\n")).into_response()
    }
}

/// A response in JSON.
pub(crate) fn json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
