//! The client library against the real server: features that the commands do not use.

use std::time::Duration;

use tidings_client::{Client, Encoding, Event, Options, Recovery, Server};
use tidings_testkit::PATIENCE;
use tokio::time::timeout;

use crate::tool::{run, server};

/// Options for each transport and encoding of the client protocol.
fn ways(server: &tidings_testkit::Tidings) -> [Options; 3] {
    let at = |address: String| -> Server { address.parse().expect("an address") };
    let ws = at(format!("ws://{}", server.http()));
    [
        Options { encoding: Encoding::Json, ..Options::new(ws.clone()) },
        Options::new(ws),
        Options::new(at(server.tcp().to_string())),
    ]
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(PATIENCE * 2, test).await.expect("in time") });
}

async fn until<T>(client: &mut Client, mut found: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        let event = client.next().await.expect("an event");
        if let Some(found) = found(event) {
            return found;
        }
    }
}

/// Connects and subscribes. Returns the connection's public id.
async fn subscribed(client: &mut Client, channel: &str) -> String {
    client.subscribe(channel, None);
    let mut id = String::new();
    let how = until(client, |event| match event {
        Event::Connected(welcome) => {
            id = welcome.client;
            None
        }
        Event::Subscribed { how, .. } => Some(how),
        _ => None,
    });
    assert_eq!(how.await, Recovery::First);
    id
}

#[test]
fn presence_history_join_and_leave_work_in_every_encoding() {
    let server = server(&[
        "--set",
        "channel.without_namespace.history_size=10",
        "--set",
        "channel.without_namespace.history_ttl=60s",
        "--set",
        "channel.without_namespace.presence=true",
        "--set",
        "channel.without_namespace.join_leave=true",
        "--set",
        "channel.without_namespace.force_push_join_leave=true",
    ]);
    for (channel, options) in ["json", "protobuf", "line"].into_iter().zip(ways(&server)) {
        block_on(async {
            let mut client = Client::new(options.clone());
            subscribed(&mut client, channel).await;
            for body in ["one", "two", "three"] {
                client.publish(channel, body.as_bytes()).await.expect("published");
            }
            let (all, newest) = client.history(channel, -1, None, false).await.expect("history");
            let text: Vec<_> = all.iter().map(|p| p.body.bytes().into_owned()).collect();
            // In JSON a client publishes JSON: a string stays a string.
            let text: Vec<String> =
                text.iter().map(|t| String::from_utf8_lossy(t).trim_matches('"').to_owned()).collect();
            assert_eq!((text, newest.offset), (vec!["one".into(), "two".into(), "three".into()], 3));
            let first = tidings_client::Position { offset: 1, ..newest };
            let (later, _) = client.history(channel, 1, Some(&first), false).await.expect("history");
            assert_eq!(later[0].offset, 2);
            assert_eq!(client.presence_stats(channel).await.expect("stats").0, 1);
            let mut other = Client::new(options);
            let joined = subscribed(&mut other, channel).await;
            until(&mut client, |event| match event {
                Event::Join(_, Some(who)) if who.client == joined => Some(()),
                _ => None,
            })
            .await;
            let present = other.presence(channel).await.expect("presence");
            assert!(present.len() == 2 && present.iter().any(|(id, _)| *id == joined), "{present:?}");
            other.close().await;
            let left = until(&mut client, |event| match event {
                Event::Leave(_, Some(who)) => Some(who.client),
                _ => None,
            });
            assert_eq!(left.await, joined);
            let refused = client.rpc("anything", b"{}").await.expect_err("nobody answers");
            assert!(refused.to_string().starts_with("the server refused rpc: "), "{refused}");
        });
    }
}

#[test]
fn server_side_subscriptions_are_recovered_like_the_client_s_own() {
    let server = server(&[
        "--set",
        "client.token.hmac_secret_key=key",
        "--set",
        "channel.without_namespace.history_size=10",
        "--set",
        "channel.without_namespace.history_ttl=60s",
        "--set",
        "channel.without_namespace.force_recovery=true",
        "--set",
        "channel.without_namespace.allow_publish_for_client=true",
    ]);
    let made = run(&["token", "connection", "--user", "42", "--channels", "mine", "--secret", "key"], b"");
    let token = Some(made.text().trim().to_owned());
    let proxy = tidings_testkit::Proxy::to(server.http());
    block_on(async {
        let at: Server = format!("ws://{}", proxy.addr()).parse().expect("an address");
        let max_delay = Duration::from_millis(50);
        let mut client = Client::new(Options { token: token.clone(), max_delay, ..Options::new(at) });
        let direct: Server = format!("ws://{}", server.http()).parse().expect("an address");
        let mut publisher = Client::new(Options { token, ..Options::new(direct) });
        let first = until(&mut client, |event| match event {
            Event::Subscribed { channel, how, .. } => Some((channel, how)),
            _ => None,
        });
        assert_eq!(first.await, ("mine".to_owned(), Recovery::First));
        proxy.black_hole();
        proxy.cut();
        publisher.publish("mine", b"meanwhile").await.expect("published");
        proxy.resume();
        let again = until(&mut client, |event| match event {
            Event::Subscribed { how, .. } => Some(how),
            _ => None,
        });
        assert_eq!(again.await, Recovery::Recovered(1));
        let body = until(&mut client, |event| match event {
            Event::Publication { publication, .. } => Some(publication.body.bytes().into_owned()),
            _ => None,
        });
        assert_eq!(body.await, b"meanwhile");
    });
}
