//! Tables over plain HTTP: the WebSocket handshakes, pages as JSON, downloads, and rows from a backend.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use axum::Router as Routes;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::json;
use tidings_table::{Cancel, Control, Event, Format, ORIGINAL, Reader, Syntax};
use tokio::sync::mpsc;

use super::Service;
use super::board::Form;
use super::command;
use super::failure::Failure;
use super::making;
use super::message::{self, PageText};
use super::room::{Ask, Look};
use super::session::{self, Entry, blocking};

/// Most bytes of rows in one request.
const MAX_BODY: usize = 16 << 20;
/// How much of a download is read at once, and how many such pieces may wait for a peer.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

type Answer = Result<Response, Failure>;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut answer = (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response();
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}
