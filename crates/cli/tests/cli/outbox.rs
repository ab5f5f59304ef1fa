//! Consumers: commands that a backend leaves in a table of PostgreSQL.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{
    LineClient, PATIENCE, PostgresServer, RedisServer, Signal, Tidings, get_http, metric, post_http,
    wait_until,
};

const TABLE: &str = "CREATE TABLE outbox (id BIGSERIAL PRIMARY KEY, method TEXT NOT NULL, payload JSONB NOT NULL, \
     partition INTEGER NOT NULL DEFAULT 0, created_at TIMESTAMPTZ NOT NULL DEFAULT now())";

/// A server with the table of an outbox.
fn database() -> PostgresServer {
    let database = PostgresServer::start();
    database.query(TABLE);
    database
}

/// A node with a consumer of the table, and further options of the consumer and of the node.
fn node(database: &PostgresServer, consumer: &str, flags: &[&str]) -> (Tidings, TempDir) {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("tidings.toml");
    let text = format!(
        "[[consumers]]\nname = \"outbox\"\nenabled = true\ntype = \"postgresql\"\n[consumers.postgresql]\n\
         dsn = \"{}\"\noutbox_table_name = \"outbox\"\n{consumer}\n",
        database.url()
    );
    std::fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let all = ["--config", path, "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", "off"];
    (Tidings::builder(env!("CARGO_BIN_EXE_tidings")).args(all).args(flags).start(), dir)
}

fn subscriber(node: &Tidings) -> LineClient {
    wait_until(PATIENCE, "/ready is 200", || get_http(node.http(), "/ready").status == 200);
    let mut client = LineClient::connect(node.tcp());
    client.send("SUBSCRIBE news");
    client.expect("CONFIRMED");
    client
}

/// The statement that inserts publications with these numbers.
fn insert(partition: u32, numbers: impl IntoIterator<Item = usize>) -> String {
    let mut sql = String::from("INSERT INTO outbox (method, payload, partition) VALUES ");
    for (at, number) in numbers.into_iter().enumerate() {
        let payload = json!({ "channel": "news", "data": number });
        let comma = if at == 0 { "" } else { ", " };
        write!(sql, "{comma}('publish', '{payload}', {partition})").expect("a string grows");
    }
    sql
}

fn number(line: &str) -> usize {
    let number = line.strip_prefix("MESSAGE news ").and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("not a publication: {line}"))
}

/// The number of commands with this outcome.
fn commands(node: &Tidings, outcome: &str) -> u64 {
    metric(node.http(), &format!("tidings_consumer_commands_total{{outcome=\"{outcome}\"}}"))
}

fn wait_until_empty(database: &PostgresServer) {
    wait_until(PATIENCE, "a table without rows", || database.query("SELECT count(*) FROM outbox") == "0");
}

#[test]
fn rows_of_committed_transactions_are_published_in_the_order_of_their_partition_and_deleted() {
    let database = database();
    let (node, _dir) = node(&database, "num_partitions = 2\npartition_select_limit = 7", &[]);
    let mut client = subscriber(&node);
    database.query(&format!("BEGIN; {}; ROLLBACK", insert(0, [1_000])));
    database.query(&format!("BEGIN; {}; {}; COMMIT", insert(0, 0..100), insert(1, 100..200)));
    let received: Vec<_> = (0..200).map(|_| number(&client.line())).collect();
    let of =
        |first: usize| received.iter().copied().filter(move |number| (first..first + 100).contains(number));
    assert!(of(0).eq(0..100) && of(100).eq(100..200), "{received:?}");
    wait_until_empty(&database);
    let count = |outcome| commands(&node, outcome);
    assert_eq!((count("done"), count("refused"), count("retried")), (200, 0, 0));
}

#[test]
fn a_command_that_can_never_succeed_is_logged_and_does_not_stop_the_others() {
    let database = database();
    let (node, _dir) = node(&database, "", &[]);
    let mut client = subscriber(&node);
    database.query(&format!(
        "INSERT INTO outbox (method, payload) VALUES ('fly', '{{}}'), ('history', '{{\"channel\": \"news\"}}'), \
         ('publish', '[]'), ('publish', '{{\"channel\": \"\", \"data\": 1}}'), \
         ('publish', jsonb_build_object('channel', 'news', 'data', repeat('x', {})))",
        17 << 20
    ));
    database.query(&insert(0, [7]));
    assert_eq!(client.line(), "MESSAGE news 7");
    wait_until_empty(&database);
    node.wait_for_log("method=\"fly\"");
    assert_eq!(commands(&node, "refused"), 5);
}

#[test]
fn a_notification_wakes_the_consumer_before_its_next_poll() {
    let database = database();
    let options = "partition_poll_interval = \"60s\"\npartition_notification_channel = \"outbox_changed\"";
    let (node, _dir) = node(&database, options, &[]);
    let mut client = subscriber(&node);
    database.query(
        "CREATE FUNCTION notify_outbox() RETURNS trigger AS $$ BEGIN PERFORM pg_notify('outbox_changed', NEW.partition::text); \
         RETURN NEW; END $$ LANGUAGE plpgsql; \
         CREATE TRIGGER outbox_changed AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION notify_outbox()",
    );
    wait_until(PATIENCE, "two connections", || metric(node.http(), "tidings_consumer_connections") == 2);
    for round in 0..3 {
        database.query(&insert(0, [round]));
        assert_eq!(number(&client.line()), round);
    }
}

#[test]
fn no_committed_row_is_lost_or_published_twice_when_the_database_is_killed_under_load() {
    let mut database = database();
    let (node, _dir) = node(&database, "partition_select_limit = 20", &[]);
    let mut client = subscriber(&node);
    let mut committed = Vec::new();
    let mut next = 0;
    for _ in 0..3 {
        for _ in 0..5 {
            let numbers = next..next + 50;
            next += 50;
            if database.commits(&insert(0, numbers.clone())) {
                committed.extend(numbers);
            }
        }
        // The consumer is in the middle of the rows.
        database.kill();
        database.restart();
    }
    database.query(&insert(0, [next]));
    let mut received = Vec::new();
    while received.last() != Some(&next) {
        received.push(number(&client.line()));
    }
    assert!(received.is_sorted_by(|a, b| a < b), "{received:?}");
    let lost: Vec<_> = committed.iter().filter(|number| received.binary_search(number).is_err()).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    wait_until_empty(&database);
    node.wait_for_log("a consumer cannot read its table; it tries again");
}

#[test]
fn rows_wait_while_redis_is_down_and_two_nodes_publish_each_of_them_once() {
    let database = database();
    let mut redis = RedisServer::start();
    let url = redis.url();
    let flags = [
        "--broker",
        &url,
        "--set",
        "redis.response_timeout=1s",
        "--set",
        "channel.without_namespace.history_size=1000",
        "--set",
        "channel.without_namespace.history_ttl=10m",
    ];
    let (first, _one) = node(&database, "partition_poll_interval = \"50ms\"", &flags);
    let (second, _two) = node(&database, "partition_poll_interval = \"50ms\"", &flags);
    let mut client = subscriber(&second);
    database.query(&insert(0, 0..300));
    let received: Vec<_> = (0..300).map(|_| number(&client.line())).collect();
    assert!(received.iter().copied().eq(0..300), "{received:?}");
    redis.kill();
    database.query(&insert(0, 300..310));
    wait_until(PATIENCE, "a command that failed", || {
        commands(&first, "retried") + commands(&second, "retried") > 0
    });
    assert_ne!(database.query("SELECT count(*) FROM outbox"), "0");
    redis.restart();
    wait_until_empty(&database);
    // A history contains them also if the subscriber's node was connected later.
    let mut history = Value::Null;
    wait_until(PATIENCE, "a node that is connected to Redis again", || {
        let request = r#"{"channel": "news", "limit": 100}"#;
        let reply = post_http(second.http(), "/api/history", &[], request).body;
        history = serde_json::from_str(&reply).expect("JSON");
        history["result"].is_object()
    });
    let publications = history["result"]["publications"].as_array().expect("publications");
    let published: Vec<_> =
        publications.iter().filter_map(|publication| publication["data"].as_u64()).collect();
    assert!(published.iter().copied().eq(300..310), "{published:?}");
    // The other node continues when one stops.
    first.signal(Signal::TERM);
    database.query(&insert(0, 310..320));
    wait_until_empty(&database);
}

#[test]
fn a_connection_with_tls_verifies_the_certificate_of_the_database() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let mut database = database();
    database.offer_tls(&certificate, &key);
    let dir = TempDir::new().expect("a folder");
    let file = dir.path().join("authority.pem");
    std::fs::write(&file, certificate).expect("a file");
    let dsn = format!("postgresql://postgres@localhost:{}/postgres?sslmode=require", database.port());
    let start = |authority: &str| {
        let settings = [
            ("TIDINGS_CONSUMERS", "outbox"),
            ("TIDINGS_CONSUMERS_OUTBOX_ENABLED", "true"),
            ("TIDINGS_CONSUMERS_OUTBOX_POSTGRESQL_DSN", &dsn),
            ("TIDINGS_CONSUMERS_OUTBOX_POSTGRESQL_OUTBOX_TABLE_NAME", "public.outbox"),
            ("SSL_CERT_FILE", authority),
        ];
        let builder = Tidings::builder(env!("CARGO_BIN_EXE_tidings")).args(["--data-dir", "off"]);
        settings.into_iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()
    };
    let stranger = start("/etc/ssl/certs/ca-certificates.crt");
    stranger.wait_for_log("invalid peer certificate");
    let node = start(file.to_str().expect("UTF-8"));
    let mut client = subscriber(&node);
    database.query(&insert(0, [1]));
    assert_eq!(client.line(), "MESSAGE news 1");
    assert_eq!(database.query("SELECT count(*) > 0 FROM pg_stat_ssl WHERE ssl"), "t");
}

#[test]
fn an_enabled_consumer_needs_a_database_and_a_table() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, "[[consumers]]\nname = \"outbox\"\nenabled = true\n").expect("a file");
    let builder = Tidings::builder(env!("CARGO_BIN_EXE_tidings"));
    let (code, _, stderr) = builder.args(["--config", path.to_str().expect("UTF-8")]).run_to_end();
    assert_ne!(code, 0);
    for part in ["consumers.outbox.postgresql.dsn", "consumers.outbox.postgresql.outbox_table_name"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}
