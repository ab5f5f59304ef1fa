//! Authorizes clients by tokens ([`tidings_auth`]) and by the application's hooks ([`tidings_hooks`]), where the options
//! of channels alone do not decide.
//!
//! A request with a token is decided by the token alone, without a hook. Expiry times of tokens and hooks are part of the
//! response, and the session enforces them.
//!
//! Invariants:
//! - Every request gets one response, and nothing is allowed without a valid token or the permission of a hook. A client
//!   with an expired token is never treated as anonymous.
//! - No call blocks: requests are processed on the control plane's threads.
//! - The client receives a code and its text. The reason is logged, without any part of a token.

mod tokens;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tidings_broker::{HistoryOptions, PublishOptions};
use tidings_hub::{
    Admission, AuthorizationRequest, Connected, ConnectionInfo, Failure, Rejection, Renewed, Requester,
    SessionAction, SessionCommand, TokenId,
};
use tidings_otel::{SpanKind, TraceContext, Tracer};
use tidings_session::Response;
use tidings_shard::Reply;
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Extra};
use tokio::runtime::Handle;
use tracing::debug;

use self::tokens::Verification;
use crate::router::Router;
use crate::shards::Shards;
use tidings_auth::{SetupError, Verifier};
use tidings_auth_failures::{AuthFailures, Credential};
use tidings_cluster::ClusterBus;
use tidings_cluster::blocklist::Blocklist;
use tidings_config::{Config, SubscriptionTokenOptions, TokenOptions};
use tidings_hook_streams::Streams;
use tidings_hooks::{AllowedPublish, ConnectFields, HookCounters, Hooks};
use tidings_shared_poll::{Application, Batch, Values};

/// Options of a publication that is not added to the history.
const NO_HISTORY: HistoryOptions = HistoryOptions { size: 0, ttl: Duration::ZERO, meta_ttl: Duration::ZERO };

/// How long a connection or a subscription continues when the hook that renews it fails.
const RETRY_RENEWAL: Duration = Duration::from_secs(60);

/// The permission of a client to upload a table, by a token or by the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UploadGrant {
    /// The user; empty for an anonymous client.
    pub(crate) user: String,
    /// Whether the client may upload; `None` leaves it to `tables.allow_upload`.
    pub(crate) upload: Option<bool>,
}

/// Responds to the authorization requests of sessions.
#[derive(Clone)]
pub(crate) struct Authorizer {
    shared: Arc<ArcSwap<Shared>>,
    runtime: Handle,
}

impl Application for Authorizer {
    fn values(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Option<Values>> + Send>> {
        let authorizer = self.clone();
        Box::pin(async move { authorizer.values(batch).await })
    }
}

/// Keys and hooks for [`Authorizer::replace`].
pub(crate) struct PreparedAuthority(Shared);

struct Shared {
    verifier: Arc<Verifier>,
    /// The options of the verifier.
    tokens: (TokenOptions, SubscriptionTokenOptions, bool),
    /// Whether tokens without a user are refused.
    refuses_anonymous_tokens: bool,
    hooks: Hooks,
    streams: Arc<Streams>,
    /// Most streams at the same time.
    stream_limit: usize,
    router: Arc<Router>,
    bus: ClusterBus,
    blocklist: Arc<Blocklist>,
    auth_failures: Arc<AuthFailures>,
    shards: Arc<Shards>,
    /// Prefix of the names of private channels; empty for none.
    private_prefix: String,
    /// Whether a new connection of a user closes its older ones.
    single_connection: bool,
    tracer: Tracer,
}

impl Authorizer {
    /// Takes keys and hooks from the configuration. Must be called within a tokio runtime, which processes the requests.
    ///
    /// # Errors
    /// [`SetupError`] for keys or addresses that cannot be used.
    pub(crate) fn new(
        config: &Config,
        router: Arc<Router>,
        bus: ClusterBus,
        blocklist: Arc<Blocklist>,
        auth_failures: Arc<AuthFailures>,
        shards: Arc<Shards>,
        tracer: Tracer,
    ) -> Result<Self, SetupError> {
        let shared = Shared {
            verifier: Arc::new(Verifier::new(&config.client.verifier())?),
            tokens: token_options(config),
            hooks: Hooks::new(config)?,
            streams: Arc::default(),
            stream_limit: config.channel.proxy.subscribe_stream_limit,
            router,
            bus,
            blocklist,
            auth_failures,
            shards,
            private_prefix: config.channel.private_prefix.clone(),
            single_connection: config.client.single_connection,
            refuses_anonymous_tokens: config.client.disallow_anonymous_connection_tokens,
            tracer,
        };
        Ok(Self { shared: Arc::new(ArcSwap::from_pointee(shared)), runtime: Handle::current() })
    }

    /// Takes keys and hooks from another configuration, for [`Self::replace`]. While the options of tokens are the same, the
    /// keys that were fetched stay.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn prepare(&self, config: &Config) -> Result<PreparedAuthority, SetupError> {
        let (current, tokens) = (self.shared.load(), token_options(config));
        let verifier = if tokens == current.tokens {
            Arc::clone(&current.verifier)
        } else {
            Arc::new(Verifier::new(&config.client.verifier())?)
        };
        Ok(PreparedAuthority(Shared {
            verifier,
            tokens,
            hooks: Hooks::with_counters(config, Arc::clone(current.hooks.counters()))?,
            streams: Arc::clone(&current.streams),
            stream_limit: config.channel.proxy.subscribe_stream_limit,
            router: Arc::clone(&current.router),
            bus: current.bus.clone(),
            blocklist: Arc::clone(&current.blocklist),
            auth_failures: Arc::clone(&current.auth_failures),
            shards: Arc::clone(&current.shards),
            tracer: current.tracer.clone(),
            private_prefix: config.channel.private_prefix.clone(),
            single_connection: config.client.single_connection,
            refuses_anonymous_tokens: config.client.disallow_anonymous_connection_tokens,
        }))
    }

    /// Uses other keys and hooks, for requests from now on.
    pub(crate) fn replace(&self, prepared: PreparedAuthority) {
        self.shared.store(Arc::new(prepared.0));
    }

    /// Ends the other connections of a user's client that has connected again: on all nodes, or on this one while the broker is
    /// unavailable. The broker has the command when this returns: the command of a later connection arrives later. Does not
    /// block.
    pub(crate) fn take_over(&self, user: String, name: String, client: String) {
        let shared = self.shared.load_full();
        let sent = shared.send_command(user, SessionAction::TakeOver { name, client });
        self.runtime.spawn(sent);
    }

    /// Responds to one request through `reply`, now or later. Does not block.
    pub(crate) fn handle(&self, request: AuthorizationRequest, reply: Reply) {
        let shared = self.shared.load_full();
        let span = shared.tracer.span(span_name(&request), SpanKind::Server, shared.context(&request));
        self.runtime.spawn(async move { span.scope(shared.handle(request, reply)).await });
    }

    /// Requests the values of a shared poll from the application; `None` without a valid response.
    async fn values(&self, batch: Batch) -> Option<Values> {
        let shared = self.shared.load_full();
        let Batch { channel, hook, versioned, items, .. } = batch;
        shared.hooks.values(hook.as_deref(), &channel, &items, versioned).await
    }

    /// The counters of the hooks.
    pub(crate) fn counters(&self) -> Arc<HookCounters> {
        Arc::clone(self.shared.load().hooks.counters())
    }

    /// The streams of subscriptions.
    pub(crate) fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.shared.load().streams)
    }

    /// The permission to upload a table, from a connection token, or without one from the connect hook; `None` without
    /// either. A wrong token is counted, and its response delayed.
    ///
    /// # Errors
    /// Why the client is rejected.
    pub(crate) async fn authorize_upload(
        &self,
        token: Option<&str>,
        about: ConnectionInfo,
        address: Option<IpAddr>,
    ) -> Result<Option<UploadGrant>, Failure> {
        let requester = Requester { connection_info: Some(Arc::new(about)), address, ..Requester::default() };
        let shared = self.shared.load_full();
        let tokens = Verification::new(&shared.verifier);
        let outcome = shared.authorize_upload(&requester, token, &tokens).await;
        if let Err(failure) = &outcome
            && token.is_some()
            && (is_wrong_credential(failure) || tokens.has_unknown_key())
        {
            shared.auth_failures.fail(address, Credential::Token).await;
        }
        outcome
    }
}

impl Shared {
    /// The trace context of a client that connects, from the headers of its connection.
    fn context(&self, request: &AuthorizationRequest) -> Option<TraceContext> {
        let AuthorizationRequest::Connect { requester, .. } = request else { return None };
        let headers = &requester.connection_info.as_ref().filter(|_| self.tracer.is_on())?.headers;
        let value = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("traceparent"))?;
        TraceContext::parse(&value.1)
    }

    async fn handle(&self, mut request: AuthorizationRequest, reply: Reply) {
        request.requester_mut().address = reply.peer();
        let (mut connected_as, mut subscribed_with) = (None, None);
        let credential = credential(&request);
        let tokens = Verification::new(&self.verifier);
        let outcome = match request {
            AuthorizationRequest::Connect { requester, token, data, name, version, headers } => {
                let fields = ConnectFields {
                    data: data.as_deref(),
                    name: &name,
                    version: &version,
                    headers: &headers,
                };
                let connected = self.connect(&requester, &token, &fields, &tokens).await;
                connected_as = connected
                    .as_ref()
                    .ok()
                    .map(|c| (requester.client, c.user.clone(), c.token.clone(), c.since));
                connected.map(|connected| Response::Connected(Box::new(connected)))
            }
            AuthorizationRequest::Reject { .. } => Err(rejected(code::UNAUTHORIZED)),
            AuthorizationRequest::Subscribe { requester, channel, token, data } => {
                let target = (&channel, data.as_deref());
                let allowed = self.subscribe(&requester, target, &token, &tokens, &reply).await;
                allowed.map(|admission| {
                    subscribed_with = admission.token.clone().map(|token| (requester.user.clone(), token));
                    Response::Allowed(Box::new(admission))
                })
            }
            AuthorizationRequest::Refresh { requester, token } => {
                let renewed = self.refresh(&requester, &token, &tokens).await;
                renewed.map(|Connected { expires, info, token, capabilities, .. }| {
                    let capabilities = Some(capabilities);
                    let renewed = Renewed { expires, info, token, capabilities, ..Renewed::default() };
                    Response::Renewed(Box::new(renewed))
                })
            }
            AuthorizationRequest::SubRefresh { requester, channel, token } => {
                let renewed = self.sub_refresh(&requester, &channel, &token, &tokens).await;
                renewed.map(|Admission { expires, info, token, allow, .. }| {
                    subscribed_with = token.clone().map(|token| (requester.user.clone(), token));
                    let allow = Some(allow);
                    Response::Renewed(Box::new(Renewed { expires, info, token, allow, ..Renewed::default() }))
                })
            }
            AuthorizationRequest::Renew { requester, channel } => {
                self.renew(&requester, channel.as_ref()).await
            }
            AuthorizationRequest::Publish { requester, channel, body, info, tags, message } => {
                match self.authorize_publish(&requester, &channel, &body).await {
                    // The response follows when the broker has completed the publication.
                    Ok(allowed) => {
                        let tags = if allowed.tags.is_empty() { tags } else { allowed.tags.clone() };
                        let delta = allowed.delta;
                        let mut extra = Extra { info: Some(info), tags, message, delta, ..Extra::default() };
                        if !allowed.tags.is_empty() {
                            // The application's tags replace the user properties of the message.
                            extra.remove_user_properties();
                        }
                        return self.publish(&channel, body, extra, allowed, reply);
                    }
                    Err(failure) => Err(failure),
                }
            }
            AuthorizationRequest::SignIn { requester, user } => {
                let accepted = self.check_not_blocked(&user, None).await;
                accepted.map(|()| {
                    let since = now_micros();
                    connected_as = Some((requester.client, user.clone(), None, since));
                    Response::Connected(Box::new(Connected { user, since, ..Connected::default() }))
                })
            }
            AuthorizationRequest::Rpc { requester, method, data } => {
                let response = self.hooks.rpc(&requester, &method, data.as_deref()).await;
                response.unwrap_or_else(|| Err(rejected(code::NOT_AVAILABLE))).map(Response::Replied)
            }
        };
        if let (Some(credential), Err(failure)) = (credential, &outcome)
            && (is_wrong_credential(failure) || tokens.has_unknown_key())
        {
            self.auth_failures.fail(reply.peer(), credential).await;
        }
        reply.send(outcome.unwrap_or_else(Response::Failed));
        if let Some((user, token)) = subscribed_with {
            self.end_if_blocked(&user, Some(&token));
        }
        if let Some((client, user, token, since)) = connected_as {
            self.end_if_blocked(&user, token.as_ref());
            if self.single_connection && !user.is_empty() {
                self.replace_others(client, user, since).await;
            }
        }
    }

    /// Rejects a user that is blocked, and a token that is revoked.
    async fn check_not_blocked(&self, user: &str, token: Option<&TokenId>) -> Result<(), Failure> {
        if user.is_empty() && token.is_none_or(|token| token.id.is_none()) {
            return Ok(());
        }
        let list = &self.blocklist;
        if !list.ready().await {
            return Err(Failure::Unavailable);
        }
        match list.find(user, token, now()) {
            Some(block) => {
                list.count(&block);
                Err(block.rejection().into())
            }
            None => Ok(()),
        }
    }

    /// Closes the older connections of a user on all nodes; only on this node while the broker is unavailable.
    async fn replace_others(&self, client: String, user: String, since: u64) {
        self.send_command(user, SessionAction::Replace { client, since }).await;
    }

    /// Sends a command to the sessions of a user on all nodes; only on this node while the broker is unavailable.
    /// The broker has the command when this returns; the future waits for the outcome.
    fn send_command(&self, user: String, action: SessionAction) -> impl Future<Output = ()> + Send + use<> {
        let command = SessionCommand { user, client: None, session: None, action };
        let sent = self.bus.send_session_command(&command);
        let shards = Arc::clone(&self.shards);
        async move {
            if let Err(error) = sent.await {
                debug!(%error, "older connections could not be closed on other nodes");
                shards.post_session_command(command);
            }
        }
    }

    /// Ends a connection or a subscription if a block arrived while it was being authorized.
    fn end_if_blocked(&self, user: &str, token: Option<&TokenId>) {
        if let Some(block) = self.blocklist.find(user, token, now()) {
            self.shards.post_session_command(block.session_command());
        }
    }

    async fn connect(
        &self,
        requester: &Requester,
        token: &str,
        fields: &ConnectFields<'_>,
        tokens: &Verification<'_>,
    ) -> Result<Connected, Failure> {
        let mut connected = if !token.is_empty() {
            let connected = tokens::connect(tokens, requester, token, now()).await?;
            if connected.user.is_empty() && self.refuses_anonymous_tokens {
                return Err(rejected(code::PERMISSION_DENIED));
            }
            connected
        } else if let Some(response) = self.hooks.connect(requester, fields).await {
            let connected = response?;
            check_not_expired(connected.expires)?;
            connected
        } else {
            // Without a hook, the user that a proxy has authenticated.
            let info = requester.connection_info.as_ref();
            let user =
                info.and_then(|info| info.user.as_ref()).ok_or_else(|| rejected(code::UNAUTHORIZED))?;
            Connected { user: user.to_string(), ..Connected::default() }
        };
        self.check_not_blocked(&connected.user, connected.token.as_ref()).await?;
        connected.since = now_micros();
        Ok(connected)
    }

    async fn authorize_upload(
        &self,
        requester: &Requester,
        token: Option<&str>,
        tokens: &Verification<'_>,
    ) -> Result<Option<UploadGrant>, Failure> {
        let (grant, id) = match token {
            Some(token) => {
                let (grant, id) = tokens::upload_grant(tokens, requester, token, now()).await?;
                (grant, Some(id))
            }
            None => {
                let fields = ConnectFields { data: None, name: "tables", version: "", headers: &[] };
                let Some(response) = self.hooks.authorize_upload(requester, &fields).await else {
                    return Ok(None);
                };
                let (connected, upload) = response?;
                check_not_expired(connected.expires)?;
                (UploadGrant { user: connected.user, upload }, None)
            }
        };
        self.check_not_blocked(&grant.user, id.as_ref()).await?;
        Ok(Some(grant))
    }

    async fn refresh(
        &self,
        requester: &Requester,
        token: &str,
        tokens: &Verification<'_>,
    ) -> Result<Connected, Failure> {
        let connected = tokens::refresh(tokens, requester, token, now()).await?;
        self.check_not_blocked(&connected.user, connected.token.as_ref()).await?;
        Ok(connected)
    }

    /// Whether a connection that expires continues, or its subscription to `channel`, according to the application. While that
    /// does not respond, they continue for [`RETRY_RENEWAL`].
    async fn renew(&self, requester: &Requester, channel: Option<&Channel>) -> Result<Response, Failure> {
        let settings = self.router.settings();
        match self.hooks.renew(&settings.namespaces, requester, channel).await {
            Some(Ok(renewal)) if !renewal.is_expired => Ok(Response::Renewed(Box::new(renewal.into()))),
            Some(Err(Failure::Error(rejection))) if rejection.temporary => {
                let expires = Some(now() + RETRY_RENEWAL.as_secs());
                Ok(Response::Renewed(Box::new(Renewed { expires, ..Renewed::default() })))
            }
            // Expired, or the hook was disabled meanwhile.
            _ => Err(rejected(code::EXPIRED)),
        }
    }

    async fn sub_refresh(
        &self,
        requester: &Requester,
        channel: &Channel,
        token: &str,
        tokens: &Verification<'_>,
    ) -> Result<Admission, Failure> {
        let admission = tokens::sub_refresh(tokens, requester, channel, token, now()).await?;
        self.check_not_blocked(&requester.user, admission.token.as_ref()).await?;
        Ok(admission)
    }

    async fn subscribe(
        &self,
        requester: &Requester,
        (channel, data): (&Channel, Option<&[u8]>),
        token: &str,
        tokens: &Verification<'_>,
        reply: &Reply,
    ) -> Result<Admission, Failure> {
        if !token.is_empty() {
            let admission = tokens::subscribe(tokens, requester, channel, token, now()).await?;
            self.check_not_blocked(&requester.user, admission.token.as_ref()).await?;
            return Ok(admission);
        }
        let private = !self.private_prefix.is_empty() && channel.as_str().starts_with(&self.private_prefix);
        if private {
            return Err(rejected(code::PERMISSION_DENIED));
        }
        let settings = self.router.settings();
        let (namespaces, hooks) = (&settings.namespaces, (&self.hooks, self.stream_limit));
        let response = match self.streams.open(hooks, namespaces, requester, (channel, data), reply).await {
            None => self.hooks.subscribe(namespaces, requester, channel, data).await,
            streamed => streamed,
        };
        let admission = response.unwrap_or_else(|| Err(rejected(code::PERMISSION_DENIED)))?;
        check_not_expired(admission.expires)?;
        Ok(admission)
    }

    async fn authorize_publish(
        &self,
        requester: &Requester,
        channel: &Channel,
        body: &[u8],
    ) -> Result<AllowedPublish, Failure> {
        let settings = self.router.settings();
        let response = self.hooks.publish(&settings.namespaces, requester, channel, body).await;
        response.unwrap_or_else(|| Err(rejected(code::PERMISSION_DENIED)))
    }

    fn publish(&self, channel: &Channel, body: Bytes, extra: Extra, allowed: AllowedPublish, reply: Reply) {
        let options = PublishOptions {
            history: allowed.skip_history.then_some(NO_HISTORY),
            idempotency_key: allowed.idempotency_key,
            extra: Some(Box::new(extra)),
        };
        let done = move |outcome: Result<tidings_broker::Published, Failure>| {
            reply.send(match outcome {
                Ok(published) => Response::Published(published.receivers),
                Err(failure) => Response::Failed(failure),
            });
        };
        self.router.publish(channel, allowed.body.unwrap_or(body), options, Box::new(done));
    }
}

fn token_options(config: &Config) -> (TokenOptions, SubscriptionTokenOptions, bool) {
    let client = &config.client;
    (client.token.clone(), client.subscription_token.clone(), client.insecure_skip_token_signature_verify)
}

/// The name of the span of a request.
fn span_name(request: &AuthorizationRequest) -> &'static str {
    match request {
        AuthorizationRequest::Connect { .. } => "client connect",
        AuthorizationRequest::Reject { .. } => "client authenticate",
        AuthorizationRequest::Subscribe { .. } => "client subscribe",
        AuthorizationRequest::Refresh { .. } => "client refresh",
        AuthorizationRequest::SubRefresh { .. } => "client sub_refresh",
        AuthorizationRequest::Renew { channel: None, .. } => "client expiry",
        AuthorizationRequest::Renew { channel: Some(_), .. } => "subscription expiry",
        AuthorizationRequest::Publish { .. } => "client publish",
        AuthorizationRequest::SignIn { .. } => "client sign_in",
        AuthorizationRequest::Rpc { .. } => "client rpc",
    }
}

/// The kind of credential in a request; `None` if there is none.
fn credential(request: &AuthorizationRequest) -> Option<Credential> {
    match request {
        AuthorizationRequest::Reject { .. } => Some(Credential::Password),
        AuthorizationRequest::Connect { token, .. } | AuthorizationRequest::Subscribe { token, .. }
            if token.is_empty() =>
        {
            None
        }
        AuthorizationRequest::Connect { .. } | AuthorizationRequest::Subscribe { .. } => {
            Some(Credential::Token)
        }
        AuthorizationRequest::Refresh { .. } | AuthorizationRequest::SubRefresh { .. } => {
            Some(Credential::Token)
        }
        AuthorizationRequest::Renew { .. }
        | AuthorizationRequest::Publish { .. }
        | AuthorizationRequest::SignIn { .. }
        | AuthorizationRequest::Rpc { .. } => None,
    }
}

/// Whether a failure means a wrong credential. An expired token is not a wrong one.
fn is_wrong_credential(failure: &Failure) -> bool {
    let wrong = [code::UNAUTHORIZED.number, code::PERMISSION_DENIED.number];
    matches!(failure, Failure::Error(rejection) if wrong.contains(&rejection.code))
}

fn rejected(code: Code) -> Failure {
    Rejection::from(code).into()
}

/// Rejects an expiry time that has passed.
fn check_not_expired(expires: Option<u64>) -> Result<(), Failure> {
    if expires.is_some_and(|end| end <= now()) { Err(rejected(code::EXPIRED)) } else { Ok(()) }
}

/// The current time, in Unix seconds.
/// The time in Unix microseconds.
fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    u64::try_from(since).unwrap_or(u64::MAX)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
