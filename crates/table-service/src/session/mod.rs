//! One viewer's WebSocket: what it says becomes asks to its room, what it is to see is written to it.
//!
//! Invariants:
//! - A binary message is handed on piece by piece as it is read, and never held whole.
//! - A message that is refused is read to its end and dropped; the connection and what it shows live on. Whoever
//!   goes on sending a file after they know that it was refused is told so once. Only what
//!   breaks the protocol, or is longer than any message may be, closes it, and the reason goes first.
//! - Whatever ends the connection, an upload that is under way ends with it.

mod read;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::ws;
use tidings_wire::ws::{CloseCode, Event, Kind, Opcode, ProtocolError, Reader, Role, Rules};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::access::Visitor;
use super::board::Form;
use super::command::{self, Command};
use super::failure::Failure;
use super::id::{self, TableId};
use super::message;
use super::outbox::Outbox;
use super::quota::Quota;
use super::room::{Ask, GONE, Join, Look, Seat};
use super::upload::Upload;
use super::{MAX_TOKEN, Service};
use write::Pulse;

/// Longest text message.
const MAX_TEXT: usize = 64 << 10;
/// Longest binary message within an upload.
const MAX_CHUNK: u64 = 1 << 20;
/// What a connection is closed with that may come again (RFC 6455's registry: 1013).
const AGAIN: CloseCode = CloseCode(1013);
/// How long a peer may take to read the last words and to say goodbye.
const LAST: Duration = Duration::from_secs(2);

/// What a connection asked for in its request.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) form: Form,
    /// The table; `None`: a new one, once there is a file.
    pub(super) id: Option<String>,
    /// What it says is the owner's secret.
    pub(super) secret: Option<String>,
    /// What it has shown of its client.
    pub(super) visitor: Visitor,
}

/// Serves a connection until it ends. `early` are bytes that were read behind the handshake.
pub(super) async fn serve<I>(service: Arc<Service>, io: I, early: Vec<u8>, entry: Entry)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut input, output) = tokio::io::split(io);
    let outbox = Arc::new(Outbox::default());
    let pulse = Pulse::new(&service, entry.form);
    let mut session = Session {
        service: Arc::clone(&service),
        form: entry.form,
        secret: entry.secret,
        visitor: entry.visitor,
        quota: None,
        outbox: Arc::clone(&outbox),
        seat: None,
        incoming: Incoming::Nothing,
        moved: Instant::now(),
        knows: false,
        reader: Reader::default(),
        message: Vec::new(),
    };
    let refused = match &entry.id {
        Some(id) => session.enter(id).await.err(),
        None => None,
    };
    let mut writing = std::pin::pin!(write::write(output, &outbox, &pulse, service.stopping.subscribe()));
    let ended = match refused {
        Some(failure) => {
            session.fail(&failure);
            let code = if failure.code == 404 { GONE } else { AGAIN };
            Some(Some((code, failure.message)))
        }
        None => tokio::select! {
            closing = session.read(&mut input, early, &pulse) => Some(closing),
            () = &mut writing => None,
        },
    };
    // An upload that was under way is over before anything else.
    session.incoming = Incoming::Nothing;
    if let Some(closing) = ended {
        outbox.close(closing);
        let _ = tokio::time::timeout(LAST, &mut writing).await;
    }
    session.leave().await;
    // Closing at once would take back what the peer has not read yet while it still sends (RFC 6455 §7.1.1).
    let rest = async {
        let mut scratch = vec![0; 16 << 10];
        while matches!(input.read(&mut scratch).await, Ok(1..)) {}
    };
    let _ = tokio::time::timeout(LAST, rest).await;
}

/// Why a connection is to be closed, and with which words; `None`: it has ended already.
type Closing = Option<(CloseCode, String)>;

/// What binary messages are at the moment.
enum Incoming {
    /// The next one is a whole file.
    Nothing,
    /// This one is a whole file.
    Whole(Upload),
    /// A file that was refused: dropped until its message ends.
    RefusedWhole,
    /// Each is a piece of a file.
    Chunks(Upload),
    /// Pieces of a file that was refused or has failed: dropped until the end is said.
    RefusedChunks,
}

struct Session {
    service: Arc<Service>,
    form: Form,
    secret: Option<String>,
    visitor: Visitor,
    /// What its uploads may take, once it was found out.
    quota: Option<Quota>,
    outbox: Arc<Outbox>,
    /// Its place in a room, once it has one.
    seat: Option<Seat>,
    incoming: Incoming,
    /// When the last of a file came, or began to be waited for.
    moved: Instant,
    /// Whether the peer knows that the upload was refused or has failed, as far as it has not been told twice.
    knows: bool,
    reader: Reader,
    /// The message that is being read, or what was not handed on of it.
    message: Vec<u8>,
}

impl Session {
    /// Takes a place in the room of a table that is there.
    async fn enter(&mut self, id: &str) -> Result<(), Failure> {
        let id: TableId = id.parse().map_err(|_| Failure::unknown())?;
        let (form, secret) = (self.form, self.secret.clone());
        let seat = self.service.ask(id, |reply| {
            let (secret, outbox) = (secret.clone(), Arc::clone(&self.outbox));
            Ask::Join(Join { form, secret, is_creator: false, outbox, reply })
        });
        self.seat = Some(seat.await?);
        Ok(())
    }

    /// Makes a table for this connection, which owns it unless it came as the article's page does.
    async fn create(&mut self) -> Result<(), Failure> {
        let secret = (self.form == Form::Tables).then(id::secret);
        let asks = self.service.create(secret.as_deref()).await?;
        let (reply, seat) = oneshot::channel();
        let outbox = Arc::clone(&self.outbox);
        let frame = secret.as_deref().map(message::owner);
        let join = Join { form: self.form, secret, is_creator: true, outbox, reply };
        let joined = asks.send(Ask::Join(join)).await;
        joined.map_err(|_| Failure::stopping())?;
        self.seat = Some(seat.await.map_err(|_| Failure::stopping())?);
        if let Some(frame) = frame {
            self.outbox.push(frame);
        }
        Ok(())
    }

    async fn leave(&mut self) {
        if let Some(seat) = self.seat.take() {
            let _ = seat.asks.send(Ask::Leave(seat.viewer)).await;
        }
    }

    /// Answers with an error.
    fn fail(&self, failure: &Failure) {
        self.service.counters.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.outbox.push(message::error(failure));
    }

    /// Answers with an error that ends an upload, or lets none begin.
    fn refuse(&self, failure: &Failure) {
        self.fail(failure);
        self.outbox.push(message::refused());
    }

    /// Answers with an error that ends the connection.
    fn too_big(&self, failure: Failure) -> Closing {
        self.fail(&failure);
        Some((CloseCode::TOO_BIG, failure.message))
    }

    /// A text message is whole.
    async fn text(&mut self, text: &str) {
        let outcome = match command::parse(text) {
            Ok(Command::Upload { name, size }) => return self.begin_chunks(Ok((name, size))).await,
            Ok(command) => self.obey(command).await,
            Err(failure) if command::is_upload(text) => return self.begin_chunks(Err(failure)).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            self.fail(&failure);
        }
    }

    /// A file is announced, if it can be. What follows is its pieces all the same, and dropped if it is refused.
    async fn begin_chunks(&mut self, announced: Result<(String, Option<u64>), Failure>) {
        if matches!(self.incoming, Incoming::Chunks(_)) {
            let under_way = Failure::new(409, "an upload is under way; end or abort it first");
            return self.fail(&announced.err().unwrap_or(under_way));
        }
        self.knows = false;
        let begun = match announced {
            Ok((name, size)) => self.begin(name, size).await,
            Err(failure) => Err(failure),
        };
        self.moved = Instant::now();
        self.incoming = match begun {
            Ok(upload) => Incoming::Chunks(upload),
            Err(failure) => {
                self.refuse(&failure);
                Incoming::RefusedChunks
            }
        };
    }

    async fn obey(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::UploadEnd | Command::UploadAbort => {
                let is_end = command == Command::UploadEnd;
                match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
                    Incoming::Chunks(upload) if is_end => upload.finish().await,
                    Incoming::Chunks(upload) => upload.abort().await,
                    Incoming::RefusedChunks => {}
                    _ => return Err(Failure::new(409, "no upload is under way")),
                }
                Ok(())
            }
            Command::Rows { from, count } => {
                let look = self.look().await?;
                let view = match self.form {
                    Form::Tables => look.view,
                    Form::Article => look.article.unwrap_or(look.view),
                };
                let _permit = self.service.queries.window(&view.reading().summary()).await;
                let page = blocking(move || view.page(from, count)).await??;
                self.outbox.push(message::rows(from, &page, look.about.version));
                Ok(())
            }
            Command::Facts => {
                let look = self.look().await?;
                let frame = super::facts::of(&self.service, look).await?;
                self.outbox.push(frame);
                Ok(())
            }
            Command::Owner(secret) => {
                let seat = self.seat.as_mut().ok_or_else(Failure::empty)?;
                let (reply, outcome) = oneshot::channel();
                let sent = seat.asks.send(Ask::Own { viewer: seat.viewer, secret, reply }).await;
                sent.map_err(|_| Failure::unknown())?;
                outcome.await.unwrap_or_else(|_| Err(Failure::unknown()))?;
                seat.is_owner = true;
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
            command => {
                let seat = self.seat.as_ref().ok_or_else(Failure::empty)?;
                let (done, outcome) = oneshot::channel();
                let sent = seat.asks.send(Ask::Do { viewer: seat.viewer, command, done }).await;
                sent.map_err(|_| Failure::unknown())?;
                outcome.await.unwrap_or_else(|_| Err(Failure::unknown()))
            }
        }
    }

    async fn look(&self) -> Result<Look, Failure> {
        let seat = self.seat.as_ref().ok_or_else(Failure::empty)?;
        let (reply, look) = oneshot::channel();
        seat.asks.send(Ask::Look(reply)).await.map_err(|_| Failure::unknown())?;
        look.await.unwrap_or_else(|_| Err(Failure::unknown()))
    }

    /// Finds out whether this connection may make tables and upload. The owner of a table may, whatever else it has shown.
    async fn authorize(&mut self) -> Result<Quota, Failure> {
        let is_owner = self.seat.as_ref().is_some_and(|seat| seat.is_owner);
        if is_owner && let Some(quota) = &self.quota {
            return Ok(quota.clone());
        }
        let access = &self.service.access;
        let quota = match access.authorize(&self.visitor).await {
            Ok(quota) => quota,
            Err(_) if is_owner => access.owner_quota(&self.visitor),
            Err(failure) => {
                self.service.counters.unauthorized.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return Err(failure);
            }
        };
        self.quota = Some(quota.clone());
        Ok(quota)
    }

    /// Begins an upload, in a new table if this connection has none.
    async fn begin(&mut self, name: String, size: Option<u64>) -> Result<Upload, Failure> {
        if let Some(size) = size.filter(|size| *size > self.service.options.max_size) {
            tracing::debug!(size, "an upload was announced too large");
            return Err(Failure::too_large(self.service.options.max_size));
        }
        let quota = self.authorize().await?;
        if self.seat.is_none() {
            self.create().await?;
        }
        let Some(seat) = &self.seat else { return Err(Failure::internal()) };
        let (reply, upload) = oneshot::channel();
        let sent = seat.asks.send(Ask::Upload { viewer: seat.viewer, name, size, quota, reply }).await;
        sent.map_err(|_| Failure::unknown())?;
        upload.await.unwrap_or_else(|_| Err(Failure::unknown()))
    }
}

/// Runs what waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(run).await.map_err(|_| Failure::internal())
}
