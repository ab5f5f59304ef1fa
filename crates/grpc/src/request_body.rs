//! The body of a request: one message, or messages that follow each other until the caller ends them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// The cost of a waiting message besides its bytes.
const OVERHEAD: usize = 128;

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    first: Option<Bytes>,
    rest: Option<Messages>,
}

/// The messages after the first one.
#[derive(Debug)]
struct Messages {
    messages: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// Appends messages to a body. The body ends when this is dropped.
#[derive(Debug)]
pub struct MessageSender {
    messages: mpsc::UnboundedSender<Bytes>,
    /// The cost of messages that the connection has not taken.
    waiting: Arc<AtomicUsize>,
    budget: usize,
}

/// Why a message was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The messages that wait have used the budget.
    Full,
    /// The call has ended.
    Ended,
}

impl RequestBody {
    /// A body with one message, which has its prefix ([`crate::frame`]).
    pub fn unary(message: Bytes) -> Self {
        Self { first: Some(message), rest: None }
    }

    /// A body with a first message, and the sender of later ones. At most `budget` bytes of messages wait for the connection, or
    /// one longer message.
    #[expect(clippy::disallowed_methods, reason = "the sender bounds the messages in bytes")]
    pub fn streaming(first: Bytes, budget: usize) -> (Self, MessageSender) {
        let (sender, messages) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        let rest = Messages { messages, waiting: Arc::clone(&waiting) };
        let sender = MessageSender { messages: sender, waiting, budget };
        (Self { first: Some(first), rest: Some(rest) }, sender)
    }
}

impl MessageSender {
    /// Appends a message, which has its prefix. Does not block.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, message: Bytes) -> Result<(), SendError> {
        let cost = message.len() + OVERHEAD;
        let add = |waiting: usize| (waiting == 0 || waiting + cost <= self.budget).then_some(waiting + cost);
        if self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return Err(if self.messages.is_closed() { SendError::Ended } else { SendError::Full });
        }
        self.messages.send(message).map_err(|_| SendError::Ended)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        rest.messages.poll_recv(context).map(|message| {
            let message = message?;
            rest.waiting.fetch_sub(message.len() + OVERHEAD, Ordering::Relaxed);
            Some(Ok(Frame::data(message)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let mut hint = SizeHint::with_exact(first);
        if self.rest.is_some() {
            hint = SizeHint::default();
            hint.set_lower(first);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn next(body: &mut RequestBody) -> Poll<Option<Bytes>> {
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|frame| frame.map(|frame| frame.expect("infallible").into_data().expect("data")))
    }

    #[test]
    fn messages_follow_the_first_one_until_the_sender_is_dropped() {
        let (mut body, sender) = RequestBody::streaming(Bytes::from_static(b"a"), 1_000);
        assert_eq!(next(&mut body), Poll::Ready(Some(Bytes::from_static(b"a"))));
        assert!(next(&mut body).is_pending());
        assert_eq!(sender.send(Bytes::from_static(b"b")), Ok(()));
        assert_eq!(next(&mut body), Poll::Ready(Some(Bytes::from_static(b"b"))));
        drop(sender);
        assert_eq!(next(&mut body), Poll::Ready(None));
        let mut unary = RequestBody::unary(Bytes::from_static(b"a"));
        assert_eq!(next(&mut unary), Poll::Ready(Some(Bytes::from_static(b"a"))));
        assert!(unary.is_end_stream());
    }

    #[test]
    fn messages_that_wait_are_bounded_in_bytes() {
        let (mut body, sender) = RequestBody::streaming(Bytes::new(), 1_000);
        assert_eq!(sender.send(Bytes::from(vec![0; 5_000])), Ok(()), "one message may be longer");
        assert_eq!(sender.send(Bytes::new()), Err(SendError::Full));
        next(&mut body).is_ready().then(|| next(&mut body)).map(|p| assert!(p.is_ready())).expect("two");
        for _ in 0..2 {
            assert_eq!(sender.send(Bytes::from(vec![0; 300])), Ok(()));
        }
        assert_eq!(sender.send(Bytes::from(vec![0; 300])), Err(SendError::Full));
        drop(body);
        assert_eq!(sender.send(Bytes::from(vec![0; 300])), Err(SendError::Ended));
        assert_eq!(sender.send(Bytes::new()), Err(SendError::Ended));
    }
}
