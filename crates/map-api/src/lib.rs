//! Maps of a server: the options of their namespaces, operations at the broker, and the methods of the server API.
//!
//! The state of maps is in the broker (`tidings-map-state`); subscriptions to maps are in the hub.
//!
//! Invariant: an operation on a channel that is not a map is refused before it reaches the broker.

mod methods;
mod namespace;

use std::sync::Arc;

use tidings_broker::{BrokerError, MapChange, Stateful};
use tidings_hub::NamespaceOptions;
use tidings_map_state::{Applied, KeyChange, StatePage, StateQuery};
use tidings_wire::{Channel, History, HistoryQuery};

pub use methods::run;
pub use namespace::{apply, history_bounds};

/// The operations on the maps of a broker.
#[derive(Clone)]
pub struct Maps(pub Arc<dyn Stateful>);

impl Maps {
    /// Changes a key of a map with these options. `done` is called exactly once, from any thread.
    pub fn change(
        &self,
        channel: &Channel,
        options: &NamespaceOptions,
        change: KeyChange,
        idempotency_key: Option<String>,
        done: impl FnOnce(Result<Applied, BrokerError>) + Send + 'static,
    ) {
        let Some(map) = &options.map else { return done(Err(not_a_map())) };
        let change = MapChange { change, options: map.options, idempotency_key };
        self.0.map_change(channel, change, Box::new(done));
    }

    /// Reads a page of the state of a map. `done` is called exactly once, from any thread.
    pub fn state(
        &self,
        channel: &Channel,
        options: &NamespaceOptions,
        query: StateQuery,
        done: impl FnOnce(Result<StatePage, BrokerError>) + Send + 'static,
    ) {
        let Some(map) = &options.map else { return done(Err(not_a_map())) };
        self.0.map_state(channel, query, map.options.ordered, Box::new(done));
    }

    /// Reads the changes of a map. `done` is called exactly once, from any thread.
    pub fn stream(
        &self,
        channel: &Channel,
        query: HistoryQuery,
        done: impl FnOnce(Result<History, BrokerError>) + Send + 'static,
    ) {
        self.0.map_stream(channel, query, Box::new(done));
    }
}

/// The error of an operation on a channel that is not a map.
pub(crate) fn not_a_map() -> BrokerError {
    BrokerError::Invalid("the channel is not a map (subscription_type)".to_owned())
}
