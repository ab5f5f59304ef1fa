//! Hooks: HTTP requests to the application, which authorizes connections, subscriptions and publications, and responds to
//! `rpc` commands. Requests and responses follow Centrifugo's documentation ("Proxy events to the backend").
//!
//! [`Hooks`] are the hooks that the configuration enables. Each is a [`hook`] that sends a request ([`request`]) and
//! reads the response ([`response`]).
//!
//! Invariants:
//! - A client gets a permission only by an explicit result. If the application is slow, fails, or returns an invalid
//!   response, the client gets a temporary error (100), and the failure is counted and logged.
//! - Only the headers of a client that the configuration lists are passed on, and none that frames a message
//!   (`Content-Length`, `Transfer-Encoding`).
//! - Every request is bounded in time, its response in bytes, and the number of requests under way in
//!   [`hook::MAX_CALLS`] for each hook; beyond that the client gets the temporary error 111.
//! - No log entry contains a header, a body or the query of a URL.

mod hook;
mod request;
mod response;

use std::fmt;
use std::sync::Arc;

use tidings_hub::{Admission, Connected, Failure, Requester};
use tidings_wire::Channel;

pub use response::AllowedPublish;

use self::hook::{Hook, HookOptions};
use self::request::{HookEvent, HookRequest};
use tidings_config::{ChannelOptions, Config, ProxyOptions};
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};
use tidings_outbound::TlsError;

labels! {
    /// The kinds of hooks, in the order of the documentation.
    pub(crate) enum HookKind {
        Connect => "connect",
        Subscribe => "subscribe",
        Publish => "publish",
        Rpc => "rpc",
    }
}

impl HookKind {
    /// The name of its spans.
    fn span(self) -> &'static str {
        match self {
            Self::Connect => "hook connect",
            Self::Subscribe => "hook subscribe",
            Self::Publish => "hook publish",
            Self::Rpc => "hook rpc",
        }
    }
}

/// Counters of the requests to the application, by hook.
#[derive(Debug, Default)]
pub struct HookCounters {
    /// Requests that were sent.
    calls: KeyedCounters<HookKind>,
    /// Requests without a response in time, or with an invalid one.
    failures: KeyedCounters<HookKind>,
    /// Requests that were not sent because too many were under way.
    refused: KeyedCounters<HookKind>,
}

impl Collect for HookCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters("tidings_hook_calls", "Requests to the application", "hook", self.calls.iter())?;
        out.counters(
            "tidings_hook_failures",
            "Requests without a valid response of the application in time, so that clients got an error",
            "hook",
            self.failures.iter(),
        )?;
        out.counters(
            "tidings_hook_refusals",
            "Requests that were not sent because too many were under way, so that clients got an error",
            "hook",
            self.refused.iter(),
        )
    }
}

/// The fields of a client's `connect` command that the connect hook gets.
pub struct ConnectFields<'a> {
    /// Custom data of the application.
    pub data: Option<&'a [u8]>,
    /// The name of the client library.
    pub name: &'a str,
    /// The version of the client library.
    pub version: &'a str,
    /// Emulated headers, for clients that cannot set headers of the HTTP request.
    pub headers: &'a [(String, String)],
}

/// Whether transports must store the headers of connections, because a hook may pass them on.
pub fn needs_headers(config: &Config) -> bool {
    let is_enabled = |which: fn(&ChannelOptions) -> bool| namespaces(config).any(which);
    config.client.proxy.connect.enabled
        || rpc(config).is_some()
        || is_enabled(|options| options.subscribe_proxy_enabled)
        || is_enabled(|options| options.publish_proxy_enabled)
}

fn namespaces(config: &Config) -> impl Iterator<Item = &ChannelOptions> {
    let named = config.channel.namespaces.iter().map(|namespace| &namespace.options);
    std::iter::once(&config.channel.without_namespace).chain(named)
}

fn rpc(config: &Config) -> Option<&ProxyOptions> {
    Some(&config.rpc.proxy)
        .filter(|hook| config.rpc.without_namespace.proxy_enabled && hook.endpoint.is_some())
}

/// The hooks that are enabled.
pub struct Hooks {
    connect: Option<Hook>,
    subscribe: Option<Hook>,
    publish: Option<Hook>,
    rpc: Option<Hook>,
    counters: Arc<HookCounters>,
}

impl Hooks {
    /// Sets up the hooks of a configuration without sending anything. Logs a warning for each hook with an endpoint that
    /// no option enables.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` endpoint when TLS cannot be set up.
    pub fn new(config: &Config) -> Result<Self, TlsError> {
        Self::with_counters(config, Arc::default())
    }

    /// As [`Self::new`], with counters of earlier hooks.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_counters(config: &Config, counters: Arc<HookCounters>) -> Result<Self, TlsError> {
        let connect = &config.client.proxy.connect;
        let connect = match &connect.endpoint {
            Some(endpoint) if connect.enabled => {
                let hook = HookOptions {
                    endpoint,
                    option: "client.proxy.connect.endpoint",
                    timeout: connect.timeout,
                    http_headers: &connect.http_headers,
                    emulated_headers: &connect.emulated_headers,
                    static_headers: &connect.http.static_headers,
                    include_meta: false,
                    binary: connect.binary_encoding,
                };
                Some(Hook::new(HookKind::Connect, &hook, &counters)?)
            }
            Some(_) => {
                warn_disabled("client.proxy.connect.endpoint", "client.proxy.connect.enabled is false");
                None
            }
            None => None,
        };
        let channel_hook = |kind, options, option, enabled: fn(&ChannelOptions) -> bool, reason| {
            let enabled = namespaces(config).any(enabled).then_some(()).ok_or(reason);
            hook_if_enabled(kind, options, option, enabled, &counters)
        };
        let channels = &config.channel.proxy;
        let subscribe = channel_hook(
            HookKind::Subscribe,
            &channels.subscribe,
            "channel.proxy.subscribe.endpoint",
            |options| options.subscribe_proxy_enabled,
            "subscribe_proxy_enabled is false everywhere",
        )?;
        let publish = channel_hook(
            HookKind::Publish,
            &channels.publish,
            "channel.proxy.publish.endpoint",
            |options| options.publish_proxy_enabled,
            "publish_proxy_enabled is false everywhere",
        )?;
        let enabled = rpc(config).map(|_| ()).ok_or("rpc.without_namespace.proxy_enabled is false");
        let rpc =
            hook_if_enabled(HookKind::Rpc, &config.rpc.proxy, "rpc.proxy.endpoint", enabled, &counters)?;
        Ok(Self { connect, subscribe, publish, rpc, counters })
    }

    /// The counters of all hooks.
    pub fn counters(&self) -> &Arc<HookCounters> {
        &self.counters
    }

    /// Calls the connect hook for a client without a token; `None` if the hook is disabled.
    ///
    /// # Errors
    /// Why the client is rejected.
    pub async fn connect(
        &self,
        requester: &Requester,
        fields: &ConnectFields<'_>,
    ) -> Option<Result<Connected, Failure>> {
        let hook = self.connect.as_ref()?;
        let event = HookEvent::Connect { name: fields.name, version: fields.version };
        let request = HookRequest::new(requester, event, fields.data, hook.encoding());
        Some(hook.call(requester, fields.headers, &request, response::read_connect).await)
    }

    /// Calls the connect hook for a client that uploads a table. Returns the application's permission to upload as well,
    /// if the response contains one. `None` if the hook is disabled.
    ///
    /// # Errors
    /// Why the client is rejected.
    pub async fn authorize_upload(
        &self,
        requester: &Requester,
        fields: &ConnectFields<'_>,
    ) -> Option<Result<(Connected, Option<bool>), Failure>> {
        let hook = self.connect.as_ref()?;
        let event = HookEvent::Connect { name: fields.name, version: fields.version };
        let request = HookRequest::new(requester, event, fields.data, hook.encoding());
        Some(hook.call(requester, fields.headers, &request, response::read_upload).await)
    }

    /// Calls the subscribe hook; `None` if it is disabled.
    ///
    /// # Errors
    /// Why the subscription is rejected.
    pub async fn subscribe(
        &self,
        requester: &Requester,
        channel: &Channel,
        data: Option<&[u8]>,
    ) -> Option<Result<Admission, Failure>> {
        let hook = self.subscribe.as_ref()?;
        let request = HookRequest::new(requester, HookEvent::Subscribe(channel), data, hook.encoding());
        Some(hook.call(requester, &[], &request, response::read_subscribe).await)
    }

    /// Calls the publish hook; `None` if it is disabled.
    ///
    /// # Errors
    /// Why the publication is rejected.
    pub async fn publish(
        &self,
        requester: &Requester,
        channel: &Channel,
        body: &[u8],
    ) -> Option<Result<AllowedPublish, Failure>> {
        let hook = self.publish.as_ref()?;
        let request = HookRequest::new(requester, HookEvent::Publish(channel), Some(body), hook.encoding());
        Some(hook.call(requester, &[], &request, response::read_publish).await)
    }

    /// Calls the rpc hook; `None` if it is disabled.
    ///
    /// # Errors
    /// The application's error, or why there is no valid response.
    pub async fn rpc(
        &self,
        requester: &Requester,
        method: &str,
        data: Option<&[u8]>,
    ) -> Option<Result<Option<bytes::Bytes>, Failure>> {
        let hook = self.rpc.as_ref()?;
        let request = HookRequest::new(requester, HookEvent::Rpc(method), data, hook.encoding());
        Some(hook.call(requester, &[], &request, response::read_rpc).await)
    }
}

/// A hook that other options enable. `enabled` is the reason if none does.
fn hook_if_enabled(
    kind: HookKind,
    options: &ProxyOptions,
    option: &'static str,
    enabled: Result<(), &'static str>,
    counters: &Arc<HookCounters>,
) -> Result<Option<Hook>, TlsError> {
    let Some(endpoint) = &options.endpoint else { return Ok(None) };
    if let Err(reason) = enabled {
        warn_disabled(option, reason);
        return Ok(None);
    }
    let hook = HookOptions {
        endpoint,
        option,
        timeout: options.timeout,
        http_headers: &options.http_headers,
        emulated_headers: &[],
        static_headers: &options.http.static_headers,
        include_meta: options.include_connection_meta,
        binary: options.binary_encoding,
    };
    Ok(Some(Hook::new(kind, &hook, counters)?))
}

fn warn_disabled(option: &str, reason: &str) {
    tracing::warn!("{option} has no effect: {reason}");
}
