//! Two nodes on one Redis Cluster, from the outside.

use tidings_testkit::{
    LineClient, PATIENCE, Proxy, RedisCluster, Reply, RespClient, Tidings, get_http, post_http, wait_until,
};

use crate::tool::{Tool, command, server};

fn wait_until_ready(node: &Tidings) {
    let mut answer = String::new();
    wait_until(PATIENCE, "a node that is ready", || {
        let response = get_http(node.http(), "/ready");
        answer = response.body;
        response.status == 200
    });
}

fn subscriber(node: &Tidings, channels: &[String]) -> LineClient {
    let mut client = LineClient::connect(node.tcp());
    for channel in channels {
        client.send(&format!("SUBSCRIBE {channel}"));
        client.expect("CONFIRMED");
    }
    client
}

#[test]
fn two_nodes_on_a_cluster_are_one_deployment_also_when_a_primary_fails() {
    let mut cluster = RedisCluster::with_replicas(3, 1);
    let url = cluster.url();
    let flags = [
        "--broker",
        &url,
        "--set",
        "ready.canary_interval=100ms",
        "--set",
        "ready.canary_limit=1s",
        "--set",
        "redis.response_timeout=500ms",
        "--set",
        "channel.namespaces=kept",
        "--set",
        "channel.namespaces.kept.history_size=1000",
        "--set",
        "channel.namespaces.kept.history_ttl=60s",
        "--set",
        "channel.namespaces.kept.force_recovery=true",
    ];
    let nodes = [server(&flags), server(&flags)];
    nodes.iter().for_each(wait_until_ready);

    // Plain publications of other programs, at any node of the cluster.
    let plain: Vec<_> = (0..3).map(|primary| cluster.name_at(primary, "news")).collect();
    let kept: Vec<_> = (0..3).map(|primary| cluster.name_at(primary, "kept:")).collect();
    let mut clients: Vec<_> = nodes.iter().map(|node| subscriber(node, &plain)).collect();
    for (at, redis) in cluster.nodes().enumerate() {
        for name in &plain {
            redis.cli(&["PUBLISH", name, &format!("at {at}")]);
            clients.iter_mut().for_each(|client| client.expect(&format!("MESSAGE {name} at {at}")));
        }
    }

    // Publications with a history, by clients of a node and by the function, while a client is disconnected and
    // returns.
    let link = Proxy::to(nodes[1].http());
    let away: Vec<_> = kept
        .iter()
        .map(|name| {
            let url = format!("ws://{}", link.addr());
            Tool::start(command(&["subscribe", "--server", &url, name, "--count", "20"]))
        })
        .collect();
    let mut publishers: Vec<_> = nodes.iter().map(|node| RespClient::connect(node.tcp())).collect();
    for name in &kept {
        wait_until(PATIENCE, "the subscriber", || {
            publishers[1].command(&["PUBSUB", "NUMSUB", name]).texts() == [name, "1"]
        });
    }
    let mut here: Vec<_> = nodes.iter().map(|node| subscriber(node, &kept)).collect();
    for number in 0..20 {
        if number == 10 {
            link.cut();
        }
        for (primary, name) in kept.iter().enumerate() {
            let body = number.to_string();
            if number % 2 == 0 {
                publishers[number / 2 % 2].command(&["PUBLISH", name, &body]);
            } else {
                let call = ["FCALL", "tidings_publish", "1", name, &body];
                assert!(matches!(cluster.node(primary).cli(&call), Reply::Array(_)));
            }
            here.iter_mut().for_each(|client| client.expect(&format!("MESSAGE {name} {body}")));
        }
    }
    let expected: String = (0..20).map(|number| format!("{number}\n")).collect();
    for tool in away {
        let done = tool.finish();
        assert_eq!((done.code, done.text()), (Some(0), &*expected), "{}", done.stderr);
    }

    // Each node has registered the other one and proxies for it.
    wait_until(PATIENCE, "both nodes in the info", || {
        post_http(nodes[0].http(), "/api/info", &[], "{}").body.matches("\"uid\"").count() == 2
    });
    let channels = post_http(nodes[0].http(), "/api/channels", &[], "{}").body;
    for name in plain.iter().chain(&kept) {
        assert!(channels.contains(&format!("\"{name}\":{{\"num_clients\":2}}")), "{channels}");
    }

    // Replicated publications survive a failure; others may be lost.
    let mut primary = cluster.node(0).client();
    primary.command(&["FCALL", "tidings_publish", "1", &kept[0], "copied"]);
    assert_eq!(primary.command(&["WAIT", "1", "10000"]).int(), 1, "the replica has it");
    here.iter_mut().for_each(|client| client.expect(&format!("MESSAGE {} copied", kept[0])));

    // A primary fails. The other nodes continue, /ready is 503 meanwhile, and no stored publication is missed.
    cluster.node_mut(0).kill();
    for node in &nodes {
        wait_until(PATIENCE, "/ready to say which primary it is", || {
            let response = get_http(node.http(), "/ready");
            response.status == 503
                && response.body.contains(&format!("{} of the cluster", cluster.node(0).addr()))
        });
    }
    publishers[0].command(&["PUBLISH", &kept[1], "beside"]);
    here.iter_mut().for_each(|client| client.expect(&format!("MESSAGE {} beside", kept[1])));
    let mut late = LineClient::connect(nodes[0].tcp());
    late.send(&format!("SUBSCRIBE {}", cluster.name_at(0, "late")));
    let answer = late.line();
    assert!(answer.starts_with("ERROR 100") || answer == "CONFIRMED", "{answer}");
    wait_until(PATIENCE, "the replica takes publications", || {
        let call = ["FCALL", "tidings_publish", "1", &kept[0], "promoted"];
        matches!(cluster.node(3).cli(&call), Reply::Array(_))
    });
    here.iter_mut().for_each(|client| client.expect(&format!("MESSAGE {} promoted", kept[0])));
    nodes.iter().for_each(wait_until_ready);
    for (number, name) in kept.iter().enumerate() {
        publishers[number % 2].command(&["PUBLISH", name, "after"]);
        here.iter_mut().for_each(|client| client.expect(&format!("MESSAGE {name} after")));
    }
    for name in &plain {
        cluster.node(2).cli(&["PUBLISH", name, "after"]);
        clients.iter_mut().for_each(|client| client.expect(&format!("MESSAGE {name} after")));
    }
}
