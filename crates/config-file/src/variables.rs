//! The names of environment variables.

/// The prefix of environment variables.
pub const PREFIX: &str = "TIDINGS_";
/// The prefix of Centrifugo's variables.
pub const CENTRIFUGO_PREFIX: &str = "CENTRIFUGO_";
/// The variable with the path of the file.
pub const FILE_VARIABLE: &str = "TIDINGS_CONFIG";

/// The variable with the folder of systemd's credentials (systemd.exec(5)).
pub const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The environment variable of a key.
pub fn variable(key: &str) -> String {
    let tail = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    PREFIX.chars().chain(tail).collect()
}
