//! Log levels and formats.

use crate::setting::choice;

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
