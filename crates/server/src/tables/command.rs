//! What a viewer may say, in text: a page's bare number as on the article's page, or JSON with one key.

use serde::de::{self, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tidings_table::{Choice, Encoding, Filter, Op, Query, SortBy};

use super::failure::Failure;
use super::pattern;

/// Most rows of a page, and of a private window.
pub(super) const MAX_ROWS: usize = 1_000;
/// Longest text to search for or to filter by, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// Longest name of a file that is kept, in bytes.
const MAX_NAME: usize = 255;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// A file follows in binary messages.
    Upload { name: String, size: Option<u64> },
    /// It is whole.
    UploadEnd,
    /// It is not wanted.
    UploadAbort,
    /// Everybody turns to this page, counted from 1.
    Page(u64),
    /// So many rows a page.
    PageSize(usize),
    /// In this order.
    Sort(Vec<Sort>),
    /// Only rows that meet all of these.
    Filter(Vec<Condition>),
    /// Only rows with this text; empty: all.
    Search(String),
    /// Some rows, for the asker alone.
    Rows { from: u64, count: usize },
    /// What is in the columns, for the asker alone.
    Facts,
    /// The file is to be read in another way.
    Dialect(Wish),
    /// Only the owner may upload, or turn pages and the like. What is not named stays.
    Lock { uploads: Option<bool>, view: Option<bool> },
    /// The table is to go.
    Delete,
}

/// A column to sort by, as messages and files have it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Sort {
    column: usize,
    #[serde(default)]
    desc: bool,
}

/// A condition on a column, as messages and files have it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Condition {
    column: usize,
    #[serde(deserialize_with = "op", serialize_with = "op_text")]
    op: Op,
    #[serde(default, deserialize_with = "text")]
    value: String,
}

/// How a file is to be read. Absent: as wished before; null: as the server guesses; an empty quote or escape: none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct Wish {
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    delimiter: Option<Option<String>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    quote: Option<Option<String>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    escape: Option<Option<String>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    header: Option<Option<bool>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    encoding: Option<Option<String>>,
}

impl Wish {
    /// This wish where it says something, else the one before.
    pub(super) fn after(self, before: &Self) -> Self {
        let Self { delimiter, quote, escape, header, encoding } = before.clone();
        Self {
            delimiter: self.delimiter.or(delimiter),
            quote: self.quote.or(quote),
            escape: self.escape.or(escape),
            header: self.header.or(header),
            encoding: self.encoding.or(encoding),
        }
    }

    /// The wish as the engine takes it, for a file of this name.
    ///
    /// # Errors
    /// 400: what is no character or no encoding.
    pub(super) fn choice(&self, name: &str, is_article: bool) -> Result<Choice, Failure> {
        let byte = |what: &str, text: &str| match *text.as_bytes() {
            [byte] => Ok(byte),
            _ => Err(Failure::bad(format!("{what} must be one ASCII character, got {text:?}"))),
        };
        let mark = |what, text: &Option<Option<String>>| match text {
            Some(Some(text)) if text.is_empty() => Ok(Some(None)),
            Some(Some(text)) => byte(what, text).map(|byte| Some(Some(byte))),
            _ => Ok(None),
        };
        let encoding = match &self.encoding {
            Some(Some(name)) => Some(Encoding::named(name).ok_or_else(|| {
                Failure::bad(format!(
                    "unknown encoding {name:?}; as browsers name them: utf-8, windows-1252, …"
                ))
            })?),
            _ => None,
        };
        let delimiter = match &self.delimiter {
            Some(Some(text)) => Some(byte("the delimiter", text)?),
            _ => None,
        };
        // What the article's page uploads are tab-separated values by definition; a wish still says otherwise.
        let known = if is_article { Choice::tab_separated() } else { Choice::hinted_by(name) };
        Ok(Choice {
            delimiter: delimiter.or(known.delimiter),
            quote: mark("the quote", &self.quote)?.or(known.quote),
            escape: mark("the escape", &self.escape)?.or(known.escape),
            header: self.header.flatten(),
            encoding,
            ..known
        })
    }
}

/// What is shown to everybody: which page of which rows in which order.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    /// Counted from 1.
    pub(super) page: u64,
    pub(super) page_size: usize,
    pub(super) sort: Vec<Sort>,
    pub(super) filter: Vec<Condition>,
    pub(super) search: String,
}

impl Default for Shown {
    fn default() -> Self {
        Self { page: 1, page_size: 100, sort: Vec::new(), filter: Vec::new(), search: String::new() }
    }
}

impl Shown {
    /// The rows that it asks the engine for; `header_is_row` as on the article's page.
    pub(super) fn query(&self, header_is_row: bool) -> Query {
        let sort = self.sort.iter().map(|by| SortBy { column: by.column, desc: by.desc });
        let filter = self.filter.iter().map(|condition| Filter {
            column: condition.column,
            op: condition.op,
            value: condition.value.clone(),
        });
        Query { sort: sort.collect(), filter: filter.collect(), search: self.search.clone(), header_is_row }
    }

    /// Whether it shows all rows as they come.
    pub(super) fn is_plain(&self) -> bool {
        self.sort.is_empty() && self.filter.is_empty() && self.search.is_empty()
    }

    /// Whether it shows the same rows in the same order, perhaps another page of them.
    pub(super) fn same_rows(&self, other: &Self) -> bool {
        (&self.sort, &self.filter, &self.search) == (&other.sort, &other.filter, &other.search)
    }

    /// The columns that it names, each with what for.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        self.sort.iter().map(|by| by.column).chain(self.filter.iter().map(|condition| condition.column))
    }

    /// How many pages so many rows make; one at least.
    pub(super) fn pages(&self, total: u64) -> u64 {
        total.div_ceil(self.page_size as u64).max(1)
    }
}

/// The form of messages.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Upload {
        #[serde(default)]
        name: String,
        size: Option<u64>,
    },
    UploadEnd(IgnoredAny),
    UploadAbort(IgnoredAny),
    Page(Value),
    PageSize(Value),
    Sort(Vec<Sort>),
    Filter(Vec<Condition>),
    Search(String),
    Rows {
        from: u64,
        count: u64,
    },
    Facts(IgnoredAny),
    Dialect(Wish),
    Lock {
        uploads: Option<bool>,
        view: Option<bool>,
    },
    Delete(IgnoredAny),
}

/// Reads a text message.
///
/// # Errors
/// 400, with what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Command, Failure> {
    let text = text.trim();
    if !text.starts_with('{') {
        // serde_json reads `007` and `+3` as no numbers, but a person who types them means some.
        let digits = text.trim_start_matches(['+', '-']);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return page(text.parse().ok());
        }
        return Err(Failure::bad("expected a page's number, or a JSON object such as {\"page\":3}"));
    }
    let message =
        serde_json::from_str(text).map_err(|error| Failure::bad(format!("bad message: {error}")))?;
    Ok(match message {
        Message::Upload { name, size } => Command::Upload { name: tidy(&name), size },
        Message::UploadEnd(_) => Command::UploadEnd,
        Message::UploadAbort(_) => Command::UploadAbort,
        Message::Page(number) => page(number.as_u64())?,
        Message::PageSize(number) => Command::PageSize(rows("page_size", number.as_u64())?),
        Message::Sort(sort) => Command::Sort(few("sort", sort, Query::SORTS)?),
        Message::Filter(filter) => {
            if filter.iter().any(|condition| condition.value.len() > MAX_TEXT) {
                return Err(Failure::bad(format!("a filter's value may have {MAX_TEXT} bytes")));
            }
            let filter = few("filter", filter, Query::FILTERS)?;
            filter.iter().try_for_each(|condition| pattern::check(condition.op, &condition.value))?;
            Command::Filter(filter)
        }
        Message::Search(search) if search.len() > MAX_TEXT => {
            return Err(Failure::bad(format!("a search may have {MAX_TEXT} bytes")));
        }
        Message::Search(search) => {
            pattern::check(Op::Contains, &search)?;
            Command::Search(search)
        }
        Message::Rows { from, count } => Command::Rows { from, count: rows("count", Some(count))? },
        Message::Facts(_) => Command::Facts,
        Message::Dialect(wish) => {
            wish.choice("", false)?;
            Command::Dialect(wish)
        }
        Message::Lock { uploads, view } => Command::Lock { uploads, view },
        Message::Delete(_) => Command::Delete,
    })
}

/// Whether a text message is meant to begin an upload, even if it cannot be read.
pub(super) fn is_upload(text: &str) -> bool {
    let key = text.trim_start().strip_prefix('{').map(str::trim_start);
    key.is_some_and(|key| key.starts_with("\"upload\""))
}

fn page(number: Option<u64>) -> Result<Command, Failure> {
    match number {
        Some(number @ 1..) => Ok(Command::Page(number)),
        _ => Err(Failure::bad("pages are counted from 1")),
    }
}

/// A number of rows that may be shown at once.
pub(super) fn rows(what: &str, number: Option<u64>) -> Result<usize, Failure> {
    let number = number.and_then(|number| usize::try_from(number).ok());
    match number {
        Some(number) if (1..=MAX_ROWS).contains(&number) => Ok(number),
        _ => Err(Failure::bad(format!("{what} must be from 1 to {MAX_ROWS} rows"))),
    }
}

fn few<T>(what: &str, list: Vec<T>, most: usize) -> Result<Vec<T>, Failure> {
    if list.len() <= most { Ok(list) } else { Err(Failure::bad(format!("{what} may have {most} entries"))) }
}

/// A file's name as it is shown and offered for downloads: without folders and control characters, and cut.
fn tidy(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = name.chars().filter(|character| !character.is_control()).collect();
    while name.len() > MAX_NAME {
        name.pop();
    }
    name
}

fn op<'de, D: Deserializer<'de>>(from: D) -> Result<Op, D::Error> {
    let word = String::deserialize(from)?;
    word.parse().map_err(|unknown| de::Error::custom(format_args!("op {unknown}, got {word:?}")))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn op_text<S: serde::Serializer>(op: &Op, into: S) -> Result<S::Ok, S::Error> {
    into.serialize_str(op.as_str())
}

/// Text, or a number or boolean as JSON writes it.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        _ => Err(de::Error::custom("a filter's value must be text")),
    }
}

/// Tells null from what is absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let failure = parse(text).expect_err(text);
        assert_eq!(failure.code, 400, "{text}");
        failure.message
    }

    #[test]
    fn every_message_of_the_contract_is_understood() {
        let by = |column, desc| Sort { column, desc };
        let condition = Condition { column: 2, op: Op::Contains, value: "x".into() };
        for (text, command) in [
            (
                r#"{"upload":{"name":"a.tsv","size":123}}"#,
                Command::Upload { name: "a.tsv".into(), size: Some(123) },
            ),
            (r#"{"upload":{}}"#, Command::Upload { name: String::new(), size: None }),
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
            (r#"{"filter":[{"column":2,"op":"contains","value":"x"}]}"#, Command::Filter(vec![condition])),
            (r#"{"search":"text"}"#, Command::Search("text".into())),
            (r#"{"rows":{"from":1000,"count":100}}"#, Command::Rows { from: 1000, count: 100 }),
            (r#"{"lock":{"uploads":true}}"#, Command::Lock { uploads: Some(true), view: None }),
            (r#"{"delete":{}}"#, Command::Delete),
        ] {
            assert_eq!(parse(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_the_reason() {
        for text in ["", "x", "3.5", "0", "-1", "99999999999999999999", "[1]", "{", "{}", r#"{"page":"3"}"#] {
            refused(text);
        }
        assert!(refused(r#"{"pages":3}"#).contains("unknown variant `pages`, expected one of"));
        assert!(refused(r#"{"rows":{"from":0,"count":1001}}"#).contains("from 1 to 1000"));
        assert!(refused(r#"{"page_size":0}"#).contains("from 1 to 1000"));
        assert!(refused(r#"{"filter":[{"column":0,"op":"like"}]}"#).contains("op must be contains, equals"));
        assert!(refused(r#"{"dialect":{"delimiter":"ab"}}"#).contains("one ASCII character"));
        assert!(refused(r#"{"dialect":{"encoding":"klingon"}}"#).contains("unknown encoding"));
        assert!(refused(&format!(r#"{{"search":"{}"}}"#, "x".repeat(5000))).contains("4096 bytes"));
    }

    #[test]
    fn a_file_s_name_has_no_folders_and_no_control_characters() {
        let named = |name: &str| match parse(&serde_json::json!({"upload": {"name": name}}).to_string()) {
            Ok(Command::Upload { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(named("../../etc/pass\nwd"), "passwd");
        assert_eq!(named(r"C:\files\a.tsv"), "a.tsv");
        assert_eq!(named(&"ü".repeat(200)).len(), 254);
    }

    #[test]
    fn a_wish_adds_to_the_one_before_and_null_takes_it_back() {
        let wish = |text: &str| match parse(text) {
            Ok(Command::Dialect(wish)) => wish,
            other => panic!("{other:?}"),
        };
        let first = wish(r#"{"dialect":{"delimiter":";","quote":"","encoding":"latin1"}}"#);
        let choice = first.choice("a.csv", false).expect("a choice");
        assert_eq!((choice.delimiter, choice.quote), (Some(b';'), Some(None)));
        assert_eq!(choice.encoding.map(Encoding::name), Some("windows-1252"));
        let second = wish(r#"{"dialect":{"delimiter":null,"header":true}}"#).after(&first);
        let choice = second.choice("a.tsv", false).expect("a choice");
        assert_eq!((choice.delimiter, choice.header, choice.quote), (None, Some(true), Some(None)));
        assert_eq!(choice.hint, Some(b'\t'));
    }
}
