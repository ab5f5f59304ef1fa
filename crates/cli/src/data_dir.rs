//! The folder for persistent data of the server: finds it, creates it, and locks it against other servers.
//!
//! Invariants:
//! - One server uses a folder at a time; the lock ends with the process.
//! - A server without a configured folder always starts: if the user's folder is in use or cannot be created, the
//!   server uses a temporary one and logs it.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tidings_config::{Config, DataDir};
use tracing::{info, warn};

use crate::failure::Failure;

/// The lock file in a folder.
const LOCK: &str = "server.lock";
/// The data folder of system services.
const SERVICE: &str = "/var/lib/tidings";

/// The environment of the server, besides its configuration.
pub(crate) struct DataDirEnv<'a> {
    /// Reads an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) is_root: bool,
    pub(crate) pid: u32,
}

impl DataDirEnv<'_> {
    /// The user's folder and its origin; `None` when there is none.
    fn folder(&self) -> Option<(PathBuf, &'static str)> {
        let path = |name: &str| Some(PathBuf::from((self.variable)(name)?)).filter(|path| path.is_absolute());
        // systemd separates several folders by colons (systemd.exec(5)).
        let state = (self.variable)("STATE_DIRECTORY").and_then(|list| {
            let first = list.to_str()?.split(':').next()?.to_owned();
            Some(PathBuf::from(first)).filter(|path| path.is_absolute())
        });
        if let Some(state) = state {
            return Some((state, "STATE_DIRECTORY"));
        }
        let home = path("HOME").filter(|home| *home != Path::new("/"));
        let is_service = (self.variable)("SYSTEMD_EXEC_PID").is_some_and(|pid| pid == *self.pid.to_string());
        if is_service && (self.is_root || home.is_none()) {
            return Some((SERVICE.into(), "systemd"));
        }
        if let Some(data) = path("XDG_DATA_HOME") {
            return Some((data.join("tidings"), "XDG_DATA_HOME"));
        }
        Some((home?.join(".local/share/tidings"), "HOME"))
    }
}

/// The chosen folder.
#[derive(Debug)]
pub(crate) struct OpenDataDir {
    /// The lock of the folder while the server runs.
    _lock: Option<File>,
    /// The message to log once the server runs.
    notice: Result<String, String>,
}

impl OpenDataDir {
    /// Logs the folder, as a warning if it is not the configured one.
    pub(crate) fn log(&self) {
        match &self.notice {
            Ok(notice) => info!("{notice}"),
            Err(notice) => warn!("{notice}"),
        }
    }
}

/// Chooses the folder of a server with this configuration.
///
/// # Errors
/// When the configured folder is in use or cannot be created.
pub(crate) fn choose(config: &mut Config, env: &DataDirEnv<'_>) -> Result<OpenDataDir, Failure> {
    match &config.data_dir {
        DataDir::Off => Ok(OpenDataDir {
            _lock: None,
            notice: Ok("data_dir is off: no data is kept after this server stops".to_owned()),
        }),
        DataDir::Folder(folder) => match lock_folder(folder) {
            Ok(lock) => Ok(OpenDataDir {
                _lock: Some(lock),
                notice: Ok(format!("data is kept in {}", folder.display())),
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Failure::Usage(format!(
                "data_dir {} is in use by another server: give each server its own folder with --data-dir, or --data-dir off to keep \
                 nothing (nodes share tables by tables.store)",
                folder.display()
            ))),
            Err(error) => {
                Err(Failure::Usage(format!("data_dir {} cannot be used: {error}", folder.display())))
            }
        },
        DataDir::User => Ok(match user_folder(env) {
            Ok((folder, lock, notice)) => {
                config.data_dir = DataDir::Folder(folder);
                OpenDataDir { _lock: Some(lock), notice: Ok(notice) }
            }
            Err(notice) => {
                config.data_dir = DataDir::Off;
                OpenDataDir { _lock: None, notice: Err(notice) }
            }
        }),
    }
}

/// The user's folder, locked, and its message; or the reason why it is not used.
fn user_folder(env: &DataDirEnv<'_>) -> Result<(PathBuf, File, String), String> {
    const TEMPORARY: &str = "uploads are lost when this server stops";
    let Some((folder, by)) = env.folder() else {
        return Err(format!(
            "there is no home directory to keep data in, so {TEMPORARY}; --data-dir DIR names a folder"
        ));
    };
    let shown = folder.display();
    match lock_folder(&folder) {
        Ok(lock) => {
            let notice = format!(
                "data is kept in {shown} (by {by}); --data-dir DIR names another folder, --data-dir off keeps nothing"
            );
            Ok((folder, lock, notice))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(format!(
            "{shown} is in use by another server of this user, so {TEMPORARY}; --data-dir DIR gives it a folder of its own"
        )),
        Err(error) => Err(format!(
            "{shown} cannot be used ({error}), so {TEMPORARY}; --data-dir DIR names another folder"
        )),
    }
}

/// Creates a folder that only its user can access, and locks it.
fn lock_folder(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], is_root: bool) -> Option<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let (folder, _) = DataDirEnv { variable: &variable, is_root, pid: 7 }.folder()?;
        Some(folder.display().to_string())
    }

    #[test]
    fn the_folder_belongs_to_the_user_or_to_a_system_service() {
        let home = ("HOME", "/home/ann");
        for (variables, is_root, folder) in [
            (&[home][..], false, Some("/home/ann/.local/share/tidings")),
            (&[home, ("XDG_DATA_HOME", "/data")], false, Some("/data/tidings")),
            (&[home, ("XDG_DATA_HOME", "relative")], false, Some("/home/ann/.local/share/tidings")),
            (&[home, ("STATE_DIRECTORY", "/var/lib/x:/var/lib/y")], false, Some("/var/lib/x")),
            (&[("HOME", "/root"), ("SYSTEMD_EXEC_PID", "7")], true, Some("/var/lib/tidings")),
            (&[("SYSTEMD_EXEC_PID", "7")], false, Some("/var/lib/tidings")),
            // A user service, and a shell that was started by a service.
            (&[home, ("SYSTEMD_EXEC_PID", "7")], false, Some("/home/ann/.local/share/tidings")),
            (&[("HOME", "/root"), ("SYSTEMD_EXEC_PID", "8")], true, Some("/root/.local/share/tidings")),
            (&[("HOME", "/")], false, None),
            (&[], false, None),
        ] {
            assert_eq!(found(variables, is_root).as_deref(), folder, "{variables:?}");
        }
    }

    #[test]
    fn a_second_server_starts_with_a_temporary_folder_but_not_with_a_configured_folder_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let variable = move |name: &str| (name == "XDG_DATA_HOME").then(|| root.clone().into_os_string());
        let env = DataDirEnv { variable: &variable, is_root: false, pid: 7 };
        let (mut first, mut second) = (Config::default(), Config::default());
        let lock = choose(&mut first, &env).expect("a folder");
        let own = folder.path().join("tidings");
        assert_eq!(first.data_dir.folder(), Some(&*own));
        choose(&mut second, &env).expect("a start");
        assert_eq!(second.data_dir, DataDir::Off);
        let mut given = Config { data_dir: DataDir::Folder(own), ..Config::default() };
        let Err(Failure::Usage(words)) = choose(&mut given, &env) else { panic!("a refusal") };
        assert!(words.contains("in use by another server") && words.contains("--data-dir"), "{words}");
        drop(lock);
        choose(&mut given, &env).expect("a folder");
    }
}
