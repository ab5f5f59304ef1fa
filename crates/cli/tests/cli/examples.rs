//! The examples of `docs/api.md`, run in a shell one after the other as they are written, except for the address of the server.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tidings_testkit::{PATIENCE, Tidings, wait_until};

use crate::book::{Block, Directive, alike, blocks, text, values};
use crate::tool::{Done, TIDINGS, Tool, server};

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

#[test]
fn every_example_of_the_api_s_page_answers_what_the_page_says() {
    let is_run = |block: &Block| !matches!(block.directive, Some(Directive::NotRun));
    let mut blocks = blocks(&text("docs/api.md"))
        .into_iter()
        .filter(is_run)
        .map(|Block { language, text, .. }| (language, text));
    let (kind, config) = blocks.next().expect("a configuration");
    assert_eq!(kind, "toml");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidings.toml");
    fs::write(&file, config).expect("a file");
    let server = server(&["--config", file.to_str().expect("UTF-8")]);
    let (kind, member) = blocks.next().expect("a member of the channel");
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
        let parsed = |text: &str| values(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let (shown, answers) = (parsed(&shown), parsed(done.text()));
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
