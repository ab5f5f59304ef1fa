//! Errors of a configuration, one line each: the place, the value, the expectation.

use std::fmt;
use std::sync::Arc;

/// An error of a configuration. Displays as one line with the place (file and line, environment variable, or flag), the
/// key, and the expectation. Never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: Option<Origin>,
    what: String,
}

impl ConfigError {
    /// An error without a place.
    pub fn general(what: impl Into<String>) -> Self {
        Self { place: None, what: what.into() }
    }

    /// An error in a value at `place`.
    pub fn at(place: &Origin, what: impl Into<String>) -> Self {
        Self { place: Some(place.clone()), what: what.into() }
    }

    /// The place of the invalid value.
    pub fn place(&self) -> Option<&Origin> {
        self.place.as_ref()
    }

    /// The error without the place.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// The most errors that [`ConfigErrors`] displays individually.
pub const MAX_DISPLAYED: usize = 100;

/// All errors of a configuration: at least one, in the order of the sources. Displays as one line per error; after 100
/// the others are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, unless there are none.
    pub fn unless_empty(errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// The lines to display.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let rest = self.0.len().saturating_sub(MAX_DISPLAYED);
        let more = (rest > 0).then(|| format!("{rest} more errors"));
        self.0.iter().take(MAX_DISPLAYED).map(ToString::to_string).chain(more)
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{line}")?;
        }
        Ok(())
    }
}

/// The language of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.toml`.
    Toml,
    /// `.json`.
    Json,
    /// `.yaml` or `.yml`.
    Yaml,
}

/// The place of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File {
        /// The name that the file was opened with.
        name: Arc<str>,
        /// The line, counted from 1 (0: the file as a whole).
        line: usize,
        /// The language of the file.
        format: Format,
    },
    /// An environment variable.
    Environment(String),
    /// A command-line flag, such as `--tcp`.
    Flag(String),
    /// A credential of systemd, by its name.
    Credential(String),
}

impl Origin {
    /// The place for [`Self::assignment`], as text that precedes it.
    pub fn place_to_add(&self) -> &'static str {
        match self {
            // Further down it would belong to the preceding table.
            Self::File { format: Format::Toml, .. } => "at the top of the file: ",
            Self::File { .. } => "to the file: ",
            Self::Environment(_) => "to the environment: ",
            Self::Flag(_) => "",
            Self::Credential(_) => "to the options: ",
        }
    }

    /// The text for `path = value` in the same source, ready to be copied: the line in the file's language, the
    /// environment variable, or the flag. `value` is `true`, `false`, a number or text without characters that need
    /// escaping.
    pub fn assignment(&self, path: &str, value: &str) -> String {
        let quoted = match value {
            "true" | "false" => value.to_owned(),
            number if number.bytes().all(|b| b.is_ascii_digit()) => number.to_owned(),
            text => format!("\"{text}\""),
        };
        match self {
            Self::File { format: Format::Toml, .. } => format!("{path} = {quoted}"),
            Self::File { format: Format::Yaml, .. } => format!("{path}: {quoted}"),
            Self::File { format: Format::Json, .. } => format!("\"{path}\": {quoted}"),
            Self::Environment(_) => format!("{}={value}", crate::variables::variable(path)),
            Self::Flag(_) => format!("--set {path}={value}"),
            Self::Credential(_) => format!("{path} = {quoted}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line: 0, .. } => f.write_str(name),
            Self::File { name, line, .. } => write!(f, "{name}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}

/// The candidate most similar to `wrong`; `separator` separates the parts of a path (`.` in keys, `_` in variables).
/// The last part of a path alone is recognized as well.
pub fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    separator: char,
) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| {
        let whole = strsim::osa_distance(wrong, candidate);
        // A missing group costs less than its letters, and more than one typing error.
        let tails = candidate.match_indices(separator).map(|(at, _)| &candidate[at + separator.len_utf8()..]);
        tails.map(|tail| strsim::osa_distance(wrong, tail) + 2).fold(whole, usize::min)
    })
}
