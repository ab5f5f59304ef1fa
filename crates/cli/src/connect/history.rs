//! The lines of earlier sessions, in a file of the user's state directory.
//!
//! Invariants: only its owner can read the file; it has at most [`MAX_FILE`] bytes at the start of a session, and a
//! session adds at most as much; a line that may contain a secret is never written. If the file cannot be used, only
//! the history is unavailable.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::editor::MAX_HISTORY;

/// The most bytes of the file that are kept for a session, and that a session adds.
const MAX_FILE: u64 = 256 << 10;
/// The longest stored line, in bytes.
const MAX_KEPT: usize = 4 << 10;
/// The path of the file below the state directory.
const NAME: &str = "tidings/connect_history";
/// Words of lines that may contain secrets, in lower case.
const SECRETS: [&str; 5] = ["auth", "token", "secret", "password", "api_key"];

/// The open file.
pub(super) struct History {
    file: File,
    /// The bytes that this session may still add.
    room: u64,
}

impl History {
    /// Opens the user's file, and returns its lines, the oldest first.
    ///
    /// # Errors
    /// There is no home directory, or the file cannot be read or written.
    pub(super) fn open() -> io::Result<(Self, Vec<String>)> {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || {
            Some(
                PathBuf::from(std::env::var_os("HOME").filter(|home| !home.is_empty())?).join(".local/state"),
            )
        };
        let state =
            state.or_else(home).ok_or_else(|| io::Error::other("neither XDG_STATE_HOME nor HOME is set"))?;
        Self::open_file(&state.join(NAME))
    }

    fn open_file(path: &Path) -> io::Result<(Self, Vec<String>)> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let length = file.metadata()?.len();
        let mut bytes = Vec::new();
        io::Seek::seek(&mut file, io::SeekFrom::Start(length.saturating_sub(MAX_FILE)))?;
        (&mut file).take(MAX_FILE).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // The first line of a tail may be incomplete.
        let lines: Vec<&str> = text.lines().skip(usize::from(length > MAX_FILE)).collect();
        let kept = &lines[lines.len().saturating_sub(MAX_HISTORY)..];
        let kept: Vec<String> = kept.iter().map(|line| (*line).to_owned()).collect();
        if length > MAX_FILE || lines.len() > 2 * MAX_HISTORY {
            file = rewrite(path, &kept)?;
        }
        Ok((Self { file, room: MAX_FILE }, kept))
    }

    /// Adds a line, unless it may contain a secret or begins with a space.
    pub(super) fn add(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if !is_kept(line) || length > self.room {
            return Ok(());
        }
        self.room -= length;
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

/// Replaces the file by one with only these lines.
fn rewrite(path: &Path, lines: &[String]) -> io::Result<File> {
    let new = path.with_extension(format!("{}", std::process::id()));
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map(|()| file)
}

/// Whether a line may be stored. `AUTH` and similar words may precede a secret.
fn is_kept(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let may_be_secret = SECRETS.iter().any(|word| lower.contains(word));
    let is_plain = !line.starts_with(char::is_whitespace) && !line.contains(['\n', '\r']);
    !line.is_empty() && line.len() <= MAX_KEPT && is_plain && !may_be_secret
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn lines_are_available_in_the_next_session_and_only_to_their_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let (mut history, lines) = History::open_file(&path).expect("a history");
        assert!(lines.is_empty());
        for line in ["SUBSCRIBE news", "PING"] {
            history.add(line).expect("a file to write to");
        }
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a file of ours");
        let (_, lines) = History::open_file(&path).expect("a history");
        assert_eq!(lines, ["SUBSCRIBE news", "PING"]);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn possible_secrets_are_not_stored() {
        for line in [
            "AUTH eyJhbGciOiJIUzI1NiJ9",
            "auth default hunter2",
            " AUTH x",
            "HELLO 3 AUTH default hunter2",
            "{\"id\":1,\"connect\":{\"token\":\"eyJ\"}}",
            " leading space",
            "two\nlines",
            "",
        ] {
            assert!(!is_kept(line), "{line:?}");
        }
        assert!(!is_kept(&"x".repeat(MAX_KEPT + 1)));
        assert!(is_kept("PUBLISH news hello"));
    }

    #[test]
    fn the_file_is_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history");
        let line = "x".repeat(1000);
        for _ in 0..3 {
            let (mut history, _) = History::open_file(&path).expect("a history");
            for n in 0..2_000 {
                history.add(&format!("{n} {line}")).expect("a file to write to");
            }
        }
        assert!(fs::metadata(&path).expect("a file").len() <= 2 * MAX_FILE);
        let (_, lines) = History::open_file(&path).expect("a history");
        assert!(lines.len() <= MAX_HISTORY && lines.iter().all(|kept| kept.ends_with(&line)));
        assert!(fs::metadata(&path).expect("a file").len() <= MAX_FILE);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
