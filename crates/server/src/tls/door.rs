//! The way of the line port's connections: out of a shard, through the handshake, and back to a shard.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tidings_shard::{Mailbox, Process, ShardMessage, Socket, TlsHandoff};
use tokio::runtime::Handle;

use super::{Outcome, Port, Tls};

/// Takes connections from shards and brings them back encrypted.
#[derive(Debug)]
pub(crate) struct Door {
    tls: Arc<Tls>,
    process: Arc<Process>,
    /// How many connections there may be, of all transports together.
    limit: usize,
    mailboxes: OnceLock<Vec<Arc<Mailbox>>>,
    next: AtomicUsize,
    runtime: Handle,
}

/// A connection's place among those of the process while no shard counts it.
struct Seat(Arc<Process>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    /// For a process with at most `limit` connections. Within a tokio runtime, which does the work.
    pub(crate) fn new(tls: Arc<Tls>, process: Arc<Process>, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            tls,
            process,
            limit,
            mailboxes: OnceLock::new(),
            next: AtomicUsize::new(0),
            runtime: Handle::current(),
        })
    }

    /// Where connections go when they are encrypted. To be called once, before the first one comes.
    pub(crate) fn set_mailboxes(&self, mailboxes: Vec<Arc<Mailbox>>) {
        let _ = self.mailboxes.set(mailboxes);
    }

    /// Gives an encrypted connection to the next shard.
    fn bring_in(&self, socket: Socket) {
        let Some(mailboxes) = self.mailboxes.get().filter(|all| !all.is_empty()) else { return };
        let next = self.next.fetch_add(1, Ordering::Relaxed) % mailboxes.len();
        mailboxes[next].post(ShardMessage::Connection(socket));
    }
}

/// What the shards know of it.
#[derive(Debug)]
pub(crate) struct Way(pub(crate) Arc<Door>);

impl TlsHandoff for Way {
    fn secure(&self, stream: TcpStream) {
        let door = Arc::clone(&self.0);
        let seat = Seat(Arc::clone(&door.process));
        if door.process.connections.fetch_add(1, Ordering::Relaxed) >= door.limit {
            door.tls.counters.count(Outcome::Refused);
            return;
        }
        self.0.runtime.spawn(async move {
            let accepted = match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => door.tls.accept(stream, Port::Line).await,
                Err(error) => return tracing::error!(%error, "a connection could not be watched"),
            };
            let Some(secured) = accepted else { return };
            let (stream, connection) = secured.into_inner();
            match stream.into_std() {
                Ok(stream) => {
                    // The shard counts it from here on.
                    drop(seat);
                    door.bring_in(Socket::tls(stream, connection));
                }
                Err(error) => tracing::debug!(%error, "a connection could not be handed over"),
            }
        });
    }
}
