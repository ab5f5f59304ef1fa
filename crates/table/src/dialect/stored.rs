//! The dialect that was found when a file was complete, stored beside the file. So appended rows, a restart or another
//! node do not change how earlier rows are read.
//!
//! It is a text with one line per property, such as `delimiter 59`. An invalid file (a crash of the machine may leave
//! an empty one) is ignored, and the dialect is guessed again.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::{Choice, Dialect, LineEnd};
use crate::syntax::Syntax;
use crate::{Compression, Encoding, Evidence, FileFormat};

/// The name of the file with the stored dialect, in the folder of a table. A copy of a table includes both files.
pub const DIALECT: &str = "dialect";

/// The first line, with the version of the format.
const FORM: &str = "dialect 3";

/// The previous version, of delimited text alone.
const TEXT_FORM: &str = "dialect 2";

/// The version before, without lines above the table.
const OLD_FORM: &str = "dialect 1";

/// The largest accepted file in bytes; a file has about 200.
const MOST_BYTES: u64 = 4096;

/// A stored dialect and the circumstances of the guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredDialect {
    pub(crate) dialect: Dialect,
    /// The properties that were chosen, not found.
    pub(crate) given: ChosenFields,
    /// The number of decompressed bytes that were examined. A guess for another choice examines the same bytes.
    pub(crate) looked: u64,
    /// Whether there was at most one row, so that the header is not determined yet.
    pub(crate) header_open: bool,
}

/// The chosen properties of a dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChosenFields {
    delimiter: bool,
    quote: bool,
    escape: bool,
    skip: bool,
    header: bool,
    encoding: bool,
    sheet: bool,
}

impl ChosenFields {
    pub(crate) const fn by(choice: &Choice) -> Self {
        Self {
            delimiter: choice.delimiter.is_some(),
            quote: choice.quote.is_some(),
            escape: choice.escape.is_some(),
            skip: choice.skip.is_some(),
            header: choice.header.is_some(),
            encoding: choice.encoding.is_some(),
            sheet: choice.sheet.is_some(),
        }
    }
}

impl StoredDialect {
    /// The stored syntax, if `choice` is compatible with it.
    pub(crate) fn syntax(&self, choice: &Choice) -> Option<Syntax> {
        let (syntax, given) = (self.dialect.syntax, self.given);
        let fits = is_same(choice.delimiter, syntax.delimiter(), given.delimiter)
            && is_same(choice.quote, syntax.quote(), given.quote)
            && is_same(choice.escape, syntax.escape(), given.escape)
            && is_same(choice.skip, self.dialect.skip, given.skip)
            && choice.escapes_everywhere.is_none_or(|everywhere| everywhere == syntax.escapes_everywhere())
            && choice.skips_spaces.is_none_or(|skips| skips == syntax.skips_spaces());
        // Another encoding yields another text.
        let is_same_text = is_same(choice.encoding, self.dialect.encoding, given.encoding);
        (fits && is_same_text).then_some(syntax)
    }

    /// Whether the format of the file needs its end.
    pub(crate) const fn needs_whole_file(&self) -> bool {
        self.dialect.format.needs_whole_file()
    }

    /// Whether the stored lines above the header, and the header, are those of the sheet that `choice` names, and leave
    /// nothing else to guess.
    pub(crate) fn is_of_sheet(&self, choice: &Choice) -> bool {
        !self.header_open
            && !self.given.sheet
            && choice.sheet.is_none()
            && is_same(choice.skip, self.dialect.skip, self.given.skip)
    }

    /// The stored encoding and its evidence, if it was found and `choice` is compatible with it.
    pub(crate) fn encoding(&self, choice: &Choice) -> Option<(Encoding, Evidence)> {
        let is_found = choice.encoding.is_none() && !self.given.encoding;
        is_found.then_some((self.dialect.encoding, self.dialect.evidence))
    }

    /// Whether the first row is a header, if that was determined and `choice` is compatible with it.
    pub(crate) fn header(&self, choice: &Choice) -> Option<bool> {
        let is_found = choice.header.is_none() && !self.given.header && !self.header_open;
        (is_found && self.syntax(choice).is_some()).then_some(self.dialect.header)
    }

    /// The stored dialect in this folder, if there is one.
    ///
    /// # Errors
    /// Errors of the disk.
    pub(crate) fn load(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(DIALECT);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MOST_BYTES => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            known => known?,
        };
        Ok(std::str::from_utf8(&fs::read(path)?).ok().and_then(Self::parse))
    }

    /// Writes the dialect into this folder, atomically.
    ///
    /// # Errors
    /// Errors of the disk.
    pub(crate) fn save(&self, folder: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(self.text().as_bytes())?;
        file.persist(folder.join(DIALECT)).map_err(|error| error.error)?;
        Ok(())
    }

    fn text(&self) -> String {
        let Self { dialect, given, looked, header_open } = self;
        let byte = |byte: Option<u8>| byte.map_or("none".to_owned(), |byte| byte.to_string());
        let lines = [
            FORM.to_owned(),
            format!("looked {looked}"),
            format!("delimiter {} {}", dialect.syntax.delimiter(), given.delimiter),
            format!("quote {} {}", byte(dialect.syntax.quote()), given.quote),
            format!("escape {} {}", byte(dialect.syntax.escape()), given.escape),
            format!("escapes_everywhere {}", dialect.syntax.escapes_everywhere()),
            format!("skips_spaces {}", dialect.syntax.skips_spaces()),
            format!("skip {} {}", dialect.skip, given.skip),
            format!("start {}", dialect.start),
            format!(
                "header {} {}",
                if *header_open { "open" } else { name(&HEADERS, dialect.header) },
                given.header
            ),
            format!("encoding {} {}", dialect.encoding.name(), given.encoding),
            format!("evidence {}", name(&EVIDENCE, dialect.evidence)),
            format!("line_end {}", name(&LINE_ENDS, dialect.line_end)),
            format!("compression {}", name(&COMPRESSIONS, dialect.compression)),
            format!("sheet {}", given.sheet),
            format!("format {}", dialect.format.name()),
        ];
        lines.map(|line| line + "\n").concat()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let form = lines.next()?;
        let is_old = match form {
            FORM | TEXT_FORM => false,
            OLD_FORM => true,
            _ => return None,
        };
        let mut line = |what: &str| {
            let (name, rest) = lines.next()?.split_once(' ')?;
            (name == what).then_some(rest)
        };
        let given = |text: &str| text.parse::<bool>().ok();
        let looked = line("looked")?.parse().ok()?;
        let mut byte = |what: &str| {
            let (byte, is_given) = line(what)?.split_once(' ')?;
            let byte = if byte == "none" { None } else { Some(byte.parse::<u8>().ok()?) };
            Some((byte, given(is_given)?))
        };
        let (delimiter, quote, escape) = (byte("delimiter")?, byte("quote")?, byte("escape")?);
        let (mut everywhere, mut spaces, mut skip, mut start) = (false, false, (0, false), 0);
        if !is_old {
            everywhere = line("escapes_everywhere")?.parse().ok()?;
            spaces = line("skips_spaces")?.parse().ok()?;
            let (lines, is_given) = line("skip")?.split_once(' ')?;
            skip = (lines.parse().ok()?, given(is_given)?);
            start = line("start")?.parse().ok()?;
        }
        let (header, header_given) = line("header")?.split_once(' ')?;
        let (encoding, encoding_given) = line("encoding")?.split_once(' ')?;
        let header_open = header == "open";
        let encoding = Encoding::named(encoding)?;
        let evidence = named(&EVIDENCE, line("evidence")?)?;
        if is_old && encoding == Encoding::UTF_8 && evidence == Evidence::Mark {
            start = crate::encoding::MARK.len() as u64;
        }
        let line_end = named(&LINE_ENDS, line("line_end")?)?;
        let compression = named(&COMPRESSIONS, line("compression")?)?;
        let (mut sheet, mut format) = (false, FileFormat::Text);
        if form == FORM {
            sheet = line("sheet")?.parse().ok()?;
            let named = line("format")?;
            format = FileFormat::ALL.into_iter().find(|format| format.name() == named)?;
        }
        let syntax = Syntax::new(delimiter.0?, quote.0, escape.0).ok()?;
        Some(Self {
            dialect: Dialect {
                syntax: syntax.escaping_everywhere(everywhere).skipping_spaces(spaces),
                skip: skip.0,
                start,
                header: !header_open && named(&HEADERS, header)?,
                encoding,
                evidence,
                line_end,
                compression,
                format,
            },
            given: ChosenFields {
                delimiter: delimiter.1,
                quote: quote.1,
                escape: escape.1,
                skip: skip.1,
                header: given(header_given)?,
                encoding: given(encoding_given)?,
                sheet,
            },
            looked,
            header_open,
        })
    }
}

/// Whether a choice of one property equals the `found` value, or leaves it open as before.
fn is_same<T: Copy + PartialEq>(choice: Option<T>, found: T, given: bool) -> bool {
    choice.map_or(!given, |choice| choice == found)
}

const HEADERS: [(&str, bool); 2] = [("yes", true), ("no", false)];
const EVIDENCE: [(&str, Evidence); 5] = [
    ("given", Evidence::Given),
    ("mark", Evidence::Mark),
    ("valid", Evidence::Valid),
    ("pattern", Evidence::Pattern),
    ("guessed", Evidence::Guessed),
];
const LINE_ENDS: [(&str, LineEnd); 3] = [("lf", LineEnd::Lf), ("crlf", LineEnd::CrLf), ("cr", LineEnd::Cr)];
const COMPRESSIONS: [(&str, Compression); 3] =
    [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];

fn name<T: Copy + PartialEq>(all: &[(&'static str, T)], value: T) -> &'static str {
    all.iter().find(|(_, other)| *other == value).map_or("", |(name, _)| name)
}

fn named<T: Copy>(all: &[(&'static str, T)], name: &str) -> Option<T> {
    all.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(header_open: bool) -> StoredDialect {
        StoredDialect {
            dialect: Dialect {
                syntax: Syntax::new(b' ', Some(b'\''), Some(b'\\'))
                    .unwrap()
                    .escaping_everywhere(!header_open),
                skip: 2,
                start: 17,
                header: !header_open,
                line_end: LineEnd::CrLf,
                encoding: Encoding::named("windows-1252").unwrap(),
                evidence: Evidence::Guessed,
                compression: Compression::Zstd,
                format: FileFormat::Json,
            },
            given: ChosenFields { quote: true, ..ChosenFields::default() },
            looked: 65_536,
            header_open,
        }
    }

    #[test]
    fn a_stored_dialect_is_read_back() {
        for header_open in [false, true] {
            let kept = kept(header_open);
            assert_eq!(StoredDialect::parse(&kept.text()), Some(kept));
        }
    }

    #[test]
    fn a_truncated_or_unknown_file_is_ignored() {
        let text = kept(false).text();
        for length in 0..text.len() - 1 {
            assert_eq!(StoredDialect::parse(&text[..length]), None, "{length} bytes");
        }
        assert_eq!(StoredDialect::parse(&text.replace("dialect 3", "dialect 4")), None);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(StoredDialect::load(folder.path()).unwrap(), None);
        fs::write(folder.path().join(DIALECT), text.repeat(100)).unwrap();
        assert_eq!(StoredDialect::load(folder.path()).unwrap(), None);
    }

    #[test]
    fn the_format_of_an_earlier_version_is_read() {
        let old = "dialect 1\nlooked 9\ndelimiter 44 false\nquote 34 true\nescape none false\nheader yes false\n\
                   encoding UTF-8 false\nevidence mark\nline_end lf\ncompression none\n";
        let dialect = StoredDialect::parse(old).unwrap().dialect;
        assert_eq!(
            (dialect.syntax.delimiter(), dialect.skip, dialect.start, dialect.header),
            (b',', 0, 3, true)
        );
    }

    #[test]
    fn only_another_choice_is_guessed_again() {
        let (kept, same) = (kept(false), Choice { quote: Some(Some(b'\'')), ..Choice::default() });
        assert_eq!((kept.syntax(&same), kept.header(&same)), (Some(kept.dialect.syntax), Some(true)));
        let named = Choice { delimiter: Some(b' '), header: Some(false), ..same.clone() };
        assert_eq!((kept.syntax(&named), kept.header(&named)), (Some(kept.dialect.syntax), None));
        let others = [
            Choice::default(),
            Choice { delimiter: Some(b','), ..same.clone() },
            Choice { skip: Some(0), ..same.clone() },
            Choice { escape: Some(None), ..same.clone() },
            Choice { encoding: Some(Encoding::UTF_8), ..same },
        ];
        for other in others {
            assert_eq!((kept.syntax(&other), kept.header(&other)), (None, None), "{other:?}");
        }
    }
}
