//! Log levels and formats, and the audit log.

use std::path::PathBuf;

use crate::raw::Raw;
use crate::setting::{Setting, choice, expected, quoted};

/// The lowest level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogLevel {
    /// Nothing.
    None,
    /// The server cannot do its work.
    Error,
    /// The server may soon be unable to do its work.
    Warn,
    /// Start, stop, and changes in between.
    Info,
    /// Each connection.
    Debug,
    /// Each step.
    Trace,
}

impl LogLevel {
    /// The level's name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

choice! { LogLevel:
    "none" => LogLevel::None,
    "error" => LogLevel::Error,
    "warn" => LogLevel::Warn,
    "info" => LogLevel::Info,
    "debug" => LogLevel::Debug,
    "trace" => LogLevel::Trace,
}

/// The format of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// A line of text.
    Text,
    /// A JSON object on a line.
    Json,
}

choice! { LogFormat:
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
}

/// Where the audit log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditTarget {
    /// Nowhere.
    #[default]
    Off,
    /// Into the log, with the target `audit`.
    Log,
    /// Into this file.
    File(PathBuf),
}

impl Setting for AuditTarget {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        match raw.as_text() {
            Some("off") => Ok(Self::Off),
            Some("log") => Ok(Self::Log),
            // With a slash, so that a mistyped word does not become the name of a file.
            Some(path) if path.contains('/') && !path.contains('\0') => Ok(Self::File(path.into())),
            _ if matches!(raw, Raw::Switch(false)) => Ok(Self::Off),
            _ => Err(expected("off, log, or a path with a slash", raw)),
        }
    }

    fn kind((): &()) -> String {
        "`off`, `log`, or a path with a slash".into()
    }

    fn toml(&self) -> Option<String> {
        Some(match self {
            Self::Off => quoted("off"),
            Self::Log => quoted("log"),
            Self::File(path) => quoted(&path.display().to_string()),
        })
    }
}
