//! Merges the tables of all nodes into one list, and pages of stored tables into one page.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::{StoredTableRow, StoredTablesReport, TableRow};

/// The open tables of all nodes.
#[derive(Debug, Serialize)]
pub(crate) struct OpenTables {
    tables: Vec<OpenTable>,
    /// Whether there are more tables than rows.
    more: bool,
    missing: Vec<String>,
}

/// An open table: its rows of all nodes in one, with all viewers.
#[derive(Debug, Serialize)]
struct OpenTable {
    id: String,
    name: String,
    size: u64,
    rows: u64,
    viewers: u64,
    /// The names of the nodes where the table did not respond in time.
    unresponsive: Vec<String>,
}

/// At most `limit` open tables, in the order of their ids.
pub(crate) fn open_tables(
    reports: Vec<(String, String, Vec<TableRow>)>,
    missing: Vec<String>,
    limit: usize,
) -> OpenTables {
    let mut tables = BTreeMap::<String, OpenTable>::new();
    // A node reports no more than this.
    let is_cut = reports.iter().any(|(_, _, rows)| rows.len() >= limit);
    for (_, node, rows) in reports {
        for TableRow { id, name, size, rows, viewers, is_unresponsive } in rows {
            let table = tables.entry(id.clone()).or_insert_with(|| OpenTable {
                id,
                name: String::new(),
                size: 0,
                rows: 0,
                viewers: 0,
                unresponsive: Vec::new(),
            });
            if is_unresponsive {
                table.unresponsive.push(node.clone());
                continue;
            }
            if table.name.is_empty() {
                (table.name, table.size, table.rows) = (name, size, rows);
            }
            table.viewers += viewers;
        }
    }
    let more = is_cut || tables.len() > limit;
    OpenTables { tables: tables.into_values().take(limit).collect(), more, missing }
}

/// A page of the stored tables of all nodes.
#[derive(Debug, Serialize)]
pub(crate) struct StoredTablesPage {
    tables: Vec<StoredTable>,
    /// The id after which the next page begins.
    next: Option<String>,
    /// The nodes that could not list their tables, with the reason.
    errors: Vec<(String, String)>,
    missing: Vec<String>,
}

/// A stored table, with the names of the nodes that have listed it: of all nodes that share its store.
#[derive(Debug, Serialize)]
struct StoredTable {
    #[serde(flatten)]
    row: StoredTableRow,
    nodes: Vec<String>,
}

/// The first `limit` stored tables. Each node has reported its own first tables, up to [`StoredTablesReport::next`]: the page
/// ends at the first of these ids, so that no table of another node is skipped.
pub(crate) fn stored_tables(
    reports: Vec<(String, String, StoredTablesReport)>,
    missing: Vec<String>,
    limit: usize,
) -> StoredTablesPage {
    let mut tables = BTreeMap::<String, StoredTable>::new();
    let (mut end, mut errors) = (None::<String>, Vec::new());
    for (_, node, StoredTablesReport { tables: rows, next, error }) in reports {
        errors.extend(error.map(|error| (node.clone(), error)));
        end = match (end, next) {
            (Some(end), Some(next)) => Some(end.min(next)),
            (end, next) => end.or(next),
        };
        for row in rows {
            let table =
                tables.entry(row.id.clone()).or_insert_with(|| StoredTable { row, nodes: Vec::new() });
            table.nodes.push(node.clone());
        }
    }
    if let Some(end) = &end {
        tables.retain(|id, _| id <= end);
    }
    if tables.len() > limit {
        end = tables.keys().nth(limit - 1).cloned();
    }
    StoredTablesPage { tables: tables.into_values().take(limit).collect(), next: end, errors, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<T>(name: &str, report: T) -> (String, String, T) {
        (name.to_owned(), name.to_owned(), report)
    }

    #[test]
    fn viewers_of_a_table_are_summed_and_nodes_without_a_response_are_named() {
        let row = |id: &str, viewers| TableRow {
            id: id.into(),
            name: "a.csv".into(),
            viewers,
            ..TableRow::default()
        };
        let silent = |id: &str| TableRow { id: id.into(), is_unresponsive: true, ..TableRow::default() };
        let reports = vec![
            node("ann", vec![silent("t1"), row("t2", 1)]),
            node("bob", vec![row("t1", 2), silent("t3")]),
        ];
        let page = open_tables(reports, vec![], 3);
        let found: Vec<_> = page
            .tables
            .iter()
            .map(|table| (&*table.id, &*table.name, table.viewers, table.unresponsive.join(" ")))
            .collect();
        let expected = [
            ("t1", "a.csv", 2, "ann".to_owned()),
            ("t2", "a.csv", 1, String::new()),
            ("t3", "", 0, "bob".to_owned()),
        ];
        assert_eq!((&found[..], page.more), (&expected[..], false));
    }

    #[test]
    fn pages_of_stored_tables_have_every_table_of_every_node_once() {
        // The tables of each node. `b` and `d` are in a store that both nodes share.
        let stored = [("ann", vec!["a", "b", "d"]), ("bob", vec!["b", "c", "d", "e", "f"])];
        let report = |ids: &[&str], after: &str, limit: usize| {
            let mut rest = ids.iter().filter(|id| **id > after);
            let tables: Vec<_> = rest
                .by_ref()
                .take(limit)
                .map(|id| StoredTableRow { id: (*id).to_owned(), ..StoredTableRow::default() })
                .collect();
            let next = rest.next().and_then(|_| tables.last()).map(|last| last.id.clone());
            StoredTablesReport { tables, next, error: None }
        };
        for limit in 1..8 {
            let (mut found, mut after) = (Vec::new(), String::new());
            loop {
                let reports =
                    stored.iter().map(|(name, ids)| node(name, report(ids, &after, limit))).collect();
                let page = stored_tables(reports, vec![], limit);
                assert!(page.tables.len() <= limit);
                found.extend(page.tables.into_iter().map(|table| (table.row.id, table.nodes.join(" "))));
                match page.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            let expected =
                [("a", "ann"), ("b", "ann bob"), ("c", "bob"), ("d", "ann bob"), ("e", "bob"), ("f", "bob")];
            assert_eq!(found, expected.map(|(id, nodes)| (id.to_owned(), nodes.to_owned())), "{limit}");
        }
    }

    #[test]
    fn a_node_that_cannot_list_its_tables_is_named_with_the_reason() {
        let failed =
            StoredTablesReport { error: Some("no response".into()), ..StoredTablesReport::default() };
        let page = stored_tables(vec![node("ann", failed)], vec!["sue".into()], 10);
        assert_eq!(page.errors, [("ann".to_owned(), "no response".to_owned())]);
        assert_eq!((page.tables.len(), page.next, page.missing), (0, None, vec!["sue".to_owned()]));
    }
}
