//! Connections without a socket: streams of HTTP/2.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidings_session::{Direction, Link, Protocol};
use tidings_shard::{Arrival, ClientPath, PipeEnd, PipeOutput, ShardMessage, Socket, TransportKind};
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::Framing;
use tidings_wire::client::Encoding;

use crate::test_shard::{TestShard, limits, topic};

/// The far end of a stream with the client protocol in lines.
struct Far {
    end: PipeEnd,
    received: Vec<u8>,
    ended: Arc<Mutex<Option<bool>>>,
}

impl Far {
    fn open(shard: &TestShard) -> Self {
        let ended = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&ended);
        let (socket, end) = Socket::pipe(None, move |clean| *seen.lock().expect("no panic") = Some(clean));
        let protocol = Protocol::Client { encoding: Encoding::Json };
        shard.mailbox.post(ShardMessage::Arrival(Box::new(Arrival {
            socket,
            link: Link::new(Framing::Line, protocol, Direction::TwoWay),
            parameter: 0,
            received: Vec::new(),
            connection_info: None,
            path: ClientPath::default(),
            is_backend: false,
        })));
        Self { end, received: Vec::new(), ended }
    }

    fn send(&mut self, text: &str) {
        let mut cx = Context::from_waker(Waker::noop());
        wait_until(PATIENCE, "room for input", || self.end.poll_room(&mut cx) == Poll::Ready(true));
        self.end.push_input(Bytes::from(format!("{text}\n")));
    }

    /// Takes output until it contains the text.
    fn until(&mut self, text: &str) {
        let mut cx = Context::from_waker(Waker::noop());
        wait_until(PATIENCE, text, || {
            if let Poll::Ready(PipeOutput::Bytes(bytes)) = self.end.poll_output(&mut cx) {
                self.received.extend_from_slice(&bytes);
            }
            self.received.windows(text.len()).any(|window| window == text.as_bytes())
        });
    }

    fn subscribe(&mut self, shard: &TestShard, channel: &str) {
        self.send(r#"{"id":1,"connect":{}}"#);
        self.until("\"connect\"");
        self.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
        shard.wait_for_topic(channel);
        shard.mailbox.post(ShardMessage::Live(topic(channel)));
        self.until("\"subscribe\"");
    }
}

fn connections(shard: &TestShard) -> u64 {
    shard.metrics.connections[TransportKind::Http2].load(Ordering::Relaxed)
}

#[test]
fn a_stream_has_a_session_like_any_connection() {
    let shard = TestShard::new(limits());
    let mut far = Far::open(&shard);
    far.subscribe(&shard, "news");
    shard.publish("news", "1");
    far.until("\"data\":1");
    assert_eq!(connections(&shard), 1);
    drop(far);
    wait_until(PATIENCE, "the end of the session", || connections(&shard) == 0);
}

#[test]
fn a_stream_that_is_not_read_is_cut_and_another_one_receives_everything() {
    let shard = TestShard::new(tidings_shard::Limits { queue: 64 << 10, ..limits() });
    let (mut slow, mut quick) = (Far::open(&shard), Far::open(&shard));
    for far in [&mut slow, &mut quick] {
        far.subscribe(&shard, "cut:news");
    }
    let mut published = 0;
    while shard.metrics.cut.load(Ordering::Relaxed) == 0 {
        shard.publish("cut:news", format!("\"{published:04}{}\"", "x".repeat(1_000)));
        quick.until(&format!("\"{published:04}"));
        quick.received.clear();
        published += 1;
        assert!(published < 10_000, "the slow stream is not cut");
    }
    wait_until(PATIENCE, "the end of the slow stream", || connections(&shard) == 1);
    assert_eq!(*slow.ended.lock().expect("no panic"), Some(false), "ended with bytes that were not taken");
    shard.publish("cut:news", "\"last\"");
    quick.until("\"last\"");
}

#[test]
fn the_end_of_the_input_ends_the_session_after_its_output() {
    let shard = TestShard::new(limits());
    let mut far = Far::open(&shard);
    far.send(r#"{"id":1,"connect":{}}"#);
    far.end.finish_input();
    far.until("\"connect\"");
    wait_until(PATIENCE, "the end of the session", || connections(&shard) == 0);
    assert_eq!(*far.ended.lock().expect("no panic"), Some(true));
}
