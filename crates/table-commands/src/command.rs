//! Text messages of viewers: the number of a page, as on the article's page, or a JSON object with one key.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tidings_table::Query;
use tidings_table_group::{Group, MAX_BY};
use tidings_table_store::{ColumnLayout, Condition, DialectOptions, Sort};

use crate::InvalidCommand;
use crate::checks::{
    MAX_NAME, checked_filter, checked_key, checked_search, column_range, limited, rows, sanitize_name,
    types_of,
};
use crate::condition::MAX_QUERY_TEXT;
use crate::layout;
use crate::people::{Cursor, CursorMessage};
use crate::private::PrivateMessage;

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A file follows in binary messages.
    Upload(UploadOptions),
    /// The upload is complete.
    UploadEnd,
    /// The upload is aborted.
    UploadAbort,
    /// Turn to this page, counted from 1.
    Page(u64),
    /// The number of rows of a page.
    PageSize(usize),
    /// Sort by these columns.
    Sort(Vec<Sort>),
    /// Show only rows that meet all conditions.
    Filter(Vec<Condition>),
    /// Show only rows with this text; empty: all rows.
    Search(String),
    /// Whether searches also find letters with other accents.
    IgnoreAccents(bool),
    /// A private window of rows, for the sender alone.
    Rows {
        /// The position of the first row in the view.
        from: u64,
        /// The number of rows.
        count: usize,
        /// The columns; `None`: the first ones.
        columns: Option<Range<usize>>,
        /// Whether the rows are those of the sender's private view.
        private: bool,
    },
    /// Column facts, for the sender alone.
    Facts,
    /// Set the name of the sender; empty: a random one.
    Me(String),
    /// Move the cursor of the sender; `None`: hide it.
    Cursor(Option<Cursor>),
    /// Group the rows; `None`: show the rows of the file.
    Group(Option<Group>),
    /// Show the rows of the group with these cells, in the order of the columns that the rows are grouped by.
    Drill(Vec<String>),
    /// Set the layout of the columns; `None`: all of them in the order of the file.
    Columns(Option<ColumnLayout>),
    /// Replace the private view of the sender; `None`: end it.
    Private(Option<Box<PrivateMessage>>),
    /// Make the private view of the sender the shared one.
    SharePrivate,
    /// Exchange the file and the one that it replaced.
    Restore,
    /// Undo the last change of the shared view.
    Undo,
    /// Repeat the change that was undone last.
    Redo,
    /// Set the types of these columns; `None`: detected. An empty map resets all types.
    Types(BTreeMap<usize, Option<String>>),
    /// Read the file in another dialect.
    Dialect(DialectOptions),
    /// The columns with these names are the key of a row; empty: none.
    Key(Vec<String>),
    /// Restrict uploads, or changes of the view, to the owner. An absent lock is unchanged.
    Lock {
        /// Whether uploads are restricted.
        uploads: Option<bool>,
        /// Whether changes of the view are restricted.
        view: Option<bool>,
    },
    /// Delete the table.
    Delete,
    /// Claim ownership with the owner's secret.
    Owner(String),
    /// Present a connection token.
    Token(String),
}

/// The announcement of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    /// The file name, without folders and control characters, at most 255 bytes.
    pub name: String,
    /// The size in bytes.
    pub size: Option<u64>,
    /// Whether the file is text, whatever its bytes look like.
    pub is_text: bool,
    /// The names of the columns that are the key of its rows; `None`: as the table has it.
    pub key: Option<Vec<String>>,
}

/// The JSON form of commands.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum CommandMessage {
    Upload {
        #[serde(default)]
        name: String,
        size: Option<u64>,
        #[serde(default)]
        text: bool,
        key: Option<Vec<String>>,
    },
    UploadEnd(IgnoredAny),
    UploadAbort(IgnoredAny),
    Page(Value),
    PageSize(Value),
    Sort(Vec<Sort>),
    Filter(Vec<Condition>),
    Search(String),
    IgnoreAccents(bool),
    Rows {
        from: u64,
        count: u64,
        columns: Option<ColumnsMessage>,
        #[serde(default)]
        private: bool,
    },
    Facts(IgnoredAny),
    Me {
        #[serde(default)]
        name: String,
    },
    Cursor(Option<CursorMessage>),
    Group(Option<Group>),
    Drill(Vec<String>),
    Columns(Option<ColumnLayout>),
    Private(Option<Box<PrivateMessage>>),
    SharePrivate(IgnoredAny),
    Restore(IgnoredAny),
    Undo(IgnoredAny),
    Redo(IgnoredAny),
    Types(BTreeMap<usize, Option<String>>),
    Dialect(DialectOptions),
    Key(Vec<String>),
    Sheet(Option<String>),
    Lock {
        uploads: Option<bool>,
        view: Option<bool>,
    },
    Delete(IgnoredAny),
    Owner(String),
    Token(String),
}

/// A range of columns.
#[derive(Clone, Copy, Deserialize)]
struct ColumnsMessage {
    from: usize,
    count: usize,
}

/// Parses a text message.
///
/// # Errors
/// With the problem.
pub fn parse(text: &str) -> Result<Command, InvalidCommand> {
    let text = text.trim();
    if !text.starts_with('{') {
        // serde_json rejects `007` and `+3`, which users type as numbers.
        let digits = text.trim_start_matches(['+', '-']);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return page(text.parse().ok());
        }
        return Err(InvalidCommand::new("expected a page's number, or a JSON object such as {\"page\":3}"));
    }
    let message =
        serde_json::from_str(text).map_err(|error| InvalidCommand::new(format!("bad message: {error}")))?;
    Ok(match message {
        CommandMessage::Upload { name, size, text, key } => {
            let key = key.map(checked_key).transpose()?;
            Command::Upload(UploadOptions { name: sanitize_name(&name), size, is_text: text, key })
        }
        CommandMessage::UploadEnd(_) => Command::UploadEnd,
        CommandMessage::UploadAbort(_) => Command::UploadAbort,
        CommandMessage::Page(number) => page(number.as_u64())?,
        CommandMessage::PageSize(number) => Command::PageSize(rows("page_size", number.as_u64())?),
        CommandMessage::Sort(sort) => Command::Sort(limited("sort", sort, Query::SORTS)?),
        CommandMessage::Filter(filter) => Command::Filter(checked_filter(filter)?),
        CommandMessage::Search(search) => Command::Search(checked_search(search)?),
        CommandMessage::IgnoreAccents(is) => Command::IgnoreAccents(is),
        CommandMessage::Rows { from, count, columns, private } => {
            let columns =
                columns.map(|ColumnsMessage { from, count }| column_range(from, count)).transpose()?;
            Command::Rows { from, count: rows("count", Some(count))?, columns, private }
        }
        CommandMessage::Private(private) => {
            Command::Private(private.map(|private| private.checked().map(Box::new)).transpose()?)
        }
        CommandMessage::Columns(layout) => {
            layout.iter().try_for_each(layout::check)?;
            Command::Columns(layout)
        }
        CommandMessage::Group(group) => Command::Group(group.map(Group::checked).transpose()?),
        CommandMessage::Drill(cells) => {
            let cells = limited("drill", cells, MAX_BY)?;
            if cells.iter().any(|cell| cell.len() > MAX_QUERY_TEXT) {
                return Err(InvalidCommand::new(format!("a cell of drill may have {MAX_QUERY_TEXT} bytes")));
            }
            Command::Drill(cells)
        }
        CommandMessage::SharePrivate(_) => Command::SharePrivate,
        CommandMessage::Restore(_) => Command::Restore,
        CommandMessage::Undo(_) => Command::Undo,
        CommandMessage::Redo(_) => Command::Redo,
        CommandMessage::Me { name } => Command::Me(name),
        CommandMessage::Cursor(cursor) => Command::Cursor(cursor.map(Cursor::try_from).transpose()?),
        CommandMessage::Facts(_) => Command::Facts,
        CommandMessage::Types(types) => Command::Types(types_of(types)?),
        CommandMessage::Dialect(dialect) => {
            dialect.choice("", false)?;
            Command::Dialect(dialect)
        }
        CommandMessage::Key(key) => Command::Key(checked_key(key)?),
        CommandMessage::Sheet(name) => {
            if name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
                return Err(InvalidCommand::new(format!("the name of a sheet may have {MAX_NAME} bytes")));
            }
            Command::Dialect(DialectOptions::of_sheet(name))
        }
        CommandMessage::Lock { uploads, view } => Command::Lock { uploads, view },
        CommandMessage::Delete(_) => Command::Delete,
        CommandMessage::Owner(secret) => Command::Owner(secret),
        CommandMessage::Token(token) => Command::Token(token),
    })
}

/// Whether a text message is an upload command, even if it is invalid.
pub fn is_upload(text: &str) -> bool {
    let key = text.trim_start().strip_prefix('{').map(str::trim_start);
    key.is_some_and(|key| key.starts_with("\"upload\""))
}

fn page(number: Option<u64>) -> Result<Command, InvalidCommand> {
    match number {
        Some(number @ 1..) => Ok(Command::Page(number)),
        _ => Err(InvalidCommand::new("pages are counted from 1")),
    }
}

#[cfg(test)]
mod tests {
    use tidings_table::{Encoding, Op};
    use tidings_table_group::{Chart, Function, Measure};
    use tidings_table_store::ViewSettings;

    use super::*;

    fn refused(text: &str) -> String {
        let failure = parse(text).expect_err(text);
        failure.0
    }

    #[test]
    fn every_message_of_the_protocol_is_parsed() {
        let by = |column, desc| Sort { column, desc, natural: false };
        let condition = Condition::new(2, Op::Contains, "x");
        for (text, command) in [
            (
                r#"{"upload":{"name":"a.tsv","size":123}}"#,
                Command::Upload(UploadOptions {
                    name: "a.tsv".into(),
                    size: Some(123),
                    ..UploadOptions::default()
                }),
            ),
            (r#"{"upload":{}}"#, Command::Upload(UploadOptions::default())),
            (
                r#"{"upload":{"text":true}}"#,
                Command::Upload(UploadOptions { is_text: true, ..UploadOptions::default() }),
            ),
            (
                r#"{"upload":{"key":["id"]}}"#,
                Command::Upload(UploadOptions { key: Some(vec!["id".into()]), ..UploadOptions::default() }),
            ),
            (r#"{"key":["id","day"]}"#, Command::Key(vec!["id".into(), "day".into()])),
            (r#"{"upload_end":{}}"#, Command::UploadEnd),
            (r#"{"upload_abort":{}}"#, Command::UploadAbort),
            ("3", Command::Page(3)),
            (" 12\n", Command::Page(12)),
            (r#"{"page":3}"#, Command::Page(3)),
            (r#"{"page_size":100}"#, Command::PageSize(100)),
            (
                r#"{"sort":[{"column":0,"desc":true},{"column":1}]}"#,
                Command::Sort(vec![by(0, true), by(1, false)]),
            ),
            (
                r#"{"sort":[{"column":0,"natural":true}]}"#,
                Command::Sort(vec![Sort { natural: true, ..by(0, false) }]),
            ),
            (
                r#"{"types":{"3":"date:d/m/Y","4":null,"5":"auto"}}"#,
                Command::Types(BTreeMap::from([(3, Some("date:d/m/Y".into())), (4, None), (5, None)])),
            ),
            (r#"{"filter":[{"column":2,"op":"contains","value":"x"}]}"#, Command::Filter(vec![condition])),
            (r#"{"search":"text"}"#, Command::Search("text".into())),
            (r#"{"ignore_accents":true}"#, Command::IgnoreAccents(true)),
            (
                r#"{"rows":{"from":1000,"count":100}}"#,
                Command::Rows { from: 1000, count: 100, columns: None, private: false },
            ),
            (
                r#"{"rows":{"from":1000,"count":100,"columns":{"from":200,"count":50}}}"#,
                Command::Rows { from: 1000, count: 100, columns: Some(200..250), private: false },
            ),
            (
                r#"{"rows":{"from":0,"count":1,"private":true}}"#,
                Command::Rows { from: 0, count: 1, columns: None, private: true },
            ),
            (r#"{"columns":null}"#, Command::Columns(None)),
            (
                r#"{"group":{"by":[0],"measures":[{"column":3,"fn":"sum"}],"chart":"bar"}}"#,
                Command::Group(Some(Group {
                    by: vec![0],
                    measures: vec![Measure { column: Some(3), function: Function::Sum }],
                    chart: Some(Chart::Bar),
                })),
            ),
            (r#"{"group":null}"#, Command::Group(None)),
            (r#"{"drill":["Bern",""]}"#, Command::Drill(vec!["Bern".into(), String::new()])),
            (
                r#"{"columns":{"order":[2,0],"frozen":1}}"#,
                Command::Columns(Some(ColumnLayout {
                    order: vec![2, 0],
                    frozen: 1,
                    ..ColumnLayout::default()
                })),
            ),
            (r#"{"private":null}"#, Command::Private(None)),
            (r#"{"private":{}}"#, Command::Private(Some(Box::default()))),
            (
                r#"{"private":{"search":"x","page":3,"group":{"by":[1]}}}"#,
                Command::Private(Some(Box::new(PrivateMessage {
                    search: "x".into(),
                    page: Some(3),
                    group: Some(Group {
                        by: vec![1],
                        measures: vec![Measure { column: None, function: Function::Count }],
                        chart: None,
                    }),
                    ..PrivateMessage::default()
                }))),
            ),
            (r#"{"share_private":{}}"#, Command::SharePrivate),
            (r#"{"restore":{}}"#, Command::Restore),
            (r#"{"undo":{}}"#, Command::Undo),
            (r#"{"redo":{}}"#, Command::Redo),
            (r#"{"me":{"name":"Ann"}}"#, Command::Me("Ann".into())),
            (r#"{"cursor":null}"#, Command::Cursor(None)),
            (
                r#"{"cursor":{"row":120,"column":3,"to_row":140,"to_column":5}}"#,
                Command::Cursor(Some(Cursor { row: 120, column: 3, to_row: 140, to_column: 5 })),
            ),
            (r#"{"lock":{"uploads":true}}"#, Command::Lock { uploads: Some(true), view: None }),
            (r#"{"delete":{}}"#, Command::Delete),
            (r#"{"owner":"secret"}"#, Command::Owner("secret".into())),
            (r#"{"token":"a.b.c"}"#, Command::Token("a.b.c".into())),
        ] {
            assert_eq!(parse(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn an_invalid_message_is_rejected_with_the_reason() {
        for text in ["", "x", "3.5", "0", "-1", "99999999999999999999", "[1]", "{", "{}", r#"{"page":"3"}"#] {
            refused(text);
        }
        assert!(refused(r#"{"pages":3}"#).contains("unknown variant `pages`, expected one of"));
        assert!(refused(r#"{"rows":{"from":0,"count":1001}}"#).contains("from 1 to 1000"));
        for columns in [
            r#"{"from":0,"count":0}"#,
            r#"{"from":0,"count":1001}"#,
            r#"{"from":18446744073709551615,"count":1}"#,
        ] {
            let text = format!(r#"{{"rows":{{"from":0,"count":1,"columns":{columns}}}}}"#);
            assert!(refused(&text).contains("from 1 to 1000"), "{text}");
        }
        assert!(refused(r#"{"private":{"page_size":0}}"#).contains("from 1 to 1000"));
        assert!(refused(r#"{"private":{"page":0}}"#).contains("from 1"));
        assert!(refused(r#"{"group":{"by":[]}}"#).contains("from 1 to 8 columns"));
        assert!(refused(r#"{"private":{"group":{"by":[0,0]}}}"#).contains("column 0 twice"));
        assert!(
            refused(r#"{"group":{"by":[0],"measures":[{"fn":"median"}]}}"#)
                .contains("unknown variant `median`")
        );
        assert!(refused(&format!(r#"{{"drill":["{}"]}}"#, "x".repeat(5_000))).contains("4096 bytes"));
        assert!(refused(r#"{"key":["a","b","a"]}"#).contains("\"a\" twice"));
        assert!(refused(r#"{"page_size":0}"#).contains("from 1 to 1000"));
        assert!(refused(r#"{"filter":[{"column":0,"op":"like"}]}"#).contains("op must be contains, equals"));
        assert!(refused(r#"{"types":{"0":"money"}}"#).contains("the type of column 0 must be text, number"));
        assert!(refused(r#"{"types":{"x":"date"}}"#).contains("bad message"));
        assert!(refused(r#"{"dialect":{"skip":-1}}"#).contains("bad message"));
        assert!(refused(r#"{"dialect":{"delimiter":"ab"}}"#).contains("one ASCII character"));
        assert!(refused(r#"{"dialect":{"encoding":"klingon"}}"#).contains("unknown encoding"));
        assert!(refused(&format!(r#"{{"search":"{}"}}"#, "x".repeat(5000))).contains("4096 bytes"));
    }

    #[test]
    fn a_file_s_name_has_no_folders_and_no_control_characters() {
        let named = |name: &str| match parse(&serde_json::json!({"upload": {"name": name}}).to_string()) {
            Ok(Command::Upload(UploadOptions { name, .. })) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(named("../../etc/pass\nwd"), "passwd");
        assert_eq!(named(r"C:\files\a.tsv"), "a.tsv");
        assert_eq!(named(&"ü".repeat(200)).len(), 254);
    }

    #[test]
    fn dialect_options_accumulate_and_null_resets_them() {
        let dialect = |text: &str| match parse(text) {
            Ok(Command::Dialect(dialect)) => dialect,
            other => panic!("{other:?}"),
        };
        let first = dialect(r#"{"dialect":{"delimiter":";","quote":"","encoding":"latin1"}}"#);
        let choice = first.choice("a.csv", false).expect("a choice");
        assert_eq!((choice.delimiter, choice.quote), (Some(b';'), Some(None)));
        assert_eq!(choice.encoding.map(Encoding::name), Some("windows-1252"));
        let second = dialect(r#"{"dialect":{"delimiter":null,"header":true}}"#).after(&first);
        let choice = second.choice("a.tsv", false).expect("a choice");
        assert_eq!((choice.delimiter, choice.header, choice.quote), (None, Some(true), Some(None)));
        assert_eq!(choice.hint, Some(b'\t'));
        let third =
            dialect(r#"{"dialect":{"skip":2,"escape":"\\","delimiter":"\\t","skip_initial_space":true}}"#)
                .after(&second);
        let choice = third.choice("a.csv", false).expect("a choice");
        assert_eq!((choice.skip, choice.escape, choice.delimiter), (Some(2), Some(Some(b'\\')), Some(b'\t')));
        assert_eq!((choice.skips_spaces, choice.quote), (Some(true), Some(None)));
        // Files of the article's page have no lines above the rows.
        assert_eq!(DialectOptions::default().choice("", true).expect("a choice").skip, Some(0));
    }

    #[test]
    fn types_are_set_one_by_one_and_reset_together() {
        let changes = |text: &str| match parse(text) {
            Ok(Command::Types(changes)) => changes,
            other => panic!("{other:?}"),
        };
        let mut shown = ViewSettings::default();
        for (text, expected) in [
            (r#"{"types":{"3":"date:m/d/Y"}}"#, vec![(3, "date:m/d/Y")]),
            (r#"{"types":{"1":"text"}}"#, vec![(1, "text"), (3, "date:m/d/Y")]),
            (r#"{"types":{"3":null}}"#, vec![(1, "text")]),
            (r#"{"types":{}}"#, vec![]),
        ] {
            shown.types = shown.types_with(changes(text));
            let expected: BTreeMap<usize, String> =
                expected.into_iter().map(|(column, name)| (column, name.to_owned())).collect();
            assert_eq!(shown.types, expected, "{text}");
        }
        // A record of a version without types.
        let old = r#"{"page":1,"page_size":10,"sort":[{"column":0,"desc":true}],"filter":[],"search":""}"#;
        let old: ViewSettings = serde_json::from_str(old).expect("a record");
        assert!(old.types.is_empty() && old.query(false).sort[0].desc);
    }
}
