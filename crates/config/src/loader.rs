//! Loads a configuration: applies the assignments of all sources in order, and checks the result.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::path::{Path, PathBuf};

use super::assignment::{Assignment, resolve};
use super::centrifugo::{self, Verdict};
use super::check;
use super::environment::Environment;
use super::error::{self, ConfigError, ConfigErrors, Origin, nearest};
use super::file;
use super::flags::Overrides;
use super::flatten::file_assignments;
use super::given::{GivenOptions, value_error};
use super::keys::{KEYS, SECRET_FILE_SUFFIX, is_group, keys_of};
use super::options::Config;
use super::raw::{Raw, shown};
use super::setting::expected;

/// The most ignored options that are listed individually in warnings.
const MAX_IGNORED: usize = 10;

/// A configuration, with warnings for the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// One line for each weak key, and for each setting without an effect, such as an option of Centrifugo at its default.
    pub warnings: Vec<String>,
}

/// Loads a configuration: defaults, then the file, then the environment, then the overrides.
///
/// `file` is the file of the command line; without it, the variable `TIDINGS_CONFIG` may contain one. Of `env`, only
/// names that begin with `TIDINGS_` or `CENTRIFUGO_` count (see [`environment`](crate::environment())).
///
/// # Errors
/// All errors: a file that cannot be read or parsed, unknown keys and variables (with the nearest known one), values of
/// the wrong type or out of their bounds, options that contradict each other, and a listener that other machines could
/// use without any key. After a file that cannot be read or parsed nothing else is checked.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, ConfigErrors> {
    load_with_warnings(file, env, overrides).map(|loaded| loaded.config)
}

/// As [`load`], with the warnings.
///
/// # Errors
/// As [`load`].
pub fn load_with_warnings(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Loaded, ConfigErrors> {
    Loader::read(file, env, overrides).finish()
}

/// The state of loading a configuration.
#[derive(Default)]
pub(super) struct Loader {
    pub(super) config: Config,
    pub(super) given: GivenOptions,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
    /// A line for each given option without an effect.
    ignored: Vec<String>,
    file: Option<PathBuf>,
    /// The paths of files with secrets, by their keys.
    pub(super) secret_files: BTreeMap<String, (String, Origin)>,
    /// No other error is of use: the file cannot be parsed.
    is_unreadable: bool,
}

impl Loader {
    /// Reads all sources.
    pub(super) fn read(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Self {
        let env = Environment::from_pairs(env);
        let mut loading = Self::default();
        loading.warnings.extend(centrifugo::variable_warnings(env.of_centrifugo()));
        loading.file = file.or_else(|| env.file().map(Path::new)).map(Path::to_owned);
        if let Some(path) = &loading.file {
            match file::read(path) {
                Ok(file) => {
                    let found = file_assignments(&file);
                    loading.errors.extend(found.errors);
                    loading.ignored.extend(found.warnings);
                    loading.apply_all(&found.assignments);
                }
                Err(error) => {
                    loading.errors.push(error);
                    loading.is_unreadable = true;
                    return loading;
                }
            }
        }
        loading.apply_all(&env.lists());
        let keys = loading.keys();
        let (assignments, errors) = env.options(&keys);
        loading.errors.extend(errors);
        loading.apply_all(&assignments);
        loading.apply_all(&overrides.assignments().collect::<Vec<_>>());
        loading.read_secrets(env.credentials());
        loading
    }

    /// Stores values in order; invalid values become errors.
    pub(super) fn apply_all(&mut self, assignments: &[Assignment]) {
        for assignment in assignments {
            if let Err(error) = self.apply(assignment) {
                self.errors.push(error);
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        self.check()?;
        Ok(self.into_loaded())
    }

    /// Checks rules between options. Adds a hint on `config import` for a file of Centrifugo.
    pub(super) fn check(&mut self) -> Result<(), ConfigErrors> {
        let mut errors = std::mem::take(&mut self.errors);
        if !self.is_unreadable {
            check::check(&mut self.config, &self.given, &mut errors);
            if errors.iter().any(|error| error.what().contains(centrifugo::OPTION_OF)) {
                errors.push(ConfigError::general(centrifugo::HOW_TO_IMPORT));
            }
        }
        ConfigErrors::unless_empty(errors)
    }

    pub(super) fn into_loaded(mut self) -> Loaded {
        self.warnings.extend(self.config.weak_key_warnings());
        // A file with all defaults would produce a hundred lines.
        let more = self.ignored.len().saturating_sub(MAX_IGNORED);
        self.warnings.extend(self.ignored.into_iter().take(MAX_IGNORED));
        if more > 0 {
            self.warnings.push(format!("{more} more options are ignored for the same reasons"));
        }
        Loaded { file: self.file, config: self.config, warnings: self.warnings }
    }

    fn apply(&mut self, assignment: &Assignment) -> Result<(), ConfigError> {
        let Assignment { key: written, raw, origin, .. } = assignment;
        let key = resolve(written);
        if matches!(origin, Origin::File { .. }) && centrifugo::is_absent_value(key, raw) {
            self.ignored.push(format!(
                "{origin}: `{}` has no value, as in Centrifugo, so its default applies",
                shown(key)
            ));
            return Ok(());
        }
        let outcome = self.config.set_any(key, raw).or_else(|| self.note_secret_file(key, raw, origin));
        let Some(outcome) = outcome else { return self.unknown(assignment) };
        if matches!(raw, Raw::Null) {
            return Ok(());
        }
        // An invalid value counts as given, so that no rule reports it as missing.
        let before = self.given.record(key, origin);
        outcome.map_err(|what| value_error(origin, written, &what))?;
        // The last flag applies. In a file or an environment a repeated key is an error.
        match before {
            Some(other)
                if discriminant(&other) == discriminant(origin) && !matches!(origin, Origin::Flag(_)) =>
            {
                Err(value_error(origin, written, &format!("`{}` was already given by {other}", shown(key))))
            }
            _ => Ok(()),
        }
    }

    /// Handles an unknown key: an option of Centrifugo, or an error.
    fn unknown(&mut self, assignment: &Assignment) -> Result<(), ConfigError> {
        let Assignment { key, raw, origin, switched_off } = assignment;
        match centrifugo::judge(key, raw, *switched_off) {
            Some(Verdict::Ignored(why)) => {
                self.ignored.push(format!("{origin}: {why}"));
                return Ok(());
            }
            Some(Verdict::Refused(what)) => return Err(ConfigError::at(origin, what)),
            None => {}
        }
        if is_group(resolve(key)) {
            let what = format!("expected a table of options, got {}", raw.sort());
            return Err(value_error(origin, key, &what));
        }
        if self.errors.len() >= error::MAX_DISPLAYED {
            return Err(ConfigError::at(origin, format!("unknown key `{}`", shown(key))));
        }
        let keys = self.keys();
        let near = nearest(key, keys.iter().map(String::as_str), '.').unwrap_or_default();
        Err(ConfigError::at(origin, format!("unknown key `{}`; did you mean `{near}`?", shown(key))))
    }

    /// Stores the path of a file with a secret, which [`Self::read_secrets`] reads; `None` if `key` is not one of such a
    /// file. An empty path is none.
    fn note_secret_file(&mut self, key: &str, raw: &Raw, origin: &Origin) -> Option<Result<(), String>> {
        key.strip_suffix(SECRET_FILE_SUFFIX)?;
        if !self.keys().iter().any(|known| known == key) {
            return None;
        }
        Some(match raw.as_text() {
            _ if matches!(raw, Raw::Null) => Ok(()),
            Some("") => {
                self.secret_files.remove(key);
                Ok(())
            }
            Some(path) if !path.contains('\0') => {
                self.secret_files.insert(key.to_owned(), (path.to_owned(), origin.clone()));
                Ok(())
            }
            _ => Err(expected("a path", raw)),
        })
    }

    /// Every key that can be assigned, including those in lists.
    fn keys(&mut self) -> Vec<String> {
        let mut keys = KEYS.clone();
        for (path, group) in self.config.items() {
            keys.extend(keys_of(group, &path));
        }
        keys
    }
}
