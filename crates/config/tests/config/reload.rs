//! Reading the sources again while a server runs.

use std::collections::BTreeSet;

use tidings_config::{self as config, Config, Sources};

use crate::support::{OneFile, file, no_overrides, sets};

fn sources(file: &OneFile) -> Sources {
    Sources::new(Some(file.path.clone()), Vec::new(), no_overrides())
}

fn write(file: &OneFile, text: &str) {
    std::fs::write(&file.path, text).expect("the file");
}

/// The keys of the documented options, with whether they are reloadable.
fn documented() -> Vec<(String, bool)> {
    let docs = config::docs();
    let sections = docs.split("\n### `").skip(1);
    let option = |section: &str| {
        let (key, rest) = section.split_once('`')?;
        let line = rest.lines().find(|line| line.contains("; `TIDINGS_"))?;
        let marks = [line.contains("; reloadable"), line.contains("; needs a restart")];
        assert!(marks[0] != marks[1], "{line}");
        Some((key.to_owned(), marks[0]))
    };
    sections.filter_map(option).collect()
}

/// Values that are valid for some options, and differ from every default.
const VALUES: [&str; 33] = [
    "versioned",
    "true",
    "false",
    "7",
    "900000",
    "101",
    "11s",
    "1500ms",
    "127.0.0.1:1",
    "https://a.example",
    "memory",
    "debug",
    "json",
    "always",
    "latest",
    "binary",
    "cache",
    "1.3",
    "key",
    "{\"X-Key\": \"v\"}",
    "X-Key",
    "redis://127.0.0.1:1",
    "a1",
    "publish",
    "fossil",
    "recoverable",
    "client_id",
    "[{\"status_code\": 404, \"to_error\": {\"code\": 404}}]",
    "2",
    "0.5",
    "off",
    "/a/path",
    "$argon2id$v=19$m=19456,t=2,p=1$8sFXdKOeD+mi+PZQ5obO5Q$JIWn1T4/CAJmHgyMplW2Q5/PXkGq+gKw7rlMwDH9W6o",
];

#[test]
fn each_option_changes_at_a_reload_or_is_named_as_documented() {
    let base = "[client.token]\nhmac_secret_key = \"0123456789abcdef0123456789abcdef\"\n";
    let options = documented();
    assert!(options.len() > 180, "{} options", options.len());
    let (mut tried, mut skipped) = (0, Vec::new());
    for (key, is_reloadable) in options {
        let kept = file("c.toml", base);
        let running = sources(&kept).load().expect("valid").config;
        // Some value that is valid alone; others are tried in turn.
        let reloaded = VALUES.iter().find_map(|value| {
            let overrides = sets(&[&format!("{key}={value}")]);
            let changed = Sources::new(Some(kept.path.clone()), Vec::new(), overrides);
            changed.reload(&running).ok().filter(|r| !r.changed.is_empty() || !r.restart_required.is_empty())
        });
        let Some(reloaded) = reloaded else {
            skipped.push(key);
            continue;
        };
        tried += 1;
        let (changed, restart) = (&reloaded.changed, &reloaded.restart_required);
        if is_reloadable {
            assert!(changed.contains(&key) && !restart.contains(&key), "{key}: {reloaded:?}");
            assert_ne!(reloaded.config, running, "{key}");
        } else {
            assert!(restart.contains(&key) && !changed.contains(&key), "{key}: {reloaded:?}");
            assert_eq!(reloaded.config, running, "{key}: the value of the start stays");
        }
    }
    // Options that are valid only together with others, such as a hook and its URL.
    let together: BTreeSet<&str> = skipped.iter().map(String::as_str).collect();
    assert!(tried > 220 && together.len() < 40, "{tried} tried, not {together:?}");
}

#[test]
fn the_answer_names_options_and_never_their_values() {
    let kept = file("c.toml", "http_api.key = \"first-s3cret\"\n[tcp]\nlisten = \"127.0.0.1:1\"\n");
    let sources = sources(&kept);
    let running = sources.load().expect("valid").config;
    write(
        &kept,
        "http_api.key = \"second-s3cret\"\nlog_level = \"debug\"\n[tcp]\nlisten = \"127.0.0.1:2\"\n\
         [[channel.namespaces]]\nname = \"chat\"\nallow_publish_for_client = true\n\
         [[http_api.keys]]\nname = \"shop\"\nkey = \"shop-s3cret\"\nscopes = \"read\"\n",
    );
    let reloaded = sources.reload(&running).expect("valid");
    assert_eq!(reloaded.restart_required, ["tcp.listen"]);
    let changed = ["log.level", "http_api.key", "channel.namespaces.chat", "http_api.keys.shop"];
    assert_eq!(reloaded.changed, changed);
    assert_eq!(reloaded.config.tcp.listen, running.tcp.listen);
    assert!(reloaded.config.http_api.key.equals(b"second-s3cret"));
    // Until the restart the option is named again.
    let again = sources.reload(&reloaded.config).expect("valid");
    assert_eq!((again.changed.len(), again.restart_required), (0, vec!["tcp.listen".to_owned()]));
    write(
        &kept,
        "http_api.key = \"second-s3cret\"\nlog_level = \"debug\"\n[tcp]\nlisten = \"127.0.0.1:1\"\n",
    );
    let removed = sources.reload(&again.config).expect("valid");
    assert_eq!(removed.changed, ["channel.namespaces.chat", "http_api.keys.shop"]);
}

#[test]
fn a_file_with_errors_is_refused_with_all_of_them() {
    let kept = file("c.toml", "");
    let sources = sources(&kept);
    let running = sources.load().expect("valid").config;
    write(&kept, "[tcp]\nechoo = true\nmax_line = 1\n");
    let errors = sources.reload(&running).expect_err("two errors");
    assert_eq!(errors.lines().count(), 2, "{errors}");
    write(&kept, "[tcp\n");
    assert!(sources.reload(&running).expect_err("no TOML").to_string().contains("c.toml:1"));
}

#[test]
fn a_reload_does_not_lead_to_a_state_that_a_start_refuses() {
    let kept = file("c.toml", "http_api.key = \"s3cret\"\n[http]\nlisten = \"0.0.0.0:8000\"\n");
    let sources = sources(&kept);
    let running = sources.load().expect("valid").config;
    // Alone the new file is a workbench. But the listener stays on a public address until a restart.
    write(&kept, "[http]\nlisten = \"127.0.0.1:8000\"\n");
    let errors = sources.reload(&running).expect_err("public without a key").to_string();
    assert!(errors.contains("0.0.0.0:8000 is not a loopback address"), "{errors}");
    assert!(errors.contains("keep their values until then: http.listen"), "{errors}");
}

#[test]
fn the_digest_depends_on_options_and_not_on_secrets() {
    let digest = |assignments: &[&str]| config::load(None, [], &sets(assignments)).expect("valid").digest();
    assert_eq!(digest(&[]), Config::default().digest());
    assert_ne!(digest(&["tcp.echo=false"]), digest(&[]));
    assert_eq!(digest(&["http_api.key=one"]), digest(&["http_api.key=two"]));
    assert_ne!(digest(&["http_api.key=one"]), digest(&[]));
}
