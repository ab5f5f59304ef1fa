//! The values of the command line, as assignments.

use super::assignment::Assignment;
use super::error::{ConfigError, Origin};
use super::raw::{Node, Raw, shown};

/// The values of the command line, in the order in which they take effect: of two values for one option the later one
/// applies.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<Assignment>);

impl Overrides {
    /// Adds the values of `flag` (`--tcp`) for the option `key` (`tcp.listen`): several values of a list, one of any
    /// other type, none when the flag was not given.
    pub fn flag(&mut self, flag: &str, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        let values: Vec<_> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
        if !values.is_empty() {
            let origin = Origin::Flag(flag.to_owned());
            // The path of a socket may contain spaces, which would split it.
            let has_spaces = values.iter().any(|value| value.starts_with("unix:") && value.contains(' '));
            let raw = if has_spaces {
                let node = |value| Node { line: 0, raw: Raw::Word(value) };
                Raw::List(values.into_iter().map(node).collect())
            } else {
                Raw::Word(values.join(","))
            };
            self.0.push(Assignment::new(key, raw, origin));
        }
    }

    /// Adds `KEY=VALUE`, the argument of `--set`. The value has the form of the environment.
    ///
    /// # Errors
    /// An argument without `=`.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let origin = |key| Origin::Flag(format!("--set {key}"));
        // The argument is not repeated because it may be a secret.
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| ConfigError::general("--set: expected KEY=VALUE, got an argument without `=`"))?;
        let key = key.trim();
        self.0.push(Assignment::new(key, Raw::Word(value.to_owned()), origin(shown(key))));
        Ok(())
    }

    pub(super) fn assignments(&self) -> impl Iterator<Item = Assignment> {
        self.0.iter().cloned()
    }
}
