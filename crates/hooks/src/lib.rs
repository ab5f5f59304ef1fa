//! Hooks: questions to the application over HTTP, so that it decides who may connect, subscribe and publish, and answers
//! `rpc` commands. Requests and responses are those of Centrifugo's documentation ("Proxy events to the backend").
//!
//! [`Hooks`] are those that the configuration switches on; each is a [`hook`] that puts a [`question`] and reads the
//! [`answer`].
//!
//! Invariants:
//! - Nothing but an explicit yes lets a client do anything: an application that is slow, failing or not understood is an
//!   error to the client, temporary (100), counted, and in the log.
//! - Of a client's headers only those are passed on that the configuration names, and none that says where a request
//!   ends.
//! - Every question is bounded in time, its answer in bytes, and questions under way in number ([`hook::MAX_CALLS`] of
//!   each hook; past them the client gets the temporary error 111).
//! - No log entry holds a header, a body or the query of an address.

mod answer;
mod hook;
mod question;

use std::fmt;
use std::sync::Arc;

use tidings_hub::{Admission, Connected, Failure, Requester};
use tidings_wire::Channel;

pub use answer::Publish;

use self::hook::{Address, Hook};
use self::question::{Question, Subject};
use tidings_metrics::{Collect, KeyedCounters, MetricWriter, labels};
use tidings_config::{ChannelOptions, Config, ProxyOptions};
use tidings_outbound::TlsError;

labels! {
    /// The hooks of a server, disabled ones included, in the order of the documentation.
    pub(crate) enum HookKind {
        Connect => "connect",
        Subscribe => "subscribe",
        Publish => "publish",
        Rpc => "rpc",
    }
}

/// Requests to the application, by hook.
#[derive(Debug, Default)]
pub struct HookCounters {
    /// Requests that were sent.
    calls: KeyedCounters<HookKind>,
    /// Requests without a response, or with one that could not be read.
    failures: KeyedCounters<HookKind>,
    /// Requests that were not sent because too many were under way.
    refused: KeyedCounters<HookKind>,
}

impl Collect for HookCounters {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters("tidings_hook_calls", "Questions put to the application", "hook", self.calls.iter())?;
        out.counters(
            "tidings_hook_failures",
            "Questions that the application did not answer in time or understandably, so that clients got an error",
            "hook",
            self.failures.iter(),
        )?;
        out.counters(
            "tidings_hook_refusals",
            "Questions that were not put because too many were under way, so that clients got an error",
            "hook",
            self.refused.iter(),
        )
    }
}

/// What a client put into `connect`.
pub struct Hello<'a> {
    /// What its application has to say.
    pub data: Option<&'a [u8]>,
    /// What its software calls itself.
    pub name: &'a str,
    /// In which version.
    pub version: &'a str,
    /// Headers that it could not send.
    pub headers: &'a [(String, String)],
}

/// Whether transports need to keep what they know of their connections, because a hook may ask.
pub fn wants_headers(config: &Config) -> bool {
    let switched_on = |which: fn(&ChannelOptions) -> bool| namespaces(config).any(which);
    config.client.proxy.connect.enabled
        || rpc(config).is_some()
        || switched_on(|options| options.subscribe_proxy_enabled)
        || switched_on(|options| options.publish_proxy_enabled)
}

fn namespaces(config: &Config) -> impl Iterator<Item = &ChannelOptions> {
    let named = config.channel.namespaces.iter().map(|namespace| &namespace.options);
    std::iter::once(&config.channel.without_namespace).chain(named)
}

fn rpc(config: &Config) -> Option<&ProxyOptions> {
    Some(&config.rpc.proxy)
        .filter(|hook| config.rpc.without_namespace.proxy_enabled && hook.endpoint.is_some())
}

/// The hooks that are switched on.
pub struct Hooks {
    connect: Option<Hook>,
    subscribe: Option<Hook>,
    publish: Option<Hook>,
    rpc: Option<Hook>,
    counters: Arc<HookCounters>,
}

impl Hooks {
    /// Takes the hooks of a configuration. Asks nothing yet, and logs a warning for those that nothing switches on.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` address when TLS cannot be set up.
    pub fn new(config: &Config) -> Result<Self, TlsError> {
        let counters = Arc::<HookCounters>::default();
        let connect = &config.client.proxy.connect;
        let connect = match &connect.endpoint {
            Some(endpoint) if connect.enabled => {
                let address = Address {
                    endpoint,
                    option: "client.proxy.connect.endpoint",
                    timeout: connect.timeout,
                    http_headers: &connect.http_headers,
                    emulated_headers: &connect.emulated_headers,
                    static_headers: &connect.http.static_headers,
                    include_meta: false,
                    binary: connect.binary_encoding,
                };
                Some(Hook::new(HookKind::Connect, &address, &counters)?)
            }
            Some(_) => {
                warn_idle("client.proxy.connect.endpoint", "client.proxy.connect.enabled is false");
                None
            }
            None => None,
        };
        let of_channels = |kind, options, option, switch: fn(&ChannelOptions) -> bool, reason| {
            let wanted = namespaces(config).any(switch);
            of(kind, options, option, wanted.then_some(()).ok_or(reason), &counters)
        };
        let channels = &config.channel.proxy;
        let subscribe = of_channels(
            HookKind::Subscribe,
            &channels.subscribe,
            "channel.proxy.subscribe.endpoint",
            |options| options.subscribe_proxy_enabled,
            "subscribe_proxy_enabled is false everywhere",
        )?;
        let publish = of_channels(
            HookKind::Publish,
            &channels.publish,
            "channel.proxy.publish.endpoint",
            |options| options.publish_proxy_enabled,
            "publish_proxy_enabled is false everywhere",
        )?;
        let wanted = rpc(config).map(|_| ()).ok_or("rpc.without_namespace.proxy_enabled is false");
        let rpc = of(HookKind::Rpc, &config.rpc.proxy, "rpc.proxy.endpoint", wanted, &counters)?;
        Ok(Self { connect, subscribe, publish, rpc, counters })
    }

    /// What they count.
    pub fn counters(&self) -> &Arc<HookCounters> {
        &self.counters
    }

    /// Asks who a client is that shows no token; `None` when there is no such hook.
    ///
    /// # Errors
    /// Why it is not let in.
    pub async fn connect(
        &self,
        who: &Requester,
        hello: &Hello<'_>,
    ) -> Option<Result<Connected, Failure>> {
        let hook = self.connect.as_ref()?;
        let subject = Subject::Connect { name: hello.name, version: hello.version };
        let question = Question::new(who, subject, hello.data, hook.how());
        Some(hook.ask(who, hello.headers, &question, answer::connected).await)
    }

    /// The same for a client that wants to upload a table, with whether it may where the application says so.
    ///
    /// # Errors
    /// Why it is not let in.
    pub async fn uploader(
        &self,
        who: &Requester,
        hello: &Hello<'_>,
    ) -> Option<Result<(Connected, Option<bool>), Failure>> {
        let hook = self.connect.as_ref()?;
        let subject = Subject::Connect { name: hello.name, version: hello.version };
        let question = Question::new(who, subject, hello.data, hook.how());
        Some(hook.ask(who, hello.headers, &question, answer::uploader).await)
    }

    /// Asks whether a client may subscribe; `None` when there is no such hook.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn subscribe(
        &self,
        who: &Requester,
        channel: &Channel,
        data: Option<&[u8]>,
    ) -> Option<Result<Admission, Failure>> {
        let hook = self.subscribe.as_ref()?;
        let question = Question::new(who, Subject::Subscribe(channel), data, hook.how());
        Some(hook.ask(who, &[], &question, answer::allowed).await)
    }

    /// Asks whether a client may publish this, and what to publish; `None` when there is no such hook.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn publish(
        &self,
        who: &Requester,
        channel: &Channel,
        body: &[u8],
    ) -> Option<Result<Publish, Failure>> {
        let hook = self.publish.as_ref()?;
        let question = Question::new(who, Subject::Publish(channel), Some(body), hook.how());
        Some(hook.ask(who, &[], &question, answer::publish).await)
    }

    /// Asks what the application answers; `None` when there is no such hook.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn rpc(
        &self,
        who: &Requester,
        method: &str,
        data: Option<&[u8]>,
    ) -> Option<Result<Option<bytes::Bytes>, Failure>> {
        let hook = self.rpc.as_ref()?;
        let question = Question::new(who, Subject::Rpc(method), data, hook.how());
        Some(hook.ask(who, &[], &question, answer::replied).await)
    }
}

/// A hook that has no switch of its own; `wanted` says why nothing asks it.
fn of(
    kind: HookKind,
    options: &ProxyOptions,
    option: &'static str,
    wanted: Result<(), &'static str>,
    counters: &Arc<HookCounters>,
) -> Result<Option<Hook>, TlsError> {
    let Some(endpoint) = &options.endpoint else { return Ok(None) };
    if let Err(reason) = wanted {
        warn_idle(option, reason);
        return Ok(None);
    }
    let address = Address {
        endpoint,
        option,
        timeout: options.timeout,
        http_headers: &options.http_headers,
        emulated_headers: &[],
        static_headers: &options.http.static_headers,
        include_meta: options.include_connection_meta,
        binary: options.binary_encoding,
    };
    Ok(Some(Hook::new(kind, &address, counters)?))
}

fn warn_idle(option: &str, reason: &str) {
    tracing::warn!("{option} has no effect: {reason}");
}
