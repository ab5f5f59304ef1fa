//! The examples of the documentation, run as they are written but for the address of the server: those of `docs/api.md` one
//! after the other in a shell, that of the README in JavaScript under Node, its tables from the terminal.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::{Map, Value};
use tidings_testkit::{PATIENCE, Tidings, wait_until};

use crate::tool::{Done, TIDINGS, Tool, server};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("the page")
}

/// A shell command of an example in `folder`, with the built program on its path.
fn shell(script: &str, folder: &Path, server: &Tidings) -> Command {
    let here = server.http().to_string();
    let script = script.replace("curl ", "curl -sS --max-time 20 ").replace("localhost:8000", &here);
    let bin = Path::new(TIDINGS).parent().expect("a folder").to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([bin].into_iter().chain(env::split_paths(&path))).expect("a path");
    let mut command = Command::new("sh");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDINGS_")) {
        command.env_remove(name);
    }
    command.args(["-ec", &script]).current_dir(folder).env("PATH", path);
    command.env("TIDINGS_SERVER", server.http_url());
    command
}

fn run(script: &str, folder: &Path, server: &Tidings) -> Done {
    let mut tool = Tool::start(shell(script, folder, server));
    drop(tool.stdin.take());
    tool.finish()
}

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
fn every_example_of_the_api_s_page_answers_what_the_page_says() {
    let mut blocks = blocks(&page("docs/api.md")).into_iter();
    let (kind, config) = blocks.next().expect("a configuration");
    assert_eq!(kind, "toml");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.toml");
    fs::write(&file, config).expect("a file");
    let server = server(&["--config", file.to_str().expect("UTF-8")]);
    let (kind, member) = blocks.next().expect("somebody who is there");
    assert_eq!(kind, "sh", "{member}");
    let _member = Tool::start(shell(&format!("exec {member}"), folder.path(), &server));
    let count =
        "curl -d '{\"channel\": \"lobby\"}' -H 'X-API-Key: s3cret' http://localhost:8000/api/presence_stats";
    wait_until(PATIENCE, "a member of the channel", || {
        run(count, folder.path(), &server).text().contains("\"num_clients\":1")
    });
    let info = "curl -d '{}' -H 'X-API-Key: s3cret' http://localhost:8000/api/info";
    wait_until(PATIENCE, "the node to count it", || {
        run(info, folder.path(), &server)
            .text()
            .contains("\"num_clients\":1,\"num_users\":1,\"num_subs\":1,\"num_channels\":1")
    });
    let mut methods = Vec::new();
    while let Some((kind, command)) = blocks.next() {
        assert_eq!(kind, "sh", "{command}");
        let (kind, shown) = blocks.next().unwrap_or_else(|| panic!("no answer to {command}"));
        assert_eq!(kind, "json", "{shown}");
        assert!(command.contains("http://localhost:8000/"), "{command}");
        let done = run(&command, folder.path(), &server);
        assert_eq!(done.code, Some(0), "{command}\n{done:?}");
        let (shown, answers) = (values(&shown), values(done.text()));
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

#[test]
fn the_readme_s_client_in_javascript_runs_under_node() {
    let page = page("README.md");
    let (_, script) =
        blocks(&page).into_iter().find(|(_, text)| text.contains("new Centrifuge(")).expect("the example");
    let server = server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let here = server.http().to_string();
    fs::write(folder.path().join("scores.mjs"), script.replace("localhost:8000", &here)).expect("a script");
    let tools = env::var_os("TIDINGS_TEST_TOOLS").map_or_else(|| root().join(".test-tools"), PathBuf::from);
    symlink(tools.join("sdk-node/node_modules"), folder.path().join("node_modules")).expect("the modules");
    let mut node = Command::new("node");
    node.arg("scores.mjs").current_dir(folder.path());
    let node = Tool::start(node);
    // The README's own way to publish to it.
    let (_, publish) = blocks(&page)
        .into_iter()
        .find(|(kind, text)| kind == "sh" && text.contains("/api/publish"))
        .expect("the other example");
    wait_until(PATIENCE, "a message at the client", || {
        assert_eq!(run(&publish, folder.path(), &server).code, Some(0));
        node.stdout().contains("{ LAL: 101, BOS: 99 }")
    });
}

#[test]
fn the_readme_s_tables_are_made_of_files_that_are_there() {
    let (_, commands) = blocks(&page("README.md"))
        .into_iter()
        .find(|(_, text)| text.contains("tidings share results.tsv"))
        .expect("the example");
    let server = server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let (once, growing) = commands.split_once("tidings share results.tsv\n").expect("two ways");
    let done = run(&format!("{once}tidings share results.tsv"), folder.path(), &server);
    assert!(done.code == Some(0) && done.text().contains(&server.http_url()), "{done:?}");
    let mut growing = shell(growing, folder.path(), &server);
    growing.process_group(0);
    let growing = Group(Tool::start(growing));
    assert!(growing.0.lines(1)[0].contains(&server.http_url()));
}

/// A command and all that it has started; killed on drop.
struct Group(Tool);

impl Drop for Group {
    fn drop(&mut self) {
        self.0.kill_group();
    }
}
