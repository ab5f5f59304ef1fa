//! The output of a session as a stream of messages: the length before each message, a varint in the client protocol, becomes the
//! prefix of gRPC. The messages themselves are passed on without a copy.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use tidings_grpc::{Code, Status, frame};

/// The pushes of a session, and the status of the call behind them.
pub(crate) struct Pushes {
    /// The output of the session; `None` behind its end.
    body: Option<Body>,
    messages: Messages,
}

impl Pushes {
    pub(crate) fn new(body: Body) -> Self {
        Self { body: Some(body), messages: Messages::default() }
    }
}

impl HttpBody for Pushes {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let me = &mut *self;
        loop {
            if let Some(part) = me.messages.next() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            let Some(body) = &mut me.body else { return Poll::Ready(None) };
            let status = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        me.messages.received = data;
                    }
                    if me.messages.is_broken {
                        Status::new(Code::Internal, "a message has no valid length")
                    } else {
                        continue;
                    }
                }
                // The last push of a session states why it has ended.
                None => Status::ok(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            };
            me.body = None;
            return Poll::Ready(Some(Ok(Frame::trailers(status.trailers()))));
        }
    }
}

/// Replaces the lengths in a sequence of messages that arrives in any parts.
#[derive(Debug, Default)]
struct Messages {
    received: Bytes,
    /// The bytes of the present message that have not arrived.
    left: usize,
    /// The beginning of a length.
    length: u64,
    shift: u32,
    /// A length was longer than ten bytes, so the boundaries of messages are lost.
    is_broken: bool,
}

impl Messages {
    /// The next part of the stream; `None` if nothing is left of what was received.
    fn next(&mut self) -> Option<Bytes> {
        let mut prefixes = BytesMut::new();
        while !self.is_broken && self.received.has_remaining() {
            if self.left > 0 {
                if !prefixes.is_empty() {
                    break;
                }
                let part = self.received.split_to(self.left.min(self.received.len()));
                self.left -= part.len();
                return Some(part);
            }
            let byte = self.received.get_u8();
            if self.shift > 28 {
                self.is_broken = true;
                break;
            }
            self.length |= u64::from(byte & 0x7f) << self.shift;
            self.shift += 7;
            if byte & 0x80 == 0 {
                let length = std::mem::take(&mut self.length);
                self.shift = 0;
                let Ok(prefix) = u32::try_from(length) else {
                    self.is_broken = true;
                    break;
                };
                self.left = prefix as usize;
                prefixes.reserve(frame::PREFIX);
                prefixes.extend_from_slice(&[0]);
                prefixes.extend_from_slice(&prefix.to_be_bytes());
            }
        }
        (!prefixes.is_empty()).then(|| prefixes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use proptest::prelude::*;

    use super::*;

    /// The body and the status for the output of a session in these parts.
    async fn converted(parts: Vec<Bytes>) -> (Bytes, Option<Status>) {
        let frames = parts.into_iter().map(|part| Ok::<_, axum::Error>(Frame::data(part)));
        let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let collected = Pushes::new(body).collect().await.expect("no error");
        let status = collected.trailers().and_then(Status::read);
        (collected.to_bytes(), status)
    }

    fn delimited(messages: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
        let (mut session, mut grpc) = (Vec::new(), Vec::new());
        for message in messages {
            let mut length = message.len();
            while length >= 0x80 {
                session.push(length as u8 | 0x80);
                length >>= 7;
            }
            session.push(length as u8);
            session.extend_from_slice(message);
            frame::write_with(&mut grpc, |out| out.extend_from_slice(message));
        }
        (session, grpc)
    }

    proptest! {
        #[test]
        fn messages_in_any_parts_become_messages_of_grpc(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8),
            cuts in prop::collection::vec(1..50_usize, 0..100),
        ) {
            let (session, grpc) = delimited(&messages);
            let mut rest = Bytes::from(session);
            let mut parts = Vec::new();
            for cut in cuts {
                parts.push(rest.split_to(cut.min(rest.len())));
            }
            parts.push(rest);
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (body, status) = runtime.block_on(converted(parts));
            prop_assert_eq!(&body[..], &grpc[..]);
            prop_assert_eq!(status, Some(Status::ok()));
        }
    }

    #[tokio::test]
    async fn a_length_that_is_none_ends_the_call_with_a_status() {
        let (body, status) = converted(vec![Bytes::from_static(b"\x01a\xff\xff\xff\xff\xff\xff")]).await;
        assert_eq!(&body[..], b"\0\0\0\0\x01a");
        // The end of the output comes first here; a session that continues gets the status at its next output.
        assert!(status.is_some());
    }
}
