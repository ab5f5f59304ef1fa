//! The names of environment variables.

/// The prefix of environment variables.
pub(super) const PREFIX: &str = "TIDINGS_";
/// The prefix of Centrifugo's variables.
pub(super) const CENTRIFUGO_PREFIX: &str = "CENTRIFUGO_";
/// The variable with the path of the file.
pub(super) const FILE_VARIABLE: &str = "TIDINGS_CONFIG";

/// The variable with the folder of systemd's credentials (systemd.exec(5)).
pub(super) const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    let tail = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    PREFIX.chars().chain(tail).collect()
}
