//! Sorts, filters by type and groups, compared with DuckDB on 240 generated queries.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tidings_table::{Choice, Control, Filter, Limits, Op, Query, Reading, SortBy, Writer};
use tidings_table_group::{Budget, Function, Group, Grouped, Measure};
use tidings_testkit::test_tool;

/// A file, and its columns with their types in SQL. The first column numbers the rows.
struct TestFile {
    name: &'static str,
    columns: &'static [(&'static str, &'static str)],
    text: String,
}

fn orders(random: &mut fastrand::Rng) -> TestFile {
    let columns: &[_] = &[
        ("id", "BIGINT"),
        ("city", "VARCHAR"),
        ("amount", "DECIMAL(18,2)"),
        ("ordered", "DATE"),
        ("paid", "BOOLEAN"),
        ("pieces", "BIGINT"),
    ];
    let cities = ["bern", "\"zug, centre\"", "são paulo", "osaka", "\"the \"\"old\"\" town\"", ""];
    let mut text = "id,city,amount,ordered,paid,pieces\n".to_owned();
    for id in 0..3_000 {
        let city = cities[random.usize(..cities.len())];
        let amount = match random.u8(..12) {
            0 => String::new(),
            _ => format!("{}.{:02}", random.i32(-500..5_000), random.u8(..100)),
        };
        let day = format!("20{:02}-{:02}-{:02}", random.u8(20..26), random.u8(1..13), random.u8(1..29));
        let day = if random.u8(..15) == 0 { String::new() } else { day };
        let paid = ["true", "false", "true", ""][random.usize(..4)];
        text += &format!("{id},{city},{amount},{day},{paid},{}\n", random.u8(..20));
    }
    TestFile { name: "orders", columns, text }
}

fn readings(random: &mut fastrand::Rng) -> TestFile {
    let columns: &[_] = &[
        ("id", "BIGINT"),
        ("station", "VARCHAR"),
        ("value", "DOUBLE"),
        ("day", "DATE"),
        ("valid", "BOOLEAN"),
        ("status", "BIGINT"),
    ];
    let mut text = "id,station,value,day,valid,status\n".to_owned();
    for id in 0..3_000 {
        let value = match random.u8(..10) {
            0 => String::new(),
            1 => format!("{:e}", random.f64() * 1e-7),
            _ => (random.f64() * 200.0 - 50.0).to_string(),
        };
        let station = format!("station {:02}", random.u8(..40));
        let valid = if random.bool() { "true" } else { "false" };
        let day = format!("2025-{:02}-{:02}", random.u8(1..13), random.u8(1..29));
        text +=
            &format!("{id},{station},{value},{day},{valid},{}\n", [200, 301, 404, 500][random.usize(..4)]);
    }
    TestFile { name: "readings", columns, text }
}

/// A query of the engine, and the same in SQL.
struct TestQuery {
    file: usize,
    query: Query,
    group: Option<Group>,
    sql: String,
}

fn literal(kind: &str, value: &str) -> String {
    match kind {
        "VARCHAR" => format!("'{}'", value.replace('\'', "''")),
        "DATE" => format!("DATE '{value}'"),
        _ => value.to_owned(),
    }
}

fn condition(file: &TestFile, random: &mut fastrand::Rng) -> (Filter, String) {
    let column = random.usize(1..file.columns.len());
    let (name, kind) = file.columns[column];
    let value = |random: &mut fastrand::Rng| match kind {
        "VARCHAR" => ["bern", "osaka", "station 07", "zug, centre"][random.usize(..4)].to_owned(),
        "DATE" => format!("20{:02}-{:02}-15", random.u8(20..26), random.u8(1..13)),
        "BOOLEAN" => random.bool().to_string(),
        "BIGINT" => [3, 10, 200, 404][random.usize(..4)].to_string(),
        _ => random.i32(-20..2_000).to_string(),
    };
    let (first, second) = (value(random), value(random));
    let (one, other) = (literal(kind, &first), literal(kind, &second));
    let is_ordered = !matches!(kind, "VARCHAR" | "BOOLEAN");
    let (op, others, sql) = match random.u8(if is_ordered { 0 } else { 4 }..8) {
        0 => (Op::Less, vec![], format!("{name} < {one}")),
        1 => (Op::LessOrEqual, vec![], format!("{name} <= {one}")),
        2 => (Op::Greater, vec![], format!("{name} > {one}")),
        3 => {
            let sql = format!("{name} BETWEEN least({one}, {other}) AND greatest({one}, {other})");
            (Op::Between, vec![second], sql)
        }
        4 => (Op::Equals, vec![], format!("{name} = {one}")),
        5 => (Op::In, vec![second], format!("{name} IN ({one}, {other})")),
        6 => (Op::Empty, vec![], format!("{name} IS NULL")),
        _ => (Op::Not, vec![], format!("{name} IS DISTINCT FROM {one}")),
    };
    (Filter { column, op, value: first, others }, sql)
}

fn queries(files: &[TestFile], random: &mut fastrand::Rng) -> Vec<TestQuery> {
    let functions =
        [Function::Count, Function::Sum, Function::Mean, Function::Min, Function::Max, Function::Distinct];
    let mut queries = Vec::new();
    for number in 0..240 {
        let index = number % files.len();
        let file = &files[index];
        let conditions: Vec<_> = (0..random.usize(..3)).map(|_| condition(file, random)).collect();
        let sql: Vec<&str> = conditions.iter().map(|(_, sql)| &**sql).collect();
        let filtered = if sql.is_empty() { String::new() } else { format!(" WHERE {}", sql.join(" AND ")) };
        let filter: Vec<Filter> = conditions.iter().map(|(filter, _)| filter.clone()).collect();
        if number % 2 == 0 {
            // Text has another order in the engine.
            let columns: Vec<usize> =
                (1..file.columns.len()).filter(|i| file.columns[*i].1 != "VARCHAR").collect();
            let sort: Vec<SortBy> = (0..random.usize(1..3))
                .map(|_| SortBy {
                    column: columns[random.usize(..columns.len())],
                    desc: random.bool(),
                    natural: false,
                })
                .collect();
            let order = sort.iter().map(|by| {
                format!("{} {} NULLS LAST", file.columns[by.column].0, if by.desc { "DESC" } else { "ASC" })
            });
            let order: Vec<String> = order.collect();
            queries.push(TestQuery {
                file: index,
                query: Query { sort, filter, ..Query::default() },
                group: None,
                sql: format!("SELECT id FROM {}{filtered} ORDER BY {}, id", file.name, order.join(", ")),
            });
            continue;
        }
        let mut by: Vec<usize> = [1, 3, 4, 5].into();
        random.shuffle(&mut by);
        by.truncate(random.usize(1..3));
        let measures = (0..random.usize(1..5)).map(|_| {
            let function = functions[random.usize(..functions.len())];
            let column = match function {
                Function::Count if random.bool() => None,
                Function::Sum | Function::Mean => Some([2, 5][random.usize(..2)]),
                _ => Some(random.usize(2..6)),
            };
            Measure { column, function }
        });
        let group = Group { by, measures: measures.collect(), chart: None }.checked().expect("valid");
        let names: Vec<&str> = group.by.iter().map(|column| file.columns[*column].0).collect();
        let measures = group.measures.iter().map(|measure| {
            let name = measure.column.map_or("*", |column| file.columns[column].0);
            match measure.function {
                Function::Count => format!("count({name})"),
                Function::Sum => format!("sum({name})"),
                Function::Mean => format!("avg({name})"),
                Function::Min => format!("min({name})"),
                Function::Max => format!("max({name})"),
                Function::Distinct => format!("count(DISTINCT {name})"),
            }
        });
        let measures: Vec<String> = measures.collect();
        let names = names.join(", ");
        queries.push(TestQuery {
            file: index,
            query: Query { filter, ..Query::default() },
            group: Some(group),
            sql: format!(
                "SELECT {names}, {} FROM {}{filtered} GROUP BY {names}",
                measures.join(", "),
                file.name
            ),
        });
    }
    queries
}

/// The result of the engine, as texts.
fn result(reading: &Arc<Reading>, query: &TestQuery) -> Vec<Vec<String>> {
    let texts = |page: tidings_table::Page, columns: usize| {
        let row =
            |row: tidings_table::Row| row.cells.into_iter().take(columns).map(|cell| cell.text).collect();
        page.rows.into_iter().map(row).collect()
    };
    match &query.group {
        None => {
            let view = reading.view(&query.query, Control::default()).expect(&query.sql);
            texts(view.page(0, usize::MAX).expect("a page"), 1)
        }
        Some(group) => {
            let view = Grouped::new(reading, &query.query, group, &Budget::default(), Control::default());
            texts(view.expect(&query.sql).window(0, usize::MAX, 0..usize::MAX), usize::MAX)
        }
    }
}

/// Whether two texts are the same value: numbers up to the rounding of doubles.
fn is_same(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-6),
        _ => a == b,
    }
}

#[test]
fn duckdb_gives_the_same_answers_to_generated_queries() {
    let mut random = fastrand::Rng::with_seed(11);
    let folder = TempDir::new().expect("a folder");
    let files = [orders(&mut random), readings(&mut random)];
    let (mut readings, mut described) = (Vec::new(), serde_json::Map::new());
    for file in &files {
        let path = folder.path().join(format!("{}.csv", file.name));
        std::fs::write(&path, &file.text).expect("written");
        described.insert(file.name.to_owned(), json!([path.to_str(), file.columns]));
        let table = folder.path().join(file.name);
        std::fs::create_dir(&table).expect("a folder");
        let mut writer =
            Writer::create(&table, Choice::hinted_by("a.csv"), Limits::default()).expect("a writer");
        writer.append(file.text.as_bytes()).expect("appended");
        writer.finish().expect("finished");
        readings.push(writer.table().reading());
    }
    let queries = queries(&files, &mut random);
    let sql: Vec<&str> = queries.iter().map(|query| &*query.sql).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tables/duckdb_answers.py");
    let mut duckdb = Command::new(test_tool("files").join("bin/python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    let mut input = duckdb.stdin.take().expect("a pipe");
    input.write_all(json!({"files": described, "queries": sql}).to_string().as_bytes()).expect("written");
    drop(input);
    let output = duckdb.wait_with_output().expect("an answer");
    let answers: Vec<Vec<Vec<String>>> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answers.len(), queries.len());
    for (query, mut expected) in queries.iter().zip(answers) {
        let mut found = result(&readings[query.file], query);
        if let Some(group) = &query.group {
            // The groups themselves identify the rows.
            let key = |row: &Vec<String>| row[..group.by.len()].to_vec();
            expected.sort_by_key(key);
            found.sort_by_key(key);
        }
        assert_eq!(found.len(), expected.len(), "{}", query.sql);
        for (found, expected) in found.iter().zip(&expected) {
            let same =
                found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| is_same(a, b));
            assert!(same, "{}\n{found:?}\n{expected:?}", query.sql);
        }
    }
}
