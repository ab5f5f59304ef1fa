//! The task of a stream: carries publications from the application to the shard of the client.

use std::sync::Arc;
use std::time::Duration;

use tidings_hooks::{HookStream, StreamPublication};
use tidings_hub::{SessionId, StreamId};
use tidings_log_throttle::LogThrottle;
use tidings_shard::{Mailbox, StreamDelivery};
use tidings_wire::{Channel, Extra, Publication};
use tokio::sync::{Notify, oneshot};

use crate::counters::{Direction, EndReason, OpenStream};

/// How long a delivery waits before it is offered again to a mailbox that was full.
const RETRY: Duration = Duration::from_millis(5);
/// The longest time between two attempts; each one doubles it.
const LONGEST_RETRY: Duration = Duration::from_millis(100);

/// The subscription of a stream.
pub(crate) struct Recipient {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) session: SessionId,
    pub(crate) channel: Channel,
}

/// Carries the publications of a stream when its subscription has begun, until one of both ends.
pub(crate) async fn run(
    stream: HookStream,
    recipient: Recipient,
    id: StreamId,
    start: Arc<Notify>,
    mut cancelled: oneshot::Receiver<()>,
    permit: OpenStream,
) {
    let carrying = async {
        start.notified().await;
        carry(stream, &recipient, id, &permit).await
    };
    let reason = tokio::select! {
        biased;
        _ = &mut cancelled => EndReason::Unsubscribed,
        reason = carrying => reason,
    };
    if reason != EndReason::Unsubscribed {
        // Also returns when the client has unsubscribed meanwhile.
        tokio::select! {
            _ = cancelled => {}
            () = deliver(&recipient, id, Vec::new()) => {}
        }
    }
    permit.end(reason);
}

/// Carries publications until the application ends the stream.
async fn carry(
    mut stream: HookStream,
    recipient: &Recipient,
    id: StreamId,
    permit: &OpenStream,
) -> EndReason {
    loop {
        match stream.next().await {
            Ok(Some(publications)) => {
                permit.counters().publications.add_many(Direction::ToClient, publications.len() as u64);
                let publication = |StreamPublication { body, tags }| {
                    let extra = (!tags.is_empty()).then(|| Box::new(Extra { tags, ..Extra::default() }));
                    let channel = recipient.channel.clone();
                    Arc::new(Publication { channel, body, position: None, extra })
                };
                deliver(recipient, id, publications.into_iter().map(publication).collect()).await;
            }
            Ok(None) => return EndReason::Ended,
            Err(reason) => {
                static LINES: LogThrottle = LogThrottle::new();
                if let Some(times) = LINES.count() {
                    tracing::warn!(
                        reason,
                        times,
                        "a stream of the application has failed, so its client subscribes again"
                    );
                }
                return EndReason::Failed;
            }
        }
    }
}

/// Delivers publications, or without any the end of the stream. Returns when the client's connection has taken them.
async fn deliver(recipient: &Recipient, stream: StreamId, publications: Vec<Arc<Publication>>) {
    let (taken_signal, taken) = oneshot::channel::<()>();
    let mut delivery = Box::new(StreamDelivery {
        channel: recipient.channel.clone(),
        session: recipient.session,
        stream,
        publications,
        permit: Box::new(taken_signal),
    });
    let mut pause = RETRY;
    while let Err(refused) = recipient.mailbox.deliver_stream(delivery) {
        delivery = refused;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_RETRY);
    }
    // The signal is dropped, never sent.
    let _ = taken.await;
}
