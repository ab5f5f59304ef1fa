//! The interface through which the server accepts clients: WebSocket handshakes, identity, the permission to upload,
//! quotas.

use std::fmt;
use std::io;
use std::net::IpAddr;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidings_table_store::Quota;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::failure::Failure;

/// Decisions about clients.
///
/// Invariants:
/// - The permission to upload is checked before a byte of a file is read, on every path on which files arrive. The
///   owner of a table may always upload to it.
/// - A wrong token or key is an error and never an anonymous client.
pub trait Access: Send + Sync {
    /// The client that sends this request.
    fn visitor(&self, request: &Request) -> Visitor;

    /// Decides whether a client may create tables and upload files.
    ///
    /// The error is 401 without credentials or with wrong ones, 403 when they do not suffice, and 503 when the decision
    /// cannot be made now.
    fn authorize<'a>(&'a self, visitor: &'a Visitor) -> BoxFuture<'a, Result<Quota, Failure>>;

    /// The quota of a client that uploads by the owner's secret alone.
    fn owner_quota(&self, visitor: &Visitor) -> Quota;

    /// The address that a client's downloads of views are counted for, and the most of them at a time; `None` without a
    /// limit.
    fn download_limit(&self, visitor: &Visitor) -> Option<(IpAddr, usize)>;

    /// The quota that belongs to a [`Quota::key`].
    fn quota(&self, key: &str) -> Quota;

    /// The usage limits of a client that has connected.
    fn usage(&self, visitor: &Visitor) -> Box<dyn Usage>;

    /// Responds to a WebSocket handshake. The future resolves after the response was sent; it fails when the connection
    /// breaks before.
    ///
    /// # Errors
    /// The response to a request that does not become a WebSocket.
    #[expect(clippy::result_large_err, reason = "the refusal is a response, made once and sent")]
    fn accept(&self, request: Request) -> Result<(Response, PendingConnection), Response>;
}

/// The limits on the commands and bytes of a client (`limits.address`, `limits.user`), over all of its connections.
pub trait Usage: Send + Sync {
    /// Sets the user; an empty name is an anonymous client.
    fn set_user(&mut self, user: &str);

    /// Charges a message of this many bytes.
    ///
    /// # Errors
    /// 429 with the name of the limit. The refusal is counted, and the message must not be executed.
    fn charge(&self, bytes: usize) -> Result<(), Failure>;

    /// Charges a part of a file of this many bytes, if the limits allow one now.
    fn charge_part(&self, bytes: usize) -> bool;
}

/// A connection that is available after the response to its handshake was sent.
pub type PendingConnection = BoxFuture<'static, io::Result<Connection>>;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection after its WebSocket handshake.
pub struct Connection {
    /// The raw stream. Written bytes are sent with the next flush.
    pub stream: Box<dyn Stream>,
    /// Bytes that arrived after the handshake.
    pub received: Bytes,
    /// The connection's permit, held until the connection ends.
    pub permit: Box<dyn Send>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("received", &self.received.len()).finish_non_exhaustive()
    }
}

/// A client, described by its handshake.
#[derive(Clone, Default)]
pub struct Visitor {
    /// The client's address, if it is available.
    pub address: Option<IpAddr>,
    /// The headers that the application's hook receives; empty without a hook.
    pub headers: Vec<(String, String)>,
    /// The API key of the handshake.
    pub api_key: Option<Vec<u8>>,
    /// The connection token of the handshake or of a later message.
    pub token: Option<String>,
}

impl fmt::Debug for Visitor {
    /// Omits headers, key and token, which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor").field("address", &self.address).finish_non_exhaustive()
    }
}
