//! The hooks of one kind: one without a name, and named ones for the namespaces that select them.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_config::{Config, DEFAULT_PROXY, ProxyOptions};
use tidings_hub::{Failure, Rejection};
use tidings_outbound::TlsError;
use tidings_wire::code;

use crate::hook::{Hook, HookOptions};
use crate::{HookCounters, HookKind};

/// The hooks of one kind.
#[derive(Default)]
pub(crate) struct HookSet {
    unnamed: Option<Hook>,
    named: HashMap<String, Hook>,
}

/// The hook of a kind that has no name.
#[derive(Clone, Copy)]
pub(crate) struct Unnamed<'a> {
    pub(crate) kind: HookKind,
    pub(crate) options: &'a ProxyOptions,
    /// The name of the option with its endpoint, for messages.
    pub(crate) option: &'static str,
    /// The reason why it has no effect, for the log.
    pub(crate) unused: &'static str,
}

impl HookSet {
    /// The hooks that `users` select: whether a namespace uses hooks of this kind, and the name of its hook. Logs a warning if the
    /// hook without a name has an endpoint and no user.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` endpoint when TLS cannot be set up.
    pub(crate) fn new<'a>(
        config: &'a Config,
        unnamed: Unnamed<'_>,
        users: impl Iterator<Item = (bool, &'a str)>,
        counters: &Arc<HookCounters>,
    ) -> Result<Self, TlsError> {
        let Unnamed { kind, options, option, unused } = unnamed;
        let (mut set, mut has_unnamed) = (Self::default(), false);
        for (_, name) in users.filter(|(is_enabled, _)| *is_enabled) {
            if name == DEFAULT_PROXY {
                has_unnamed = true;
            } else if !set.named.contains_key(name)
                && let Some(options) = config.proxies.get(name)
                && let Some(hook) = hook(kind, options, &format!("proxies.{name}.endpoint"), counters)?
            {
                set.named.insert(name.to_owned(), hook);
            }
        }
        if has_unnamed {
            set.unnamed = hook(kind, options, option, counters)?;
        } else if options.endpoint.is_some() {
            super::warn_disabled(option, unused);
        }
        Ok(set)
    }

    /// The hook with this name, or the one without a name.
    pub(crate) fn get(&self, name: Option<&str>) -> Option<&Hook> {
        match name {
            None => self.unnamed.as_ref(),
            Some(name) => self.named.get(name),
        }
    }
}

/// A hook with these options; `None` without an endpoint.
fn hook(
    kind: HookKind,
    options: &ProxyOptions,
    option: &str,
    counters: &Arc<HookCounters>,
) -> Result<Option<Hook>, TlsError> {
    let Some(endpoint) = &options.endpoint else { return Ok(None) };
    let hook = HookOptions {
        endpoint,
        grpc: &options.grpc,
        option,
        timeout: options.timeout,
        http_headers: &options.http_headers,
        emulated_headers: &[],
        static_headers: &options.http.static_headers,
        transforms: &options.http.status_to_code_transforms,
        include_meta: options.include_connection_meta,
        binary: options.binary_encoding,
    };
    Hook::new(kind, &hook, counters).map(Some)
}

/// The hooks of the methods of `rpc` commands.
pub(crate) struct RpcHooks {
    hooks: HookSet,
    boundary: String,
    without: RpcMethods,
    namespaces: HashMap<String, RpcMethods>,
}

/// The options of methods.
struct RpcMethods {
    is_enabled: bool,
    /// The name of the hook; `None` for the one without a name.
    name: Option<String>,
}

impl RpcMethods {
    fn new(is_enabled: bool, name: &str) -> Self {
        Self { is_enabled, name: (name != DEFAULT_PROXY).then(|| name.to_owned()) }
    }
}

/// Whether methods use hooks, and the names of these, for methods without a namespace and for each namespace.
pub(crate) fn rpc_users(config: &Config) -> impl Iterator<Item = (bool, &str)> {
    let methods = &config.rpc.without_namespace;
    let named = config.rpc.namespaces.iter().map(|namespace| &namespace.options);
    let named = named.map(|options| (options.proxy_enabled, options.proxy_name.as_str()));
    std::iter::once((methods.proxy_enabled, methods.proxy_name.as_str())).chain(named)
}

impl RpcHooks {
    /// The hooks of a configuration.
    ///
    /// # Errors
    /// As [`HookSet::new`].
    pub(crate) fn new(config: &Config, counters: &Arc<HookCounters>) -> Result<Self, TlsError> {
        let unnamed = Unnamed {
            kind: HookKind::Rpc,
            options: &config.rpc.proxy,
            option: "rpc.proxy.endpoint",
            unused: "rpc.without_namespace.proxy_enabled is false, and no namespace of rpc.namespaces uses it",
        };
        let methods = &config.rpc.without_namespace;
        let namespaces = config.rpc.namespaces.iter().map(|namespace| {
            let options = &namespace.options;
            (namespace.name.clone(), RpcMethods::new(options.proxy_enabled, &options.proxy_name))
        });
        Ok(Self {
            hooks: HookSet::new(config, unnamed, rpc_users(config), counters)?,
            boundary: config.rpc.namespace_boundary.clone(),
            without: RpcMethods::new(methods.proxy_enabled, &methods.proxy_name),
            namespaces: namespaces.collect(),
        })
    }

    /// The hook for a method; `None` if it is disabled.
    ///
    /// # Errors
    /// [`code::METHOD_NOT_FOUND`] for a method in an unknown namespace.
    pub(crate) fn get(&self, method: &str) -> Result<Option<&Hook>, Failure> {
        let namespace = method.split_once(&*self.boundary).filter(|_| !self.namespaces.is_empty());
        let methods = match namespace {
            None => &self.without,
            Some((name, _)) => self
                .namespaces
                .get(name)
                .ok_or_else(|| Failure::from(Rejection::from(code::METHOD_NOT_FOUND)))?,
        };
        Ok(self.hooks.get(methods.name.as_deref()).filter(|_| methods.is_enabled))
    }
}
