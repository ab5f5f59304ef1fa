//! Channels whose publications make a table.

use serde::Deserialize;
use tidings_wire::Channel;
use tidings_wire::channel::RESERVED_PREFIX;

use crate::raw::Raw;
use crate::setting::{Setting, quoted};

/// Most channels.
const MAX_FEEDS: usize = 64;
/// Most columns of a key.
const MAX_KEY: usize = 8;
/// Longest name of a column or a table, in bytes.
const MAX_NAME: usize = 200;
/// Largest `max_rows`: the memory of the keys of all tables (256 MiB) has room for 3,670,016 of one table, with 16 bytes for each key and
/// 32 for each place of a hash table, whose places double.
const MAX_ROWS: u64 = 3_500_000;

/// A channel whose publications make a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFeed {
    /// The channel, which is not internal.
    pub channel: String,
    /// The members of an object that identify its row, from 1 to 8.
    pub key: Vec<String>,
    /// The name of the table; empty: that of the channel.
    #[serde(default)]
    pub name: String,
    /// Most rows, from 1 to 3,500,000.
    #[serde(default = "default_max_rows")]
    pub max_rows: u64,
}

const fn default_max_rows() -> u64 {
    100_000
}

impl TableFeed {
    fn check(&self) -> Result<(), String> {
        let Self { channel, key, name, max_rows } = self;
        if let Err(error) = Channel::new(channel.as_str()) {
            return Err(format!("the channel {channel:?} is not valid: {error}"));
        }
        if channel.starts_with(RESERVED_PREFIX) {
            return Err(format!("the channel {channel:?} is internal"));
        }
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(format!(
                "the key of the channel {channel:?} has {} names, not 1 to {MAX_KEY}",
                key.len()
            ));
        }
        let is_wrong = |at: usize, column: &String| {
            column.is_empty() || column.len() > MAX_NAME || key[..at].contains(column)
        };
        if key.iter().enumerate().any(|(at, column)| is_wrong(at, column)) {
            return Err(format!(
                "the key of the channel {channel:?} has a name twice, or one without 1 to {MAX_NAME} bytes"
            ));
        }
        if name.len() > MAX_NAME || name.contains(|c: char| c.is_control() || c == '/') {
            return Err(format!(
                "the name of the table of the channel {channel:?} has more than {MAX_NAME} bytes, a slash or a control character"
            ));
        }
        if !(1..=MAX_ROWS).contains(max_rows) {
            return Err(format!(
                "max_rows of the channel {channel:?} is {max_rows}, not 1 to {MAX_ROWS}: the keys of all tables have 256 MiB of memory together"
            ));
        }
        Ok(())
    }
}

/// The channels whose publications make a table; no channel twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFeeds(Vec<TableFeed>);

impl TableFeeds {
    /// All channels.
    pub fn iter(&self) -> impl Iterator<Item = &TableFeed> {
        self.0.iter()
    }
}

/// A list of tables in a file, or JSON text anywhere; empty text is none.
impl Setting for TableFeeds {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        const EXAMPLE: &str = r#"[{"channel": "prices", "key": ["symbol"]}]"#;
        let list: Vec<TableFeed> = raw.to_list_of_tables(EXAMPLE)?;
        if list.len() > MAX_FEEDS {
            return Err(format!("expected at most {MAX_FEEDS} channels"));
        }
        for (at, feed) in list.iter().enumerate() {
            feed.check()?;
            if list[..at].iter().any(|other| other.channel == feed.channel) {
                return Err(format!("the channel {:?} is given twice", feed.channel));
            }
        }
        Ok(Self(list))
    }

    fn kind((): &()) -> String {
        "list of tables (elsewhere its JSON in text)".into()
    }

    fn toml(&self) -> Option<String> {
        let one = |TableFeed { channel, key, name, max_rows }: &TableFeed| {
            let key: Vec<_> = key.iter().map(|column| quoted(column)).collect();
            let (channel, key, name) = (quoted(channel), key.join(", "), quoted(name));
            format!("{{ channel = {channel}, key = [{key}], name = {name}, max_rows = {max_rows} }}")
        };
        Some(format!("[{}]", self.0.iter().map(one).collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TableFeeds, String> {
        TableFeeds::read(&Raw::Word(text.into()), &())
    }

    #[test]
    fn a_channel_with_a_key_makes_a_table() {
        let feeds = read(r#"[{"channel":"prices","key":["symbol","day"],"max_rows":5}]"#).unwrap();
        let expected = TableFeed {
            channel: "prices".into(),
            key: vec!["symbol".into(), "day".into()],
            name: String::new(),
            max_rows: 5,
        };
        assert_eq!(feeds.iter().collect::<Vec<_>>(), [&expected]);
        assert_eq!(
            feeds.toml().unwrap(),
            r#"[{ channel = "prices", key = ["symbol", "day"], name = "", max_rows = 5 }]"#
        );
        assert_eq!(read(""), Ok(TableFeeds::default()));
    }

    #[test]
    fn an_invalid_table_of_a_channel_is_refused_with_the_reason() {
        for (text, reason) in [
            ("{}", "expected a list"),
            (r#"[{"channel":"a"}]"#, "missing field `key`"),
            (r#"[{"channel":"a","key":[]}]"#, "has 0 names"),
            (r#"[{"channel":"a","key":["b","b"]}]"#, "a name twice"),
            (r#"[{"channel":"","key":["b"]}]"#, "is not valid"),
            (r#"[{"channel":"tidings.node.tables","key":["b"]}]"#, "is internal"),
            (r#"[{"channel":"a","key":["b"],"max_rows":0}]"#, "max_rows"),
            (r#"[{"channel":"a","key":["b"],"max_rows":3500001}]"#, "is 3500001, not 1 to 3500000: the keys"),
            (r#"[{"channel":"a","key":["b"],"name":"x/y"}]"#, "a slash"),
            (r#"[{"channel":"a","key":["b"]},{"channel":"a","key":["c"]}]"#, "given twice"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
