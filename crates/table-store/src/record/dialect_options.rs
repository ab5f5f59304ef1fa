//! The requested dialect of a file: delimiter, quotes, header, encoding.

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use tidings_table::{Choice, Encoding};

/// The requested dialect. Absent: unchanged; null: detected; an empty quote or escape: none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct DialectOptions {
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    delimiter: Option<Option<String>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    quote: Option<Option<String>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    escape: Option<Option<String>>,
    /// Whether spaces before a cell are skipped.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    skip_initial_space: Option<Option<bool>>,
    /// The number of lines above the header.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    skip: Option<Option<u64>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    header: Option<Option<bool>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    encoding: Option<Option<String>>,
    /// Whether a file that looks like a binary one is read as text.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    text: Option<Option<bool>>,
    /// The sheet of a workbook.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    sheet: Option<Option<String>>,
}

/// An invalid value. The text names it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidDialect(String);

impl DialectOptions {
    /// The options of an upload that is text, whatever its bytes look like.
    pub fn text() -> Self {
        Self { text: Some(Some(true)), ..Self::default() }
    }

    /// The options of another sheet, whose header is detected again; `None`: the first visible sheet.
    pub fn of_sheet(name: Option<String>) -> Self {
        Self { sheet: Some(name), skip: Some(None), header: Some(None), ..Self::default() }
    }

    /// Completes these options by earlier ones.
    pub fn after(self, before: &Self) -> Self {
        let Self { delimiter, quote, escape, skip_initial_space, skip, header, encoding, text, sheet } =
            before.clone();
        Self {
            delimiter: self.delimiter.or(delimiter),
            quote: self.quote.or(quote),
            escape: self.escape.or(escape),
            skip_initial_space: self.skip_initial_space.or(skip_initial_space),
            skip: self.skip.or(skip),
            header: self.header.or(header),
            encoding: self.encoding.or(encoding),
            text: self.text.or(text),
            sheet: self.sheet.or(sheet),
        }
    }

    /// The dialect choice for the engine, for a file of this name.
    ///
    /// # Errors
    /// A value that is not an ASCII character, or an unknown encoding.
    pub fn choice(&self, name: &str, is_article: bool) -> Result<Choice, InvalidDialect> {
        let byte = |what: &str, text: &str| match *text.as_bytes() {
            [byte] => Ok(byte),
            // Users type a tab as `\t`.
            [b'\\', b't'] => Ok(b'\t'),
            _ => Err(InvalidDialect(format!("{what} must be one ASCII character, got {text:?}"))),
        };
        let mark = |what, text: &Option<Option<String>>| match text {
            Some(Some(text)) if text.is_empty() => Ok(Some(None)),
            Some(Some(text)) => byte(what, text).map(|byte| Some(Some(byte))),
            _ => Ok(None),
        };
        let encoding = match &self.encoding {
            Some(Some(name)) => Some(Encoding::named(name).ok_or_else(|| {
                InvalidDialect(format!(
                    "unknown encoding {name:?}; use the names of browsers: utf-8, windows-1252, …"
                ))
            })?),
            _ => None,
        };
        let delimiter = match &self.delimiter {
            Some(Some(text)) => Some(byte("the delimiter", text)?),
            _ => None,
        };
        // Uploads on the article's page are tab-separated by definition, unless the options differ.
        let known = if is_article { Choice::tab_separated() } else { Choice::hinted_by(name) };
        Ok(Choice {
            delimiter: delimiter.or(known.delimiter),
            quote: mark("the quote", &self.quote)?.or(known.quote),
            escape: mark("the escape", &self.escape)?.or(known.escape),
            skips_spaces: self.skip_initial_space.flatten().or(known.skips_spaces),
            skip: self.skip.flatten().or(known.skip),
            header: self.header.flatten(),
            encoding,
            is_text: self.text.flatten().unwrap_or(false),
            sheet: self.sheet.as_ref().and_then(|sheet| sheet.as_deref()).map(Into::into),
            ..known
        })
    }
}

/// Distinguishes null from an absent value.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}
