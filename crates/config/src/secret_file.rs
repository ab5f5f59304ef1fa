//! Secrets in files of their own: `KEY_file` of each secret option, and the credentials of systemd
//! (systemd.exec(5), `LoadCredential=`).
//!
//! Invariants:
//! - A secret option comes from one place: its value and its file together are an error.
//! - No error repeats the content of a file.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::error::{ConfigError, Origin};
use super::given::value_error;
use super::group::{Slot, Visitor};
use super::keys::SECRET_FILE_SUFFIX;
use super::loader::Loader;
use super::options::Config;
use super::raw::{Raw, shown};

/// The largest file with a secret, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// The permissions that a file with a secret should not have: those of other users, and to change it for its group.
const TOO_WIDE: u32 = 0o037;

/// The content of a file with a secret.
struct Content {
    /// The text without its last line break.
    text: String,
    /// The permissions, if they are wider than 0640.
    too_wide: Option<u32>,
}

/// A secret option.
struct SecretOption {
    key: String,
    is_default: bool,
}

impl Loader {
    /// Reads the files of secret options, and for secret options without a value the credentials in a folder.
    pub(super) fn read_secrets(&mut self, credentials: Option<&Path>) {
        let defaults = self.secrets_of_defaults();
        for option in self.secrets(&defaults) {
            let file = format!("{}{SECRET_FILE_SUFFIX}", option.key);
            if let Some((path, origin)) = self.secret_files.remove(&file) {
                self.read_secret_file(&option, &file, &path, &origin);
                continue;
            }
            let is_flag = matches!(self.given.origin(&option.key), Some(Origin::Flag(_)));
            // An explicit option of the same meaning, such as `tls.key_pem_file`.
            let has_file = self.given.contains(&file);
            if let Some(folder) = credentials.filter(|_| option.is_default && !is_flag && !has_file) {
                self.read_credential(&option.key, &folder.join(&option.key));
            }
        }
    }

    fn read_secret_file(&mut self, option: &SecretOption, file: &str, path: &str, origin: &Origin) {
        let error = match (self.given.origin(&option.key), read(Path::new(path))) {
            (Some(other), _) if !option.is_default => {
                format!("`{}` is given too, by {other}; only one of them may be given", shown(&option.key))
            }
            (_, Err(what)) => format!("{} {what}", shown(path)),
            (_, Ok(content)) => {
                if let Some(mode) = content.too_wide {
                    self.warnings.push(format!(
                        "{origin}: {} is readable or writable for other users than its owner and group (mode {mode:04o}); use \
                         chmod 0640 or 0600",
                        shown(path)
                    ));
                }
                return self.store_secret(&option.key, content.text, origin);
            }
        };
        self.errors.push(value_error(origin, file, &error));
    }

    fn read_credential(&mut self, key: &str, path: &Path) {
        let origin = Origin::Credential(key.to_owned());
        match read(path) {
            Ok(content) => self.store_secret(key, content.text, &origin),
            Err(_) if !path.exists() => {}
            Err(what) => self.errors.push(ConfigError::at(&origin, what)),
        }
    }

    fn store_secret(&mut self, key: &str, text: String, origin: &Origin) {
        let outcome = self.config.set_any(key, &Raw::Text(text)).unwrap_or(Ok(()));
        if let Err(what) = outcome {
            self.errors.push(value_error(origin, key, &what));
        }
        self.given.record(key, origin);
    }

    /// The secret options outside of lists, with their values in a configuration without any options.
    fn secrets_of_defaults(&self) -> Vec<(String, Option<String>)> {
        let mut secrets = Secrets(Vec::new());
        Config::default().walk_all(&mut secrets);
        secrets.0
    }

    /// The secret options of the configuration. In lists the default is no value.
    fn secrets(&mut self, defaults: &[(String, Option<String>)]) -> Vec<SecretOption> {
        let mut secrets = Secrets(Vec::new());
        self.config.walk_all(&mut secrets);
        let is_default =
            |key: &str, value: &Option<String>| match defaults.iter().find(|(known, _)| known == key) {
                Some((_, default)) => value == default,
                None => value.as_deref() == Some("\"\""),
            };
        let option = |(key, value): (String, Option<String>)| SecretOption {
            is_default: is_default(&key, &value),
            key,
        };
        secrets.0.into_iter().map(option).collect()
    }
}

/// Collects the secret options with their values in TOML.
struct Secrets(Vec<(String, Option<String>)>);

impl Visitor for Secrets {
    fn group(&mut self, _: &str, _: &'static [&'static str]) {}

    fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
        if slot.is_secret() {
            self.0.push((path.to_owned(), slot.toml()));
        }
    }
}

/// Reads a file with a secret. Its last line break is removed, because editors and `echo` add one.
fn read(path: &Path) -> Result<Content, String> {
    let cannot = |e: std::io::Error| format!("cannot be read: {e}");
    // Before it is opened: opening a pipe could block for ever.
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(cannot)?;
    match file.take(MAX_FILE + 1).read_to_string(&mut text) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => return Err("is not UTF-8".into()),
        Err(e) => return Err(cannot(e)),
    }
    if text.len() as u64 > MAX_FILE {
        return Err(format!("is longer than {MAX_FILE} bytes"));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("is empty".into());
    }
    let mode = metadata.permissions().mode() & 0o777;
    Ok(Content { text, too_wide: (mode & TOO_WIDE != 0).then_some(mode) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_is_removed_and_wide_permissions_are_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let content = |bytes: &[u8], mode: u32| {
            std::fs::write(&path, bytes).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
            read(&path).map(|content| (content.text, content.too_wide))
        };
        assert_eq!(content(b"s3cret\n", 0o600), Ok(("s3cret".into(), None)));
        assert_eq!(content(b"s3cret\r\n", 0o440), Ok(("s3cret".into(), None)));
        assert_eq!(content(b"two\n\n", 0o640), Ok(("two\n".into(), None)));
        assert_eq!(content(b"s3cret", 0o644), Ok(("s3cret".into(), Some(0o644))));
        assert_eq!(content(b"s3cret", 0o660), Ok(("s3cret".into(), Some(0o660))));
        assert_eq!(content(b"\n", 0o600), Err("is empty".into()));
        assert_eq!(content(b"\xff", 0o600), Err("is not UTF-8".into()));
        let long = vec![b'a'; usize::try_from(MAX_FILE).expect("small") + 1];
        assert_eq!(content(&long, 0o600), Err("is longer than 65536 bytes".into()));
        assert_eq!(read(folder.path()).map(|_| ()), Err("is not a regular file".into()));
    }
}
