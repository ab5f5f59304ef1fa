//! Streams of subscriptions: the application accepts a subscription with a stream of publications, which go to that subscription
//! alone (Centrifugo's "Proxy subscription streams").
//!
//! [`Streams::open`] opens a stream with the hook ([`tidings_hooks`]) and starts a task, which carries its publications to the shard of the
//! client. The admission has a lease of the stream; the task ends when the subscription drops it.
//!
//! Invariants:
//! - A stream is open only while its subscription is, or is being decided.
//! - The number of streams is bounded. A stream has one batch of publications under way, of at most 16 KiB or one publication: the next one is read
//!   when the client's connection has taken it, and meanwhile flow control stops the application.
//! - The end of a stream ends its subscription with code 2500, so that the client subscribes again, behind all publications of
//!   the stream.

mod counters;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidings_hooks::{Hooks, OpenedStream, StreamSender};
use tidings_hub::{
    Admission, Failure, Namespaces, Rejection, Requester, StreamId, StreamLease, SubscriptionStream,
};
use tidings_shard::Reply;
use tidings_wire::{Channel, code};
use tokio::sync::{Notify, oneshot};

use self::counters::{Counters, Direction, OpenStream};
use self::task::Recipient;

/// The streams of a node.
#[derive(Debug, Default)]
pub struct Streams {
    counters: Arc<Counters>,
    /// The number of the next stream.
    next: AtomicU64,
}

/// A stream, as its lease has it.
struct Stream {
    id: StreamId,
    start: Arc<Notify>,
    sender: Option<StreamSender>,
    counters: Arc<Counters>,
    /// Cancels the stream when it is dropped.
    _alive: oneshot::Sender<()>,
}

impl SubscriptionStream for Stream {
    fn id(&self) -> StreamId {
        self.id
    }

    fn start(&self) {
        self.start.notify_one();
    }

    fn publish(&self, body: Bytes) -> Result<(), Failure> {
        let sender = self.sender.as_ref().ok_or_else(|| Rejection::from(code::PERMISSION_DENIED))?;
        sender.publish(body)?;
        self.counters.publications.add(Direction::ToApplication);
        Ok(())
    }

    fn is_bidirectional(&self) -> bool {
        self.sender.is_some()
    }
}

impl Streams {
    /// Opens a stream for the subscription of the session that `reply` answers, while fewer than `limit` streams are open. `None` if the
    /// namespace of the channel has no streams.
    ///
    /// # Errors
    /// Why the subscription is rejected: by the application, or with the temporary error 111 because of the limit.
    pub async fn open(
        &self,
        (hooks, limit): (&Hooks, usize),
        namespaces: &Namespaces,
        requester: &Requester,
        (channel, data): (&Channel, Option<&[u8]>),
        reply: &Reply,
    ) -> Option<Result<Admission, Failure>> {
        let options = namespaces.options(channel.as_str()).ok()?;
        if !options.subscribe_stream_proxy {
            return None;
        }
        let Some(permit) = OpenStream::begin(&self.counters, limit) else {
            hooks.refuse_stream(namespaces, channel, limit);
            return Some(Err(Rejection::from(code::TOO_MANY_REQUESTS).into()));
        };
        let opened = hooks.open_stream(namespaces, requester, channel, data).await?;
        let recipient = Recipient {
            mailbox: Arc::clone(reply.mailbox()),
            session: reply.session(),
            channel: channel.clone(),
        };
        Some(opened.map(|opened| self.begin(opened, recipient, permit)))
    }

    /// Starts the task of an accepted stream. Returns the admission with the lease.
    fn begin(&self, opened: OpenedStream, recipient: Recipient, permit: OpenStream) -> Admission {
        let OpenedStream { admission, stream, sender } = opened;
        let id = StreamId::new(self.next.fetch_add(1, Ordering::Relaxed));
        let start = Arc::<Notify>::default();
        let (alive, cancelled) = oneshot::channel();
        tokio::spawn(task::run(stream, recipient, id, Arc::clone(&start), cancelled, permit));
        let counters = Arc::clone(&self.counters);
        let lease = StreamLease::new(Arc::new(Stream { id, start, sender, counters, _alive: alive }));
        Admission { stream: Some(lease), ..admission }
    }

    /// The metrics of all streams.
    pub fn metrics(&self) -> impl tidings_metrics::Collect + use<> {
        Arc::clone(&self.counters)
    }
}
