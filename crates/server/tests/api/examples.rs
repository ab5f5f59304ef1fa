//! The examples of `docs/api.md`, run with curl.

use std::process::Command;

use serde_json::{Map, Value};

use crate::world::{USERS, World};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");

/// A fenced block: what it is, and its text.
type Block = (String, String);

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((kind.to_owned(), text.join("\n")));
        }
    }
    blocks
}

fn values(text: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Whether an answer is what the page shows, where `"…"` stands for anything, also for a key.
fn alike(shown: &Value, answer: &Value) -> bool {
    let keys = |shown: &Map<String, Value>, answer: &Map<String, Value>| {
        shown.len() == answer.len()
            && shown.iter().all(|(key, value)| match key.as_str() {
                "…" => answer.values().all(|other| alike(value, other)),
                key => answer.get(key).is_some_and(|other| alike(value, other)),
            })
    };
    match (shown, answer) {
        (Value::String(text), _) if text == "…" => true,
        (Value::Object(shown), Value::Object(answer)) => keys(shown, answer),
        (Value::Array(shown), Value::Array(answer)) => {
            shown.len() == answer.len()
                && shown.iter().zip(answer).all(|(shown, answer)| alike(shown, answer))
        }
        _ => shown == answer,
    }
}

#[test]
fn every_example_of_the_page_answers_what_the_page_says() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let mut blocks = blocks(&page).into_iter();
    let (kind, config) = blocks.next().expect("a configuration");
    assert_eq!(kind, "toml");
    let [tokens, _, clients @ ..] = USERS;
    let world = World::with_file(&config, &[&[tokens], &clients[..]].concat());
    let mut member = world.user("7");
    member.ask("subscribe", &serde_json::json!({"channel": "lobby"}));
    world.until_it_counts(&["X-API-Key: s3cret"], [1, 1, 1, 1]);
    let here = format!("http://{}/", world.http());
    let mut methods = Vec::new();
    while let Some((kind, command)) = blocks.next() {
        assert_eq!(kind, "sh", "{command}");
        let (kind, shown) = blocks.next().unwrap_or_else(|| panic!("no answer to {command}"));
        assert_eq!(kind, "json", "{shown}");
        let script =
            command.replace("curl ", "curl -sS --max-time 20 ").replace("http://localhost:8000/", &here);
        assert!(script.contains(&here), "{command}");
        let output = Command::new("sh").args(["-ec", &script]).output().expect("a shell");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}\n{out}{err}");
        let (shown, answers) = (values(&shown), values(&out));
        let same = shown.len() == answers.len() && shown.iter().zip(&answers).all(|(s, a)| alike(s, a));
        assert!(same, "{command}\nshown: {shown:#?}\nanswered: {answers:#?}");
        methods.push(command.rsplit('/').next().unwrap_or_default().trim().to_owned());
    }
    for method in [
        "publish",
        "broadcast",
        "subscribe",
        "unsubscribe",
        "disconnect",
        "refresh",
        "presence",
        "presence_stats",
        "history",
        "history_remove",
        "channels",
        "info",
        "batch",
        "api",
    ] {
        assert!(methods.iter().any(|shown| shown == method), "no example of {method}");
    }
}
