//! Configurations of Centrifugo, of version 5 (flat names) and 6 (tables): options that tidings accepts, ignores or
//! rejects.
//!
//! Invariants:
//! - This module does not handle options with the same name in tidings.
//! - An option without a counterpart is ignored, with a warning, only if it has no effect in Centrifugo: at its
//!   default, or in a disabled table. Otherwise it is an error with the option to use instead.
//! - No message repeats a value.

#[cfg(test)]
mod counterparts;
pub(super) mod redis_url;
pub(super) mod write;

pub(super) use tidings_centrifugo_options::flat;
pub(super) use tidings_centrifugo_options::flat::takes_table;

use tidings_centrifugo_options::known::{ABSENT_DEFAULTS, BLOCKS, Counterpart, OPTIONS, Switch, matches};

use super::keys::{KEYS, NAMESPACES, PROXIES, RPC_NAMESPACES, is_option, set};
use super::options::Config;
use super::raw::{Node, Raw, shown};
use super::setting::{Span, items};
use super::variables::{CENTRIFUGO_PREFIX, variable};

/// Part of every error about an option of Centrifugo.
pub(super) const OPTION_OF: &str = "is an option of Centrifugo";
/// The last line of the errors in a file of Centrifugo.
pub(super) const HOW_TO_IMPORT: &str =
    "`tidings config import FILE` writes the file of Centrifugo for tidings";
/// The most variables in warnings.
const MAX_VARIABLES: usize = 20;
/// A hook without a name, with the same options as named ones.
const UNNAMED_PROXY: &str = "channel.proxy.subscribe";
/// The path of channel options, for all namespaces.
pub(super) const CHANNELS: &str = "channel.without_namespace";

/// The handling of an option of Centrifugo.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ignore it, with this warning.
    Ignored(String),
    /// Reject it, with this error.
    Refused(String),
}

/// The handling of a key that tidings does not have, in a table that may be disabled; `None` if Centrifugo does not
/// have it either.
pub(super) fn judge(key: &str, raw: &Raw, switched_off: bool) -> Option<Verdict> {
    if matches!(raw, Raw::Table(entries) if entries.is_empty()) && is_table(key) {
        return Some(at_default(key));
    }
    let verdict = judge_path(&general(key), key, raw, switched_off);
    if verdict.is_some() || key.contains('.') {
        return verdict;
    }
    // A name of version 5: the first path identifies the option.
    let paths = flat::paths(key)?;
    let path = paths.first()?;
    if path == NAMESPACES {
        return Some(if is_nothing(raw) {
            at_default(key)
        } else {
            refused(key, Counterpart::Option(NAMESPACES))
        });
    }
    if !is_option(path) {
        return judge_path(path, key, raw, switched_off);
    }
    let mut config = Config::default();
    let is_default = is_absent_value(path, raw)
        || matches!(set(&mut config, "", path, raw), Some(Ok(()))) && config == Config::default();
    Some(if is_default { at_default(key) } else { moved(key, &paths, "") })
}

fn judge_path(path: &str, key: &str, raw: &Raw, switched_off: bool) -> Option<Verdict> {
    for (pattern, switch, counterpart) in BLOCKS {
        let Some(option) = within(pattern, path) else { continue };
        let has_effect = match (*switch, option) {
            (Switch::Enabled, "enabled") => is_true(raw),
            (Switch::Type, "type") => !is_memory(raw),
            (Switch::Content, _) => !is_nothing(raw),
            _ => false,
        };
        return Some(if has_effect && !switched_off { refused(key, *counterpart) } else { at_default(key) });
    }
    let (_, default, counterpart) = OPTIONS.iter().find(|(pattern, ..)| matches(pattern, path))?;
    let is_default = is_nothing(raw) || is_value(raw, default) || is_off_list(raw);
    Some(if switched_off || is_default { at_default(key) } else { refused(key, *counterpart) })
}

/// The handling of a table of options as a whole; `None` if its options are handled individually.
pub(super) fn block(key: &str, entries: &[(String, Node)]) -> Option<Verdict> {
    let (_, switch, counterpart) = BLOCKS.iter().find(|(pattern, ..)| matches(pattern, key))?;
    let value = |name: &str| entries.iter().find(|(key, _)| key == name).map(|(_, node)| &node.raw);
    let has_effect = match switch {
        Switch::Enabled => value("enabled").is_some_and(is_true),
        Switch::Type => value("type").is_some_and(|raw| !is_memory(raw)),
        Switch::Content => !entries.iter().all(|(_, node)| is_nothing(&node.raw)),
        Switch::Never => false,
    };
    Some(if has_effect { refused(key, *counterpart) } else { at_default(key) })
}

/// Whether a table is disabled by one of its entries.
pub(super) fn is_switched_off(entries: &[(String, Node)]) -> bool {
    entries.iter().any(|(key, node)| match key.as_str() {
        "enabled" => is_false(&node.raw),
        "disabled" => is_true(&node.raw),
        _ => false,
    })
}

/// Whether this value of an option of tidings is Centrifugo's notation of an absent value.
pub(super) fn is_absent_value(key: &str, raw: &Raw) -> bool {
    let key = general(key);
    is_nothing(raw) && ABSENT_DEFAULTS.iter().any(|(option, _)| *option == key)
}

/// A warning for each environment variable of Centrifugo, with the corresponding variable of tidings.
pub(super) fn variable_warnings<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: Vec<&str> = names.collect();
    let mut warnings: Vec<String> =
        names.iter().take(MAX_VARIABLES).map(|name| variable_warning(name)).collect();
    if names.len() > MAX_VARIABLES {
        let more = names.len() - MAX_VARIABLES;
        warnings.push(format!("{more} more environment variables of Centrifugo have no effect"));
    }
    warnings
}

fn variable_warning(name: &str) -> String {
    let rest = name.strip_prefix(CENTRIFUGO_PREFIX).unwrap_or(name);
    let same = format!("TIDINGS_{rest}");
    let ours = if KEYS.iter().any(|key| variable(key) == same) || same.starts_with(&variable(NAMESPACES)) {
        Some(same)
    } else {
        let paths = flat::paths(&rest.to_ascii_lowercase()).unwrap_or_default();
        paths.into_iter().find(|path| is_option(path) || path == NAMESPACES).map(|path| variable(&path))
    };
    let name = shown(name);
    match ours {
        Some(ours) => format!("environment variable {name} has no effect; tidings reads {ours}"),
        None => format!("environment variable {name} has no effect; it is one of Centrifugo's"),
    }
}

fn refused(key: &str, counterpart: Counterpart) -> Verdict {
    let instead = match counterpart {
        Counterpart::Option(option) => {
            let (name, words) = option.split_at(option.find(',').unwrap_or(option.len()));
            return moved(key, &[name.to_owned()], words);
        }
        Counterpart::Always(sentence) => format!("in tidings {sentence}; leave it out"),
        Counterpart::Missing(noun) => format!("tidings has no {noun}; leave it out"),
    };
    Verdict::Refused(format!("`{}` {OPTION_OF}: {instead}", shown(key)))
}

fn moved(key: &str, options: &[String], words: &str) -> Verdict {
    let options = options.join("`, `");
    Verdict::Refused(format!("`{}` {OPTION_OF}: in tidings it is `{options}`{words}", shown(key)))
}

fn at_default(key: &str) -> Verdict {
    let why = "is ignored: an option of Centrifugo that is disabled or at its default";
    Verdict::Ignored(format!("`{}` {why}", shown(key)))
}

/// A key in which the namespace is replaced: all namespaces have the same options.
pub(super) fn general(key: &str) -> String {
    let in_list = |list: &str| key.strip_prefix(list).and_then(|rest| rest.strip_prefix('.'));
    if let Some(rest) = in_list(PROXIES) {
        let is_known = |at: &usize| is_option(&format!("{UNNAMED_PROXY}.{}", &rest[at + 1..]));
        // Names may have dots.
        let at = rest.match_indices('.').map(|(at, _)| at).find(is_known).or_else(|| rest.find('.'));
        return at.map_or_else(|| key.to_owned(), |at| format!("{UNNAMED_PROXY}.{}", &rest[at + 1..]));
    }
    if let Some((_, option)) = in_list(RPC_NAMESPACES).and_then(|rest| rest.rsplit_once('.')) {
        return format!("rpc.without_namespace.{option}");
    }
    let namespaced = key.strip_prefix(NAMESPACES).and_then(|rest| rest.strip_prefix('.'));
    match namespaced.and_then(|rest| rest.rsplit_once('.')) {
        // The groups of options in a namespace.
        Some((name, option)) if name.ends_with(".map") => format!("{CHANNELS}.map.{option}"),
        Some((name, option)) if name.ends_with(".shared_poll") => format!("{CHANNELS}.shared_poll.{option}"),
        Some((_, option)) => format!("{CHANNELS}.{option}"),
        None => key.to_owned(),
    }
}

/// The option of a path in a table, which may contain `*` for one part.
fn within<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let depth = pattern.split('.').count();
    let (end, _) = path.match_indices('.').nth(depth - 1)?;
    matches(pattern, &path[..end]).then(|| &path[end + 1..])
}

/// Whether Centrifugo has options below this key.
fn is_table(key: &str) -> bool {
    let is_above = |known: &str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    OPTIONS.iter().any(|(known, ..)| is_above(known)) || BLOCKS.iter().any(|(known, ..)| is_above(known))
}

/// Nothing, zero, false, and empty text, lists and tables of such values.
pub(super) fn is_nothing(raw: &Raw) -> bool {
    match raw {
        Raw::Null | Raw::Switch(false) => true,
        Raw::Switch(true) => false,
        Raw::Number(text) | Raw::Text(text) | Raw::Word(text) => {
            text.is_empty() || text == "false" || text == "0" || Span::parse(text) == Some(0)
        }
        Raw::List(items) => items.is_empty(),
        Raw::Table(entries) => entries.iter().all(|(_, node)| is_nothing(&node.raw)),
    }
}

pub(super) fn is_true(raw: &Raw) -> bool {
    matches!(raw, Raw::Switch(true)) || raw.as_text() == Some("true")
}

fn is_false(raw: &Raw) -> bool {
    matches!(raw, Raw::Switch(false)) || raw.as_text() == Some("false")
}

pub(super) fn is_memory(raw: &Raw) -> bool {
    is_nothing(raw) || raw.as_text() == Some("memory")
}

/// Whether a value equals this default, as text, as a number, or as a duration.
fn is_value(raw: &Raw, default: &str) -> bool {
    let (Raw::Number(text) | Raw::Text(text) | Raw::Word(text)) = raw else { return false };
    text == default || Span::parse(default).is_some() && Span::parse(text) == Span::parse(default)
}

/// Whether this is a list of disabled tables.
pub(super) fn is_off_list(raw: &Raw) -> bool {
    let is_off = |node: &Node| match &node.raw {
        Raw::Table(entries) => entries.iter().any(|(key, node)| key == "enabled" && is_false(&node.raw)),
        _ => false,
    };
    matches!(raw, Raw::List(items) if items.iter().all(is_off))
}

/// The items of a list, which may be written as text.
pub(super) fn list(raw: &Raw) -> Vec<String> {
    match raw {
        Raw::List(nodes) => nodes.iter().filter_map(|node| node.raw.as_text()).map(str::to_owned).collect(),
        Raw::Text(text) | Raw::Word(text) => items(text).unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    fn is_ignored(key: &str, raw: &Raw) -> bool {
        matches!(judge(key, raw, false), Some(Verdict::Ignored(_)))
    }

    fn refusal(key: &str, raw: &Raw) -> String {
        match judge(key, raw, false) {
            Some(Verdict::Refused(what)) => what,
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_ignored_in_every_notation() {
        for (key, raw) in [
            ("websocket.write_timeout", text("1000ms")),
            ("websocket.write_timeout", Raw::Number("1".into())),
            ("channel.history_meta_ttl", text("720h")),
            ("channel.namespaces.chat.map.publish_proxy_enabled", Raw::Switch(false)),
            ("channel.namespaces.a.b.map.publish_proxy_name", text("default")),
            ("client_channel_limit", Raw::Number("128".into())),
            ("client_presence_update_interval", text("27s")),
            ("http_server", Raw::Table(vec![])),
            ("engine", text("memory")),
        ] {
            assert!(is_ignored(key, &raw), "{key} {raw:?}: {:?}", judge(key, &raw, false));
        }
        assert_eq!(judge("brokr", &text("x"), false), None);
        assert_eq!(judge("channel.without_namespace.colour", &text("red"), false), None);
    }

    #[test]
    fn an_option_with_an_effect_is_rejected_with_its_replacement() {
        for (key, raw, part) in [
            ("http_server.address", text("0.0.0.0"), "in tidings it is `http.listen`"),
            ("engine", text("redis"), "in tidings it is `broker`, a URL such as redis://127.0.0.1:6379"),
            ("token_hmac_secret_key", text("hush"), "in tidings it is `client.token.hmac_secret_key`"),
            ("health", Raw::Switch(true), "/health and /ready are always served; leave it out"),
            ("admin_password", text("secret"), "in tidings it is `admin.password_hash`, the output of"),
            ("admin_insecure", Raw::Switch(true), "tidings has no admin page without a login"),
            (
                "client.presence_update_interval",
                text("5s"),
                "tidings has no other interval of presence updates",
            ),
            ("sse", Raw::Switch(false), "in tidings it is `sse.enabled`"),
            ("namespaces", Raw::List(vec![Node { line: 1, raw: text("x") }]), "`channel.namespaces`"),
        ] {
            let what = refusal(key, &raw);
            assert!(what.contains(part) && what.contains(OPTION_OF), "{what}");
            assert!(!what.contains("hush"), "{what}");
        }
    }

    #[test]
    fn a_variable_of_centrifugo_is_reported_with_its_replacement() {
        for (name, part) in [
            ("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "reads TIDINGS_CLIENT_ALLOWED_ORIGINS"),
            ("CENTRIFUGO_TOKEN_HMAC_SECRET_KEY", "reads TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY"),
            ("CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_PRESENCE", "reads TIDINGS_CHANNEL_NAMESPACES_CHAT_PRESENCE"),
            ("CENTRIFUGO_ADMIN_PASSWORD", "one of Centrifugo's"),
        ] {
            let warnings = variable_warnings([name].into_iter());
            assert!(warnings[0].contains(part), "{warnings:?}");
        }
        let many: Vec<String> = (0..30).map(|n| format!("CENTRIFUGO_X{n}")).collect();
        let warnings = variable_warnings(many.iter().map(String::as_str));
        assert_eq!(warnings.len(), MAX_VARIABLES + 1);
        assert!(warnings[MAX_VARIABLES].starts_with("10 more"));
    }
}
