//! Channels that are maps: their options, the pages of their state, and changes by clients.
//!
//! A client reads the state in pages, each a command of its own, without a subscription ([`MapStep::State`]). Then it
//! subscribes from the position of the first page ([`MapStep::Stream`]), which is a subscription that recovers: it gets
//! the changes since that position, or error 112 and begins again. A client that returns begins with the second step.

use bytes::Bytes;
use tidings_map_state::{KeyChange, MapOptions, SetKey, StateQuery};
use tidings_wire::client::Encoding;
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Topic};

use crate::access::Action;
use crate::authorization::Rejection;
use crate::context::Context;
use crate::effects::{Effect, Request};
use crate::hub::Hub;
use crate::index::Slot;
use crate::kind::{SubscriptionKind, check_kind};
use crate::protocols::{Peer as _, Protocols};
use crate::subscribe::{CommandError, SubscribeOptions, SubscribeState};

/// Bytes of a value in JSON for each of its bytes, at most: escapes, and the names of fields.
const JSON_FACTOR: usize = 8;
/// The same in Protobuf.
const PROTOBUF_FACTOR: usize = 2;

/// What the keys of a map are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapKind {
    /// Keys of the application.
    #[default]
    Keys,
    /// The ids of the clients of another channel; the server maintains them.
    Clients,
    /// The users of another channel; the server maintains them.
    Users,
}

impl MapKind {
    /// The kind of subscriptions to such a map, in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "map",
            Self::Clients => "map_clients",
            Self::Users => "map_users",
        }
    }
}

/// The options of a namespace of maps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the switches of the configuration, one each")]
pub struct MapNamespace {
    /// What the keys are.
    pub kind: MapKind,
    /// The bounds and the order of a map.
    pub options: MapOptions,
    /// Whether a client that returns continues from the stream; otherwise it reads the state again.
    pub recovers: bool,
    /// The keys that clients may change.
    pub client_key: MapClientKey,
    /// Whether the key of a client is removed when it unsubscribes.
    pub remove_client_on_unsubscribe: bool,
    /// Keys of a page by default, at least, and at most.
    pub page_sizes: [usize; 3],
    /// Clients with a user may set keys.
    pub allow_publish_for_client: bool,
    /// Subscribers with a user may set keys.
    pub allow_publish_for_subscriber: bool,
    /// Anonymous clients may set keys, if clients or subscribers may.
    pub allow_publish_for_anonymous: bool,
    /// Clients with a user may remove keys.
    pub allow_remove_for_client: bool,
    /// Subscribers with a user may remove keys.
    pub allow_remove_for_subscriber: bool,
    /// Anonymous clients may remove keys, if clients or subscribers may.
    pub allow_remove_for_anonymous: bool,
}

/// The key that a client may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapClientKey {
    /// The key of its command.
    #[default]
    Given,
    /// The id of its connection.
    ClientId,
    /// Its user.
    UserId,
}

/// The request of a subscription to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSubscribe {
    /// The requested kind, which must be that of the channel.
    pub kind: MapKind,
    /// The step.
    pub step: MapStep,
}

/// The step of a subscription to a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapStep {
    /// Read a page of the state.
    State {
        /// The cursor of the page before; empty for the first page.
        cursor: String,
        /// The requested number of keys; zero for the default.
        limit: usize,
        /// Whether an ordered state begins with the lowest score.
        asc: bool,
    },
    /// Subscribe from the position of the first page, or of the last publication that the client has received.
    Stream {
        /// Whether the client returns, so that it needs no state.
        returns: bool,
    },
}

impl MapNamespace {
    fn page_size(&self, requested: usize) -> usize {
        let [default, least, most] = self.page_sizes;
        if requested == 0 { default } else { requested.clamp(least, most.max(least)) }
    }
}

impl<P: Protocols> Hub<P> {
    /// The request that sets a key of a map to `body`, or removes it without one, if the session has the permission.
    ///
    /// # Errors
    /// If the channel is not a map, the permission is missing, or the key is invalid.
    pub fn map_change_request(
        &self,
        slot: Slot,
        channel: Channel,
        key: &str,
        body: Option<Bytes>,
    ) -> Result<Request<P::Messages>, CommandError> {
        let options = self.settings.namespaces.options(channel.as_str())?;
        check_kind(options, SubscriptionKind::Map(MapKind::Keys))?;
        let Some(map) = &options.map else { return Err(code::NOT_AVAILABLE.into()) };
        let action = if body.is_some() { Action::MapPublish } else { Action::MapRemove };
        self.authorize_command(slot, action, &channel)?;
        let key: Box<str> = match map.client_key {
            MapClientKey::Given => key.into(),
            MapClientKey::ClientId => self.client_id(self.session_id(slot)).into(),
            MapClientKey::UserId => {
                let user = self.sessions[slot.index()].user_state().map(|state| state.user.clone());
                user.filter(|user| !user.is_empty()).ok_or(code::PERMISSION_DENIED)?
            }
        };
        let has_connect = self.sessions[slot.index()].peer.has_connect();
        let topic = self.topics.key(&Topic::Channel(channel.clone()));
        let info = has_connect.then(|| self.client_info(slot, topic));
        let set = body.map(|body| SetKey { body, ..SetKey::default() });
        let change = KeyChange { key, set, tags: Vec::new(), info };
        change.check().map_err(|error| CommandError(code::BAD_REQUEST, format!("bad request: {error}")))?;
        Ok(Request::MapChange(channel, Box::new(change)))
    }
}

impl<P: Protocols> Context<'_, P> {
    /// Reads a page of the state for a subscribe that requests one; `None` for any other.
    pub(crate) fn begin_state_read(
        &mut self,
        channel: &Channel,
        sub_options: &SubscribeOptions,
    ) -> Option<SubscribeState> {
        let MapStep::State { cursor, limit, asc } = &sub_options.map.as_ref()?.step else { return None };
        let map = self.hub.options(channel).map.as_ref()?;
        let factor = match self.session().peer.encoding() {
            Encoding::Json => JSON_FACTOR,
            Encoding::Protobuf => PROTOBUF_FACTOR,
        };
        let query = StateQuery {
            cursor: cursor.clone(),
            limit: map.page_size(*limit),
            asc: *asc,
            key: None,
            max_bytes: self.hub.settings.recovery_bytes / factor,
        };
        let id = self.id();
        let ticket = self.session_mut().cold().pending.ticket();
        self.fx.push(Effect::Request(id, ticket, Request::MapState(channel.clone(), query)));
        Some(SubscribeState::ReadingState(ticket))
    }
}

impl From<CommandError> for Rejection {
    fn from(CommandError(code, text): CommandError) -> Self {
        let Code { number, temporary, .. } = code;
        Self { code: number, text, temporary }
    }
}
