//! Connections of HTTP/2 over TCP, whose frames and windows the test controls.

use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::routing::{get, post};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::Version;
use tidings_shard::Socket;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::serve::tests::{TIMEOUT, TestListener, hello, limits};
use super::super::traffic::ExceededLimit;
use super::*;

/// The preface, and the settings.
const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A client with HTTP/2. Its connection ends when it is dropped.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    async fn connect(listener: &TestListener) -> Self {
        // Windows as large as allowed, so that only a test's own stream is slow.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 30).initial_window_size(16 << 10);
        let (requests, connection) = builder.handshake(listener.connect().await).await.expect("a handshake");
        Self { requests, connection: tokio::spawn(connection) }
    }

    async fn send(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.expect("a connection");
        requests.send_request(request, ends).expect("a request")
    }

    /// The status, and the text of the response to a GET.
    async fn get(&mut self, path: &str) -> (StatusCode, String) {
        let (response, _) = self.send(uri(path).body(()).expect("a request"), true).await;
        read(response).await
    }

    /// The reason of the server's GOAWAY, or of the end of the connection.
    async fn end(&mut self) -> Option<Reason> {
        let ended = timeout(TIMEOUT, &mut self.connection).await.expect("the end of the connection");
        ended.expect("no panic").err().and_then(|error| error.reason())
    }
}

fn uri(path: &str) -> http::request::Builder {
    Request::builder().version(Version::HTTP_2).uri(format!("http://localhost{path}"))
}

async fn read(response: ResponseFuture) -> (StatusCode, String) {
    let response = timeout(TIMEOUT, response).await.expect("a response in time").expect("a response");
    let status = response.status();
    (status, read_body(response.into_body()).await.expect("a whole body"))
}

async fn read_body(mut body: RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(data) = timeout(TIMEOUT, body.data()).await.expect("data in time") {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    Ok(String::from_utf8(text).expect("text"))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(TIMEOUT, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Routes with a response after the body, one that never comes, and one of 64 MiB.
fn routes() -> Routes {
    hello()
        .route("/health", get(|| async { "ok" }))
        .route("/read", post(|body: String| async move { format!("read {}", body.len()) }))
        .route("/busy", get(|| async { pending::<&str>().await }))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
}

/// A route whose requests become sessions, and the sockets of these.
fn sessions() -> (Routes, Arc<Mutex<Vec<Socket>>>) {
    let sockets = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&sockets);
    let begin = move |Extension(hijacker): Extension<Hijacker>| async move {
        hijacker.hijack(move |socket| kept.lock().expect("no panic").push(socket)).await.response
    };
    (routes().route("/session", get(begin)), sockets)
}

#[tokio::test]
async fn one_listener_serves_both_versions() {
    let listener = TestListener::new(limits(), hello()).await;
    let mut client = Client::connect(&listener).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await, (StatusCode::OK, "hello".to_owned()));
    }
    assert_eq!(client.get("/none").await.0, StatusCode::NOT_FOUND);
    let off = TestListener::new(HttpLimits { http2: false, ..limits() }, hello()).await;
    let mut client = Client::connect(&off).await;
    let (response, _) = client.send(uri("/").body(()).expect("a request"), true).await;
    assert!(timeout(TIMEOUT, response).await.expect("an end").is_err(), "served although it is off");
}

#[tokio::test]
async fn each_request_in_progress_holds_a_permit_and_the_next_one_gets_503() {
    let listener = TestListener::new(HttpLimits { connections: 3, ..limits() }, routes()).await;
    let mut client = Client::connect(&listener).await;
    let connections = || listener.traffic.connections.load(Ordering::Relaxed);
    until("the permit of the idle connection", || connections() == 1).await;
    let mut held = Vec::new();
    for n in 1..=3 {
        held.push(client.send(uri("/busy").body(()).expect("a request"), true).await);
        until("a permit for each request", || connections() == n).await;
    }
    // The reserve reads the request, and serves only probes.
    assert_eq!(client.get("/health").await, (StatusCode::OK, "ok".to_owned()));
    let (status, text) = client.get("/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("http.connection_limit"), "{text}");
    assert_eq!(listener.traffic.rejected.get(ExceededLimit::Limit), 1);
    drop(held);
    until("the permits of ended requests", || connections() == 1).await;
    assert_eq!(client.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_slow_body_gets_408_and_delays_no_other_stream() {
    let limit = Duration::from_millis(300);
    let listener = TestListener::new(HttpLimits { body: limit, ..limits() }, routes()).await;
    let mut client = Client::connect(&listener).await;
    let request = || uri("/read").method("POST").body(()).expect("a request");
    let (slow, _silent) = client.send(request(), false).await;
    let (quick, mut body) = client.send(request(), false).await;
    body.send_data(Bytes::from_static(b"12345"), true).expect("a body");
    assert_eq!(read(quick).await, (StatusCode::OK, "read 5".to_owned()));
    let (status, text) = read(slow).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert!(text.contains("http.min_data_rate"), "{text}");
    assert_eq!(client.get("/").await.0, StatusCode::OK, "the connection lives on");
}

#[tokio::test]
async fn a_response_that_is_not_read_is_reset_and_delays_no_other_stream() {
    let unread = Duration::from_millis(500);
    let listener = TestListener::new(HttpLimits { unread, ..limits() }, routes()).await;
    let mut client = Client::connect(&listener).await;
    let (stalled, _) = client.send(uri("/large").body(()).expect("a request"), true).await;
    let mut stalled = timeout(TIMEOUT, stalled).await.expect("a head").expect("a head").into_body();
    let (read_fully, _) = client.send(uri("/large").body(()).expect("a request"), true).await;
    assert_eq!(read(read_fully).await.1.len(), 64 << 20);
    // The first bytes fit into the window; then the reset follows.
    let mut received = 0;
    let error = loop {
        match timeout(TIMEOUT, stalled.data()).await.expect("an end").expect("an error before the end") {
            Ok(data) => received += data.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert!(received <= 16 << 10, "{received} bytes within a window of 16 KiB");
    assert_eq!(client.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_idle_connection_ends_and_one_with_a_session_stays_without_a_permit() {
    let (routes, sockets) = sessions();
    let head = Duration::from_millis(200);
    let listener = TestListener::new(HttpLimits { head, ..limits() }, routes).await;
    let mut idle = Client::connect(&listener).await;
    let mut client = Client::connect(&listener).await;
    assert_eq!(client.get("/").await.0, StatusCode::OK);
    let (_session, _) = client.send(uri("/session").body(()).expect("a request"), true).await;
    until("a session", || sockets.lock().expect("no panic").len() == 1).await;
    assert_eq!(idle.end().await, None, "a regular end");
    drop(idle);
    listener.until_no_connection_is_left().await;
    sleep(3 * head).await;
    assert_eq!(client.get("/").await.0, StatusCode::OK, "the connection was closed during a session");
    until("the permit of the request", || listener.traffic.connections.load(Ordering::Relaxed) == 0).await;
    sockets.lock().expect("no panic").clear();
    assert_eq!(client.end().await, None);
}

#[tokio::test]
async fn a_session_that_its_shard_drops_is_reset_and_the_client_can_reset_one() {
    let (routes, sockets) = sessions();
    let listener = TestListener::new(limits(), routes).await;
    let mut client = Client::connect(&listener).await;
    let begin = || uri("/session").body(()).expect("a request");
    let (session, _) = client.send(begin(), true).await;
    until("a session", || sockets.lock().expect("no panic").len() == 1).await;
    sockets.lock().expect("no panic").clear();
    let refused = timeout(TIMEOUT, session).await.expect("an end");
    assert!(refused.is_err() || refused.is_ok_and(|response| response.status() == StatusCode::OK));
    let (session, mut stream) = client.send(begin(), true).await;
    until("a session", || sockets.lock().expect("no panic").len() == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(session);
    until("the end of the session", || listener.traffic.http2_sessions_now() == 0).await;
    assert_eq!(client.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_drain_ends_the_connection_for_new_streams_and_keeps_its_sessions() {
    let (routes, sockets) = sessions();
    let listener = TestListener::new(limits(), routes).await;
    let mut client = Client::connect(&listener).await;
    let (_session, _) = client.send(uri("/session").body(()).expect("a request"), true).await;
    until("a session", || sockets.lock().expect("no panic").len() == 1).await;
    listener.state.drain();
    let refused = async {
        loop {
            let Ok(mut requests) = client.requests.clone().ready().await else { return };
            let Ok((response, _)) = requests.send_request(uri("/").body(()).expect("a request"), true) else {
                return;
            };
            if response.await.is_err() {
                return;
            }
        }
    };
    timeout(TIMEOUT, refused).await.expect("a refused stream");
    assert_eq!(listener.traffic.http2_sessions_now(), 1);
    sockets.lock().expect("no panic").clear();
    assert_eq!(client.end().await, None);
    // New connections are served, for probes.
    assert_eq!(Client::connect(&listener).await.get("/health").await.0, StatusCode::OK);
}

#[tokio::test]
async fn requests_with_a_contradicting_host_or_another_protocol_are_rejected() {
    let listener = TestListener::new(limits(), routes()).await;
    let mut client = Client::connect(&listener).await;
    let other_host = uri("/").header("host", "example.com").body(()).expect("a request");
    let (response, _) = client.send(other_host, true).await;
    assert_eq!(read(response).await.0, StatusCode::BAD_REQUEST);
    let connect = |protocol: Option<&'static str>, path: &str| {
        let request = match protocol {
            Some(_) => uri(path),
            None => Request::builder().version(Version::HTTP_2).uri("localhost:80"),
        };
        let mut request = request.method("CONNECT").body(()).expect("a request");
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        request
    };
    assert_eq!(client.get("/").await.0, StatusCode::OK, "the server's settings have arrived");
    for (request, status) in [
        (connect(None, "/"), StatusCode::METHOD_NOT_ALLOWED),
        (connect(Some("webtransport"), "/"), StatusCode::NOT_IMPLEMENTED),
        (connect(Some("websocket"), "/"), StatusCode::BAD_REQUEST),
    ] {
        let (response, _) = client.send(request, false).await;
        assert_eq!(read(response).await.0, status);
    }
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_leave_nothing_behind() {
    let listener = TestListener::new(limits(), routes()).await;
    let mut stream = listener.connect().await;
    let mut frames = START.to_vec();
    // GET http://localhost/busy, and its reset, 10,000 times.
    let head = [&b"\x82\x86\x04\x05/busy\x41\x09localhost"[..]].concat();
    for stream_id in (1..20_000_u32).step_by(2) {
        let id = stream_id.to_be_bytes();
        frames.extend_from_slice(&[0, 0, head.len() as u8, 1, 5]);
        frames.extend_from_slice(&id);
        frames.extend_from_slice(&head);
        frames.extend_from_slice(&[0, 0, 4, 3, 0]);
        frames.extend_from_slice(&id);
        frames.extend_from_slice(&8_u32.to_be_bytes());
    }
    // The server closes the connection before it has read all.
    let _ = timeout(TIMEOUT, stream.write_all(&frames)).await.expect("the frames are read or refused");
    listener.until_no_connection_is_left().await;
    let http2 = || listener.traffic.http2_connections_now() + listener.traffic.http2_sessions_now();
    until("the end of the connection", || http2() == 0).await;
    assert_eq!(Client::connect(&listener).await.get("/").await.0, StatusCode::OK);
}

/// Sends frames that the server does not have to accept. Returns the number of bytes until it closed the connection.
async fn flood(listener: &TestListener, first: &[u8], repeated: &[u8]) -> usize {
    let mut stream = listener.connect().await;
    stream.write_all(&[START, first].concat()).await.expect("the first frames");
    let mut sent = 0;
    let all = async {
        while stream.write_all(repeated).await.is_ok() {
            sent += repeated.len();
        }
    };
    timeout(TIMEOUT, all).await.expect("a closed connection");
    sent
}

#[tokio::test]
async fn a_head_without_an_end_is_bounded() {
    let listener = TestListener::new(limits(), routes()).await;
    // HEADERS and CONTINUATION, without END_HEADERS: header fields of 1 KiB, `x: aaa…` without indexing.
    let field = [&b"\0\x01x\x7f\x81\x07"[..], &[b'a'; 1_024]].concat();
    let frame = |kind: u8| {
        let length = (field.len() as u32).to_be_bytes();
        [&[length[1], length[2], length[3], kind, 0, 0, 0, 0, 1], &field[..]].concat()
    };
    let sent = flood(&listener, &frame(1), &frame(9)).await;
    // What the kernel has accepted counts, too.
    assert!(sent < 16 << 20, "{sent} bytes of one head");
    listener.until_no_connection_is_left().await;
}

#[tokio::test]
async fn pings_whose_answers_are_not_read_end_the_connection() {
    let unread = Duration::from_millis(300);
    let listener = TestListener::new(HttpLimits { unread, ..limits() }, routes()).await;
    let ping = b"\0\0\x08\x06\0\0\0\0\0abcdefgh".repeat(1_000);
    flood(&listener, b"", &ping).await;
    listener.until_no_connection_is_left().await;
}
