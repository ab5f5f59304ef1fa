//! Help, completions, manual pages and configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tidings_testkit::Tidings;

use crate::tool::{TIDINGS, run};

const COMMANDS: [&str; 10] =
    ["serve", "connect", "subscribe", "publish", "bench", "config", "completions", "health", "man", "token"];

#[test]
fn every_command_has_help_that_ends_with_examples() {
    let overview = run(&["--help"], b"");
    assert_eq!(overview.code, Some(0));
    for command in COMMANDS {
        assert!(overview.text().contains(&format!("\n  {command} ")), "{command} is missing");
        let help = run(&[command, "--help"], b"");
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
        let (_, examples) = help.text().split_once("Examples:\n").expect("examples");
        assert!(examples.lines().all(|line| line.contains("tidings ")), "{examples}");
    }
    let version = run(&["--version"], b"");
    assert_eq!(version.text(), format!("tidings {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_newest_dated_section_of_the_changelog_is_this_version() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../CHANGELOG.md");
    let text = fs::read_to_string(path).expect("the changelog");
    let mut sections = text.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.next(), Some("Unreleased"));
    let (version, date) = sections.next().and_then(|title| title.split_once(" – ")).expect("a dated section");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let digits = date.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect::<Vec<_>>();
    assert_eq!(digits, b"0000-00-00", "{date}");
}

#[test]
fn without_a_command_the_help_is_shown_as_wrong_usage() {
    let done = run(&[], b"");
    assert_eq!((done.code, done.text()), (Some(2), ""));
    assert!(done.stderr.contains("Usage: tidings <COMMAND>"));
    run(&["srve"], b"").refused(2, &["srve", "serve"]);
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = run(&["completions", shell], b"");
        assert_eq!(done.code, Some(0));
        for command in COMMANDS {
            assert!(done.text().contains(command), "{shell}: {command} is missing");
        }
    }
    run(&["completions", "cmd"], b"").refused(2, &["cmd", "bash"]);
}

#[test]
fn manual_pages_are_printed_or_written_one_for_each_command() {
    let page = run(&["man"], b"");
    assert_eq!(page.code, Some(0));
    assert!(page.text().contains(".TH tidings 1"));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert_eq!(run(&["man", &pages.display().to_string()], b"").code, Some(0));
    assert!(pages.join("tidings.1").exists());
    for command in COMMANDS {
        let page = fs::read_to_string(pages.join(format!("tidings-{command}.1"))).expect("a page");
        assert!(page.contains("Examples:"), "{command}");
    }
}

#[test]
fn the_default_file_is_valid_and_starts_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    fs::write(&file, run(&["config", "default"], b"").text()).unwrap();
    let path = file.display().to_string();
    let checked = run(&["config", "check", &path], b"");
    assert_eq!((checked.code, checked.text()), (Some(0), format!("{path}: valid\n").as_str()));
    let mut server = Tidings::start(TIDINGS, &["--config", &path]);
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_weak_key_in_a_valid_file_is_reported_without_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    fs::write(&file, "[http_api]\nkey = \"my-secret-password-1\"\n").unwrap();
    let path = file.display().to_string();
    let checked = run(&["config", "check", &path], b"");
    assert_eq!((checked.code, checked.text()), (Some(0), format!("{path}: valid\n").as_str()));
    assert!(checked.stderr.starts_with("tidings: http_api.key is weak: "), "{}", checked.stderr);
    assert!(!checked.stderr.contains("my-secret"), "{}", checked.stderr);
}

#[test]
fn an_invalid_file_is_reported_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    fs::write(&file, "[tcp]\necho = true\nmax_lin = 100\n").unwrap();
    let path = file.display().to_string();
    run(&["config", "check", &path], b"").refused(2, &[&format!("{path}:3"), "tcp.max_lin", "tcp.max_line"]);
    run(&["config", "check", "/nowhere.toml"], b"").refused(2, &["/nowhere.toml"]);
}

#[test]
fn every_error_of_a_file_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    fs::write(&file, "brokr = 1\n[tcp]\necho = 5\n[http_server]\naddress = \"0.0.0.0\"\n").unwrap();
    let path = file.display().to_string();
    let done = run(&["config", "check", &path], b"");
    assert_eq!((done.code, done.text()), (Some(2), ""));
    let lines: Vec<&str> = done.stderr.lines().collect();
    for (line, part) in lines.iter().zip(["brokr", "tcp.echo", "http.listen", "config import"]) {
        assert!(line.starts_with("tidings: ") && line.contains(part), "{part}: {lines:#?}");
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
}

#[test]
fn an_imported_file_is_private_valid_and_replaces_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("config.json"), dir.path().join("tidings.toml"));
    fs::write(
        &from,
        r#"{"token_hmac_secret_key": "hush-hush-hush-hush", "admin_password": "hush", "port": 9000}"#,
    )
    .unwrap();
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let done = run(&["config", "import", &from, "-o", &to], b"");
    assert_eq!((done.code, done.text()), (Some(0), ""));
    assert!(
        done.stderr.contains(&format!("{from}:1: `admin_password`")) && !done.stderr.contains("hush"),
        "{done:?}"
    );
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let checked = run(&["config", "check", &to], b"");
    assert_eq!((checked.code, checked.text()), (Some(0), format!("{to}: valid\n").as_str()));
    run(&["config", "import", &from, "-o", &to], b"").refused(1, &[&to, "exists"]);
    assert!(
        run(&["config", "import", &from], b"").text().contains("hmac_secret_key = \"hush-hush-hush-hush\"")
    );
}

#[test]
fn the_options_are_listed() {
    let docs = run(&["config", "docs"], b"");
    assert_eq!(docs.code, Some(0));
    for option in ["tcp.echo", "TIDINGS_TCP_ECHO", "shutdown.timeout"] {
        assert!(docs.text().contains(option), "{option} is missing");
    }
}
