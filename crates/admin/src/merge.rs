//! Merges the responses of nodes into one page.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::report::{ChannelsReport, ConnectionRow, ConnectionsReport, Cursor};

/// The responses of the nodes to one query.
#[derive(Debug, Default)]
pub struct Responses {
    /// The responses, each with the uid and the name of its node; this node first.
    pub reports: Vec<(String, String, Value)>,
    /// The names of the nodes that have not responded in time.
    pub missing: Vec<String>,
}

impl Responses {
    /// The responses in their type. Nodes with a response of another type, such as an older version, count as missing.
    pub(crate) fn parse<T: DeserializeOwned>(self) -> (Vec<(String, String, T)>, Vec<String>) {
        let Self { reports, mut missing } = self;
        let mut parsed = Vec::with_capacity(reports.len());
        for (uid, name, report) in reports {
            match serde_json::from_value(report) {
                Ok(report) => parsed.push((uid, name, report)),
                Err(_) => missing.push(name),
            }
        }
        (parsed, missing)
    }
}

/// A connection with its node.
#[derive(Debug, Serialize)]
pub struct NodeConnection {
    /// The uid of the node.
    pub node: String,
    /// The name of the node.
    pub node_name: String,
    /// The connection.
    #[serde(flatten)]
    pub connection: ConnectionRow,
}

/// A page of connections of all nodes.
#[derive(Debug, Serialize)]
pub struct ConnectionsPage {
    /// The connections.
    pub connections: Vec<NodeConnection>,
    /// Where the next page begins on each node; empty after the last connection.
    pub next: BTreeMap<String, Cursor>,
    /// The names of the nodes that have not examined all of their connections in time. The longest queues may be missing.
    pub incomplete: Vec<String>,
    /// The names of the nodes that have not responded.
    pub missing: Vec<String>,
}

/// The first `limit` connections in the responses to a [`NodeQuery::Connections`](crate::report::NodeQuery::Connections).
pub fn connections_page(responses: Responses, limit: usize) -> ConnectionsPage {
    let (reports, missing) = responses.parse();
    connections(reports, missing, limit, false)
}

/// The first `limit` connections in the order of the nodes, or those with the longest queues.
pub(crate) fn connections(
    reports: Vec<(String, String, ConnectionsReport)>,
    missing: Vec<String>,
    limit: usize,
    by_queue: bool,
) -> ConnectionsPage {
    let mut page =
        ConnectionsPage { connections: Vec::new(), next: BTreeMap::new(), incomplete: Vec::new(), missing };
    for (uid, name, report) in reports {
        let mut next = report.next;
        for connection in report.connections {
            if !by_queue && page.connections.len() >= limit {
                // The next page begins with the first connection that is not on this one.
                next = connection.at;
                break;
            }
            page.connections.push(NodeConnection { node: uid.clone(), node_name: name.clone(), connection });
        }
        match next {
            // Connections on a later page could have longer queues than those of this one.
            Some(_) if by_queue => page.incomplete.push(name),
            Some(next) => drop(page.next.insert(uid, next)),
            None => {}
        }
    }
    if by_queue {
        page.connections.sort_by_key(|row| std::cmp::Reverse(row.connection.queued));
        page.connections.truncate(limit);
    }
    page
}

/// A page of channels of all nodes.
#[derive(Debug, Serialize)]
pub(crate) struct ChannelsPage {
    /// The channels with their numbers of subscribers, in the order of their names.
    pub(crate) channels: Vec<(String, u64)>,
    /// The name after which the next page begins.
    pub(crate) next: Option<String>,
    /// The number of channels on all pages, at most if it is not exact.
    pub(crate) total: u64,
    /// Whether `total` is exact. Several nodes may have the same channels, which only the names on a complete list show.
    pub(crate) is_exact: bool,
    pub(crate) missing: Vec<String>,
}

/// The first `limit` channels. Each node has reported its own first channels, one more than `limit`, so that the numbers of
/// subscribers of the merged ones are complete: a node's channel before them would be among its own first ones, too.
pub(crate) fn channels(
    reports: Vec<(String, String, ChannelsReport)>,
    missing: Vec<String>,
    limit: usize,
) -> ChannelsPage {
    let mut all = BTreeMap::<String, u64>::new();
    let (mut total, mut listed) = (0, 0);
    let is_single = reports.len() <= 1;
    for (_, _, report) in reports {
        total += report.total;
        listed += report.channels.len() as u64;
        for (name, count) in report.channels {
            *all.entry(name).or_default() += count;
        }
    }
    let is_complete = listed == total;
    let total = if is_complete { all.len() as u64 } else { total };
    let is_cut = all.len() > limit;
    let channels: Vec<_> = all.into_iter().take(limit).collect();
    let next = channels.last().filter(|_| is_cut).map(|(name, _)| name.clone());
    ChannelsPage { channels, next, total, is_exact: is_single || is_complete, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(slot: u32, queued: u64) -> ConnectionRow {
        ConnectionRow {
            client: format!("c{slot}"),
            at: Some(Cursor(0, slot)),
            queued,
            ..ConnectionRow::default()
        }
    }

    fn report(slots: &[u32], next: Option<Cursor>) -> ConnectionsReport {
        ConnectionsReport { connections: slots.iter().map(|slot| row(*slot, (*slot).into())).collect(), next }
    }

    fn node<T>(name: &str, report: T) -> (String, String, T) {
        (name.to_owned(), name.to_owned(), report)
    }

    #[test]
    fn a_page_of_connections_continues_where_it_was_cut() {
        let reports = vec![
            node("a", report(&[1, 2], None)),
            node("b", report(&[3, 4], Some(Cursor(1, 9)))),
            node("c", report(&[5], None)),
        ];
        let page = connections(reports, vec![], 3, false);
        let clients: Vec<_> = page.connections.iter().map(|row| &*row.connection.client).collect();
        assert_eq!(clients, ["c1", "c2", "c3"]);
        // Node `a` is complete; the others continue with their first connection that is not shown.
        let next = BTreeMap::from([("b".to_owned(), Cursor(0, 4)), ("c".to_owned(), Cursor(0, 5))]);
        assert_eq!(page.next, next);
    }

    #[test]
    fn the_longest_queues_of_all_nodes_come_first() {
        let reports = vec![node("a", report(&[7, 1], None)), node("b", report(&[9, 3], None))];
        let page = connections(reports, vec![], 3, true);
        let queues: Vec<_> = page.connections.iter().map(|row| row.connection.queued).collect();
        assert_eq!(queues, [9, 7, 3]);
        assert!(page.next.is_empty() && page.incomplete.is_empty());
    }

    #[test]
    fn the_longest_queues_name_the_nodes_that_were_not_examined_completely() {
        let reports = vec![node("a", report(&[7], None)), node("b", report(&[9], Some(Cursor(1, 0))))];
        let page = connections(reports, vec![], 3, true);
        assert_eq!((page.connections.len(), page.incomplete), (2, vec!["b".to_owned()]));
        assert!(page.next.is_empty(), "there are no pages of the longest queues");
    }

    #[test]
    fn subscribers_of_a_channel_are_summed_and_pages_follow_names() {
        let list = |names: &[(&str, u64)], total| ChannelsReport {
            channels: names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            total,
        };
        let reports =
            vec![node("a", list(&[("a", 1), ("c", 2)], 5)), node("b", list(&[("b", 1), ("c", 3)], 2))];
        let page = channels(reports, vec![], 2);
        assert_eq!(page.channels, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        assert_eq!((page.next.as_deref(), page.total, page.is_exact), (Some("b"), 7, false));
        let page = channels(vec![node("a", list(&[("x", 4)], 9))], vec![], 2);
        assert_eq!((page.next, page.channels.len()), (None, 1), "the last page of a node");
        assert!(page.is_exact && page.total == 9);
    }

    #[test]
    fn a_channel_with_subscribers_on_several_nodes_counts_once() {
        let list = |names: &[&str]| ChannelsReport {
            channels: names.iter().map(|name| ((*name).to_owned(), 1)).collect(),
            total: names.len() as u64,
        };
        let reports = vec![node("a", list(&["x", "y"])), node("b", list(&["x", "y"]))];
        let page = channels(reports, vec![], 2);
        assert_eq!((page.channels.len(), page.next, page.total, page.is_exact), (2, None, 2, true));
    }

    #[test]
    fn a_node_with_a_response_of_another_type_is_missing() {
        let reports =
            vec![node("old", Value::Null), node("new", serde_json::json!({"channels":[],"total":0}))];
        let (parsed, missing) = Responses { reports, missing: vec!["dead".into()] }.parse::<ChannelsReport>();
        assert_eq!(parsed.len(), 1);
        assert_eq!(missing, ["dead", "old"]);
    }
}
