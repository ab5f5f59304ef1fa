//! Named hooks, which namespaces select, and the namespaces of the methods of `rpc` commands.

use super::group::{Group, Visitor, group};
use super::keys::set_names;
use super::proxy::ProxyOptions;
use super::raw::shown;
use super::setting::MaxLength;

/// The name that stands for the hook of the same kind without a name.
pub const DEFAULT_PROXY: &str = "default";
/// The most items of a list.
const MAX_ITEMS: usize = 256;
/// The longest name in bytes.
const MAX_NAME: usize = 64;

group! {
    /// The methods of `rpc` commands in a namespace.
    pub struct RpcNamespaceOptions {
        /// Whether the hook is enabled. Otherwise the reply is error 108.
        proxy_enabled: bool = "false", (), reload;
        /// Name of the hook in `proxies`, or `default` for `rpc.proxy`.
        proxy_name: String = "default", MaxLength(64), reload;
    }
}

/// A named hook.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedProxy {
    /// The name: 2 to 64 letters, digits, `-`, `_` and `.`; not `default`.
    pub name: String,
    /// Its options.
    pub options: ProxyOptions,
}

/// The methods `name:…` of `rpc` commands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RpcNamespace {
    /// The name: 2 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its options.
    pub options: RpcNamespaceOptions,
}

/// The named hooks; names are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedProxies(pub(super) Vec<NamedProxy>);

/// The namespaces of methods; names are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RpcNamespaces(pub(super) Vec<RpcNamespace>);

impl NamedProxies {
    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &NamedProxy> {
        self.0.iter()
    }

    /// The options of the hook with this name.
    pub fn get(&self, name: &str) -> Option<&ProxyOptions> {
        self.iter().find(|proxy| proxy.name == name).map(|proxy| &proxy.options)
    }

    /// Sets the list to `names`, in order. An existing item keeps its options.
    ///
    /// # Errors
    /// The first invalid name. The list is set nevertheless, so that the options are checked in the same run.
    pub(super) fn rename(&mut self, names: &[String]) -> Result<(), String> {
        let create = |name: &String| NamedProxy { name: name.clone(), ..NamedProxy::default() };
        set_names(&mut self.0, names, |proxy| &proxy.name, create);
        if names.iter().any(|name| name == DEFAULT_PROXY) {
            return Err(format!(
                "no proxy may be named \"{DEFAULT_PROXY}\", which stands for the hook without a name"
            ));
        }
        check_names(names, "a proxy")
    }
}

impl RpcNamespaces {
    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &RpcNamespace> {
        self.0.iter()
    }

    /// As [`NamedProxies::rename`].
    pub(super) fn rename(&mut self, names: &[String]) -> Result<(), String> {
        let create = |name: &String| RpcNamespace { name: name.clone(), ..RpcNamespace::default() };
        set_names(&mut self.0, names, |namespace| &namespace.name, create);
        check_names(names, "an RPC namespace")
    }
}

/// Rejects more items than the bound, and names that are invalid or not unique.
///
/// # Errors
/// The first of them.
pub(super) fn check_names(names: &[String], what: &str) -> Result<(), String> {
    if names.len() > MAX_ITEMS {
        return Err(format!("more than {MAX_ITEMS} items"));
    }
    for (i, name) in names.iter().enumerate() {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        // The key of an option of `http` would be ambiguous.
        let is_valid =
            (2..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter) && !name.ends_with(".http");
        if !is_valid {
            return Err(format!(
                "\"{}\" is not a valid name of {what}: expected 2 to {MAX_NAME} letters, digits, `-`, `_` or `.`, and not `.http` at the end",
                shown(name)
            ));
        }
        if names[..i].contains(name) {
            return Err(format!("\"{}\" is the name of two items", shown(name)));
        }
    }
    Ok(())
}

impl Group for NamedProxies {
    /// Visits nothing: each item is walked separately.
    fn walk(&mut self, _: &str, _: &mut dyn Visitor) {}
}

impl Group for RpcNamespaces {
    /// Visits nothing: each item is walked separately.
    fn walk(&mut self, _: &str, _: &mut dyn Visitor) {}
}
