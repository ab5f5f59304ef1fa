//! The WebSocket of one viewer: its messages become requests to its room, and views and responses are written to it.
//!
//! Invariants:
//! - A binary message is forwarded in pieces as it is read, and never held completely.
//! - After its Close frame the server waits at most [`CLOSE_WAIT`] for the client's (RFC 6455 §7.1.1).
//! - A rejected message is read to its end and discarded; the connection stays open. A client that continues a rejected
//!   upload after it has received the error receives one more error. Only a protocol violation, or a message above
//!   every limit, closes the connection, after an error message with the reason.
//! - A running upload ends with its connection.
//! - Messages count into the limits of the client's address and user. Beyond them a text message is answered with an
//!   error and not executed, a ping is not answered, and a file is read more slowly.

mod counted;
mod read;
mod stalled_upload;
mod write;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidings_audit::AuditEvent;
use tidings_otel::SpanKind;
use tidings_table_store::{Quota, TableId, secret};
use tidings_wire::ws;
use tidings_wire::ws::{CloseCode, Event, Kind, Opcode, ProtocolError, Reader, Role, Rules};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::access::{Usage, Visitor};
use super::broadcast::ViewFormat;
use super::command::{self, Command, UploadOptions};
use super::failure::Failure;
use super::message;
use super::outbox::Outbox;
use super::page;
use super::people::Actor;
use super::room::{CLOSE_NO_TABLE, JoinRequest, RoomRequest, Snapshot, ViewerHandle};
use super::upload::Upload;
use super::{MAX_TOKEN, Service};
use counted::{ByteCounts, CountedStream};
use write::{Heartbeat, Written};

/// The longest text message.
const MAX_TEXT: usize = 64 << 10;
/// The longest binary message within an upload.
const MAX_CHUNK: u64 = 1 << 20;
/// The close code for a temporary error (RFC 6455's registry: 1013).
const CLOSE_TRY_AGAIN: CloseCode = CloseCode(1013);
/// The timeout of writing the last frame, and the time that a closed connection is read from.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval of attempts to charge a part of a file.
const CHARGE_INTERVAL: Duration = Duration::from_millis(20);
/// The timeout of the client's Close frame after the server's, as on every WebSocket of the server.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// The request of a handshake.
#[derive(Debug)]
pub(super) struct ConnectRequest {
    pub(super) form: ViewFormat,
    /// The table; `None`: a new one is created with the first upload.
    pub(super) id: Option<String>,
    /// The secret with which the client claims ownership.
    pub(super) secret: Option<String>,
    /// Whether the client is the command line.
    pub(super) is_cli: bool,
    /// The client.
    pub(super) visitor: Visitor,
}

/// Serves a connection until it ends. `early` are bytes that were read after the handshake.
pub(super) async fn serve<I>(service: Arc<Service>, io: I, early: Vec<u8>, entry: ConnectRequest)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let began = Instant::now();
    let address = entry.visitor.address;
    let counts = Arc::<ByteCounts>::default();
    let (mut input, output) = tokio::io::split(CountedStream::new(io, &counts));
    let outbox = Arc::new(Outbox::new(service.unread.clone()));
    let pulse = Heartbeat::new(&service, entry.form);
    let mut session = Session {
        service: Arc::clone(&service),
        form: entry.form,
        secret: entry.secret,
        name: None,
        key: None,
        actor: if entry.is_cli { Actor::Cli } else { Actor::Viewer },
        usage: service.access.usage(&entry.visitor),
        visitor: entry.visitor,
        quota: None,
        outbox: Arc::clone(&outbox),
        handle: None,
        table: None,
        incoming: Incoming::Nothing,
        last_upload_input: Instant::now(),
        has_received_error: false,
        reader: Reader::default(),
        message: Vec::new(),
    };
    let refused = match &entry.id {
        Some(id) => session.join(id).await.err(),
        None => None,
    };
    let mut writing = std::pin::pin!(write::write(output, &outbox, &pulse, service.stopping.subscribe()));
    // Whether the boundaries of the client's frames are still known.
    let is_in_step;
    let mut written = None;
    let ended = match refused {
        Some(failure) => {
            session.fail(&failure);
            let code = if failure.code == 404 { CLOSE_NO_TABLE } else { CLOSE_TRY_AGAIN };
            is_in_step = early.is_empty();
            Some(Some((code, failure.message)))
        }
        None => tokio::select! {
            closing = session.read(&mut input, early, &pulse) => {
                // The rest of the input is lost.
                is_in_step = false;
                Some(closing)
            }
            last = &mut writing => {
                is_in_step = !pulse.is_busy();
                written = Some(last);
                None
            }
        },
    };
    // A running upload ends first.
    session.incoming = Incoming::Nothing;
    if let Some(closing) = ended {
        outbox.close(closing);
        written = tokio::time::timeout(LAST_WRITE_TIMEOUT, &mut writing).await.ok();
    }
    session.leave().await;
    let close = written.as_mut().and_then(|written| written.close.take());
    if let Some(Written { mut io, has_sent_close, .. }) = written {
        if has_sent_close && is_in_step {
            let close = session.skip_to_close(&mut input);
            let _ = tokio::time::timeout(CLOSE_WAIT, close).await;
        }
        let _ = tokio::time::timeout(LAST_WRITE_TIMEOUT, io.shutdown()).await;
    }
    // A close while the client still sends would discard output that the client has not read yet (RFC 6455 §7.1.1).
    let rest = async {
        let mut scratch = vec![0; 16 << 10];
        while matches!(input.read(&mut scratch).await, Ok(1..)) {}
    };
    let _ = tokio::time::timeout(LAST_WRITE_TIMEOUT, rest).await;
    // As the shards log the end of their connections.
    let code = close.as_ref().map(|(code, _)| *code);
    // Without a reason the server only answers the client's Close frame.
    let reason = close.map(|(_, reason)| reason).filter(|reason| !reason.is_empty());
    let reason = reason.unwrap_or_else(|| "closed by the client".to_owned());
    tracing::debug!(
        table = session.table.map(|table| table.to_string()),
        address = address.map(|address| address.to_string()),
        transport = "http",
        dialect = "tables",
        seconds = began.elapsed().as_secs_f64(),
        received = counts.received.load(Ordering::Relaxed),
        sent = counts.sent.load(Ordering::Relaxed),
        code,
        reason,
        "a connection has ended"
    );
}

/// The code and the reason of a Close frame; `None`: the connection has already ended.
type Closing = Option<(CloseCode, String)>;

/// The meaning of binary messages.
enum Incoming {
    /// The next one is a complete file.
    Nothing,
    /// The current one is a complete file.
    Whole(Upload),
    /// A rejected file: discarded until the end of its message.
    RefusedWhole,
    /// Each one is a piece of a file.
    Chunks(Upload),
    /// Pieces of a rejected or failed file: discarded until `upload_end` or `upload_abort`.
    RefusedChunks,
}

struct Session {
    service: Arc<Service>,
    form: ViewFormat,
    secret: Option<String>,
    actor: Actor,
    /// The client's name, until it has joined a table.
    name: Option<String>,
    /// The key of the next file, until the client has joined a table.
    key: Option<Vec<String>>,
    visitor: Visitor,
    usage: Box<dyn Usage>,
    /// The quota of its uploads, after authorization.
    quota: Option<Quota>,
    outbox: Arc<Outbox>,
    /// The room, after the session has joined one.
    handle: Option<ViewerHandle>,
    /// The table of the room.
    table: Option<TableId>,
    incoming: Incoming,
    /// The time at which the last bytes of a file arrived, or the upload began.
    last_upload_input: Instant,
    /// Whether the client has received the error of its upload, and no second one.
    has_received_error: bool,
    reader: Reader,
    /// The bytes of the current message that were not forwarded yet.
    message: Vec<u8>,
}

impl Session {
    /// Joins the room of an existing table.
    async fn join(&mut self, id: &str) -> Result<(), Failure> {
        let id: TableId = id.parse().map_err(|_| Failure::unknown())?;
        let (form, secret, actor) = (self.form, self.secret.clone(), self.actor);
        let handle = self.service.request(id, |reply| {
            let (secret, outbox) = (secret.clone(), Arc::clone(&self.outbox));
            RoomRequest::Join(JoinRequest { form, secret, actor, is_creator: false, outbox, reply })
        });
        self.handle = Some(handle.await?);
        self.table = Some(id);
        Ok(())
    }

    /// Creates a table that this connection owns, or that has no owner on the article's endpoint.
    async fn create(&mut self) -> Result<(), Failure> {
        let secret = (self.form == ViewFormat::Tables).then(secret);
        let (id, requests) = self.service.create(secret.as_deref()).await?;
        let (reply, handle) = oneshot::channel();
        let outbox = Arc::clone(&self.outbox);
        let frame = secret.as_deref().map(message::owner);
        let (form, actor) = (self.form, self.actor);
        let join = JoinRequest { form, secret, actor, is_creator: true, outbox, reply };
        let joined = requests.send(RoomRequest::Join(join)).await;
        joined.map_err(|_| Failure::stopping())?;
        self.handle = Some(handle.await.map_err(|_| Failure::stopping())?);
        self.table = Some(id);
        self.service
            .observers
            .audit
            .record(&AuditEvent::TableCreated { table: &id.to_string(), address: self.visitor.address });
        if let Some(frame) = frame {
            self.outbox.push(frame);
        }
        if let (Some(name), Some(handle)) = (self.name.take(), &self.handle) {
            let (done, _) = oneshot::channel();
            let request = RoomRequest::Command { viewer: handle.viewer, command: Command::Me(name), done };
            handle.requests.send(request).await.map_err(|_| Failure::stopping())?;
        }
        Ok(())
    }

    async fn leave(&mut self) {
        if let Some(handle) = self.handle.take() {
            let _ = handle.requests.send(RoomRequest::Leave(handle.viewer)).await;
        }
    }

    /// Sends an error.
    fn fail(&self, failure: &Failure) {
        self.service.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.outbox.push(message::error(failure));
    }

    /// Sends an error that ends or rejects an upload.
    fn refuse(&self, failure: &Failure) {
        self.fail(failure);
        self.outbox.push(message::refused());
    }

    /// Sends an error that closes the connection.
    fn too_big(&self, failure: Failure) -> Closing {
        self.fail(&failure);
        Some((CloseCode::TOO_BIG, failure.message))
    }

    /// Handles a complete text message.
    async fn text(&mut self, text: &str) {
        let allowed = match self.incoming {
            // The end of an upload is a part of it: the limits delay it, because a refused one would leave the upload open.
            Incoming::Chunks(_) | Incoming::RefusedChunks => {
                self.charge_part(text.len()).await;
                Ok(())
            }
            _ => self.usage.charge(text.len()),
        };
        let outcome = match allowed.and_then(|()| Ok(command::parse(text)?)) {
            Ok(Command::Upload(upload)) => return self.begin_chunks(Ok(upload)).await,
            Ok(command) => self.execute(command).await,
            Err(failure) if command::is_upload(text) => return self.begin_chunks(Err(failure)).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            self.fail(&failure);
        }
    }

    /// Begins an announced upload. If it is rejected, the following pieces are discarded.
    async fn begin_chunks(&mut self, announced: Result<UploadOptions, Failure>) {
        if matches!(self.incoming, Incoming::Chunks(_)) {
            let active = Failure::new(409, "an upload is running; end or abort it first");
            return self.fail(&announced.err().unwrap_or(active));
        }
        self.has_received_error = false;
        let begun = match announced {
            Ok(options) => self.begin(options).await,
            Err(failure) => Err(failure),
        };
        self.last_upload_input = Instant::now();
        self.incoming = match begun {
            Ok(upload) => Incoming::Chunks(upload),
            Err(failure) => {
                self.refuse(&failure);
                Incoming::RefusedChunks
            }
        };
    }

    async fn execute(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Rows { .. } | Command::Facts | Command::Private(Some(_))
                if self.service.unread.is_full() =>
            {
                Err(Failure::new(
                    503,
                    "too many viewers do not read their responses at the moment; try again",
                ))
            }
            Command::UploadEnd | Command::UploadAbort => {
                let is_end = command == Command::UploadEnd;
                match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
                    Incoming::Chunks(upload) if is_end => drop(upload.finish().await),
                    Incoming::Chunks(upload) => upload.abort().await,
                    Incoming::RefusedChunks => {}
                    _ => return Err(Failure::new(409, "no upload is running")),
                }
                Ok(())
            }
            Command::Rows { from, count, columns, private: true } => {
                let handle = self.handle.as_ref().ok_or_else(Failure::empty)?;
                let (reply, rows) = oneshot::channel();
                let positions = from..from.saturating_add(count as u64);
                let request = RoomRequest::PrivateRows { viewer: handle.viewer, positions, reply };
                handle.requests.send(request).await.map_err(|_| Failure::unknown())?;
                let (view, version) = rows.await.unwrap_or_else(|_| Err(Failure::unknown()))?;
                let _permit = self.service.queries.window(&view.reading().summary()).await;
                let frame = blocking(move || page::window(&view, from, count, columns, (version, true)));
                self.outbox.push(frame.await??);
                Ok(())
            }
            Command::Rows { from, count, columns, private: false } => {
                let snapshot = self.snapshot().await?;
                let view = match self.form {
                    ViewFormat::Tables => snapshot.view,
                    ViewFormat::Article => snapshot.article.unwrap_or(snapshot.view),
                };
                let _permit = self.service.queries.window(&view.reading().summary()).await;
                let version = snapshot.info.version;
                let frame =
                    blocking(move || page::window(&view, from, count, columns, (version, false))).await??;
                self.outbox.push(frame);
                Ok(())
            }
            Command::Facts => {
                let snapshot = self.snapshot().await?;
                let frame = super::facts::load(&self.service, snapshot).await?;
                self.outbox.push(frame);
                Ok(())
            }
            Command::Owner(secret) => {
                let handle = self.handle.as_mut().ok_or_else(Failure::empty)?;
                let (reply, outcome) = oneshot::channel();
                let sent = handle
                    .requests
                    .send(RoomRequest::ClaimOwnership { viewer: handle.viewer, secret, reply })
                    .await;
                sent.map_err(|_| Failure::unknown())?;
                outcome.await.unwrap_or_else(|_| Err(Failure::unknown()))?;
                handle.is_owner = true;
                self.outbox.push(message::is_owner());
                Ok(())
            }
            Command::Token(token) => {
                if token.len() > MAX_TOKEN {
                    return Err(Failure::bad(format!("a token may have {MAX_TOKEN} bytes")));
                }
                self.visitor.token = Some(token).filter(|token| !token.is_empty());
                self.quota = None;
                self.authorize().await?;
                self.outbox.push(message::may_upload());
                Ok(())
            }
            Command::Me(name) if self.handle.is_none() => {
                self.name = Some(name);
                Ok(())
            }
            Command::Key(key) if self.handle.is_none() => {
                self.key = Some(key);
                Ok(())
            }
            command => {
                let handle = self.handle.as_ref().ok_or_else(Failure::empty)?;
                let is_delete = command == Command::Delete;
                let (done, outcome) = oneshot::channel();
                let sent =
                    handle.requests.send(RoomRequest::Command { viewer: handle.viewer, command, done }).await;
                sent.map_err(|_| Failure::unknown())?;
                outcome.await.unwrap_or_else(|_| Err(Failure::unknown()))?;
                if let Some(table) = self.table.filter(|_| is_delete) {
                    self.service.observers.audit.record(&AuditEvent::TableDeleted {
                        table: &table.to_string(),
                        address: self.visitor.address,
                    });
                }
                Ok(())
            }
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Failure> {
        let handle = self.handle.as_ref().ok_or_else(Failure::empty)?;
        let (reply, snapshot) = oneshot::channel();
        handle.requests.send(RoomRequest::Snapshot(reply)).await.map_err(|_| Failure::unknown())?;
        snapshot.await.unwrap_or_else(|_| Err(Failure::unknown()))
    }

    /// Checks the permission to create tables and upload. The owner of a table may always upload to it.
    async fn authorize(&mut self) -> Result<Quota, Failure> {
        let is_owner = self.handle.as_ref().is_some_and(|handle| handle.is_owner);
        let access = &self.service.access;
        if is_owner && let Some(quota) = &self.quota {
            // With its limits of now: a reload may have changed them.
            return Ok(access.quota(&quota.key));
        }
        let quota = match access.authorize(&self.visitor).await {
            Ok(quota) => quota,
            Err(_) if is_owner => access.owner_quota(&self.visitor),
            Err(failure) => {
                self.service.counters.unauthorized.fetch_add(1, Ordering::Relaxed);
                return Err(failure);
            }
        };
        self.usage.set_user(quota.key.strip_prefix("user:").unwrap_or_default());
        self.quota = Some(quota.clone());
        Ok(quota)
    }

    /// Begins an upload, in a new table if this connection has none.
    async fn begin(&mut self, mut options: UploadOptions) -> Result<Upload, Failure> {
        if let Some(size) = options.size.filter(|size| *size > self.service.options.max_size) {
            tracing::debug!(size, "the announced size of an upload exceeds the limit");
            return Err(Failure::too_large(self.service.options.max_size));
        }
        let quota = self.authorize().await?;
        options.key = options.key.or_else(|| self.key.take());
        if self.handle.is_none() {
            self.create().await?;
        }
        let Some(handle) = &self.handle else { return Err(Failure::internal()) };
        let mut span = self.service.observers.tracer.operation("table upload", SpanKind::Server);
        if let Some(table) = self.table.filter(|_| span.is_recorded()) {
            span.set("tidings.table", table.to_string());
        }
        let (reply, upload) = oneshot::channel();
        let sent =
            handle.requests.send(RoomRequest::Upload { viewer: handle.viewer, options, quota, reply }).await;
        sent.map_err(|_| Failure::unknown())?;
        let mut upload = upload.await.unwrap_or_else(|_| Err(Failure::unknown()))?;
        upload.span = span;
        Ok(upload)
    }
}

/// Runs a closure on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(run).await.map_err(|_| Failure::internal())
}
