//! Log levels and formats.

use crate::setting::choice;

/// How much is logged: this level and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogLevel {
    /// Nothing.
    None,
    /// What keeps the server from doing its work.
    Error,
    /// What may keep it from that soon.
    Warn,
    /// Start, stop, and what changes in between.
    Info,
    /// Each connection.
    Debug,
    /// Each step.
    Trace,
}

impl LogLevel {
    /// The level's name, in small letters.
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

/// How a log entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on a line.
    Json,
}

choice! { LogFormat:
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
}
