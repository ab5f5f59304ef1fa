//! Files of configuration (TOML, JSON, YAML) as values without types, the places of values, and errors with a place.
//!
//! Invariants:
//! - The crate knows no option: it only has the languages of files, the names of variables and the forms of errors.
//! - Every value has the line of its key; every error is one line with its place.
//! - No error of a parser repeats a value of the file, because any of them may be a secret.

pub mod error;
pub mod file;
pub mod raw;
pub mod variables;
