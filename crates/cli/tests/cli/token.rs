//! Tests of `tidings token`.

use std::fs;

use tempfile::TempDir;

use crate::tool::{Done, Tool, command, run};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";
const VARIABLE: &str = "TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY";

/// Runs `tidings token` with the key in the environment. No command may print it.
fn token(args: &[&str]) -> Done {
    let mut command = command(&[&["token"], args].concat());
    command.env(VARIABLE, SECRET);
    let done = Tool::start(command).finish();
    assert!(!done.text().contains("hunter2") && !done.stderr.contains("hunter2"), "{done:?}");
    done
}

/// The token that a command prints, and nothing else.
fn made(args: &[&str]) -> String {
    let done = token(args);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let token = done.text().strip_suffix('\n').expect("one line");
    assert!(token.starts_with("eyJ") && !token.contains(char::is_whitespace), "{token}");
    token.to_owned()
}

#[test]
fn a_connection_token_has_the_requested_claims_and_is_valid() {
    let made = made(&[
        "connection",
        "--user",
        "42",
        "--expires",
        "10m",
        "--info",
        "{\"name\": \"Ann\"}",
        "--meta",
        "{\"tenant\":7}",
        "--channels",
        "news,chat:1",
    ]);
    let checked = token(&["check", &made]);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{checked:?}");
    let text = checked.text();
    for part in [
        "\"alg\": \"HS256\"",
        "\"sub\": \"42\"",
        "\"name\": \"Ann\"",
        "\"tenant\": 7",
        "\"chat:1\"",
        "\"iat\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("\"channel\"") && !text.contains("\"aud\""), "{text}");
    let last = text.lines().last().expect("a verdict");
    assert!(last.starts_with("valid: connects user \"42\", for "), "{last}");
}

#[test]
fn a_subscription_token_is_for_one_channel() {
    let made = made(&["subscription", "--user", "42", "--channel", "$gossips", "--expires", "never"]);
    let checked = token(&["check", &made]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let last = checked.text().lines().last().expect("a verdict");
    assert_eq!(last, "valid: permits user \"42\" to subscribe to $gossips, without expiry");
    assert!(!checked.text().contains("\"exp\""));
}

#[test]
fn the_user_may_be_an_argument_or_an_option_but_not_both() {
    let last = |args: &[&str]| {
        let checked = token(&["check", &made(args)]);
        checked.text().lines().last().expect("a verdict").to_owned()
    };
    let endless = ["--expires", "never"];
    assert_eq!(
        last(&[&["connection", "42"][..], &endless].concat()),
        "valid: connects user \"42\", without expiry"
    );
    assert_eq!(
        last(&[&["subscription", "42", "--channel", "a"][..], &endless].concat()),
        "valid: permits user \"42\" to subscribe to a, without expiry"
    );
    assert_eq!(
        last(&[&["connection", "--user", "-1"][..], &endless].concat()),
        "valid: connects user \"-1\", without expiry"
    );
    token(&["connection", "42", "--user", "42"]).refused(2, &["--user"]);
}

#[test]
fn the_default_lifetime_of_a_token_is_an_hour() {
    let checked = token(&["check", &made(&["connection", "--user", ""])]);
    let last = checked.text().lines().last().expect("a verdict");
    // A second or two may have passed.
    assert!(last == "valid: connects an anonymous client, for 1h" || last.contains(", for 59m "), "{last}");
}

#[test]
fn the_key_audience_and_issuer_of_a_file_are_used() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tidings.toml");
    let text = "[client.token]\nhmac_secret_key = \"of the connections, and long enough\"\naudience = \"tidings\"\n\
                issuer = \"app\"\n[client.subscription_token]\nenabled = true\n\
                hmac_secret_key = \"of the subscriptions, long enough\"\n";
    fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let plain = |args: &[&str]| run(&[&["token"], args].concat(), b"");
    let connection = plain(&["connection", "--user", "42", "--config", &path]);
    let connection = connection.text().trim();
    let checked = plain(&["check", connection, "--config", &path]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.text().contains("\"aud\": \"tidings\"") && checked.text().contains("\"iss\": \"app\""));
    let subscription = plain(&["subscription", "--user", "42", "--channel", "a", "--config", &path]);
    let subscription = subscription.text().trim();
    assert_eq!(plain(&["check", subscription, "--config", &path]).code, Some(0));
    // Each key is for its own kind of token, as verification with the other one shows.
    let key = ["--secret", "of the subscriptions, long enough"];
    assert_eq!(plain(&["check", subscription, key[0], key[1]]).code, Some(0));
    let wrong = plain(&["check", connection, key[0], key[1]]);
    assert_eq!(
        (wrong.code, wrong.stderr.as_str()),
        (Some(1), "tidings: not valid: the signature is wrong\n")
    );
}

#[test]
fn a_given_key_overrides_the_configured_one() {
    let made = made(&["connection", "--user", "42", "--secret", "another key, which is long enough"]);
    assert_eq!(token(&["check", &made, "--secret", "another key, which is long enough"]).code, Some(0));
    assert_eq!(token(&["check", &made]).code, Some(1));
}

#[test]
fn a_token_is_read_from_standard_input() {
    let made = made(&["connection", "--user", "42", "--secret", "k"]);
    let done = run(&["token", "check", "-", "--secret", "k"], format!("{made}\n").as_bytes());
    assert_eq!(done.code, Some(0), "{done:?}");
    let endless = run(&["token", "check", "-", "--secret", "k"], "x".repeat(1 << 20).as_bytes());
    endless.refused(1, &["16384 is the limit"]);
}

#[test]
fn an_invalid_token_is_printed_with_the_reason() {
    let made = made(&["connection", "--user", "42"]);
    let done = run(&["token", "check", &made], b"");
    assert_eq!(done.code, Some(1));
    assert!(done.text().contains("\"sub\": \"42\"") && !done.text().contains("valid:"), "{done:?}");
    assert_eq!(done.stderr, "tidings: not valid: no key is configured for connection tokens\n");
    let mut away = command(&["token", "check", &made]);
    let port = tidings_testkit::free_port();
    away.env("TIDINGS_CLIENT_TOKEN_JWKS_PUBLIC_ENDPOINT", format!("http://127.0.0.1:{port}/keys"));
    let done = Tool::start(away).finish();
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(1), "tidings: not valid: its header names no key (`kid`)\n")
    );
    run(&["token", "check", "hunter2"], b"").refused(1, &["three parts"]);
    // {"alg":"none"}.{"sub":"\u009b2J\u001b[2J"}
    let forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiLCmzJKXHUwMDFiWzJKIn0.";
    let done = token(&["check", forged]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(1), "tidings: not valid: algorithm \"none\" is not supported\n")
    );
    assert!(!done.text().contains(['\u{9b}', '\u{1b}']), "{done:?}");
}

#[test]
fn wrong_usage_is_one_line() {
    let refused = |args: &[&str], words: &[&str]| token(args).refused(2, words);
    refused(&["connection"], &["--user"]);
    refused(&["subscription", "--user", "42"], &["--channel"]);
    refused(&["subscription", "--user", "42", "--channel", "a\tb"], &["without control characters"]);
    refused(&["connection", "--user", "42", "--channels", "a,,b"], &["empty"]);
    refused(&["connection", "--user", "42", "--info", "{"], &["not JSON"]);
    refused(&["connection", "--user", "42", "--expires", "0"], &["never"]);
    refused(&["connection", "--user", "42", "--secret", ""], &["--secret", "the key is empty"]);
    refused(&["connection", "--user", "42", "--config", "/nowhere.toml"], &["/nowhere.toml"]);
    token(&["connection", "--user", &"x".repeat(20_000)]).refused(1, &["16384 is the limit"]);
    run(&["token", "connection", "--user", "42"], b"")
        .refused(2, &["no key to sign with", "client.token.hmac_secret_key", "--secret"]);
    let mut provider = command(&["token", "connection", "--user", "42"]);
    provider.env("TIDINGS_CLIENT_TOKEN_JWKS_PUBLIC_ENDPOINT", "http://127.0.0.1:1/keys");
    Tool::start(provider).finish().refused(2, &["jwks_public_endpoint", "only tokens of that provider"]);
}

#[test]
fn every_subcommand_has_help_that_ends_with_examples() {
    for command in [&["token"][..], &["token", "connection"], &["token", "subscription"], &["token", "check"]]
    {
        let help = run(&[command, &["--help"]].concat(), b"");
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
        assert!(help.text().contains("Examples:\n"), "{}", help.text());
    }
}
