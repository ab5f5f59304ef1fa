//! Namespaces: the options of channels by what stands before the colon of their names.

use super::group::{Group, Visitor};
use super::options::ChannelOptions;
use super::raw::shown;

/// Most namespaces of a server.
const MAX_NAMESPACES: usize = 1_000;
/// Longest name in bytes: a channel `name:x` must still fit into its 255.
const MAX_NAME: usize = 253;

/// The options of all channels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channels {
    /// What holds for channels without a namespace.
    pub without_namespace: ChannelOptions,
    /// What holds for the channels of each namespace; no name twice.
    pub namespaces: Vec<Namespace>,
}

/// The options of the channels `name:…`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// The name: 2 to 253 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What holds for its channels.
    pub options: ChannelOptions,
}

impl Channels {
    /// Makes the namespaces be `names`, in their order. One that was there before keeps its options.
    pub(super) fn rename(&mut self, names: &[String]) -> Result<(), String> {
        if names.len() > MAX_NAMESPACES {
            return Err(format!("more than {MAX_NAMESPACES} namespaces"));
        }
        for (i, name) in names.iter().enumerate() {
            let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if !(2..=MAX_NAME).contains(&name.len()) || !name.bytes().all(letter) {
                return Err(format!(
                    "\"{}\" is no name of a namespace: expected 2 to {MAX_NAME} letters, digits, `-`, `_` or `.`",
                    shown(name)
                ));
            }
            if names[..i].contains(name) {
                return Err(format!("two namespaces are named \"{}\"", shown(name)));
            }
        }
        let mut before = std::mem::take(&mut self.namespaces);
        for name in names {
            let kept = before.iter().position(|namespace| namespace.name == *name);
            let kept = kept.map(|at| before.swap_remove(at));
            self.namespaces
                .push(kept.unwrap_or_else(|| Namespace { name: name.clone(), ..Namespace::default() }));
        }
        Ok(())
    }
}

impl Group for Channels {
    /// Visits what holds without a namespace; a namespace is walked on its own, by its name.
    fn walk(&mut self, path: &str, visitor: &mut dyn Visitor) {
        self.without_namespace.walk(&format!("{path}without_namespace."), visitor);
    }
}
