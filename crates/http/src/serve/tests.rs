//! Connections over TCP and in-memory streams, served within limits.

use std::future::{pending, ready};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::Extension;
use axum::routing::get;
use tidings_shard::Socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use tokio::net::{TcpListener, TcpStream};

use super::super::data_rate::GRACE;
use super::super::limits::ReservePaths;
use super::super::traffic::ExceededLimit;
use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// The limit for events that should happen at once.
pub(in super::super) const TIMEOUT: Duration = Duration::from_secs(20);
/// A timeout that no test reaches.
const UNREACHED: Duration = Duration::from_secs(600);

/// A listener with its own limits.
pub(in super::super) struct TestListener {
    address: std::net::SocketAddr,
    pub(in super::super) traffic: Arc<Traffic>,
    pub(in super::super) state: Arc<ListenerState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl TestListener {
    pub(in super::super) async fn new(limits: HttpLimits, routes: Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        let traffic = Arc::new(Traffic::default());
        let state = Arc::new(ListenerState::new(limits, Arc::clone(&traffic), Arc::default()));
        let task = tokio::spawn(listen(listener, routes, Arc::clone(&state), stopped));
        Self { address, traffic, state, stop, task }
    }

    pub(in super::super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    pub(in super::super) async fn until_no_connection_is_left(&self) {
        let no_connection = async {
            while self.traffic.connections.load(Ordering::Relaxed) > 0 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(TIMEOUT, no_connection).await.expect("the end of the connection");
    }
}

pub(in super::super) fn hello() -> Routes {
    Routes::new().route("/", get(|| async { "hello" }))
}

pub(in super::super) fn limits() -> HttpLimits {
    let reserve = ReservePaths { probes: &["/health"], ..ReservePaths::default() };
    HttpLimits { head: UNREACHED, body: UNREACHED, unread: UNREACHED, reserve, ..HttpLimits::new(100) }
}

/// Reads until the text ends with `end`.
async fn read_until(io: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.ends_with(end) {
            let byte = io.read_u8().await.expect("more of the response");
            text.push(byte.into());
        }
    };
    timeout(TIMEOUT, read).await.unwrap_or_else(|_| panic!("not within {TIMEOUT:?}: {end:?}"));
    text
}

async fn read_to_end(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(TIMEOUT, io.read_to_end(&mut bytes)).await.expect("an end");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn a_slow_head_ends_its_own_connection_only() {
    let head = Duration::from_secs(1);
    let listener = TestListener::new(HttpLimits { head, ..limits() }, hello()).await;
    let (mut slow_out, mut slow_in) = {
        let (read, write) = listener.connect().await.into_split();
        (write, read)
    };
    let began = Instant::now();
    let drops = tokio::spawn(async move {
        for byte in GET.iter().cycle().filter(|b| !b.is_ascii_control()) {
            if slow_out.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut quick = listener.connect().await;
    quick.write_all(GET).await.expect("a request sent");
    read_until(&mut quick, "hello").await;
    assert_eq!(read_to_end(&mut slow_in).await, "");
    assert!(began.elapsed() >= head);
    drops.await.expect("an end of the drops");
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let listener =
        TestListener::new(HttpLimits { head: Duration::from_millis(500), ..limits() }, hello()).await;
    let mut peer = listener.connect().await;
    for _ in 0..2 {
        peer.write_all(GET).await.expect("a request sent");
        read_until(&mut peer, "hello").await;
    }
    assert_eq!(read_to_end(&mut peer).await, "");
    listener.until_no_connection_is_left().await;
}

#[tokio::test]
async fn idle_connections_do_not_block_new_ones() {
    let listener = TestListener::new(HttpLimits { connections: 3, ..limits() }, hello()).await;
    let mut half = listener.connect().await;
    half.write_all(&GET[..20]).await.expect("half a request sent");
    let mut kept = listener.connect().await;
    kept.write_all(GET).await.expect("a request sent");
    read_until(&mut kept, "hello").await;
    // While a permit is free, slow connections keep theirs.
    sleep(GRACE + GRACE / 2).await;
    let mut third = listener.connect().await;
    third.write_all(GET).await.expect("a request sent");
    read_until(&mut third, "hello").await;
    assert_eq!(listener.traffic.evicted.get(WaitingFor::Head), 0);
    // The connection that began to wait first is evicted first.
    let mut fourth = listener.connect().await;
    fourth.write_all(GET).await.expect("a request sent");
    read_until(&mut fourth, "hello").await;
    assert_eq!(read_to_end(&mut half).await, "");
    assert_eq!(listener.traffic.evicted.get(WaitingFor::Head), 1);
    let mut fifth = listener.connect().await;
    fifth.write_all(GET).await.expect("a request sent");
    read_until(&mut fifth, "hello").await;
    assert_eq!(read_to_end(&mut kept).await, "");
}

#[tokio::test]
async fn an_unread_response_ends_its_connection() {
    let large = Routes::new().route("/", get(|| async { vec![b'x'; 64 << 20] }));
    let listener =
        TestListener::new(HttpLimits { unread: Duration::from_millis(100), ..limits() }, large).await;
    let mut peer = listener.connect().await;
    peer.write_all(GET).await.expect("a request sent");
    read_until(&mut peer, "\r\n\r\n").await;
    listener.until_no_connection_is_left().await;
}

/// Responds after the whole body of a request.
fn reading() -> Routes {
    hello().route("/", axum::routing::post(|body: String| async move { format!("read {}", body.len()) }))
}

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_gets_408_and_a_faster_one_is_read() {
    let body = Duration::from_secs(1);
    let listener = TestListener::new(HttpLimits { body, min_rate: 200, ..limits() }, reading()).await;
    let (mut silent, mut dripping, mut steady) =
        (listener.connect().await, listener.connect().await, listener.connect().await);
    for peer in [&mut silent, &mut dripping, &mut steady] {
        peer.write_all(post(600).as_bytes()).await.expect("a head sent");
    }
    let began = Instant::now();
    for _ in 0..30 {
        steady.write_all(&[b'x'; 20]).await.expect("a piece sent");
        let _ = dripping.write_all(b"x").await;
        sleep(Duration::from_millis(80)).await;
    }
    assert!(began.elapsed() > 2 * body);
    read_until(&mut steady, "read 600").await;
    for peer in [&mut silent, &mut dripping] {
        let text = read_until(peer, "(http.min_data_rate)\n").await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
        assert_eq!(read_to_end(peer).await, "");
    }
}

#[tokio::test]
async fn the_slowest_connections_are_evicted_only_at_the_limit() {
    let listener = TestListener::new(HttpLimits { connections: 2, ..limits() }, reading()).await;
    let mut slow = [listener.connect().await, listener.connect().await];
    for peer in &mut slow {
        peer.write_all(post(100).as_bytes()).await.expect("a head sent");
    }
    sleep(2 * GRACE).await;
    assert_eq!(listener.traffic.evicted.get(WaitingFor::Body), 0);
    let mut quick = listener.connect().await;
    quick.write_all(GET).await.expect("a request sent");
    read_until(&mut quick, "hello").await;
    let text = read_until(&mut slow[0], "(http.min_data_rate)\n").await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    slow[1].write_all(&[b'x'; 100]).await.expect("a body sent");
    read_until(&mut slow[1], "read 100").await;
}

#[tokio::test]
async fn a_connection_with_an_unread_response_is_evicted_for_other_requests() {
    let large = hello().route("/large", get(|| async { vec![b'x'; 64 << 20] }));
    let listener = TestListener::new(HttpLimits { connections: 1, ..limits() }, large).await;
    let mut slow = listener.connect().await;
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request sent");
    read_until(&mut slow, "\r\n\r\n").await;
    sleep(WaitingFor::Response.grace()).await;
    let mut quick = listener.connect().await;
    quick.write_all(GET).await.expect("a request sent");
    read_until(&mut quick, "hello").await;
    assert_eq!(listener.traffic.evicted.get(WaitingFor::Response), 1);
}

#[tokio::test]
async fn at_the_limit_probes_are_served_and_other_requests_get_503() {
    let busy = hello()
        .route("/busy", get(|| async { pending::<&str>().await }))
        .route("/health", get(|| async { "ok" }));
    let listener = TestListener::new(HttpLimits { connections: 2, ..limits() }, busy).await;
    let mut held = [listener.connect().await, listener.connect().await];
    for peer in &mut held {
        peer.write_all(b"GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request sent");
    }
    sleep(2 * GRACE).await;
    let mut rejected = listener.connect().await;
    rejected.write_all(GET).await.expect("a request sent");
    for _ in 0..3 {
        let mut probe = listener.connect().await;
        probe.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request sent");
        let text = read_to_end(&mut probe).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("ok"), "{text}");
    }
    let text = read_to_end(&mut rejected).await;
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 1\r\n"), "{text}");
    assert_eq!(listener.traffic.rejected.get(ExceededLimit::Limit), 1);
    let text = timeout(Duration::from_millis(50), held[0].read_u8()).await;
    assert!(text.is_err(), "a request in progress was ended");
}

#[tokio::test]
async fn a_client_that_has_shut_down_its_side_gets_the_whole_response() {
    let large = Routes::new().route(
        "/",
        get(|| async {
            sleep(Duration::from_millis(50)).await;
            vec![b'x'; 32 << 20]
        }),
    );
    let listener = TestListener::new(limits(), large).await;
    let mut peer = listener.connect().await;
    peer.write_all(GET).await.expect("a request sent");
    peer.shutdown().await.expect("half a close");
    let text = read_to_end(&mut peer).await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.len() > 32 << 20, "{} bytes", text.len());
    listener.until_no_connection_is_left().await;
}

#[tokio::test]
async fn connections_past_the_limit_wait_until_one_ends() {
    let listener = TestListener::new(HttpLimits { connections: 1, ..limits() }, hello()).await;
    let mut first = listener.connect().await;
    first.write_all(GET).await.expect("a request sent");
    read_until(&mut first, "hello").await;
    let mut second = listener.connect().await;
    second.write_all(GET).await.expect("a request sent");
    let early = timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(early.is_err(), "served past the limit");
    drop(first);
    read_until(&mut second, "hello").await;
}

#[tokio::test]
async fn a_head_longer_than_the_limit_gets_431() {
    let listener = TestListener::new(HttpLimits { head_bytes: 8 << 10, ..limits() }, hello()).await;
    let mut peer = listener.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(9 << 10));
    peer.write_all(head.as_bytes()).await.expect("a request sent");
    let head = read_until(&mut peer, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
}

#[tokio::test]
async fn a_stop_waits_for_requests_in_progress_and_accepts_no_more() {
    let (received, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (is_received, may_finish) = (Arc::clone(&received), Arc::clone(&finish));
    let slow = Routes::new().route(
        "/",
        get(move || async move {
            is_received.notify_one();
            may_finish.notified().await;
            "hello"
        }),
    );
    let listener = TestListener::new(limits(), slow).await;
    let (mut idle, mut busy) = (listener.connect().await, listener.connect().await);
    busy.write_all(GET).await.expect("a request sent");
    received.notified().await;
    listener.stop.send(true).expect("a receiver");
    assert_eq!(read_to_end(&mut idle).await, "");
    let closed = async { while TcpStream::connect(listener.address).await.is_ok() {} };
    timeout(TIMEOUT, closed).await.expect("a closed listener");
    finish.notify_one();
    let text = read_to_end(&mut busy).await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    timeout(TIMEOUT, listener.task).await.expect("an end").expect("no panic");
}

impl Release for DuplexStream {
    fn release(self) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[tokio::test]
async fn no_timeout_applies_to_a_hijacked_connection() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let leaving = Routes::new().route(
        "/",
        get(move |Extension(hijacker): Extension<Hijacker>| async move {
            hijacker.hijack(move |socket| *keep.lock().expect("no panic") = Some(socket)).await.response
        }),
    );
    let short = Duration::from_millis(100);
    let listener = TestListener::new(HttpLimits { head: short, unread: short, ..limits() }, leaving).await;
    let mut peer = listener.connect().await;
    peer.write_all(GET).await.expect("a request sent");
    listener.until_no_connection_is_left().await;
    let read = timeout(3 * short, peer.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
    assert!(kept.lock().expect("no panic").take().is_some());
    assert_eq!(read_to_end(&mut peer).await, "");
}

#[tokio::test]
async fn a_hijack_happens_after_the_earlier_responses_are_sent() {
    let left = Arc::new(Notify::new());
    let seen = Arc::clone(&left);
    let leaving = hello().route(
        "/leave",
        get(move |Extension(hijacker): Extension<Hijacker>| async move {
            hijacker
                .hijack(move |socket| {
                    seen.notify_one();
                    drop(socket);
                })
                .await
                .response
        }),
    );
    let listener = TestListener::new(HttpLimits { connections: 1, ..limits() }, leaving).await;
    let leave = GET.to_vec();
    let leave = String::from_utf8(leave).expect("text").replace("GET /", "GET /leave");
    for _ in 0..3 {
        let mut peer = listener.connect().await;
        peer.write_all(&[GET, leave.as_bytes()].concat()).await.expect("requests sent");
        timeout(TIMEOUT, left.notified()).await.expect("a hijacked connection");
        let text = read_to_end(&mut peer).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    }
    listener.until_no_connection_is_left().await;
}

/// A listener that fails several times before it accepts its only connection.
struct FailingListener {
    failures: usize,
    tried: Arc<AtomicUsize>,
    connection: Mutex<Option<DuplexStream>>,
}

impl Accept for FailingListener {
    type Raw = DuplexStream;
    type Io = DuplexStream;

    fn peer(_: &DuplexStream) -> Option<IpAddr> {
        None
    }

    fn open(&self, raw: DuplexStream) -> impl Future<Output = Option<Opened<DuplexStream>>> + Send + 'static {
        ready(Some(Opened { io: raw, proxy_source: None }))
    }

    async fn accept(&self) -> io::Result<DuplexStream> {
        if self.tried.fetch_add(1, Ordering::Relaxed) < self.failures {
            // Too many open files (EMFILE).
            return Err(io::Error::from_raw_os_error(24));
        }
        let connection = self.connection.lock().expect("no panic").take();
        match connection {
            Some(connection) => Ok(connection),
            None => pending().await,
        }
    }
}

#[tokio::test]
async fn accepting_pauses_after_a_failure_and_continues() {
    let (mut peer, connection) = duplex(1 << 16);
    let tried = Arc::new(AtomicUsize::new(0));
    let connection = Mutex::new(Some(connection));
    let listener = FailingListener { failures: 3, tried: Arc::clone(&tried), connection };
    let state = Arc::new(ListenerState::new(limits(), Arc::default(), Arc::default()));
    let (_stop, stopped) = watch::channel(false);
    let began = Instant::now();
    let task = tokio::spawn(listen(listener, hello(), state, stopped));
    peer.write_all(GET).await.expect("a request sent");
    read_until(&mut peer, "hello").await;
    assert!(began.elapsed() >= 3 * ACCEPT_RETRY, "no pause after a failure");
    assert_eq!(tried.load(Ordering::Relaxed), 5);
    task.abort();
}
