//! Calls over gRPC whose streams stay open: messages that do not arrive, and streams of reflection while the server stops.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use tidings_grpc::{Code, Status};
use tidings_testkit::PATIENCE;

use crate::api_server::ApiServer;
use crate::grpc::{GRPC, call_within};
use crate::support::TestServer;

/// The path of a stream of reflection.
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const INFO: &str = "/centrifugal.centrifugo.api.CentrifugoApi/Info";
/// A message with the query `list_services`.
const LIST_SERVICES: &[u8] = b"\0\0\0\0\x02\x3a\0";

/// A connection whose streams a test keeps open.
struct Connection(SendRequest<Bytes>);

impl Connection {
    fn open(server: &TestServer) -> Self {
        let address = server.announced("grpc");
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_nonblocking(true).expect("a socket");
        Self(server.runtime.block_on(async {
            let socket = tokio::net::TcpStream::from_std(socket).expect("a socket");
            let (requests, connection) = h2::client::handshake(socket).await.expect("a handshake");
            tokio::spawn(connection);
            requests
        }))
    }

    /// Begins a call with a part of its body.
    fn begin(&self, server: &TestServer, path: &str, headers: &[(&str, &str)], part: &'static [u8]) -> Call {
        let request =
            Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).expect("a request");
        server.runtime.block_on(async {
            let mut requests = self.0.clone().ready().await.expect("a connection");
            let (response, mut output) = requests.send_request(request, false).expect("a request");
            output.send_data(Bytes::from_static(part), false).expect("a part of a body");
            Call { response, output }
        })
    }
}

/// A call that has begun.
struct Call {
    response: ResponseFuture,
    /// Keeps the stream open.
    output: SendStream<Bytes>,
}

/// The status of a response without a message.
fn status(server: &TestServer, response: ResponseFuture) -> Status {
    let response = server.runtime.block_on(async { tokio::time::timeout(PATIENCE, response).await });
    let response = response.expect("a response in time").expect("a response");
    Status::read(response.headers()).expect("a status")
}

/// The first bytes of a response, and the stream of the others.
async fn first_bytes(response: ResponseFuture) -> (Bytes, RecvStream) {
    let mut body = response.await.expect("a response").into_body();
    let data = body.data().await.expect("a message").expect("bytes");
    (data, body)
}

#[test]
fn half_messages_of_one_key_do_not_stop_the_calls_of_another() {
    let options = [
        "http_api.keys=reader,writer",
        "http_api.keys.reader.key=the-key-of-the-reader",
        "http_api.keys.reader.scopes=read",
        "http_api.keys.writer.key=the-key-of-the-writer",
        "http_api.keys.writer.scopes=publish,read",
        "grpc_api.max_receive_message_size=8388608",
    ];
    let server = ApiServer::with(&[&GRPC[..], &options].concat());
    let connection = Connection::open(&server);
    // Parts of prefixes, and complete prefixes of messages that would take all memory for messages.
    let parts = [&b"\0"[..]; 20].into_iter().chain([&b"\0\0\x80\0\0"[..]; 20]);
    let calls: Vec<_> = parts
        .map(|part| connection.begin(&server, INFO, &[("x-api-key", "the-key-of-the-reader")], part))
        .collect();
    for _ in 0..20 {
        let outcome = call_within(&server, "the-key-of-the-writer", "Info", b"", Duration::from_secs(5));
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    drop(calls);
    let outcome = call_within(&server, "the-key-of-the-reader", "Info", b"", PATIENCE);
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn a_message_above_the_limit_is_refused_by_its_prefix() {
    let server = ApiServer::with(&[&GRPC[..], &["http_api.key=a-key-of-the-test"]].concat());
    let connection = Connection::open(&server);
    for (part, code) in [
        (&b"\0\xff\xff\xff\xff"[..], Code::ResourceExhausted),
        (b"\0\0\0\0\0\0", Code::InvalidArgument),
        (b"\x01\0\0\0\0", Code::Internal),
        (b"\x02\0\0\0\0", Code::Unimplemented),
    ] {
        let Call { response, output } =
            connection.begin(&server, INFO, &[("x-api-key", "a-key-of-the-test")], part);
        assert_eq!(status(&server, response).code, code, "{part:?}");
        drop(output);
    }
}

#[test]
fn a_deadline_does_not_end_the_delay_after_a_wrong_key() {
    let server = ApiServer::with(&[&GRPC[..], &["http_api.key=a-key-of-the-test"]].concat());
    let connection = Connection::open(&server);
    for (key, code) in [("wrong", Code::Unauthenticated), ("a-key-of-the-test", Code::DeadlineExceeded)] {
        let headers = [("x-api-key", key), ("grpc-timeout", "1n")];
        let Call { response, output } = connection.begin(&server, INFO, &headers, b"\0");
        assert_eq!(status(&server, response).code, code, "{key}");
        drop(output);
    }
}

#[test]
fn an_open_stream_of_reflection_ends_when_the_server_stops() {
    let options = ["grpc_api.reflection=true", "shutdown.timeout=60s", "shutdown.drain=0s"];
    let mut server = TestServer::start(&[&GRPC[..], &options].concat());
    let connection = Connection::open(&server);
    let Call { response, output } = connection.begin(&server, REFLECTION, &[], LIST_SERVICES);
    let (message, mut body) = server.runtime.block_on(first_bytes(response));
    assert!(message.windows(13).any(|part| part == b"CentrifugoApi"), "{message:?}");
    let began = Instant::now();
    let stopped = server.begin_stop();
    let trailers = server.runtime.block_on(async {
        let trailers = async {
            while body.data().await.is_some() {}
            body.trailers().await
        };
        tokio::time::timeout(PATIENCE, trailers).await
    });
    let trailers = trailers.expect("the end in time").expect("a whole response").expect("trailers");
    assert_eq!(Status::read(&trailers).expect("a status").code, Code::Unavailable);
    server.runtime.block_on(stopped).expect("the server stops");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop(output);
}
