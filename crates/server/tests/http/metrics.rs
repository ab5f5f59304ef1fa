//! `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tidings_testkit::{HttpResponse, LineClient, PATIENCE, RedisServer, RespClient, test_tool, wait_until};

use crate::support::TestServer;

/// A collector of traces that is not there; its metrics exist all the same.
const TRACES: &str = "opentelemetry.endpoint=http://127.0.0.1:1";

/// The samples of one scrape: values by names with labels.
fn scrape(server: &TestServer) -> BTreeMap<String, f64> {
    let text = server.get("/metrics").body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let split = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
        (name.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
    };
    samples.map(split).collect()
}

/// One scrape in OpenMetrics.
fn openmetrics(server: &TestServer) -> HttpResponse {
    server.send(request_accepting("application/openmetrics-text; version=1.0.0"))
}

/// A receiver of webhooks that is not reachable.
const WEBHOOKS: [&str; 2] =
    ["webhooks.endpoints=http://127.0.0.1:1/", "webhooks.secret=a-secret-of-receivers"];

/// A request for metrics with this `Accept` header.
fn request_accepting(accept: &str) -> String {
    format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
}

/// The rows that the documentation must have for this scrape: name, type, labels, meaning.
fn rows(text: &str) -> BTreeSet<String> {
    let help: BTreeMap<_, _> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let row = |(family, kind): (&str, &str)| {
        let name = match kind {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            _ => family.to_owned(),
        };
        let sample = if kind == "histogram" { format!("{family}_count") } else { name.clone() };
        let labels: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&sample)?.strip_prefix('{')?.split_once('}'))
            .flat_map(|(labels, _)| labels.split(',').filter_map(|label| label.split_once('=')))
            .map(|(label, _)| format!("`{label}`"))
            .collect();
        let labels: Vec<_> = labels.into_iter().collect();
        format!("| `{name}` | {kind} | {} | {} |", labels.join(", "), help[family])
    };
    kinds.map(row).collect()
}

#[test]
fn the_documentation_lists_exactly_the_existing_metrics() {
    // Redis and a bucket have metrics even if they are unreachable. The memory broker has metrics of its own.
    let bucket =
        ["tables.store=s3://tables", "tables.s3.endpoint=http://127.0.0.1:1", "tables.s3.allow_http=true"];
    let redis = format!("broker={}", RedisServer::absent().url());
    let server = TestServer::start(&[&bucket[..], &[&redis, TRACES], &WEBHOOKS].concat());
    let mut scraped = rows(&openmetrics(&server).body);
    scraped.append(&mut rows(&openmetrics(&TestServer::start(&[])).body));
    // The backlog of a consumer has samples while its source knows it.
    let source = RedisServer::start();
    let consumer = TestServer::start(&[
        "consumers=events",
        "consumers.events.enabled=true",
        "consumers.events.type=redis_stream",
        &format!("consumers.events.redis_stream.address={}", source.url()),
        "consumers.events.redis_stream.streams=commands",
        "consumers.events.redis_stream.consumer_group=nodes",
    ]);
    wait_until(PATIENCE, "a known backlog", || {
        openmetrics(&consumer).body.contains("tidings_consumer_backlog{")
    });
    scraped.append(&mut rows(&openmetrics(&consumer).body));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let docs = std::fs::read_to_string(path).unwrap_or_default();
    // Metrics have rows of four columns, alerts of two.
    let is_row = |line: &&str| line.starts_with("| `") && line.split(" | ").count() == 4;
    let documented: BTreeSet<_> = docs.lines().filter(is_row).map(str::to_owned).collect();
    let missing: Vec<_> = scraped.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:#?}");
    let removed: Vec<_> = documented.difference(&scraped).collect();
    assert!(removed.is_empty(), "in docs/metrics.md, but not in /metrics: {removed:#?}");
}

/// Names and label values are an interface: dashboards and alerts of users depend on them.
#[test]
fn the_names_and_labels_of_all_samples_are_stable() {
    let bucket =
        ["tables.store=s3://tables", "tables.s3.endpoint=http://127.0.0.1:1", "tables.s3.allow_http=true"];
    let redis = format!("broker={}", RedisServer::absent().url());
    let servers =
        [TestServer::start(&[&bucket[..], &[&redis, TRACES], &WEBHOOKS].concat()), TestServer::start(&[])];
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let scraped: BTreeSet<String> = servers
        .iter()
        .flat_map(|server| {
            let body = openmetrics(server).body;
            let samples = body.lines().filter(|line| !line.starts_with('#'));
            let names = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
            let name = |name: String| match name.starts_with("tidings_config_info{") {
                true => "tidings_config_info{hash=\"*\"}".to_owned(),
                false => name.replace(&version, "version=\"*\""),
            };
            names.map(name).collect::<Vec<_>>()
        })
        .collect();
    let expected: BTreeSet<String> = include_str!("samples.txt").lines().map(str::to_owned).collect();
    assert_eq!(scraped.difference(&expected).collect::<Vec<_>>(), [""; 0], "new samples");
    assert_eq!(expected.difference(&scraped).collect::<Vec<_>>(), [""; 0], "missing samples");
}

#[test]
fn a_client_that_accepts_openmetrics_gets_it() {
    let server = TestServer::start(&[]);
    let answer = openmetrics(&server);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), kind);
    assert!(answer.body.ends_with("\n# EOF\n"), "{}", answer.body);
    let mut family = "";
    for line in answer.body.lines() {
        assert!(!line.is_empty());
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().expect("a name");
            assert!(family.starts_with("tidings_") || family.starts_with("process_"), "{family}");
            assert!(!family.ends_with("_total") && !family.ends_with("_info"), "{family}");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} does not belong to {family}");
        }
    }
}

#[test]
fn other_clients_get_text_that_the_parser_of_prometheus_accepts() {
    let server = TestServer::start(&[&format!("broker={}", RedisServer::absent().url())]);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let parse = |format: &str, answer: &HttpResponse| {
        let mut python = Command::new(test_tool("python").join("bin/python"))
            .args([&root.join("tests/clients/python_prometheus.py"), &PathBuf::from(format)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the parser starts");
        python.stdin.take().expect("a pipe").write_all(answer.body.as_bytes()).expect("a scrape written");
        let parsed = python.wait_with_output().expect("an end");
        assert!(parsed.status.success(), "{}", answer.body);
        String::from_utf8(parsed.stdout).expect("text")
    };
    let samples = parse("openmetrics", &openmetrics(&server));
    assert!(samples.contains("tidings_build_info\n"), "{samples}");
    let others = ["text/plain;version=0.0.4", "*/*", "text/html,*/*;q=0.1"]
        .map(|accept| server.send(request_accepting(accept)));
    for answer in others.into_iter().chain([server.get("/metrics")]) {
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(answer.header("vary"), "accept");
        assert_eq!(parse("text", &answer), samples);
        for foreign in ["# EOF", "# UNIT", " info\n"] {
            assert!(!answer.body.contains(foreign), "{foreign}: {}", answer.body);
        }
    }
}

#[test]
fn a_prometheus_that_stores_native_histograms_gets_all_families_in_protobuf() {
    let server = TestServer::start(&[&format!("broker={}", RedisServer::absent().url())]);
    let answer = server.send(request_accepting(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2",
    ));
    let kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    assert_eq!(answer.header("content-type"), kind);
    assert_eq!(answer.header("vary"), "accept");
    let text = server.get("/metrics").body;
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (family, _) in families {
        assert!(answer.body.contains(family), "{family} is missing");
    }
}

#[test]
fn the_metrics_count_the_operations_of_clients() {
    let server = TestServer::start(&["tcp.auto_subscribe="]);
    let mut plain = LineClient::connect(server.tcp());
    plain.send("SUBSCRIBE scores");
    plain.expect("CONFIRMED");
    let mut resp = RespClient::connect(server.tcp());
    resp.command(&["SUBSCRIBE", "scores"]);
    plain.send("PUBLISH scores 1:0");
    plain.line();
    resp.reply();
    plain.send("SUBSCRIBE");
    plain.send("PUBLISH");
    wait_until(PATIENCE, "all of it", || {
        let now = scrape(&server);
        let is = |name: &str, value: f64| now[name] == value;
        is("tidings_connections{transport=\"tcp\"}", 2.0)
            && is("tidings_connections{transport=\"unix\"}", 0.0)
            && is("tidings_connections_accepted_total", 2.0)
            && is("tidings_sessions{dialect=\"plain\"}", 1.0)
            && is("tidings_sessions{dialect=\"resp2\"}", 1.0)
            && is("tidings_subscriptions", 3.0)
            && is("tidings_broker_topics", 2.0)
            && is("tidings_broker_up{kind=\"memory\"}", 1.0)
            && is("tidings_publications_received_total", 1.0)
            && is("tidings_broker_publications_received_total", 1.0)
            && is("tidings_deliveries_total", 2.0)
            && is("tidings_errors_total", 1.0)
            && now["tidings_received_bytes_total"] > 40.0
            && now["tidings_sent_bytes_total"] > 40.0
    });
    drop((plain, resp));
    wait_until(PATIENCE, "no connection", || {
        let now = scrape(&server);
        now["tidings_connections{transport=\"tcp\"}"] == 0.0 && now["tidings_subscriptions"] == 0.0
    });
}

#[test]
fn the_buckets_of_the_fanout_histogram_add_up() {
    let server = TestServer::start(&["tcp.auto_subscribe="]);
    let mut client = LineClient::connect(server.tcp());
    client.send("SUBSCRIBE scores");
    client.expect("CONFIRMED");
    for _ in 0..10 {
        client.send("PUBLISH scores 1:0");
        client.expect("MESSAGE scores 1:0");
        client.expect("CONFIRMED");
    }
    let now = scrape(&server);
    let name = "tidings_fanout_duration_seconds";
    let mut buckets: Vec<(f64, f64)> = now
        .iter()
        .filter_map(|(sample, count)| {
            let bound = sample.strip_prefix(&format!("{name}_bucket{{le=\""))?.strip_suffix("\"}")?;
            Some((bound.parse().expect("a bound"), *count))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(buckets.first().map(|(bound, _)| *bound), Some(0.000_05));
    assert!(buckets.is_sorted_by(|(_, a), (_, b)| a <= b), "{buckets:?}");
    let count = now[&format!("{name}_count")];
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)));
    assert!((1.0..=10.0).contains(&count), "{count}");
    let sum = now[&format!("{name}_sum")];
    assert!((0.0..20.0).contains(&sum), "{sum}");
}

#[test]
fn commands_of_backends_and_requests_to_the_broker_are_timed() {
    let server = TestServer::start(&[
        "channel.without_namespace.history_size=1",
        "channel.without_namespace.history_ttl=60s",
    ]);
    for (path, body) in [
        ("/api/publish", "{\"channel\":\"news\",\"data\":1}"),
        ("/api/history", "{\"channel\":\"news\"}"),
        ("/api/history_remove", "{\"channel\":\"news\"}"),
    ] {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        assert_eq!(server.send(head + body).status, 200);
    }
    let now = scrape(&server);
    let timed = |name: &str, label: &str| now[&format!("tidings_{name}_duration_seconds_count{{{label}}}")];
    for scope in ["publish", "read", "manage"] {
        assert_eq!(timed("api", &format!("scope=\"{scope}\"")), 1.0, "{scope}");
    }
    for operation in ["publish", "history", "history_remove"] {
        assert_eq!(timed("broker_request", &format!("operation=\"{operation}\"")), 1.0, "{operation}");
    }
    assert_eq!(timed("broker_request", "operation=\"presence\""), 0.0);
}

#[test]
fn the_metrics_show_the_state_and_the_lag_of_the_broker() {
    let mut redis = RedisServer::start();
    let server = TestServer::start(&[&format!("broker={}", redis.url()), "ready.canary_interval=20ms"]);
    let is = |name: &str, value: f64| scrape(&server).get(name) == Some(&value);
    wait_until(PATIENCE, "up", || is("tidings_broker_up{kind=\"redis\"}", 1.0) && is("tidings_ready", 1.0));
    assert!(scrape(&server)["tidings_broker_lag_seconds"] < 3.0);
    assert!(scrape(&server)["tidings_redis_messages_received_total"] >= 1.0);
    redis.kill();
    wait_until(PATIENCE, "down", || is("tidings_broker_up{kind=\"redis\"}", 0.0) && is("tidings_ready", 0.0));
    let before = scrape(&server)["tidings_broker_lag_seconds"];
    wait_until(PATIENCE, "growing lag", || scrape(&server)["tidings_broker_lag_seconds"] > before + 0.2);
    redis.restart();
    wait_until(PATIENCE, "up again", || {
        is("tidings_ready", 1.0) && is("tidings_redis_reconnects_total", 1.0)
    });
}

#[test]
fn namespaces_have_their_own_counters() {
    let server = TestServer::start(&[
        "tcp.auto_subscribe=",
        "shards=2",
        "channel.namespaces=chat,scores",
        "channel.namespaces.chat.history_size=10",
        "channel.namespaces.chat.history_ttl=1m",
    ]);
    // Each has a series before it is used.
    assert_eq!(scrape(&server)["tidings_namespace_publications_total{namespace=\"scores\"}"], 0.0);
    let mut clients: Vec<_> = (0..3).map(|_| LineClient::connect(server.tcp())).collect();
    for client in &mut clients {
        for channel in ["chat:a", "plain"] {
            client.send(&format!("SUBSCRIBE {channel}"));
            client.expect("CONFIRMED");
        }
    }
    let mut resp = RespClient::connect(server.tcp());
    resp.command(&["PSUBSCRIBE", "scores:*"]);
    for (channel, copies) in [("chat:a", 2), ("plain", 1), ("scores:b", 3)] {
        for _ in 0..copies {
            clients[0].send(&format!("PUBLISH {channel} text"));
        }
    }
    wait_until(PATIENCE, "all publications", || {
        let now = scrape(&server);
        let is = |name: &str, namespace: &str, value: f64| {
            now.get(&format!("tidings_namespace_{name}{{namespace=\"{namespace}\"}}")) == Some(&value)
        };
        is("publications_total", "chat", 2.0)
            && is("deliveries_total", "chat", 6.0)
            && is("subscriptions", "chat", 3.0)
            && is("subscribes_total", "chat", 3.0)
            && is("publications_total", "_", 1.0)
            && is("deliveries_total", "_", 3.0)
            && is("publications_total", "scores", 0.0)
            && is("publications_total", "*", 3.0)
            && is("deliveries_total", "*", 3.0)
            && is("subscriptions", "*", 1.0)
            && now["tidings_namespace_history_bytes{namespace=\"chat\"}"] > 8.0
    });
    let now = scrape(&server);
    let sum = |name: &str| -> f64 {
        let of = |(sample, _): &(&String, &f64)| sample.starts_with(&format!("tidings_namespace_{name}{{"));
        now.iter().filter(of).map(|(_, value)| value).sum()
    };
    assert_eq!(sum("deliveries_total"), now["tidings_deliveries_total"]);
    assert_eq!(sum("publications_total"), now["tidings_broker_publications_received_total"]);
    assert_eq!(sum("subscriptions"), now["tidings_subscriptions"]);
    drop((clients, resp));
    wait_until(PATIENCE, "no subscription", || {
        scrape(&server)["tidings_namespace_subscriptions{namespace=\"chat\"}"] == 0.0
    });
}

#[test]
fn counters_of_namespaces_can_be_switched_off() {
    let server = TestServer::start(&["metrics.namespaces=false", "channel.namespaces=chat"]);
    let mut client = LineClient::connect(server.tcp());
    client.send("SUBSCRIBE chat:a");
    client.expect("CONFIRMED");
    assert!(!server.get("/metrics").body.contains("tidings_namespace_"));
}
