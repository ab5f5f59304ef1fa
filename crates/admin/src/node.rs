//! The responses of this node to questions.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::rates::{Counts, Rates};
use crate::recent_log;
use crate::report::{
    ChannelsQuestion, ChannelsReport, ConnectionsQuestion, ConnectionsReport, MAX_NAMES, MAX_ROWS, Overview,
    Question, TableRow,
};

/// What a node reports about itself.
pub trait NodeState: Send + Sync + 'static {
    /// Numbers for the samples of rates.
    fn counts(&self) -> Counts;

    /// The state, without samples and counts of the log.
    fn overview(&self) -> Overview;

    /// Connections; at most the limit of the question.
    fn connections(&self, question: ConnectionsQuestion) -> BoxFuture<'_, ConnectionsReport>;

    /// Channels with subscribers on this node.
    fn channels(&self, question: &ChannelsQuestion) -> ChannelsReport;

    /// Tables with viewers on this node, or stored on it.
    fn tables(&self) -> BoxFuture<'_, Vec<TableRow>>;
}

/// The response to a question. A question of an unknown kind gets `null`.
pub fn respond<'a>(state: &'a dyn NodeState, rates: &'a Rates, question: Value) -> BoxFuture<'a, Value> {
    async move {
        let value = match serde_json::from_value(question) {
            Ok(Question::Overview { after }) => {
                let overview = Overview {
                    samples: rates.after(after),
                    warnings: recent_log::counts(),
                    ..state.overview()
                };
                serde_json::to_value(overview)
            }
            Ok(Question::Connections(mut question)) => {
                question.limit = question.limit.min(MAX_ROWS);
                question.names = question.names.min(MAX_NAMES);
                serde_json::to_value(state.connections(question).await)
            }
            Ok(Question::Channels(mut question)) => {
                question.limit = question.limit.min(MAX_ROWS);
                serde_json::to_value(state.channels(&question))
            }
            Ok(Question::Log {}) => serde_json::to_value(recent_log::lines()),
            Ok(Question::Tables {}) => serde_json::to_value(state.tables().await),
            Err(_) => Ok(Value::Null),
        };
        value.unwrap_or_default()
    }
    .boxed()
}
