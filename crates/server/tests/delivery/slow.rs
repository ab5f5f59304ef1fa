//! Clients that read too slowly, and their effect on other clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tidings_hub::Overflow;
use tidings_shard::CounterKey as _;
use tidings_testkit::{LineClient, PATIENCE, RespClient, wait_until};

use crate::node::{TestNode, start_quiet_node};

const QUEUE: usize = 64 * 1024;
const BODY: usize = 1_000;

fn node(policy: &str) -> TestNode {
    start_quiet_node(&[
        ("client.queue_max_size", &QUEUE.to_string()),
        ("channel.without_namespace.slow_consumer", policy),
        ("client.slow_close_delay", "20s"),
    ])
}

/// A subscriber in JSON lines.
fn json_subscriber(node: &TestNode) -> LineClient {
    let mut client = node.line();
    client.send("{\"id\":1,\"connect\":{}}");
    assert!(client.line().contains("\"connect\""));
    client.send("{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}");
    client.expect("{\"id\":2,\"subscribe\":{}}");
    client
}

fn body(n: usize) -> String {
    format!("{n:08}{}", "x".repeat(BODY - 8))
}

/// Publishes numbered messages until the server has dropped some, and then `more`. Returns the number of messages.
fn publish_until_dropped(node: &TestNode, more: usize) -> usize {
    let mut publisher = node.resp();
    let mut n = 0;
    let mut after = None;
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no message was dropped");
        let commands: Vec<Vec<Vec<u8>>> =
            (n..n + 50).map(|i| vec![b"PUBLISH".to_vec(), b"news".to_vec(), body(i).into_bytes()]).collect();
        publisher.pipeline(&commands);
        n += 50;
        let dropped: u64 = Overflow::all().map(|policy| node.sum(|m| &m.dropped[policy])).sum();
        match after {
            None if dropped > 0 => after = Some(n + more),
            Some(end) if n >= end => return n,
            _ => {}
        }
    }
}

/// The messages that a plain client received, and the gaps.
#[derive(Default)]
struct Received {
    messages: Vec<usize>,
    dropped: usize,
    gaps: usize,
}

fn take(received: &mut Received, line: &str) {
    if let Some(n) = line.strip_prefix("ERROR 3008 slow: ").and_then(|l| l.strip_suffix(" messages dropped"))
    {
        received.dropped += n.parse::<usize>().expect("a number");
        received.gaps += 1;
    } else {
        let text = line.strip_prefix("MESSAGE news ").expect("a message");
        received.messages.push(text[..8].parse().expect("a number"));
        assert_eq!(text.len(), BODY, "a message arrives complete");
    }
}

/// Reads up to the newest of `total` messages. Received and dropped messages must add up to all of them.
fn take_until_newest(client: &mut LineClient, total: usize) -> Received {
    let mut received = Received::default();
    while received.messages.last() != Some(&(total - 1)) {
        take(&mut received, &client.line());
    }
    assert_eq!(received.messages.len() + received.dropped, total);
    received
}

#[test]
fn a_stalled_reader_delays_no_other_and_takes_no_more_memory_than_its_bound() {
    const FAST: usize = 100;
    // More than the socket buffers of a connection hold, however the kernel sizes them.
    const MESSAGES: usize = 10_000;
    let node = node("drop_oldest");
    let mut stalled = node.subscriber("news");
    let (ready, go) = mpsc::channel();
    let fast: Vec<_> = (0..FAST)
        .map(|_| {
            let mut client = node.subscriber("news");
            let ready = ready.clone();
            thread::spawn(move || {
                ready.send(()).expect("the test waits");
                for n in 0..MESSAGES {
                    let line = client.line();
                    assert_eq!(&line["MESSAGE news ".len()..][..8], format!("{n:08}"));
                }
            })
        })
        .collect();
    fast.iter().for_each(|_| go.recv().expect("all ready"));
    let mut worst = Duration::ZERO;
    let mut probe = node.subscriber("news");
    let mut publisher = node.line();
    for n in 0..MESSAGES {
        let began = Instant::now();
        publisher.send(&format!("PUBLISH news {}", body(n)));
        publisher.expect("CONFIRMED");
        assert_eq!(&probe.line()["MESSAGE news ".len()..][..8], format!("{n:08}"));
        worst = worst.max(began.elapsed());
        assert!(node.queued() <= QUEUE + 100 * (BODY + 200), "only the stalled client has a queue");
    }
    for thread in fast {
        thread.join().expect("every message, once, in order");
    }
    // Well above the noise of a busy machine, and well below the close delay of a stalled client.
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    let mut received = Received::default();
    publisher.send("PUBLISH news 99999999");
    while received.messages.len() + received.dropped < MESSAGES {
        take(&mut received, &stalled.line());
    }
    assert!(received.dropped > 0, "the client was stalled");
    assert!(received.messages.is_sorted());
}

#[test]
fn drop_oldest_keeps_the_newest_messages_and_reports_the_exact_number_of_dropped_ones() {
    let node = node("drop_oldest");
    let mut slow = node.subscriber("news");
    let total = publish_until_dropped(&node, 500);
    let received = take_until_newest(&mut slow, total);
    assert!(received.dropped > 0 && received.gaps >= 1);
    assert!(received.messages.is_sorted() && received.messages.windows(2).all(|w| w[0] < w[1]));
    slow.send("PING");
    slow.expect("PONG");
}

#[test]
fn drop_oldest_keeps_the_newest_messages_when_the_queue_is_smaller_than_one_write() {
    let node = start_quiet_node(&[("client.queue_max_size", "8192")]);
    let mut slow = node.subscriber("news");
    let total = publish_until_dropped(&node, 2_000);
    take_until_newest(&mut slow, total);
}

#[test]
fn latest_drops_waiting_messages_and_ends_with_the_newest() {
    let node = node("latest");
    let mut slow = node.subscriber("news");
    let total = publish_until_dropped(&node, 500);
    let received = take_until_newest(&mut slow, total);
    assert!(received.messages.is_sorted());
}

#[test]
fn cut_reports_the_number_of_dropped_messages_and_closes() {
    let node = node("cut");
    let mut slow = node.subscriber("news");
    let total = publish_until_dropped(&node, 0);
    let mut received = Received::default();
    while received.gaps == 0 {
        take(&mut received, &slow.line());
    }
    assert!(received.messages.iter().copied().eq(0..received.messages.len()), "no gap before the notice");
    assert!(received.messages.len() + received.dropped <= total && received.dropped > 0);
    assert!(slow.expect_closed().is_empty(), "no message after the notice");
    wait_until(PATIENCE, "the connection to be removed", || node.sum(|m| &m.stalled) == 0);
    assert_eq!(node.sum(|m| &m.cut), 1);
    assert_eq!(node.queued(), 0);
}

#[test]
fn a_json_client_that_lost_messages_is_unsubscribed_with_the_code_to_resubscribe() {
    let node = node("drop_oldest");
    let mut slow = json_subscriber(&node);
    let total = publish_until_dropped(&node, 0);
    let mut messages = 0;
    let notice = loop {
        let line = slow.line();
        if line.contains("\"unsubscribe\"") {
            break line;
        }
        messages += 1;
    };
    assert!(notice.contains("\"code\":2500"), "{notice}");
    assert!(messages < total);
    slow.send("{\"id\":3,\"subscribe\":{\"channel\":\"news\"}}");
    slow.expect("{\"id\":3,\"subscribe\":{}}");
}

#[test]
fn with_latest_a_json_client_gets_the_newest_message_before_it_is_unsubscribed() {
    let node = node("latest");
    let mut slow = json_subscriber(&node);
    let total = publish_until_dropped(&node, 0);
    let mut numbers = Vec::new();
    let notice = loop {
        let line = slow.line();
        if line.contains("\"unsubscribe\"") {
            break line;
        }
        let at = line.find("\"data\":\"").expect("a publication") + "\"data\":\"".len();
        numbers.push(line[at..at + 8].parse::<usize>().expect("a number"));
    };
    assert!(notice.contains("\"code\":2500"), "{notice}");
    let (newest, before) = numbers.split_last().expect("messages");
    assert!(before.iter().copied().eq(0..before.len()), "no gap before it");
    assert!(*newest > before.len() && *newest < total, "{newest} of {total}, behind {}", before.len());
    let expected = format!("{} messages dropped", newest - before.len());
    assert!(notice.contains(&expected), "{expected}: {notice}");
}

#[test]
fn a_redis_client_that_lost_messages_gets_an_error_and_is_closed_with_any_policy() {
    let node = node("drop_oldest");
    let mut slow: RespClient = node.resp();
    slow.command(&["SUBSCRIBE", "news"]);
    publish_until_dropped(&node, 0);
    let end = loop {
        match slow.try_reply() {
            Ok(tidings_testkit::Reply::Error(text)) => break text,
            Ok(_) => {}
            Err(error) => panic!("closed without an error: {error}"),
        }
    };
    assert!(end.starts_with("ERR 3008 slow: ") && end.ends_with(" messages dropped"), "{end}");
    assert!(slow.try_reply().is_err(), "closed");
}

#[test]
fn all_queues_together_stay_within_their_bound() {
    const TOTAL: usize = 256 * 1024;
    let node = start_quiet_node(&[
        ("client.queue_max_size", "131072"),
        ("client.queue_max_total", &TOTAL.to_string()),
    ]);
    let mut stalled: Vec<LineClient> = (0..10).map(|_| node.subscriber("news")).collect();
    let done = Arc::new(AtomicBool::new(false));
    let over = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Notices, and a write in progress, may exceed it.
                if node.queued() > TOTAL + 10 * (BODY + 300) {
                    over.store(true, Ordering::Relaxed);
                }
            }
        });
        publish_until_dropped(&node, 2_000);
        done.store(true, Ordering::Relaxed);
    });
    assert!(!over.load(Ordering::Relaxed));
    stalled.iter_mut().for_each(|c| assert!(c.line().starts_with("MESSAGE news 00000000")));
}

#[test]
fn commands_wait_until_the_client_reads_the_replies_before_them() {
    // The queue must be larger than a list of channels.
    let node = start_quiet_node(&[("client.queue_max_size", "4194304")]);
    let mut channels = node.resp();
    // A list of these channels is far larger than the buffers of a socket.
    let names: Vec<String> = (0..120).map(|i| format!("{i:0>250}")).collect();
    let mut holders = Vec::new();
    for round in 0..80 {
        let mut holder = node.resp();
        let mut command = vec!["SUBSCRIBE".to_owned()];
        command.extend(names.iter().map(|n| format!("{round:03}{}", &n[3..])));
        holder.send(&command);
        for _ in &names {
            holder.reply();
        }
        holders.push(holder);
    }
    let ask = "*2\r\n$6\r\nPUBSUB\r\n$8\r\nCHANNELS\r\n".repeat(6) + "*1\r\n$4\r\nPING\r\n";
    channels.send_bytes(ask.as_bytes());
    for _ in 0..6 {
        assert_eq!(channels.reply().texts().len(), 9_600);
    }
    assert_eq!(channels.reply().text(), "PONG");
}

#[test]
fn a_client_that_reads_no_replies_is_not_read_from() {
    let node = start_quiet_node(&[]);
    let mut unread = node.line();
    let stream = unread.stream().try_clone().expect("a handle");
    stream.set_nonblocking(true).expect("non-blocking");
    // Sends commands without reading until the server stops reading.
    let burst = "PING\r\n".repeat(4_000);
    let mut sent = 0_usize;
    let mut blocked_since = Instant::now();
    while blocked_since.elapsed() < Duration::from_millis(300) {
        match std::io::Write::write(&mut &stream, &burst.as_bytes()[sent % 6..]) {
            Ok(n) => {
                sent += n;
                blocked_since = Instant::now();
                assert!(sent < 200 << 20, "the server does not stop reading");
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(e) => panic!("{e}"),
        }
    }
    assert!(node.queued() < 512 * 1024, "{}", node.queued());
    let mut other = node.line();
    other.send("PING");
    other.expect("PONG");
    stream.set_nonblocking(false).expect("blocking");
    for _ in 0..sent / 6 {
        unread.expect("PONG");
    }
}

#[test]
fn clients_that_read_no_replies_are_closed_when_memory_for_replies_runs_out() {
    let node = start_quiet_node(&[
        ("client.queue_max_size", "1048576"),
        ("client.queue_max_total", "2097152"),
        ("client.ping_interval", "10m"),
        ("channel.without_namespace.history_size", "1000"),
        ("channel.without_namespace.history_ttl", "10m"),
    ]);
    let mut publisher = node.resp();
    let commands: Vec<Vec<Vec<u8>>> =
        (0..900).map(|i| vec![b"PUBLISH".to_vec(), b"news".to_vec(), body(i).into_bytes()]).collect();
    publisher.pipeline(&commands);
    let history = r#"{"id":3,"history":{"channel":"news","limit":1000}}"#;
    let mut unread: Vec<LineClient> = (0..6).map(|_| json_subscriber(&node)).collect();
    for client in &mut unread {
        (0..100).for_each(|_| client.send(history));
    }
    wait_until(PATIENCE, "replies to take all memory", || node.queued() >= 2 << 20);
    wait_until(PATIENCE, "a reply for a client that reads", || {
        let mut client = json_subscriber(&node);
        client.send(history);
        let answer = client.line();
        assert!(answer.starts_with("{\"id\":3,\"history\":") || answer.contains("\"code\":111"), "{answer}");
        answer.contains("\"history\"")
    });
    assert!(node.sum(|m| &m.cut) > 0);
}
