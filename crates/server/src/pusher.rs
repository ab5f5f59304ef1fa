//! The operations of the HTTP API of the Pusher protocol.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tidings_broker::PublishOptions;
use tidings_cluster::{ListBudget, Nodes};
use tidings_hub::Failure::Unavailable;
use tidings_hub::{SessionAction, SessionCommand};
use tidings_pusher_api::{Backend, ChannelCounts, Failure, LIST_OVERHEAD, MAX_LIST, MAX_MEMBERS, PusherApps};
use tidings_reload::LiveConfig;
use tidings_wire::code;
use tidings_wire::{Channel, ClientInfo, Extra, HistoryQuery, Pattern};
use tokio::sync::oneshot;

use crate::router::{Router, failure};

/// The operations of the HTTP API.
pub(crate) struct PusherBackend {
    pub(crate) apps: Arc<PusherApps>,
    pub(crate) config: LiveConfig,
    pub(crate) router: Arc<Router>,
    pub(crate) nodes: Arc<Nodes>,
}

impl Backend for PusherBackend {
    fn is_open(&self) -> bool {
        self.apps.load().is_open(&self.config.load())
    }

    fn publish(
        &self,
        channel: Channel,
        event: String,
        data: Bytes,
        except: Option<String>,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        let extra = Extra {
            tags: vec![("event".to_owned(), event)],
            origin: except.map(Into::into),
            ..Extra::default()
        };
        let options = PublishOptions { extra: Some(Box::new(extra)), ..PublishOptions::default() };
        async move {
            let (done, outcome) = oneshot::channel();
            self.router.publish(&channel, data, options, Box::new(|outcome| drop(done.send(outcome))));
            let outcome = outcome.await.unwrap_or(Err(Unavailable));
            outcome.map(|_| ()).map_err(Failure::from)
        }
        .boxed()
    }

    fn channels(&self, pattern: Pattern) -> BoxFuture<'_, Result<ChannelCounts, Failure>> {
        async move {
            let budget = ListBudget::new(MAX_LIST, LIST_OVERHEAD);
            let counts = self.nodes.channels(Some(&pattern), budget).await;
            counts.map_err(|error| Failure { status: 503, text: error.to_string() })
        }
        .boxed()
    }

    fn members(&self, channel: Channel) -> BoxFuture<'_, Result<Vec<ClientInfo>, Failure>> {
        async move {
            let members = self.router.members(&channel, MAX_MEMBERS).await;
            members.map_err(|error| failure(error).into())
        }
        .boxed()
    }

    fn cached(&self, channel: Channel) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        async move {
            let query = HistoryQuery {
                limit: Some(1),
                reverse: true,
                max_bytes: MAX_MEMBERS,
                ..HistoryQuery::default()
            };
            let (done, history) = oneshot::channel();
            self.router.history(&channel, query, |outcome| drop(done.send(outcome)));
            let history = history.await.unwrap_or(Err(Unavailable))?;
            Ok(history.publications().and_then(|all| all.first()).map(|last| last.body.clone()))
        }
        .boxed()
    }

    fn disconnect(&self, user: String) -> BoxFuture<'_, Result<(), Failure>> {
        let action = SessionAction::Disconnect {
            code: code::FORCE_DISCONNECT.number,
            reason: "the application has ended the connections of this user".to_owned(),
            except: Vec::new(),
        };
        let command = SessionCommand { user, client: None, session: None, action };
        async move {
            let sent = self.nodes.bus.send_session_command(&command).await;
            sent.map_err(|error| Failure { status: 503, text: error.to_string() })
        }
        .boxed()
    }
}
