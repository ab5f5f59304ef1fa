//! Streams of publications that the application sends for a subscription, over gRPC (`SubscribeUnidirectional` and
//! `SubscribeBidirectional`).
//!
//! The first message of a stream decides about the subscription. Unlike in other hooks, one without a result, an error and a disconnect
//! accepts it, as in Centrifugo: the server has implemented the method and has sent a message, so it is the application.

use bytes::Bytes;
use prost::Message as _;
use tidings_grpc::messages::proxy;
use tidings_grpc::{SendError, frame};
use tidings_hub::{Admission, Failure, Rejection, Requester};
use tidings_otel::SpanKind;
use tidings_outbound::{GrpcStream, OutboundError, StreamRequest};
use tidings_wire::code;

use crate::hook::{Hook, HookBody as _, MAX_RESPONSE, Transport};
use crate::request::HookRequest;
use crate::response::{self, HookOutcome};
use crate::{HookKind, grpc};

/// The path of the method without publications of the client.
const UNIDIRECTIONAL: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeUnidirectional";
/// The path of the method with publications of the client.
const BIDIRECTIONAL: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeBidirectional";
/// Most bytes of publications that are returned together, or one longer publication.
const BATCH: usize = 16 << 10;
/// Counted for each message besides its bytes, so that a batch of short messages is bounded.
const MESSAGE_OVERHEAD: usize = 64;

/// A publication of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPublication {
    /// The body.
    pub body: Bytes,
    /// The tags.
    pub tags: Vec<(String, String)>,
}

/// A stream after its first message. The call is cancelled when it is dropped.
pub struct HookStream {
    stream: GrpcStream,
    /// The end of the stream, when it was received behind publications.
    end: Option<Result<(), String>>,
}

/// Sends publications of the client to a stream.
#[derive(Debug)]
pub struct StreamSender(tidings_grpc::MessageSender);

impl StreamSender {
    /// Sends a publication. Does not block.
    ///
    /// # Errors
    /// The temporary error 111 if too many publications wait for the application, or 100 if the stream has ended.
    pub fn publish(&self, body: Bytes) -> Result<(), Failure> {
        let publication = proxy::Publication { data: body, ..proxy::Publication::default() };
        let message = proxy::StreamSubscribeRequest { publication: Some(publication), ..Default::default() };
        let mut framed = Vec::with_capacity(frame::PREFIX + message.encoded_len());
        frame::write_with(&mut framed, |out| {
            message.encode(out).expect("a vector has room for any message");
        });
        self.0.send(framed.into()).map_err(|error| {
            Rejection::from(match error {
                SendError::Full => code::TOO_MANY_REQUESTS,
                SendError::Ended => code::INTERNAL,
            })
            .into()
        })
    }
}

impl HookStream {
    /// The next publications of the application, at least one; `None` at the end of the stream.
    ///
    /// # Errors
    /// Why the stream has failed.
    pub async fn next(&mut self) -> Result<Option<Vec<StreamPublication>>, String> {
        if let Some(end) = self.end.take() {
            return end.map(|()| None);
        }
        let (mut publications, mut bytes) = (Vec::new(), 0);
        loop {
            let message = if publications.is_empty() {
                match self.stream.next().await.map_err(|error| error.to_string())? {
                    Some(message) => message,
                    None => return Ok(None),
                }
            } else {
                // Takes messages that are already received. A failure is returned after the publications that precede it.
                match self.stream.take() {
                    Ok(Some(message)) => message,
                    Ok(None) => return Ok(Some(publications)),
                    Err(error) => {
                        self.end = Some(Err(error.to_string()));
                        return Ok(Some(publications));
                    }
                }
            };
            bytes += message.len() + MESSAGE_OVERHEAD;
            match proxy::StreamSubscribeResponse::decode(message) {
                Ok(proxy::StreamSubscribeResponse { publication: Some(publication), .. }) => {
                    let proxy::Publication { data, tags } = publication;
                    publications.push(StreamPublication { body: data, tags: tags.into_iter().collect() });
                }
                // A message without a publication has no meaning yet.
                Ok(_) => {}
                Err(_) => {
                    let failure = "a message is not the one of this method".to_owned();
                    if publications.is_empty() {
                        return Err(failure);
                    }
                    self.end = Some(Err(failure));
                    return Ok(Some(publications));
                }
            }
            if bytes >= BATCH && !publications.is_empty() {
                return Ok(Some(publications));
            }
        }
    }
}

/// An accepted subscription with its stream.
pub struct OpenedStream {
    /// The properties of the subscription.
    pub admission: Admission,
    /// The publications for it.
    pub stream: HookStream,
    /// Takes the publications of its client, if the stream is bidirectional.
    pub sender: Option<StreamSender>,
}

impl Hook {
    /// Opens a stream for the subscription of `request`. It is bounded in time until its first message.
    ///
    /// # Errors
    /// The error or disconnect of the application; 100 without a valid first message.
    pub(crate) async fn open_stream(
        &self,
        requester: &Requester,
        request: &HookRequest<'_>,
        bidirectional: bool,
    ) -> Result<OpenedStream, Failure> {
        let counters = &self.counters;
        counters.calls.add(self.kind);
        let timer = counters.durations.start(self.kind);
        let mut span = tidings_otel::child(self.kind.span(), SpanKind::Client);
        if span.is_recorded() {
            span.set("url.full", self.to_string());
        }
        let mut headers = self.headers(requester, &[]);
        if let Some(context) = span.context() {
            context.set_header(&mut headers);
        }
        let opening = self.open(headers, request, bidirectional);
        let outcome = tokio::time::timeout(self.timeout, opening)
            .await
            .unwrap_or_else(|_| Err(OutboundError::TimedOut(self.timeout).to_string()));
        drop(timer);
        outcome.unwrap_or_else(|reason| {
            span.fail(&reason);
            counters.failures.add(self.kind);
            self.log_failure(&reason);
            Err(Rejection::from(code::INTERNAL).into())
        })
    }

    async fn open(
        &self,
        headers: http::HeaderMap,
        request: &HookRequest<'_>,
        bidirectional: bool,
    ) -> HookOutcome<OpenedStream> {
        let Transport::Streams(streams) = &self.transport else {
            return Err("a stream needs an endpoint of gRPC".to_owned());
        };
        let subscribe = request.message(HookKind::Subscribe);
        let (path, message) =
            if bidirectional { (BIDIRECTIONAL, embedded(&subscribe)) } else { (UNIDIRECTIONAL, subscribe) };
        let request =
            StreamRequest { path, headers, message: &message, sends: bidirectional, most: MAX_RESPONSE };
        let mut stream = streams.open(request).await.map_err(|error| error.to_string())?;
        let first = stream.next().await.map_err(|error| error.to_string())?;
        let first = first.ok_or("the stream has ended without a message")?;
        let admission = read_first(first).map_err(|reason| format!("the first message {reason}"))?;
        let sender = stream.sender.take().map(StreamSender);
        Ok(admission.map(|admission| {
            let stream = HookStream { stream, end: None };
            OpenedStream { admission, stream, sender }
        }))
    }
}

/// The message `StreamSubscribeRequest` with this encoded `SubscribeRequest`.
fn embedded(subscribe: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(subscribe.len() + 8);
    prost::encoding::bytes::encode(1, &subscribe.to_vec(), &mut message);
    message
}

/// Reads the first message of a stream.
fn read_first(message: Bytes) -> HookOutcome<Admission> {
    let message = proxy::StreamSubscribeResponse::decode(message)
        .map_err(|_| "is not the one of this method".to_owned())?;
    if message.publication.is_some() {
        return Err("has a publication".into());
    }
    let response = message.subscribe_response.unwrap_or_default().encode_to_vec();
    response::read_stream_subscribe(&grpc::to_json(HookKind::Subscribe, response.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_accepts_without_a_field_and_refuses_with_an_error() {
        let read = |message: proxy::StreamSubscribeResponse| read_first(message.encode_to_vec().into());
        let first = |response| proxy::StreamSubscribeResponse {
            subscribe_response: Some(response),
            ..Default::default()
        };
        assert_eq!(read(proxy::StreamSubscribeResponse::default()), Ok(Ok(Admission::default())));
        assert_eq!(read(first(proxy::SubscribeResponse::default())), Ok(Ok(Admission::default())));
        let result = proxy::SubscribeResult { data: Bytes::from_static(b"[1]"), ..Default::default() };
        let accepted = read(first(proxy::SubscribeResponse { result: Some(result), ..Default::default() }));
        assert_eq!(accepted.expect("valid").expect("accepted").data, Some(Bytes::from_static(b"[1]")));
        let error = proxy::Error { code: 403, message: "no".into(), temporary: false };
        let refused = read(first(proxy::SubscribeResponse { error: Some(error), ..Default::default() }));
        let rejection = Rejection { code: 403, text: "no".into(), temporary: false };
        assert_eq!(refused, Ok(Err(Failure::Error(rejection))));
        let publication = Some(proxy::Publication::default());
        assert!(read(proxy::StreamSubscribeResponse { publication, ..Default::default() }).is_err());
        assert!(read_first(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn the_request_of_a_bidirectional_stream_contains_that_of_a_subscription() {
        let subscribe = proxy::SubscribeRequest { channel: "a".into(), ..Default::default() };
        let message = proxy::StreamSubscribeRequest::decode(&*embedded(&subscribe.encode_to_vec()));
        assert_eq!(message.expect("a message").subscribe_request, Some(subscribe));
    }
}
