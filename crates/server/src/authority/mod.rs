//! Decisions about clients that need more than the options of channels: tokens ([`tidings_auth`]) and the application's
//! hooks ([`tidings_hooks`]).
//!
//! A request with a token is decided by the token alone, without a hook. Expiry times of tokens and hooks are part of the
//! response, and the session enforces them.
//!
//! Invariants:
//! - Every request gets one response, and nothing is allowed without a valid token or the consent of a hook; a client
//!   with an expired token is never treated as anonymous.
//! - No call blocks: requests are processed on the control plane's threads.
//! - The client receives a code and its text. The reason is logged, without any part of a token.

mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidings_broker::{HistoryOptions, PublishOptions};
use tidings_hub::{
    Admission, Connected, ConnectionInfo, Decide, Directive, Failure, Order, Rejection, Requester, Response,
    TokenId,
};
use tidings_shard::Reply;
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Extra};
use tokio::runtime::Handle;
use tracing::debug;

use crate::auth_failures::{AuthFailures, Credential};
use tidings_cluster::blocklist::Blocklist;
use tidings_cluster::ClusterBus;
use tidings_hooks::{Hello, HookCounters, Hooks, Publish};
use crate::router::Router;
use crate::shards::Shards;
use tidings_auth::{SetupError, Verifier};
use tidings_config::Config;

/// Options of a publication that is not added to the history.
const UNKEPT: HistoryOptions = HistoryOptions { size: 0, ttl: Duration::ZERO, meta_ttl: Duration::ZERO };

/// The permission of a client to upload a table, by a token or by the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UploadGrant {
    /// The user; empty for an anonymous client.
    pub(crate) user: String,
    /// Whether the client may upload; `None` leaves it to `tables.allow_upload`.
    pub(crate) upload: Option<bool>,
}

/// Decides the requests of sessions.
#[derive(Clone)]
pub(crate) struct Decisions {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    verifier: Verifier,
    hooks: Hooks,
    router: Arc<Router>,
    bus: ClusterBus,
    blocklist: Arc<Blocklist>,
    auth_failures: Arc<AuthFailures>,
    shards: Arc<Shards>,
    /// Prefix of the names of private channels; empty for none.
    private_prefix: String,
    /// Whether a user has one connection at a time.
    single_connection: bool,
}

impl Decisions {
    /// Takes keys and hooks from the configuration, and publishes through `router`. Within a tokio runtime, on which
    /// requests are processed.
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
    ) -> Result<Self, SetupError> {
        let shared = Shared {
            verifier: Verifier::new(&config.client.verifier())?,
            hooks: Hooks::new(config)?,
            router,
            bus,
            blocklist,
            auth_failures,
            shards,
            private_prefix: config.channel.private_prefix.clone(),
            single_connection: config.client.single_connection,
        };
        Ok(Self { shared: Arc::new(shared), runtime: Handle::current() })
    }

    /// Decides one request, now or later, and responds through `reply`. Does not block.
    pub(crate) fn decide(&self, question: Decide, reply: Reply) {
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move { shared.decide(question, reply).await });
    }

    /// The counters of the hooks.
    pub(crate) fn counters(&self) -> Arc<HookCounters> {
        Arc::clone(self.shared.hooks.counters())
    }

    /// The permission to upload a table, from a connection token, or without one from the connect hook; `None` when there is
    /// neither. A wrong token is counted, and its response delayed.
    ///
    /// # Errors
    /// Why the client is rejected.
    pub(crate) async fn uploader(
        &self,
        token: Option<&str>,
        about: ConnectionInfo,
        address: Option<IpAddr>,
    ) -> Result<Option<UploadGrant>, Failure> {
        let who = Requester { about: Some(Arc::new(about)), ..Requester::default() };
        let outcome = self.shared.uploader(&who, token).await;
        if let Err(failure) = &outcome
            && token.is_some()
            && is_wrong(failure)
        {
            self.shared.auth_failures.fail(address, Credential::Token).await;
        }
        outcome
    }
}

impl Shared {
    async fn decide(&self, question: Decide, reply: Reply) {
        let (mut admitted, mut subscribed) = (None, None);
        let shown = shown(&question);
        let outcome = match question {
            Decide::Connect { who, token, data, name, version, headers } => {
                let hello =
                    Hello { data: data.as_deref(), name: &name, version: &version, headers: &headers };
                let connected = self.connect(&who, &token, &hello).await;
                admitted =
                    connected.as_ref().ok().map(|c| (who.client, c.user.clone(), c.token.clone(), c.since));
                connected.map(|connected| Response::Connected(Box::new(connected)))
            }
            Decide::Reject { .. } => Err(refusal(code::UNAUTHORIZED)),
            Decide::Subscribe { who, channel, token, data } => {
                let allowed = self.subscribe(&who, &channel, &token, data.as_deref()).await;
                allowed.map(|admission| {
                    subscribed = admission.token.clone().map(|token| (who.user.clone(), token));
                    Response::Allowed(Box::new(admission))
                })
            }
            Decide::Refresh { who, token } => {
                let renewed = self.refresh(&who, &token).await;
                renewed.map(|Connected { expires, info, token, .. }| Response::Renewed {
                    expires,
                    info,
                    token,
                })
            }
            Decide::SubRefresh { who, channel, token } => {
                let renewed = self.sub_refresh(&who, &channel, &token).await;
                renewed.map(|Admission { expires, info, token, .. }| {
                    subscribed = token.clone().map(|token| (who.user.clone(), token));
                    Response::Renewed { expires, info, token }
                })
            }
            Decide::Publish { who, channel, body, info, tags } => {
                match self.publishable(&who, &channel, &body).await {
                    // The response follows when the broker has completed the publication.
                    Ok(publish) => {
                        let tags = if publish.tags.is_empty() { tags } else { publish.tags.clone() };
                        let extra = Extra { info: Some(info), tags };
                        return self.publish(&channel, body, extra, publish, reply);
                    }
                    Err(failure) => Err(failure),
                }
            }
            Decide::Rpc { who, method, data } => {
                let replied = self.hooks.rpc(&who, &method, data.as_deref()).await;
                replied.unwrap_or_else(|| Err(refusal(code::NOT_AVAILABLE))).map(Response::Replied)
            }
        };
        if let (Some(credential), Err(failure)) = (shown, &outcome)
            && is_wrong(failure)
        {
            self.auth_failures.fail(reply.peer(), credential).await;
        }
        reply.send(outcome.unwrap_or_else(Response::Failed));
        if let Some((user, token)) = subscribed {
            self.end_if_blocked(&user, Some(&token));
        }
        if let Some((client, user, token, since)) = admitted {
            self.end_if_blocked(&user, token.as_ref());
            if self.single_connection && !user.is_empty() {
                self.replace_others(client, user, since).await;
            }
        }
    }

    /// Rejects a user that is blocked, and a token that is revoked.
    async fn unblocked(&self, user: &str, token: Option<&TokenId>) -> Result<(), Failure> {
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
                Err(block.verdict().into())
            }
            None => Ok(()),
        }
    }

    /// Ends the older connections of a user on all nodes; on this node alone while the broker is unavailable.
    async fn replace_others(&self, client: String, user: String, since: u64) {
        let order = Order::Replace { client, since };
        let directive = Directive { user, client: None, session: None, order };
        if let Err(error) = self.bus.order(&directive).await {
            debug!(%error, "other nodes could not be told of a user's newer connection");
            self.shards.order(directive);
        }
    }

    /// Ends a connection or a subscription if a block arrived while it was being decided.
    fn end_if_blocked(&self, user: &str, token: Option<&TokenId>) {
        if let Some(block) = self.blocklist.find(user, token, now()) {
            self.shards.order(block.directive());
        }
    }

    async fn connect(&self, who: &Requester, token: &str, hello: &Hello<'_>) -> Result<Connected, Failure> {
        let mut connected = if token.is_empty() {
            let asked = self.hooks.connect(who, hello).await;
            let connected = asked.unwrap_or_else(|| Err(refusal(code::UNAUTHORIZED)))?;
            unexpired(connected.expires)?;
            connected
        } else {
            tokens::connected(&self.verifier, who, token, now()).await?
        };
        self.unblocked(&connected.user, connected.token.as_ref()).await?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        connected.since = u64::try_from(since).unwrap_or(u64::MAX);
        Ok(connected)
    }

    async fn uploader(&self, who: &Requester, token: Option<&str>) -> Result<Option<UploadGrant>, Failure> {
        let (grant, id) = match token {
            Some(token) => {
                let (grant, id) = tokens::uploader(&self.verifier, who, token, now()).await?;
                (grant, Some(id))
            }
            None => {
                let hello = Hello { data: None, name: "tables", version: "", headers: &[] };
                let Some(asked) = self.hooks.uploader(who, &hello).await else { return Ok(None) };
                let (connected, upload) = asked?;
                unexpired(connected.expires)?;
                (UploadGrant { user: connected.user, upload }, None)
            }
        };
        self.unblocked(&grant.user, id.as_ref()).await?;
        Ok(Some(grant))
    }

    async fn refresh(&self, who: &Requester, token: &str) -> Result<Connected, Failure> {
        let connected = tokens::refreshed(&self.verifier, who, token, now()).await?;
        self.unblocked(&connected.user, connected.token.as_ref()).await?;
        Ok(connected)
    }

    async fn sub_refresh(
        &self,
        who: &Requester,
        channel: &Channel,
        token: &str,
    ) -> Result<Admission, Failure> {
        let admission = tokens::sub_refreshed(&self.verifier, who, channel, token, now()).await?;
        self.unblocked(&who.user, admission.token.as_ref()).await?;
        Ok(admission)
    }

    async fn subscribe(
        &self,
        who: &Requester,
        channel: &Channel,
        token: &str,
        data: Option<&[u8]>,
    ) -> Result<Admission, Failure> {
        if !token.is_empty() {
            let admission = tokens::admitted(&self.verifier, who, channel, token, now()).await?;
            self.unblocked(&who.user, admission.token.as_ref()).await?;
            return Ok(admission);
        }
        let private = !self.private_prefix.is_empty() && channel.as_str().starts_with(&self.private_prefix);
        if private {
            return Err(refusal(code::PERMISSION_DENIED));
        }
        let asked = self.hooks.subscribe(who, channel, data).await;
        let admission = asked.unwrap_or_else(|| Err(refusal(code::PERMISSION_DENIED)))?;
        unexpired(admission.expires)?;
        Ok(admission)
    }

    async fn publishable(&self, who: &Requester, channel: &Channel, body: &[u8]) -> Result<Publish, Failure> {
        let asked = self.hooks.publish(who, channel, body).await;
        asked.unwrap_or_else(|| Err(refusal(code::PERMISSION_DENIED)))
    }

    fn publish(&self, channel: &Channel, body: Bytes, extra: Extra, publish: Publish, reply: Reply) {
        let more = PublishOptions {
            history: publish.skip_history.then_some(UNKEPT),
            idempotency_key: publish.idempotency_key,
            info: extra.info,
            tags: extra.tags,
        };
        let done = move |outcome: Result<tidings_broker::Published, Failure>| {
            reply.send(match outcome {
                Ok(published) => Response::Published(published.receivers),
                Err(failure) => Response::Failed(failure),
            });
        };
        self.router.publish(channel, publish.body.unwrap_or(body), more, Box::new(done));
    }
}

/// The kind of credential in a request, if there is one.
fn shown(question: &Decide) -> Option<Credential> {
    match question {
        Decide::Reject { .. } => Some(Credential::Password),
        Decide::Connect { token, .. } | Decide::Subscribe { token, .. } if token.is_empty() => None,
        Decide::Connect { .. } | Decide::Subscribe { .. } => Some(Credential::Token),
        Decide::Refresh { .. } | Decide::SubRefresh { .. } => Some(Credential::Token),
        Decide::Publish { .. } | Decide::Rpc { .. } => None,
    }
}

/// Whether a failure means a wrong credential. An expired token is not wrong.
fn is_wrong(failure: &Failure) -> bool {
    let wrong = [code::UNAUTHORIZED.number, code::PERMISSION_DENIED.number];
    matches!(failure, Failure::Error(verdict) if wrong.contains(&verdict.code))
}

fn refusal(code: Code) -> Failure {
    Rejection::from(code).into()
}

/// Rejects an expiry time that has passed.
fn unexpired(expires: Option<u64>) -> Result<(), Failure> {
    if expires.is_some_and(|end| end <= now()) { Err(refusal(code::EXPIRED)) } else { Ok(()) }
}

/// The time, in Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
