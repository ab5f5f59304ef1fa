//! Hooks: requests to the application over HTTP or gRPC ([`grpc`]), which authorizes connections, subscriptions and publications, and responds to
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

mod grpc;
mod hook;
mod request;
mod response;
mod set;
mod stream;
mod values;

use std::fmt;
use std::sync::Arc;

use tidings_hub::{Admission, Connected, Failure, HookNames, Namespaces, PollValues, Requester};
use tidings_wire::Channel;

pub use response::{AllowedPublish, Renewal};
pub use stream::{HookStream, OpenedStream, StreamPublication, StreamSender};

use self::hook::{Hook, HookOptions};
use self::request::{HookChannel, HookEvent, HookRequest};
use self::set::{HookSet, RpcHooks, Unnamed};
use self::values::ValuesRequest;
use tidings_config::{ChannelOptions, Config, DEFAULT_PROXY, SubscriptionType};
use tidings_metrics::{Collect, KeyedCounters, KeyedDurations, MetricWriter, labels};
use tidings_outbound::TlsError;

labels! {
    /// The kinds of hooks, in the order of the documentation.
    pub(crate) enum HookKind {
        Connect => "connect",
        Subscribe => "subscribe",
        Publish => "publish",
        Rpc => "rpc",
        Refresh => "refresh",
        SubRefresh => "sub_refresh",
        SubscribeStream => "subscribe_stream",
        SharedPollRefresh => "shared_poll_refresh",
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
            Self::Refresh => "hook refresh",
            Self::SubRefresh => "hook sub_refresh",
            Self::SubscribeStream => "hook subscribe_stream",
            Self::SharedPollRefresh => "hook shared_poll_refresh",
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
    /// How long requests took, with those that failed.
    durations: KeyedDurations<HookKind>,
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
        )?;
        out.durations(
            "tidings_hook_duration",
            "How long requests to the application took, until the response or the failure",
            "hook",
            &self.durations,
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
        || set::rpc_users(config).any(|(is_enabled, name)| is_enabled && has_endpoint(config, name))
        || is_enabled(|options| options.subscribe_proxy_enabled)
        || is_enabled(|options| options.publish_proxy_enabled)
        || config.client.proxy.refresh.enabled
        || is_enabled(|options| options.sub_refresh_proxy_enabled)
        || is_enabled(|options| options.subscribe_stream_proxy_enabled)
}

/// Whether the hook of `rpc` commands with this name has an endpoint.
fn has_endpoint(config: &Config, name: &str) -> bool {
    let options = config.proxies.get(name).unwrap_or(&config.rpc.proxy);
    options.endpoint.is_some()
}

fn namespaces(config: &Config) -> impl Iterator<Item = &ChannelOptions> {
    let named = config.channel.namespaces.iter().map(|namespace| &namespace.options);
    std::iter::once(&config.channel.without_namespace).chain(named)
}

/// The hooks that are enabled.
pub struct Hooks {
    connect: Option<Hook>,
    subscribe: HookSet,
    publish: HookSet,
    rpc: RpcHooks,
    refresh: Option<Hook>,
    sub_refresh: HookSet,
    subscribe_stream: HookSet,
    shared_poll_refresh: HookSet,
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
                    grpc: &connect.grpc,
                    option: "client.proxy.connect.endpoint",
                    timeout: connect.timeout,
                    http_headers: &connect.http_headers,
                    emulated_headers: &connect.emulated_headers,
                    static_headers: &connect.http.static_headers,
                    transforms: &connect.http.status_to_code_transforms,
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
        let channels = &config.channel.proxy;
        let subscribe = Unnamed {
            kind: HookKind::Subscribe,
            options: &channels.subscribe,
            option: "channel.proxy.subscribe.endpoint",
            unused: "no namespace with subscribe_proxy_enabled uses it",
        };
        let users = namespaces(config).map(|o| (o.subscribe_proxy_enabled, o.subscribe_proxy_name.as_str()));
        let subscribe = HookSet::new(config, subscribe, users, &counters)?;
        let publish = Unnamed {
            kind: HookKind::Publish,
            options: &channels.publish,
            option: "channel.proxy.publish.endpoint",
            unused: "no namespace with publish_proxy_enabled uses it",
        };
        let users = namespaces(config).map(|o| (o.publish_proxy_enabled, o.publish_proxy_name.as_str()));
        let publish = HookSet::new(config, publish, users, &counters)?;
        let sub_refresh = Unnamed {
            kind: HookKind::SubRefresh,
            options: &channels.sub_refresh,
            option: "channel.proxy.sub_refresh.endpoint",
            unused: "no namespace with sub_refresh_proxy_enabled uses it",
        };
        let users =
            namespaces(config).map(|o| (o.sub_refresh_proxy_enabled, o.sub_refresh_proxy_name.as_str()));
        let sub_refresh = HookSet::new(config, sub_refresh, users, &counters)?;
        let streams = Unnamed {
            kind: HookKind::SubscribeStream,
            options: &channels.subscribe_stream,
            option: "channel.proxy.subscribe_stream.endpoint",
            unused: "no namespace with subscribe_stream_proxy_enabled uses it",
        };
        let users = namespaces(config)
            .map(|o| (o.subscribe_stream_proxy_enabled, o.subscribe_stream_proxy_name.as_str()));
        let subscribe_stream = HookSet::new(config, streams, users, &counters)?;
        let values = Unnamed {
            kind: HookKind::SharedPollRefresh,
            options: &channels.shared_poll_refresh,
            option: "channel.proxy.shared_poll_refresh.endpoint",
            unused: "no namespace with subscription_type = \"shared_poll\" uses it",
        };
        let users = namespaces(config).map(|options| {
            let name = options.shared_poll.proxy_name.as_str();
            let name = if name.is_empty() { DEFAULT_PROXY } else { name };
            (options.subscription_type == SubscriptionType::SharedPoll, name)
        });
        let shared_poll_refresh = HookSet::new(config, values, users, &counters)?;
        let rpc = RpcHooks::new(config, &counters)?;
        let refresh = refresh_hook(config, &counters)?;
        Ok(Self {
            connect,
            subscribe,
            publish,
            rpc,
            refresh,
            sub_refresh,
            subscribe_stream,
            shared_poll_refresh,
            counters,
        })
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

    /// Calls the subscribe hook of a channel; `None` if it is disabled.
    ///
    /// # Errors
    /// Why the subscription is rejected.
    pub async fn subscribe(
        &self,
        namespaces: &Namespaces,
        requester: &Requester,
        channel: &Channel,
        data: Option<&[u8]>,
    ) -> Option<Result<Admission, Failure>> {
        let hook = self.subscribe.get(name(namespaces, channel, |names| &names.subscribe))?;
        let target = HookChannel::new(namespaces, channel);
        let request = HookRequest::new(requester, HookEvent::Subscribe(&target), data, hook.encoding());
        Some(hook.call(requester, &[], &request, response::read_subscribe).await)
    }

    /// Opens a stream for a subscription to a channel; `None` if its namespace has no streams.
    ///
    /// # Errors
    /// Why the subscription is rejected.
    pub async fn open_stream(
        &self,
        namespaces: &Namespaces,
        requester: &Requester,
        channel: &Channel,
        data: Option<&[u8]>,
    ) -> Option<Result<OpenedStream, Failure>> {
        let options = namespaces.options(channel.as_str()).ok().filter(|o| o.subscribe_stream_proxy)?;
        let hook = self.subscribe_stream.get(options.hooks.subscribe_stream.as_deref())?;
        let target = HookChannel::new(namespaces, channel);
        let request = HookRequest::new(requester, HookEvent::Subscribe(&target), data, hook.encoding());
        Some(hook.open_stream(requester, &request, options.subscribe_stream_bidirectional).await)
    }

    /// Counts a subscription that was refused because too many streams are open, and logs it.
    pub fn refuse_stream(&self, namespaces: &Namespaces, channel: &Channel, limit: usize) {
        if let Some(hook) = self.subscribe_stream.get(name(namespaces, channel, |n| &n.subscribe_stream)) {
            self.counters.refused.add(HookKind::SubscribeStream);
            hook.log_failure(&format!("{limit} streams are open (channel.proxy.subscribe_stream_limit)"));
        }
    }

    /// Calls the publish hook of a channel; `None` if it is disabled.
    ///
    /// # Errors
    /// Why the publication is rejected.
    pub async fn publish(
        &self,
        namespaces: &Namespaces,
        requester: &Requester,
        channel: &Channel,
        body: &[u8],
    ) -> Option<Result<AllowedPublish, Failure>> {
        let hook = self.publish.get(name(namespaces, channel, |names| &names.publish))?;
        let target = HookChannel::new(namespaces, channel);
        let request = HookRequest::new(requester, HookEvent::Publish(&target), Some(body), hook.encoding());
        Some(hook.call(requester, &[], &request, response::read_publish).await)
    }

    /// Calls the hook that renews a connection, or with a channel the one that renews its subscription; `None` if it is
    /// disabled.
    ///
    /// # Errors
    /// The application's error, or why there is no valid response.
    pub async fn renew(
        &self,
        namespaces: &Namespaces,
        requester: &Requester,
        channel: Option<&Channel>,
    ) -> Option<Result<Renewal, Failure>> {
        let target = channel.map(|channel| HookChannel::new(namespaces, channel));
        let (hook, event) = match (channel, &target) {
            (Some(channel), Some(target)) => {
                let name = name(namespaces, channel, |names| &names.sub_refresh);
                (self.sub_refresh.get(name)?, HookEvent::SubRefresh(target))
            }
            _ => (self.refresh.as_ref()?, HookEvent::Refresh),
        };
        let request = HookRequest::new(requester, event, None, hook.encoding());
        Some(hook.call(requester, &[], &request, response::read_renewal).await)
    }

    /// Calls the hook with this name for the values of keys, each with the version that this node has. The request contains the
    /// versions if they are `versioned`. `None` without a valid response.
    pub async fn values(
        &self,
        name: Option<&str>,
        channel: &Channel,
        keys: &[(Arc<str>, u64)],
        versioned: bool,
    ) -> Option<PollValues> {
        let hook = self.shared_poll_refresh.get(name)?;
        let keys = keys.iter().map(|(key, version)| (&**key, *version));
        let request = ValuesRequest::new(channel.as_str(), keys, versioned);
        hook.call(&Requester::default(), &[], &request, values::read_values).await.ok()
    }

    /// Calls the hook of a method; `None` if it is disabled.
    ///
    /// # Errors
    /// The application's error, why there is no valid response, or an unknown namespace of the method.
    pub async fn rpc(
        &self,
        requester: &Requester,
        method: &str,
        data: Option<&[u8]>,
    ) -> Option<Result<Option<bytes::Bytes>, Failure>> {
        let hook = match self.rpc.get(method) {
            Ok(hook) => hook?,
            Err(failure) => return Some(Err(failure)),
        };
        let request = HookRequest::new(requester, HookEvent::Rpc(method), data, hook.encoding());
        Some(hook.call(requester, &[], &request, response::read_rpc).await)
    }
}

/// The name of a hook of a channel; `None` for the one without a name.
fn name<'a>(
    namespaces: &'a Namespaces,
    channel: &Channel,
    which: fn(&HookNames) -> &Option<String>,
) -> Option<&'a str> {
    which(&namespaces.options(channel.as_str()).ok()?.hooks).as_deref()
}

/// The hook that renews connections, if it is enabled.
fn refresh_hook(config: &Config, counters: &Arc<HookCounters>) -> Result<Option<Hook>, TlsError> {
    let options = &config.client.proxy.refresh;
    let option = "client.proxy.refresh.endpoint";
    let Some(endpoint) = &options.endpoint else { return Ok(None) };
    if !options.enabled {
        warn_disabled(option, "client.proxy.refresh.enabled is false");
        return Ok(None);
    }
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
    Ok(Some(Hook::new(HookKind::Refresh, &hook, counters)?))
}

fn warn_disabled(option: &str, reason: &str) {
    tracing::warn!("{option} has no effect: {reason}");
}
