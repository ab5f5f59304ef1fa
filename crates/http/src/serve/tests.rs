//! Connections over TCP and in-memory streams, served within bounds.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::Extension;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use tokio::net::{TcpListener, TcpStream};

use super::super::pace::GRACE;
use super::super::traffic::Exceeded;
use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// For what ought to happen at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what ought to happen never, in effect.
const AGES: Duration = Duration::from_secs(600);

/// A listener with bounds of its own.
struct World {
    address: std::net::SocketAddr,
    traffic: Arc<Traffic>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl World {
    async fn new(bounds: Bounds, routes: Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        let traffic = Arc::new(Traffic::default());
        let state = Arc::new(ListenerState::new(bounds, Arc::clone(&traffic), Arc::default()));
        Self { address, traffic, stop, task: tokio::spawn(listen(listener, routes, state, stopped)) }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    async fn until_nobody_is_connected(&self) {
        let nobody = async {
            while self.traffic.connections.load(Ordering::Relaxed) > 0 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, nobody).await.expect("a connection that ends");
    }
}

fn hello() -> Routes {
    Routes::new().route("/", get(|| async { "hello" }))
}

fn bounds() -> Bounds {
    let reserve = ReservePaths { probes: &["/health"], websockets: &[] };
    Bounds { head: AGES, body: AGES, unread: AGES, reserve, ..Bounds::new(100) }
}

/// Reads until the text ends so.
async fn read_until(io: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.ends_with(end) {
            let byte = io.read_u8().await.expect("more of the answer");
            text.push(byte.into());
        }
    };
    timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {end:?}"));
    text
}

async fn read_to_end(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, io.read_to_end(&mut bytes)).await.expect("an end");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_ends_its_connection_and_no_other() {
    let head = Duration::from_secs(1);
    let world = World::new(Bounds { head, ..bounds() }, hello()).await;
    let (mut slow_out, mut slow_in) = {
        let (read, write) = world.connect().await.into_split();
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
    let mut quick = world.connect().await;
    quick.write_all(GET).await.expect("a request sent");
    read_until(&mut quick, "hello").await;
    assert_eq!(read_to_end(&mut slow_in).await, "");
    assert!(began.elapsed() >= head);
    drops.await.expect("an end of the drops");
}

#[tokio::test]
async fn a_kept_connection_without_requests_ends() {
    let world = World::new(Bounds { head: Duration::from_millis(500), ..bounds() }, hello()).await;
    let mut peer = world.connect().await;
    for _ in 0..2 {
        peer.write_all(GET).await.expect("a request sent");
        read_until(&mut peer, "hello").await;
    }
    assert_eq!(read_to_end(&mut peer).await, "");
    world.until_nobody_is_connected().await;
}

#[tokio::test]
async fn who_only_holds_connections_open_keeps_nobody_out() {
    let world = World::new(Bounds { connections: 3, ..bounds() }, hello()).await;
    let mut half = world.connect().await;
    half.write_all(&GET[..20]).await.expect("half a request sent");
    let mut kept = world.connect().await;
    kept.write_all(GET).await.expect("a request sent");
    read_until(&mut kept, "hello").await;
    // While a permit is free, slow connections keep theirs.
    sleep(GRACE + GRACE / 2).await;
    let mut third = world.connect().await;
    third.write_all(GET).await.expect("a request sent");
    read_until(&mut third, "hello").await;
    assert_eq!(world.traffic.gave_way.get(Wait::Head), 0);
    // The one that began to wait first goes first.
    let mut fourth = world.connect().await;
    fourth.write_all(GET).await.expect("a request sent");
    read_until(&mut fourth, "hello").await;
    assert_eq!(read_to_end(&mut half).await, "");
    assert_eq!(world.traffic.gave_way.get(Wait::Head), 1);
    let mut fifth = world.connect().await;
    fifth.write_all(GET).await.expect("a request sent");
    read_until(&mut fifth, "hello").await;
    assert_eq!(read_to_end(&mut kept).await, "");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    let much = Routes::new().route("/", get(|| async { vec![b'x'; 64 << 20] }));
    let world = World::new(Bounds { unread: Duration::from_millis(100), ..bounds() }, much).await;
    let mut peer = world.connect().await;
    peer.write_all(GET).await.expect("a request sent");
    read_until(&mut peer, "\r\n\r\n").await;
    world.until_nobody_is_connected().await;
}

/// Answers once it has a request's whole body.
fn taking() -> Routes {
    hello().route("/", axum::routing::post(|body: String| async move { format!("took {}", body.len()) }))
}

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_is_answered_with_408_and_one_at_it_is_taken() {
    let body = Duration::from_secs(1);
    let world = World::new(Bounds { body, min_rate: 200, ..bounds() }, taking()).await;
    let (mut silent, mut dripping, mut steady) =
        (world.connect().await, world.connect().await, world.connect().await);
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
    read_until(&mut steady, "took 600").await;
    for peer in [&mut silent, &mut dripping] {
        let text = read_until(peer, "(http.min_data_rate)\n").await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
        assert_eq!(read_to_end(peer).await, "");
    }
}

#[tokio::test]
async fn the_slowest_give_way_when_there_is_no_place_and_not_before() {
    let world = World::new(Bounds { connections: 2, ..bounds() }, taking()).await;
    let mut slow = [world.connect().await, world.connect().await];
    for peer in &mut slow {
        peer.write_all(post(100).as_bytes()).await.expect("a head sent");
    }
    sleep(2 * GRACE).await;
    assert_eq!(world.traffic.gave_way.get(Wait::Body), 0);
    let mut quick = world.connect().await;
    quick.write_all(GET).await.expect("a request sent");
    read_until(&mut quick, "hello").await;
    let text = read_until(&mut slow[0], "(http.min_data_rate)\n").await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    slow[1].write_all(&[b'x'; 100]).await.expect("a body sent");
    read_until(&mut slow[1], "took 100").await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_gives_way_to_other_requests() {
    let much = hello().route("/much", get(|| async { vec![b'x'; 64 << 20] }));
    let world = World::new(Bounds { connections: 1, ..bounds() }, much).await;
    let mut slow = world.connect().await;
    slow.write_all(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request sent");
    read_until(&mut slow, "\r\n\r\n").await;
    sleep(Wait::Answer.grace()).await;
    let mut quick = world.connect().await;
    quick.write_all(GET).await.expect("a request sent");
    read_until(&mut quick, "hello").await;
    assert_eq!(world.traffic.gave_way.get(Wait::Answer), 1);
}

#[tokio::test]
async fn while_every_place_is_busy_probes_are_answered_and_other_requests_get_503() {
    let busy = hello()
        .route("/busy", get(|| async { pending::<&str>().await }))
        .route("/health", get(|| async { "ok" }));
    let world = World::new(Bounds { connections: 2, ..bounds() }, busy).await;
    let mut held = [world.connect().await, world.connect().await];
    for peer in &mut held {
        peer.write_all(b"GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request sent");
    }
    sleep(2 * GRACE).await;
    let mut refused = world.connect().await;
    refused.write_all(GET).await.expect("a request sent");
    for _ in 0..3 {
        let mut probe = world.connect().await;
        probe.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request sent");
        let text = read_to_end(&mut probe).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("ok"), "{text}");
    }
    let text = read_to_end(&mut refused).await;
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 1\r\n"), "{text}");
    assert_eq!(world.traffic.refused.get(Exceeded::Limit), 1);
    let text = timeout(Duration::from_millis(50), held[0].read_u8()).await;
    assert!(text.is_err(), "a request that the server is busy with was ended");
}

#[tokio::test]
async fn a_client_that_sends_no_more_gets_its_whole_answer() {
    let much = Routes::new().route(
        "/",
        get(|| async {
            sleep(Duration::from_millis(50)).await;
            vec![b'x'; 32 << 20]
        }),
    );
    let world = World::new(bounds(), much).await;
    let mut peer = world.connect().await;
    peer.write_all(GET).await.expect("a request sent");
    peer.shutdown().await.expect("half a close");
    let text = read_to_end(&mut peer).await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.len() > 32 << 20, "{} bytes", text.len());
    world.until_nobody_is_connected().await;
}

#[tokio::test]
async fn connections_past_the_limit_wait_until_one_ends() {
    let world = World::new(Bounds { connections: 1, ..bounds() }, hello()).await;
    let mut first = world.connect().await;
    first.write_all(GET).await.expect("a request sent");
    read_until(&mut first, "hello").await;
    let mut second = world.connect().await;
    second.write_all(GET).await.expect("a request sent");
    let early = timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(early.is_err(), "served past the limit");
    drop(first);
    read_until(&mut second, "hello").await;
}

#[tokio::test]
async fn a_head_longer_than_the_limit_is_refused() {
    let world = World::new(Bounds { head_bytes: 8 << 10, ..bounds() }, hello()).await;
    let mut peer = world.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(9 << 10));
    peer.write_all(head.as_bytes()).await.expect("a request sent");
    let answer = read_until(&mut peer, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_takes_no_more() {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (seen, go) = (Arc::clone(&asked), Arc::clone(&answer));
    let slow = Routes::new().route(
        "/",
        get(move || async move {
            seen.notify_one();
            go.notified().await;
            "hello"
        }),
    );
    let world = World::new(bounds(), slow).await;
    let (mut idle, mut busy) = (world.connect().await, world.connect().await);
    busy.write_all(GET).await.expect("a request sent");
    asked.notified().await;
    world.stop.send(true).expect("a receiver");
    assert_eq!(read_to_end(&mut idle).await, "");
    let closed = async { while TcpStream::connect(world.address).await.is_ok() {} };
    timeout(PATIENCE, closed).await.expect("a listener that is closed");
    answer.notify_one();
    let text = read_to_end(&mut busy).await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    timeout(PATIENCE, world.task).await.expect("an end").expect("no panic");
}

impl Release for DuplexStream {
    fn release(self) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[tokio::test]
async fn no_time_out_holds_for_a_connection_that_has_left() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let leaving = Routes::new().route(
        "/",
        get(move |Extension(exit): Extension<Exit>| async move {
            exit.leave(move |socket| *keep.lock().expect("no panic") = Some(socket)).await
        }),
    );
    let short = Duration::from_millis(100);
    let world = World::new(Bounds { head: short, unread: short, ..bounds() }, leaving).await;
    let mut peer = world.connect().await;
    peer.write_all(GET).await.expect("a request sent");
    world.until_nobody_is_connected().await;
    let read = timeout(3 * short, peer.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
    assert!(kept.lock().expect("no panic").take().is_some());
    assert_eq!(read_to_end(&mut peer).await, "");
}

#[tokio::test]
async fn a_request_takes_its_connection_along_behind_the_answers_before_it() {
    let left = Arc::new(Notify::new());
    let seen = Arc::clone(&left);
    let leaving = hello().route(
        "/leave",
        get(move |Extension(exit): Extension<Exit>| async move {
            exit.leave(move |socket| {
                seen.notify_one();
                drop(socket);
            })
            .await
        }),
    );
    let world = World::new(Bounds { connections: 1, ..bounds() }, leaving).await;
    let leave = GET.to_vec();
    let leave = String::from_utf8(leave).expect("text").replace("GET /", "GET /leave");
    for _ in 0..3 {
        let mut peer = world.connect().await;
        peer.write_all(&[GET, leave.as_bytes()].concat()).await.expect("requests sent");
        timeout(PATIENCE, left.notified()).await.expect("a connection that leaves");
        let text = read_to_end(&mut peer).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    }
    world.until_nobody_is_connected().await;
}

/// Fails so many times before it has its one connection.
struct Troubled {
    failures: usize,
    tried: Arc<AtomicUsize>,
    connection: Mutex<Option<DuplexStream>>,
}

impl Accept for Troubled {
    type Raw = DuplexStream;
    type Io = DuplexStream;

    fn peer(_: &DuplexStream) -> Option<std::net::IpAddr> {
        None
    }

    fn open(&self, raw: DuplexStream) -> impl Future<Output = Option<DuplexStream>> + Send + 'static {
        ready(Some(raw))
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
async fn accepting_rests_while_it_fails_and_goes_on_when_it_works() {
    let (mut peer, connection) = duplex(1 << 16);
    let tried = Arc::new(AtomicUsize::new(0));
    let connection = Mutex::new(Some(connection));
    let listener = Troubled { failures: 3, tried: Arc::clone(&tried), connection };
    let state = Arc::new(ListenerState::new(bounds(), Arc::default(), Arc::default()));
    let (_stop, stopped) = watch::channel(false);
    let began = Instant::now();
    let task = tokio::spawn(listen(listener, hello(), state, stopped));
    peer.write_all(GET).await.expect("a request sent");
    read_until(&mut peer, "hello").await;
    assert!(began.elapsed() >= 3 * ACCEPT_REST, "it did not rest");
    assert_eq!(tried.load(Ordering::Relaxed), 5);
    task.abort();
}
