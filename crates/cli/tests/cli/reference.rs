//! Help, completions, manual pages and configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tidings_testkit::Tidings;

use crate::book::text;
use crate::tool::{TIDINGS, run};

const COMMANDS: [&str; 11] = [
    "serve",
    "connect",
    "subscribe",
    "publish",
    "bench",
    "config",
    "completions",
    "health",
    "man",
    "token",
    "trace",
];

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

#[test]
fn a_check_uses_the_variables_of_the_service_instead_of_those_of_the_shell() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (file, variables) = (path("tidings.toml"), path("environment"));
    fs::write(&file, "[http]\nlisten = [\"0.0.0.0:8000\"]\n").unwrap();
    let check = |given: &[&str]| run(&[&["config", "check"], given, &[&file]].concat(), b"");
    check(&[]).refused(2, &["no key is configured"]);
    let key = "0f2d8f5c1a9b4e7d86c30f2d8f5c1a9b";
    fs::write(&variables, format!("# keys\nTIDINGS_HTTP_API_KEY=\"{key}\"\n")).unwrap();
    let checked = check(&["--environment-file", &variables]);
    assert_eq!((checked.code, checked.text()), (Some(0), format!("{file}: valid\n").as_str()), "{checked:?}");
    // An option that does not exist is found there too.
    fs::write(&variables, format!("TIDINGS_HTTP_API_KEY={key}\nTIDINGS_TCP_MAX_LIN=100\n")).unwrap();
    check(&["--environment-file", &variables]).refused(2, &["TIDINGS_TCP_MAX_LIN"]);
    let absent = check(&["--environment-file", &path("absent")]);
    assert!(absent.code == Some(2) && absent.stderr.contains("absent does not exist"), "{absent:?}");
}

#[test]
fn the_documentation_has_the_number_of_alerts() {
    let rules = text("deploy/prometheus/tidings.rules.yaml").matches("- alert: ").count();
    for (page, words) in
        [("docs/deploy.md", "alerts with their meaning"), ("docs/operations/monitoring.md", "alert rules")]
    {
        assert!(text(page).contains(&format!("{rules} {words}")), "{page} does not say {rules} {words}");
    }
}

#[test]
fn the_page_about_keys_lists_the_secrets_that_need_a_restart() {
    let options = text("docs/configuration.md");
    let sections = options.split("\n### `").skip(1).filter_map(|section| section.split_once('`'));
    // A secret can be in a file of its own.
    let is_fixed = |section: &str| {
        let facts = section.trim_start().lines().next().unwrap_or_default();
        facts.contains("; needs a restart") && facts.contains("; also `")
    };
    let fixed = sections.filter(|(_, section)| is_fixed(section)).map(|(name, _)| name.to_owned());
    let in_lists = ["consumers[].postgresql.dsn", "consumers[].redis_stream.address"];
    let mut fixed: Vec<_> = fixed.chain(in_lists.map(str::to_owned)).collect();
    fixed.sort();
    let page = text("docs/operations/keys.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut listed: Vec<_> = rows.map(|(name, _)| name.to_owned()).collect();
    listed.sort();
    assert_eq!(listed, fixed);
}
