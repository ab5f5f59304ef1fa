//! Configuration: options from flags, the environment, a file and defaults, in this order, checked before any port is
//! bound.
//!
//! The options are one table, [`options`]; structs, keys, environment variables, bounds, `config default` and `config
//! docs` are derived from it. A value passes three steps: a source provides it without a type, with its place
//! ([`source`], [`mod@file`]); its option parses and checks it ([`setting`], [`value`]); then rules between options are
//! checked ([`check`]).
//!
//! Invariants:
//! - A [`Config`] from [`load`] satisfies every bound and rule of the table.
//! - Every error is one line with the place and the reason; no error and no `Debug` contains a secret. One load reports
//!   all errors.
//! - Only [`environment`] reads the process' environment.

mod centrifugo;
mod check;
mod error;
mod file;
mod group;
mod namespace;
mod options;
mod origin;
mod print;
mod proxy;
mod raw;
mod setting;
mod source;
mod token;
mod value;

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::path::Path;
use std::sync::LazyLock;

pub use centrifugo::{Imported, import};
pub use error::{ConfigError, ConfigErrors};
pub use namespace::{Channels, Namespace};
pub use options::{
    ChannelOptions, ClientOptions, ClusterOptions, Config, EmulationOptions, EventsOptions, HttpApiOptions,
    HttpOptions, HttpStreamOptions, InternalOptions, LimitsOptions, LogOptions, MemoryOptions, NodeOptions,
    PersonalChannelOptions, ReadyOptions, RedisOptions, ShutdownOptions, SseOptions, StompOptions,
    SubscriptionTokenOptions, TablesOptions, TablesS3Options, TcpOptions, TlsOptions, TokenOptions,
    UniHttpStreamOptions, UniSseOptions, UniWebSocketOptions, WebSocketOptions,
};
pub use origin::AllowedOrigin;
pub use print::{default_file, docs};
pub use proxy::{
    ChannelProxies, ClientProxies, ConnectProxyOptions, HttpUrl, ProxyHttpOptions, ProxyOptions,
    RpcNamespaceOptions, RpcOptions, StaticHeaders,
};
pub use source::{Overrides, environment};
pub use tidings_auth::Secret;
pub use value::{
    AllowUpload, BrokerUrl, DataDir, ListenAddr, LogFormat, LogLevel, Network, PemText, RecoveryMode,
    SlowConsumer, TablesStore, TlsRequired, TlsVersion,
};

use centrifugo::Verdict;
use error::{Origin, nearest};
use group::{Group, Slot, Visitor};
use raw::{Raw, shown};
use setting::items;
use source::{Assignment, Environment, resolve};

/// The most ignored options that are listed individually in warnings.
const MAX_IGNORED: usize = 10;

/// The key of the namespaces: an array of tables in a file, a list of their names in other sources.
const NAMESPACES: &str = "channel.namespaces";

/// A configuration, with warnings for the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
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
    if let Some(path) = file.or_else(|| env.file().map(Path::new)) {
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
    loading.finish()
}

/// The keys of all options outside of namespaces, and the key of the namespaces.
static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut keys = keys_of(&mut Config::default(), "");
    keys.push(NAMESPACES.into());
    keys
});

/// The keys of a group's options, each after `path`.
fn keys_of(group: &mut dyn Group, path: &str) -> Vec<String> {
    struct Keys(Vec<String>);
    impl Visitor for Keys {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, _: &'static [&'static str], _: &mut dyn Slot) {
            self.0.push(path.to_owned());
        }
    }
    let mut keys = Keys(Vec::new());
    group.walk(path, &mut keys);
    keys.0
}

/// Whether there are options below `key`.
fn is_group(key: &str) -> bool {
    KEYS.iter().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether `key` is an option, or the key of the namespaces.
fn is_option(key: &str) -> bool {
    KEYS.iter().any(|known| known == key)
}

/// Stores a value in the option `key` of a group; `None` if it has no such option.
fn set(group: &mut dyn Group, path: &str, key: &str, raw: &Raw) -> Option<Result<(), String>> {
    struct Setter<'a> {
        key: &'a str,
        raw: &'a Raw,
        outcome: Option<Result<(), String>>,
    }
    impl Visitor for Setter<'_> {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
            if path == self.key {
                let unset = matches!(self.raw, Raw::Null);
                self.outcome = Some(if unset { Ok(()) } else { slot.set(self.raw) });
            }
        }
    }
    let mut setter = Setter { key, raw, outcome: None };
    group.walk(path, &mut setter);
    setter.outcome
}

/// The keys that sources have set so far, with their places.
#[derive(Default)]
struct GivenOptions(BTreeMap<String, Origin>);

impl GivenOptions {
    fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// An error about an option, at the place of its value.
    fn error(&self, key: &str, what: String) -> ConfigError {
        match self.0.get(key) {
            Some(origin) => value_error(origin, key, &what),
            None => ConfigError::general(what),
        }
    }

    /// The instruction to add options to the source of `key`: the place, and the text for an option and a value.
    fn how_to_add(&self, key: &str) -> (&'static str, impl Fn(&str, &str) -> String) {
        let toml = Origin::File { name: "".into(), line: 0, format: error::Format::Toml };
        let origin = self.0.get(key).cloned().unwrap_or(toml);
        (origin.place_to_add(), move |key: &str, value: &str| origin.assignment(key, value))
    }

    /// The instruction to add `option` beside its sibling `given` in the group `path`.
    fn beside(&self, path: &str, given: &str, option: &str, value: &str) -> String {
        let key = format!("{path}.{option}");
        match self.0.get(&format!("{path}.{given}")) {
            // The table exists, and no key addresses the table of a namespace.
            Some(origin @ Origin::File { .. }) => origin.assignment(option, value),
            Some(origin) => origin.assignment(&key, value),
            None => key,
        }
    }
}

/// An error in the value from `origin` for `key`. The name of a variable or flag already contains the key.
fn value_error(origin: &Origin, key: &str, what: &str) -> ConfigError {
    match origin {
        Origin::File { .. } => ConfigError::at(origin, format!("{}: {what}", shown(key))),
        Origin::Environment(_) | Origin::Flag(_) => ConfigError::at(origin, what),
    }
}

/// The state of loading a configuration.
#[derive(Default)]
struct Loader {
    config: Config,
    given: GivenOptions,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
    /// A line for each given option without an effect.
    ignored: Vec<String>,
}

impl Loader {
    /// Stores values in order; invalid values become errors.
    fn apply_all(&mut self, assignments: &[Assignment]) {
        for assignment in assignments {
            if let Err(error) = self.apply(assignment) {
                self.errors.push(error);
            }
        }
    }

    /// Checks rules between options. Adds a hint on `config import` for a file of Centrifugo.
    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
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
        Ok(Loaded { config: self.config, warnings: self.warnings })
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
        let before = self.given.0.insert(key.to_owned(), origin.clone());
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
