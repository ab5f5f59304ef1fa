//! Loading of configurations from each source.

use std::path::{Path, PathBuf};

use tidings_config::{self as config, Config, ListenAddr, Overrides};

/// An empty command line.
pub(crate) fn no_overrides() -> Overrides {
    Overrides::default()
}

/// Overrides of `--set KEY=VALUE`.
pub(crate) fn sets(assignments: &[&str]) -> Overrides {
    let mut overrides = Overrides::default();
    for assignment in assignments {
        overrides.set(assignment).expect("KEY=VALUE");
    }
    overrides
}

pub(crate) fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A folder with one file in it.
pub(crate) struct OneFile {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

pub(crate) fn file(name: &str, text: &str) -> OneFile {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file in it");
    OneFile { _folder: folder, path }
}

pub(crate) fn load_text(name: &str, text: &str) -> Result<Config, config::ConfigErrors> {
    config::load(Some(&file(name, text).path), [], &no_overrides())
}

pub(crate) fn load_env(pairs: &[(&str, &str)]) -> Result<Config, config::ConfigErrors> {
    config::load(None, env(pairs), &no_overrides())
}

pub(crate) fn load_sets(assignments: &[&str]) -> Result<Config, config::ConfigErrors> {
    config::load(None, [], &sets(assignments))
}

/// The error of a load, which must be one line, without the folder of the file.
pub(crate) fn error_line(result: Result<Config, config::ConfigErrors>) -> String {
    let error = match result {
        Ok(config) => panic!("accepted as {config:?}"),
        Err(error) => error.to_string(),
    };
    assert!(!error.contains('\n'), "{error:?} is more than one line");
    match error.split_once(": ") {
        Some((place, what)) => {
            let name = Path::new(place).file_name().map_or(place, |name| name.to_str().expect("UTF-8"));
            if place.starts_with('/') { format!("{name}: {what}") } else { error }
        }
        None => error,
    }
}

pub(crate) fn tcp(address: &str) -> ListenAddr {
    ListenAddr::Tcp(address.to_owned())
}
