//! Several commands in one request.

use serde_json::{Value, json};
use tidings_testkit::RedisServer;

use crate::api_server::{ApiServer, json_of};

const HISTORY: [&str; 2] =
    ["channel.without_namespace.history_size=20000", "channel.without_namespace.history_ttl=60s"];

#[test]
fn the_replies_of_a_batch_have_the_order_of_its_commands() {
    let server = ApiServer::with(&["channel.namespaces=kept", "channel.without_namespace.presence=true"]);
    let mut client = server.subscriber("news");
    for parallel in [false, true] {
        let replies = server.batch(&json!({"parallel": parallel, "commands": [
            {"publish": {"channel": "news", "data": 1}},
            {"publish": {"channel": "none:a", "data": 1}},
            {"broadcast": {"channels": ["news", "none:a"], "data": 2}},
            {"presence_stats": {"channel": "news"}},
            {"publish": {"channel": "news", "data": 3}},
            {"dance": {}},
            {},
            {"publish": {"channel": "news", "data": 4}, "info": {}},
            {"channels": {"pattern": "n*"}},
            {"disconnect": {}},
            {"publish": null, "info": {}},
        ]}));
        assert_eq!(replies.len(), 11);
        let unknown_channel = json!({"error": {"code": 102, "message": "unknown channel"}});
        assert_eq!(replies[0], json!({"publish": {}}));
        assert_eq!(replies[1], unknown_channel);
        assert_eq!(replies[2], json!({"broadcast": {"responses": [{"result": {}}, unknown_channel]}}));
        assert_eq!(replies[3], json!({"presence_stats": {"num_clients": 0, "num_users": 0}}));
        assert_eq!(replies[4], json!({"publish": {}}));
        let unknown_method = json!({"error": {"code": 104, "message": "method not found"}});
        assert_eq!([&replies[5], &replies[6]], [&unknown_method; 2]);
        assert_eq!(replies[7]["error"]["code"], 107);
        assert_eq!(replies[8], json!({"channels": {"channels": {"news": {"num_clients": 1}}}}));
        assert_eq!(replies[9]["error"]["code"], 107);
        assert!(replies[10]["info"]["nodes"].is_array(), "{}", replies[10]);
        for n in 1..4 {
            client.expect(&format!("MESSAGE news {n}"));
        }
    }
    assert_eq!(server.batch(&json!({"commands": []})), Vec::<Value>::new());
    assert_eq!(server.batch(&json!({})), Vec::<Value>::new());
}

#[test]
fn the_commands_of_a_batch_take_effect_in_their_order() {
    let redis = RedisServer::start();
    for broker in ["memory".to_owned(), redis.url()] {
        let server = ApiServer::with(&[&[&*format!("broker={broker}")], &HISTORY[..]].concat());
        let mut commands: Vec<_> =
            (0..5_000).map(|n| json!({"publish": {"channel": "news", "data": n}})).collect();
        commands.push(json!({"history": {"channel": "news", "limit": -1}}));
        commands.push(json!({"history_remove": {"channel": "news"}}));
        commands.push(json!({"publish": {"channel": "news", "data": "last"}}));
        commands.push(json!({"history": {"channel": "news", "limit": -1}}));
        let replies = server.batch(&json!({"commands": commands}));
        for (n, reply) in replies[..5_000].iter().enumerate() {
            assert_eq!(reply["publish"]["offset"], n + 1, "{broker}");
        }
        let history = |at: usize| replies[at]["history"]["publications"].as_array().expect("a list").clone();
        let bodies: Vec<_> = history(5_000).iter().map(|p| p["data"].as_u64().expect("a number")).collect();
        assert_eq!(bodies, (0..5_000).collect::<Vec<_>>(), "{broker}");
        assert_eq!(replies[5_001], json!({"history_remove": {}}));
        assert_eq!(history(5_003), [json!({"data": "last", "offset": 5_001})], "{broker}");
    }
}

#[test]
fn commands_with_their_methods_are_answered_line_by_line() {
    let server = ApiServer::with(&[]);
    let mut client = server.subscriber("news");
    let body = concat!(
        r#"{"method":"publish","params":{"channel":"news","data":1}}"#,
        "\n",
        r#"{"id":7,"method":"broadcast","params":{"channels":["news"],"data":2}}"#,
        "\n\n",
        r#"{"id":8,"method":"dance"} {"method":"publish","params":[]}"#,
        r#"{"method":"publish","params":{"channel":5}}{"method":"presence_stats"}"#,
    );
    let answer = server.post("/api", &[], body);
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let lines: Vec<&str> = answer.body.split('\n').collect();
    assert_eq!(lines[0], r#"{"result":{}}"#);
    assert_eq!(lines[1], r#"{"id":7,"result":{"responses":[{"result":{}}]}}"#);
    assert_eq!(lines[2], r#"{"id":8,"error":{"code":104,"message":"method not found"}}"#);
    for line in &lines[3..] {
        assert!(line.starts_with(r#"{"error":{"code":107,"#), "{line}");
    }
    assert_eq!(lines.len(), 6);
    client.expect("MESSAGE news 1");
    client.expect("MESSAGE news 2");
    // A single command.
    let answer = server.post("/api/", &[], r#"{"method":"info","params":{}}"#);
    assert_eq!(json_of(&answer)["result"]["nodes"][0]["num_channels"], 1);
}
