//! Receives the message of a request. Its length is known before memory for it is needed: it is in the prefix of the message, because
//! clients of gRPC send no `content-length`.

use axum::body::Body;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tidings_grpc::frame::Announced;
use tidings_grpc::{Code, MessageEncoding, Status, frame};

/// A message of which the prefix has been received.
#[derive(Debug)]
pub struct IncomingMessage {
    body: Body,
    received: BytesMut,
    encoding: MessageEncoding,
    announced: Announced,
    most: usize,
}

impl IncomingMessage {
    /// Receives the prefix of a message of at most `most` bytes, in a call with this compression. Holds one frame of HTTP/2 at most.
    ///
    /// # Errors
    /// As [`frame::announced`] and [`MessageEncoding::check`]; [`Code::InvalidArgument`] for a body that ends before.
    pub async fn begin(mut body: Body, encoding: MessageEncoding, most: usize) -> Result<Self, Status> {
        let mut received = BytesMut::new();
        loop {
            if let Some(announced) = frame::announced(&received, most)? {
                encoding.check(announced.is_compressed)?;
                return Ok(Self { body, received, encoding, announced, most });
            }
            let data = next(&mut body).await?.ok_or_else(frame::not_single)?;
            received.extend_from_slice(&data);
        }
    }

    /// The bytes that the message may need: its length, or the longest one if it is compressed.
    pub fn length(&self) -> usize {
        if self.announced.is_compressed { self.most } else { self.announced.length }
    }

    /// Receives the message and the end of the body.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a body that is not exactly this message; those of [`MessageEncoding::decode`].
    pub async fn finish(mut self) -> Result<Bytes, Status> {
        let whole = frame::PREFIX + self.announced.length;
        self.received.reserve(whole.saturating_sub(self.received.len()));
        loop {
            if self.received.len() > whole {
                return Err(frame::not_single());
            }
            let Some(data) = next(&mut self.body).await? else { break };
            if data.len() > whole - self.received.len() {
                return Err(frame::not_single());
            }
            self.received.extend_from_slice(&data);
        }
        if self.received.len() < whole {
            return Err(frame::not_single());
        }
        self.received.advance(frame::PREFIX);
        self.encoding.decode(self.received.freeze(), self.announced.is_compressed, self.most)
    }
}

/// The next bytes of a body; `None` at its end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Status> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => {
                return Err(Status::new(Code::InvalidArgument, format!("the body is incomplete: {error}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    /// Receives a body that arrives in these parts.
    async fn receive(parts: &[&'static [u8]]) -> Result<Bytes, Code> {
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, axum::Error>(http_body::Frame::data(Bytes::from_static(part))))
            .collect();
        let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let message =
            IncomingMessage::begin(body, MessageEncoding::Identity, 3).await.map_err(|status| status.code)?;
        message.finish().await.map_err(|status| status.code)
    }

    #[tokio::test]
    async fn a_message_arrives_in_any_parts() {
        for parts in
            [&[&b"\0\0\0\0\x03abc"[..]][..], &[b"\0\0", b"\0\0\x03a", b"", b"bc"], &[b"\0\0\0\0\x03", b"abc"]]
        {
            assert_eq!(receive(parts).await, Ok(Bytes::from_static(b"abc")), "{parts:?}");
        }
        assert_eq!(receive(&[b"\0\0\0\0\0"]).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_body_of_another_shape_is_refused_with_its_reason() {
        for (parts, code) in [
            (&[][..], Code::InvalidArgument),
            (&[&b"\0\0"[..]][..], Code::InvalidArgument),
            (&[b"\0\0\0\0\x02a"], Code::InvalidArgument),
            (&[b"\0\0\0\0\x01ab"], Code::InvalidArgument),
            (&[b"\0\0\0\0\x01", b"ab"], Code::InvalidArgument),
            (&[b"\0\0\0\0\0\0\0\0\0\0"], Code::InvalidArgument),
            (&[b"\x01\0\0\0\x01a"], Code::Internal),
            (&[b"\x02\0\0\0\x01a"], Code::Unimplemented),
            (&[b"\0\0\0\0\x04"], Code::ResourceExhausted),
            (&[b"\0\xff\xff\xff\xff"], Code::ResourceExhausted),
        ] {
            assert_eq!(receive(parts).await, Err(code), "{parts:?}");
        }
    }
}
