//! Namespaces: options of channels, selected by the part of their names before the first boundary.

use super::channel::ChannelOptions;
use crate::group::{Field, Group, Visitor};
use crate::keys::set_names;
use crate::proxy::ChannelProxies;
use crate::raw::shown;
use crate::setting::{MaxLength, count};

/// The most namespaces of a server.
const MAX_NAMESPACES: usize = 1_000;
/// The longest name of a channel in bytes.
const MAX_CHANNEL: usize = 255;
/// The longest name in bytes: a channel `name:x` must fit into 255 bytes.
const MAX_NAME: usize = 253;

/// The options of all channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Channels {
    /// Prefix of the names of channels that need a subscription token; empty for none.
    pub private_prefix: String,
    /// Text between a namespace and the rest of a channel's name.
    pub namespace_boundary: String,
    /// Text between a channel's name and the users that may subscribe to it.
    pub user_boundary: String,
    /// Text between two of these users.
    pub user_separator: String,
    /// Longest name of a channel that clients may use, in bytes.
    pub max_length: usize,
    /// Hooks for channels.
    pub proxy: ChannelProxies,
    /// Options of channels without a namespace.
    pub without_namespace: ChannelOptions,
    /// The namespaces and their options; names are unique.
    pub namespaces: Vec<Namespace>,
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            private_prefix: "$".to_owned(),
            namespace_boundary: ":".to_owned(),
            user_boundary: "#".to_owned(),
            user_separator: ",".to_owned(),
            max_length: MAX_CHANNEL,
            proxy: ChannelProxies::default(),
            without_namespace: ChannelOptions::default(),
            namespaces: Vec::new(),
        }
    }
}

/// The options of the channels `name:…`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// The name: 2 to 253 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Options of its channels.
    pub options: ChannelOptions,
}

impl Channels {
    /// Sets the list of namespaces to `names`, in order. An existing namespace keeps its options.
    ///
    /// # Errors
    /// The first invalid name. The namespaces are set nevertheless, so that their options are checked in the same run.
    pub(crate) fn rename(&mut self, names: &[String]) -> Result<(), String> {
        if names.len() > MAX_NAMESPACES {
            return Err(format!("more than {MAX_NAMESPACES} namespaces"));
        }
        let create = |name: &String| Namespace { name: name.clone(), ..Namespace::default() };
        set_names(&mut self.namespaces, names, |namespace| &namespace.name, create);
        check_names(names)
    }
}

fn check_names(names: &[String]) -> Result<(), String> {
    for (i, name) in names.iter().enumerate() {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(2..=MAX_NAME).contains(&name.len()) || !name.bytes().all(letter) {
            return Err(format!(
                "\"{}\" is not a valid name of a namespace: expected 2 to {MAX_NAME} letters, digits, `-`, `_` or `.`",
                shown(name)
            ));
        }
        if names[..i].contains(name) {
            return Err(format!("two namespaces are named \"{}\"", shown(name)));
        }
    }
    Ok(())
}

impl Group for Channels {
    /// Visits the options without a namespace; each namespace is walked separately.
    fn walk(&mut self, path: &str, visitor: &mut dyn Visitor) {
        visitor.group(path, &["Channels and namespaces."]);
        let mut prefix = Field { value: &mut self.private_prefix, rule: MaxLength(16), is_reloadable: true };
        visitor.option(
            &format!("{path}private_prefix"),
            &[
                "Prefix of the names of private channels: a subscription needs a subscription token, regardless of other",
                "permissions, except where every operation is permitted. Empty for none.",
            ],
            &mut prefix,
        );
        let boundaries: [(&str, &mut String, &'static [&'static str]); 3] = [
            (
                "namespace_boundary",
                &mut self.namespace_boundary,
                &[
                    "Text between the namespace and the rest of a channel's name: `chat:7` is in the namespace `chat`. It has no",
                    "meaning without namespaces. Clients, tokens and the application must use the same text.",
                ],
            ),
            (
                "user_boundary",
                &mut self.user_boundary,
                &[
                    "Text between the name of a channel and the users that may subscribe to it, with",
                    "`allow_user_limited_channels`, and in the names of personal channels. Ids of users with one of its characters",
                    "are ambiguous there, and have no access.",
                ],
            ),
            (
                "user_separator",
                &mut self.user_separator,
                &[
                    "Text between the users in a channel's name. Ids of users with one of its characters are ambiguous too.",
                ],
            ),
        ];
        for (name, value, help) in boundaries {
            let mut field = Field { value, rule: MaxLength(16), is_reloadable: true };
            visitor.option(&format!("{path}{name}"), help, &mut field);
        }
        let rule = count(1, MAX_CHANNEL);
        let mut max_length = Field { value: &mut self.max_length, rule, is_reloadable: true };
        visitor.option(
            &format!("{path}max_length"),
            &[
                "Longest name of a channel in bytes that clients may subscribe to, publish to or read; longer ones are error",
                "107. No channel has more than 255 bytes, which is the limit of the server API.",
            ],
            &mut max_length,
        );
        self.proxy.walk(&format!("{path}proxy."), visitor);
        self.without_namespace.walk(&format!("{path}without_namespace."), visitor);
    }
}
