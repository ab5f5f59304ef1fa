//! The histories of the channels that make tables.

use std::sync::Arc;

use tidings_table_feed::{Histories, HistoryCallback, MAX_HISTORY};
use tidings_wire::{Channel, History, HistoryQuery};

use crate::router::Router;

/// Reads histories at the broker.
pub(super) struct ChannelHistories(pub(super) Arc<Router>);

impl Histories for ChannelHistories {
    fn history(&self, channel: &Channel, done: HistoryCallback) {
        if !self.0.options(channel).is_some_and(|options| options.has_history()) {
            return done(Some(Vec::new()));
        }
        let query = HistoryQuery { reverse: true, max_bytes: MAX_HISTORY, ..HistoryQuery::default() };
        self.0.history(channel, query, |read| {
            done(match read {
                Ok(History::Page(page)) => Some(page.publications.into_iter().rev().collect()),
                Ok(History::Unrecoverable(_)) => Some(Vec::new()),
                Err(_) => None,
            });
        });
    }
}
