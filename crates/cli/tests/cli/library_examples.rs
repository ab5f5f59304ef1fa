//! The examples of the client library, against a running server.

use std::error::Error;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tidings_client::Server;
use tidings_testkit::{PATIENCE, Proxy, Tidings};
use tokio::time::{Duration, sleep, timeout};

use crate::tool::server;

#[path = "../../../client/examples/publish.rs"]
#[expect(dead_code, reason = "`main` of the example")]
mod publish;
#[path = "../../../client/examples/recover.rs"]
#[expect(dead_code, reason = "`main` of the example")]
mod recover;
#[path = "../../../client/examples/subscribe.rs"]
#[expect(dead_code, reason = "`main` of the example")]
mod subscribe;

const KEY: &str = "a key of the server API";

/// The output of an example.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a writer that does not panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn lines(&self) -> Vec<String> {
        let text = self.0.lock().expect("a writer that does not panic").clone();
        String::from_utf8(text).expect("text").lines().map(str::to_owned).collect()
    }

    async fn wait_for(&self, line: &str) {
        while !self.lines().iter().any(|written| written == line) {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A server with channels that permit anonymous subscribers, and with the API key [`KEY`]; `more` are further options.
fn example_server(more: &[&str]) -> Tidings {
    let key = format!("http_api.key={KEY}");
    let options = [
        &*key,
        "client.allow_anonymous_connect_without_token=true",
        "channel.without_namespace.allow_subscribe_for_client=true",
        "channel.without_namespace.allow_subscribe_for_anonymous=true",
    ];
    let args: Vec<_> = options.iter().chain(more).flat_map(|option| ["--set", *option]).collect();
    server(&args)
}

fn address(text: &str) -> Server {
    text.parse().expect("an address")
}

/// Runs `scenario` together with an example that does not end by itself.
fn run_beside(example: impl Future<Output = Result<(), Box<dyn Error>>>, scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let both = async {
        tokio::select! {
            end = example => panic!("the example ended: {end:?}"),
            () = scenario => {}
        }
    };
    runtime.block_on(async { timeout(PATIENCE * 2, both).await }).expect("in time");
}

#[test]
fn the_subscriber_example_prints_the_messages_of_the_publisher_example() {
    let server = example_server(&[]);
    let mut output = Output::default();
    let printed = output.clone();
    let example = subscribe::run(address(&format!("ws://{}", server.http())), "scores", &mut output);
    run_beside(example, async {
        printed.wait_for("subscribed to scores").await;
        let api = || address(&format!("http://{}", server.http()));
        let bodies = ["2:1", "2:2"].map(str::to_owned);
        publish::run(api(), Some(KEY.to_owned()), "scores", &bodies).await.expect("published");
        printed.wait_for("2:2").await;
        assert_eq!(printed.lines(), ["subscribed to scores", "2:1", "2:2"]);
        let refused = publish::run(api(), None, "scores", &bodies).await.expect_err("no key");
        assert!(refused.to_string().contains("401"), "{refused}");
    });
}

#[test]
fn the_recovery_example_prints_missed_publications() {
    let server = example_server(&[
        "channel.without_namespace.history_size=10",
        "channel.without_namespace.history_ttl=60s",
        "channel.without_namespace.force_recovery=true",
    ]);
    let proxy = Proxy::to(server.http());
    let mut output = Output::default();
    let printed = output.clone();
    let example = recover::run(address(&format!("ws://{}", proxy.addr())), "scores", &mut output);
    run_beside(example, async {
        let publish = async |body: &str| {
            let api = address(&format!("http://{}", server.http()));
            publish::run(api, Some(KEY.to_owned()), "scores", &[body.to_owned()]).await.expect("published");
        };
        printed.wait_for("subscribed").await;
        publish("before").await;
        printed.wait_for("1 before").await;
        proxy.black_hole();
        proxy.cut();
        publish("meanwhile").await;
        proxy.resume();
        printed.wait_for("2 meanwhile").await;
        publish("after").await;
        printed.wait_for("3 after").await;
        let lines = printed.lines();
        let kept: Vec<_> = lines.iter().filter(|line| !line.starts_with("disconnected")).collect();
        assert_eq!(kept, ["subscribed", "1 before", "recovered 1 publications", "2 meanwhile", "3 after"]);
    });
}
