//! Namespaces that claim channels: `match`, `pattern` and `user_variable`.

use tidings_config as config;

use crate::support::{error_line, load_env, load_text};

fn namespace(name: &str, options: &str) -> String {
    format!("[[channel.namespaces]]\nname = \"{name}\"\n{options}\n")
}

fn load(text: &str) -> Result<config::Config, config::ConfigErrors> {
    load_text("c.toml", text)
}

#[test]
fn a_namespace_claims_channels_by_filters_and_by_a_pattern() {
    let text = namespace("home", "match = [\"home/+/temp\", \"#\"]\npattern = \"/rooms/:id\"")
        + &namespace("users", "pattern = \"/users/:id\"\nuser_variable = \"id\"");
    let config = load(&text).expect("good");
    let rules: Vec<_> =
        config.channel.rules().map(|(index, rule)| (index, rule.as_str().to_owned())).collect();
    let expected = [(0, "home/+/temp"), (0, "#"), (0, "/rooms/:id"), (1, "/users/:id")];
    assert_eq!(rules, expected.map(|(index, rule)| (index, rule.to_owned())));
    let config = load_env(&[
        ("TIDINGS_CHANNEL_NAMESPACES", "home"),
        ("TIDINGS_CHANNEL_NAMESPACES_HOME_MATCH", "home/+/temp,devices/#"),
    ]);
    assert_eq!(config.expect("good").channel.rules().count(), 2);
}

#[test]
fn two_namespaces_that_claim_the_same_channels_are_an_error_that_names_both() {
    let text =
        namespace("users", "pattern = \"/users/:id\"") + &namespace("people", "pattern = \"/users/:name\"");
    assert_eq!(
        error_line(load(&text)),
        "c.toml:6: channel.namespaces.people.pattern: \"/users/:name\" claims the same channels as \"/users/:id\" of the \
         namespace \"users\""
    );
    let text =
        namespace("users", "pattern = \"/users/:id\"") + &namespace("people", "match = [\"/users/+\"]");
    assert!(error_line(load(&text)).contains("of the namespace \"users\""));
    let twice = namespace("home", "match = [\"home/#\", \"home/#\"]");
    assert!(error_line(load(&twice)).contains("\"home/#\" claims the same channels as \"home/#\""));
}

#[test]
fn a_rule_that_is_invalid_or_claims_no_channel_is_an_error() {
    for (options, expected) in [
        ("match = [\"home/a#\"]", "channel.namespaces.home.match: expected a topic filter of MQTT"),
        ("pattern = \"users/:id\"", "channel.namespaces.home.pattern: expected a pattern such as /users/:id"),
        ("user_variable = \"id\"", "channel.namespaces.home.user_variable: pattern has no variable \":id\""),
        (
            "pattern = \"/users/:id\"\nuser_variable = \"name\"",
            "channel.namespaces.home.user_variable: pattern has no variable \":name\"",
        ),
        (
            "match = [\"$home/#\"]",
            "\"$home/#\" claims no channel: names are compared without channel.private_prefix (\"$\"); leave it out",
        ),
        (
            "match = [\"home:7/+\"]",
            "\"home:7/+\" claims no channel: channels that begin with \"home:\" are in the namespace \"home\"",
        ),
    ] {
        let line = error_line(load(&namespace("home", options)));
        assert!(line.contains(expected), "{line}");
    }
    let many: Vec<_> = (0..65).map(|number| format!("\"a{number}/+\"")).collect();
    let line = error_line(load(&namespace("home", &format!("match = [{}]", many.join(", ")))));
    assert!(line.contains("more than 64 filters"), "{line}");
}

#[test]
fn channels_without_a_namespace_have_no_rules() {
    for option in ["match = [\"a/+\"]", "pattern = \"/a/:b\"", "user_variable = \"b\""] {
        let line = error_line(load(&format!("[channel.without_namespace]\n{option}\n")));
        assert!(line.contains("set it in one of channel.namespaces"), "{line}");
    }
}
