//! Server reflection (`grpc.reflection.v1.ServerReflection`, and its identical version `v1alpha`), by which grpcurl and other
//! tools find the methods and their messages.
//!
//! Each message of the client's stream gets its response when it arrives; nothing else is kept of the stream. A stream ends when the
//! server stops, and after [`MAX_DURATION`], because it needs no key.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router as Routes;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use prost::{Message, Oneof};
use tidings_grpc::messages::DESCRIPTORS;
use tidings_grpc::{Code, MessageEncoding, Status, frame};
use tokio::sync::watch;

use crate::response::{check_request, with_type};
use crate::rpc::SERVICES;

/// Longest message of a client, in bytes.
const MAX_REQUEST: usize = 4 << 10;
/// Longest time of a stream. Tools open one for each call.
const MAX_DURATION: Duration = Duration::from_secs(60);

/// A `FileDescriptorSet`, whose files are passed on as they are.
#[derive(Clone, PartialEq, Message)]
struct DescriptorSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

/// The names in a `FileDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileNames {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Named>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) services: Vec<ServiceNames>,
}

/// The name in a `DescriptorProto` or a `MethodDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Named {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// The names in a `ServiceDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServiceNames {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) methods: Vec<Named>,
}

/// A file with its names.
pub(crate) struct DescribedFile {
    bytes: Bytes,
    pub(crate) parsed: FileNames,
}

impl DescribedFile {
    /// Whether it contains a message, a service or a method with this full name.
    fn defines(&self, symbol: &str) -> bool {
        let FileNames { package, messages, services, .. } = &self.parsed;
        let Some(rest) = symbol.strip_prefix(&**package).and_then(|rest| rest.strip_prefix('.')) else {
            return false;
        };
        let (first, method) = rest.split_once('.').map_or((rest, None), |(first, rest)| (first, Some(rest)));
        let is_message = || messages.iter().any(|message| message.name == first);
        let service = services.iter().find(|service| service.name == first);
        match (service, method) {
            (Some(service), Some(name)) => service.methods.iter().any(|method| method.name == name),
            (Some(_), None) => true,
            (None, _) => is_message(),
        }
    }
}

/// The files of the services.
pub(crate) fn descriptors() -> &'static [DescribedFile] {
    static FILES: OnceLock<Vec<DescribedFile>> = OnceLock::new();
    FILES.get_or_init(|| {
        let set = DescriptorSet::decode(DESCRIPTORS).expect("a set that protoc has written");
        let file = |bytes: Bytes| {
            let parsed = FileNames::decode(bytes.clone()).expect("a file that protoc has written");
            DescribedFile { bytes, parsed }
        };
        set.files.into_iter().map(file).collect()
    })
}

#[derive(Clone, PartialEq, Message)]
struct ReflectionRequest {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Query", tags = "3, 4, 5, 6, 7")]
    query: Option<Query>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Query {
    #[prost(string, tag = "3")]
    FileByFilename(String),
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    #[prost(bytes = "bytes", tag = "5")]
    FileContainingExtension(Bytes),
    #[prost(string, tag = "6")]
    AllExtensionNumbersOfType(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, Message)]
struct ReflectionResponse {
    #[prost(string, tag = "1")]
    valid_host: String,
    #[prost(message, optional, tag = "2")]
    original_request: Option<ReflectionRequest>,
    #[prost(oneof = "Outcome", tags = "4, 6, 7")]
    outcome: Option<Outcome>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Outcome {
    /// The files.
    #[prost(message, tag = "4")]
    Files(DescriptorSet),
    /// The services.
    #[prost(message, tag = "6")]
    Services(ListedServices),
    /// Nothing was found.
    #[prost(message, tag = "7")]
    Error(ReflectionError),
}

#[derive(Clone, PartialEq, Message)]
struct ListedServices {
    #[prost(message, repeated, tag = "1")]
    services: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct ReflectionError {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The routes of both versions. Streams end when `draining` becomes true.
pub fn routes(draining: watch::Receiver<bool>) -> Routes {
    Routes::new()
        .route("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", any(reflect))
        .route("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", any(reflect))
        .with_state(draining)
}

async fn reflect(State(draining): State<watch::Receiver<bool>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match check_request(&parts) {
        Err(rejection) => rejection,
        Ok(encoding) => with_type(Response::new(Body::new(ReflectionStream::new(body, encoding, draining)))),
    }
}

/// The body of a response: a message for each one in the request's body.
struct ReflectionStream {
    requests: Body,
    received: BytesMut,
    encoding: MessageEncoding,
    /// The status of a stream that the server ends.
    end: Pin<Box<dyn Future<Output = Status> + Send>>,
    is_finished: bool,
}

impl ReflectionStream {
    fn new(requests: Body, encoding: MessageEncoding, mut draining: watch::Receiver<bool>) -> Self {
        let end = async move {
            // An error means that the server has ended.
            match tokio::time::timeout(MAX_DURATION, draining.wait_for(|draining| *draining)).await {
                Ok(_) => Status::new(Code::Unavailable, "the server stops"),
                Err(_) => {
                    let reason = format!("a stream is open for at most {} s", MAX_DURATION.as_secs());
                    Status::new(Code::DeadlineExceeded, reason)
                }
            }
        };
        Self { requests, received: BytesMut::new(), encoding, end: Box::pin(end), is_finished: false }
    }

    /// The next frame of the response, if the received bytes are enough for one.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(message) = frame::next(&mut self.received, self.encoding, MAX_REQUEST)? else {
            return Ok(None);
        };
        let request = ReflectionRequest::decode(message)
            .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
        let response = ReflectionResponse {
            valid_host: request.host.clone(),
            outcome: Some(respond(request.query.as_ref())),
            original_request: Some(request),
        };
        let mut out = Vec::new();
        frame::write_with(&mut out, |out| out.extend_from_slice(&response.encode_to_vec()));
        Ok(Some(out.into()))
    }

    /// The last frame.
    fn finish(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_finished = true;
        Frame::trailers(status.trailers())
    }
}

impl HttpBody for ReflectionStream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_finished {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = self.end.as_mut().poll(cx) {
            return Poll::Ready(Some(Ok(self.finish(&status))));
        }
        loop {
            match self.next() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Ok(self.finish(&status)))),
            }
            let end = match ready!(Pin::new(&mut self.requests).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.received.extend_from_slice(&data);
                    }
                    continue;
                }
                None if self.received.is_empty() => Status::ok(),
                None => Status::new(Code::InvalidArgument, "the last message is incomplete"),
                Some(Err(error)) => Status::new(Code::Cancelled, error.to_string()),
            };
            return Poll::Ready(Some(Ok(self.finish(&end))));
        }
    }
}

/// The response to one query.
fn respond(query: Option<&Query>) -> Outcome {
    let file = |found: Option<&DescribedFile>| match found {
        Some(file) => Outcome::Files(DescriptorSet { files: vec![file.bytes.clone()] }),
        None => not_found("not found"),
    };
    match query {
        Some(Query::ListServices(_)) => {
            let services = SERVICES.map(|name| Named { name: name.to_owned() }).to_vec();
            Outcome::Services(ListedServices { services })
        }
        Some(Query::FileByFilename(name)) => {
            file(descriptors().iter().find(|file| file.parsed.name == *name))
        }
        Some(Query::FileContainingSymbol(symbol)) => {
            file(descriptors().iter().find(|file| file.defines(symbol)))
        }
        Some(Query::FileContainingExtension(_) | Query::AllExtensionNumbersOfType(_)) => {
            not_found("the messages have no extensions")
        }
        None => Outcome::Error(ReflectionError {
            code: Code::InvalidArgument as i32,
            message: "the request has no query".to_owned(),
        }),
    }
}

fn not_found(message: &str) -> Outcome {
    Outcome::Error(ReflectionError { code: Code::NotFound as i32, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str) -> bool {
        matches!(respond(Some(&Query::FileContainingSymbol(name.to_owned()))), Outcome::Files(_))
    }

    #[test]
    fn services_methods_and_messages_are_found_by_their_full_names() {
        for name in [
            "centrifugal.centrifugo.api.CentrifugoApi",
            "centrifugal.centrifugo.api.CentrifugoApi.Publish",
            "centrifugal.centrifugo.api.TidingsApi",
            "centrifugal.centrifugo.api.PublishRequest",
            "centrifugal.centrifugo.api.PublishRequest.TagsEntry",
        ] {
            assert!(symbol(name), "{name}");
        }
        for name in
            ["", ".", "centrifugal.centrifugo.api", "centrifugal.centrifugo.api.Nothing", "CentrifugoApi"]
        {
            assert!(!symbol(name), "{name}");
        }
        assert!(!symbol("centrifugal.centrifugo.api.CentrifugoApi.Nothing"));
        let file = respond(Some(&Query::FileByFilename("api.proto".to_owned())));
        assert!(matches!(file, Outcome::Files(DescriptorSet { files }) if files.len() == 1));
        assert!(matches!(respond(None), Outcome::Error(_)));
    }
}
