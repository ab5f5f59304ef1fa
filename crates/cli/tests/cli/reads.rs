//! Reads of histories and presence are bounded for any clients, however slowly they read responses.

use std::fmt::Write as _;

use tidings_testkit::{LineClient, PATIENCE, RedisServer, Reply, RespClient, Tidings, wait_until};

use crate::tool::server;

const MIB: u64 = 1 << 20;
const COMMANDS: usize = 1_000;
const QUEUE: &str = "client.queue_max_size=256KiB";

/// A server with histories and presence, on this broker.
fn reading(broker: &str) -> Tidings {
    let options = [
        QUEUE,
        "channel.without_namespace.history_size=100000",
        "channel.without_namespace.history_ttl=600s",
        "channel.without_namespace.presence=true",
        "channel.without_namespace.allow_history_for_subscriber=true",
        "channel.without_namespace.allow_presence_for_subscriber=true",
    ];
    let mut flags = vec!["--broker", broker];
    flags.extend(options.iter().flat_map(|option| ["--set", option]));
    server(&flags)
}

/// A subscribed client of JSON lines.
fn subscriber(server: &Tidings, channel: &str) -> LineClient {
    let mut client = LineClient::connect(server.tcp());
    client.send(r#"{"id":1,"connect":{}}"#);
    assert!(client.line().contains("connect"));
    client.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
    assert!(client.line().contains(r#""id":2"#));
    client
}

/// The same command repeatedly, numbered from 3.
fn commands(command: &str) -> String {
    (3..3 + COMMANDS).fold(String::new(), |mut all, id| {
        let _ = writeln!(all, r#"{{"id":{id},{command}}}"#);
        all
    })
}

/// Sends commands and leaves the responses unread for a while: the server's memory grows by a few queues at most, other
/// clients are served, and afterwards all responses arrive.
fn flood(server: &Tidings, channel: &str, command: &str, answer: &str) {
    let mut greedy = subscriber(server, channel);
    let before = server.rss();
    greedy.send_bytes(commands(command).as_bytes());
    let mut most = before;
    for _ in 0..20 {
        let mut other = subscriber(server, "other");
        other.send(r#"{"id":3,"history":{"channel":"other"}}"#);
        assert!(other.line().contains(r#""id":3"#), "others are served");
        std::thread::sleep(std::time::Duration::from_millis(50));
        most = most.max(server.rss());
    }
    println!("{command}: {} KiB before, {} KiB at most", before / 1024, most / 1024);
    assert!(most < before + 16 * MIB, "{} MiB more", (most - before) / MIB);
    for id in 3..3 + COMMANDS {
        let line = loop {
            let line = greedy.line();
            // Pings may arrive in between.
            if line != "{}" {
                break line;
            }
        };
        let begin = &line[..line.len().min(200)];
        assert!(line.starts_with(&format!(r#"{{"id":{id},"#)), "in order: {begin}");
        assert!(begin.contains(answer), "{begin}");
    }
}

/// Publishes over the RESP port of the server.
fn publish(server: &Tidings, channel: &str, count: usize, bytes: usize) {
    let mut publisher = RespClient::connect(server.tcp());
    let body = format!("\"{}\"", "x".repeat(bytes));
    wait_until(PATIENCE, "the broker", || {
        matches!(publisher.command(&["PUBLISH", "unheard", "x"]), Reply::Int(_))
    });
    for _ in 0..count / 50 {
        let command = vec![b"PUBLISH".to_vec(), channel.into(), body.clone().into_bytes()];
        let replies = publisher.pipeline(&vec![command; 50]);
        assert!(replies.iter().all(|reply| matches!(reply, Reply::Int(_))), "{replies:?}");
    }
}

#[test]
fn a_subscriber_that_does_not_read_cannot_accumulate_histories() {
    let redis = RedisServer::start();
    for broker in ["memory".to_owned(), redis.url()] {
        let server = reading(&broker);
        publish(&server, "news", 1_000, 60_000);
        flood(
            &server,
            "news",
            r#""history":{"channel":"news","limit":-1}"#,
            r#""history":{"publications":[{"#,
        );
    }
}

#[test]
fn a_large_presence_is_rejected_and_not_read() {
    let redis = RedisServer::start();
    let server = reading(&redis.url());
    let mut client = redis.client();
    wait_until(PATIENCE, "the function library", || {
        matches!(client.command(&["FCALL", "tidings_version", "0"]), Reply::Bulk(_))
    });
    for chunk in 0..50 {
        let add = |member: usize| {
            let id = format!("00000000-0000-0000-0000-{:012}", chunk * 1_000 + member);
            // An info as nodes write it: user, client, and no information about the connection.
            let info = format!("4:user36:{id}0:0:");
            ["FCALL", "tidings_presence_add", "1", "crowd", &id, &info, "600000"]
                .map(|word| word.as_bytes().to_vec())
                .to_vec()
        };
        let replies = client.pipeline(&(0..1_000).map(add).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| *reply == Reply::Simple("OK".to_owned())));
    }
    flood(&server, "crowd", r#""presence":{"channel":"crowd"}"#, r#""error":{"code":106"#);
    let mut asker = subscriber(&server, "crowd");
    asker.send(r#"{"id":3,"presence_stats":{"channel":"crowd"}}"#);
    let stats = asker.line();
    assert!(stats.contains(r#""num_clients":5000"#), "{stats}");
}

#[test]
fn arbitrary_channel_names_leave_no_state() {
    let redis = RedisServer::start();
    for broker in ["memory".to_owned(), redis.url()] {
        let server = reading(&broker);
        publish(&server, "news", 100, 10);
        let mut client = subscriber(&server, "news");
        let mut names = 0;
        for _ in 0..200 {
            let mut lines = String::new();
            for _ in 0..100 {
                names += 1;
                let id = 2 * names + 1;
                let _ = writeln!(lines, r#"{{"id":{id},"subscribe":{{"channel":"invented{names}"}}}}"#);
                let _ =
                    writeln!(lines, r#"{{"id":{},"unsubscribe":{{"channel":"invented{names}"}}}}"#, id + 1);
            }
            client.send_bytes(lines.as_bytes());
            let mut answers = 0;
            while answers < 200 {
                let line = client.line();
                assert!(!line.contains("error"), "{line}");
                answers += usize::from(line != "{}");
            }
        }
        client.send(r#"{"id":999999,"history":{"channel":"news"}}"#);
        let history = client.line();
        assert!(history.contains(r#""offset":100"#), "the histories that there are stay: {history}");
        if broker != "memory" {
            // Members leave with their connection.
            drop(client);
            wait_until(PATIENCE, "nothing of them to be there", || {
                redis.cli(&["KEYS", "*invented*"]).texts().is_empty()
            });
        }
    }
}
