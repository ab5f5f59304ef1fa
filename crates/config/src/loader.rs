//! Loads a configuration: applies the assignments of all sources in order, and checks the result.

use std::mem::discriminant;
use std::path::{Path, PathBuf};

use super::assignment::{Assignment, resolve};
use super::centrifugo::{self, Verdict};
use super::check;
use super::error::{self, ConfigError, ConfigErrors, Origin, nearest};
use super::file;
use super::given::{GivenOptions, value_error};
use super::keys::{KEYS, NAMESPACES, is_group, keys_of, set};
use super::options::Config;
use super::raw::{Raw, shown};
use super::setting::items;
use super::source::{self, Environment, Overrides};

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
/// names that begin with `TIDINGS_` or `CENTRIFUGO_` count (see [`environment`]).
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
    let env = Environment::of(env);
    let mut loading = Loader::default();
    loading.warnings.extend(centrifugo::variable_warnings(env.of_centrifugo()));
    let file = file.or_else(|| env.file().map(Path::new));
    if let Some(path) = file {
        let found = source::of_file(&file::read(path)?);
        loading.errors.extend(found.errors);
        loading.ignored.extend(found.warnings);
        loading.apply_all(&found.assignments);
    }
    loading.apply_all(env.namespaces().as_slice());
    let keys = loading.keys();
    let (assignments, errors) = env.options(&keys);
    loading.errors.extend(errors);
    loading.apply_all(&assignments);
    loading.apply_all(&overrides.assignments().collect::<Vec<_>>());
    let loaded = loading.finish()?;
    Ok(Loaded { file: file.map(Path::to_owned), ..loaded })
}

/// The state of loading a configuration.
#[derive(Default)]
pub(super) struct Loader {
    pub(super) config: Config,
    pub(super) given: GivenOptions,
    pub(super) errors: Vec<ConfigError>,
    warnings: Vec<String>,
    /// A line for each given option without an effect.
    ignored: Vec<String>,
}

impl Loader {
    /// Stores values in order; invalid values become errors.
    pub(super) fn apply_all(&mut self, assignments: &[Assignment]) {
        for assignment in assignments {
            if let Err(error) = self.apply(assignment) {
                self.errors.push(error);
            }
        }
    }

    /// Checks rules between options. Adds a hint on `config import` for a file of Centrifugo.
    pub(super) fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        check::check(&mut self.config, &self.given, &mut self.errors);
        if self.errors.iter().any(|error| error.what().contains(centrifugo::OPTION_OF)) {
            self.errors.push(ConfigError::general(centrifugo::HOW_TO_IMPORT));
        }
        ConfigErrors::unless_empty(self.errors)?;
        self.warnings.extend(self.config.weak_key_warnings());
        // A file with all defaults would produce a hundred lines.
        let more = self.ignored.len().saturating_sub(MAX_IGNORED);
        self.warnings.extend(self.ignored.into_iter().take(MAX_IGNORED));
        if more > 0 {
            self.warnings.push(format!("{more} more options are ignored for the same reasons"));
        }
        Ok(Loaded { file: None, config: self.config, warnings: self.warnings })
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
        let namespaced = key.strip_prefix(NAMESPACES).and_then(|rest| rest.strip_prefix('.'));
        let outcome = if key == NAMESPACES {
            Some(names(raw).and_then(|names| self.config.channel.rename(&names)))
        } else if let Some((name, _)) = namespaced.and_then(|rest| rest.rsplit_once('.')) {
            let namespace = self.config.channel.namespaces.iter_mut().find(|known| known.name == name);
            let path = format!("{NAMESPACES}.{name}.");
            namespace.and_then(|namespace| set(&mut namespace.options, &path, key, raw))
        } else {
            set(&mut self.config, "", key, raw)
        };
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

    /// Every key that can be assigned, including those of existing namespaces.
    fn keys(&mut self) -> Vec<String> {
        let mut keys = KEYS.clone();
        for namespace in &mut self.config.channel.namespaces {
            keys.extend(keys_of(&mut namespace.options, &format!("{NAMESPACES}.{}.", namespace.name)));
        }
        keys
    }
}

/// The names of namespaces, from a file or a comma-separated text.
fn names(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(nodes) => {
            Ok(nodes.iter().filter_map(|node| node.raw.as_text()).map(str::to_owned).collect())
        }
        Raw::Text(text) | Raw::Word(text) => items(text),
        Raw::Null => Ok(Vec::new()),
        _ => Err(format!("expected a list of tables, each with a name, got {}", raw.sort())),
    }
}
