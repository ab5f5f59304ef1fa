//! The sources of a configuration, which are read again while the server runs.
//!
//! Options without the mark `reload` in the table keep the values of the start. The rules between options are checked for
//! the combination that the server would run with, so a reload never leads to a state that a start would refuse.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use super::check;
use super::error::{ConfigError, ConfigErrors};
use super::flags::Overrides;
use super::group::{Slot, Visitor};
use super::keys::PUSHER_APPS;
use super::loader::{Loaded, Loader};
use super::options::Config;

/// Where a configuration comes from: the flags and the environment of the start, and the path of a file. Files are read
/// again each time.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    overrides: Overrides,
}

/// A configuration that was read again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// The configuration to run with: options that need a restart have their values of the start.
    pub config: Config,
    /// The keys of the options that have changed, and of the namespaces and API keys that were added or removed.
    pub changed: Vec<String>,
    /// The keys of the options with new values that need a restart.
    pub restart_required: Vec<String>,
    /// As in [`Loaded`].
    pub warnings: Vec<String>,
}

impl Sources {
    /// Sources as [`super::load`] takes them.
    pub fn new(file: Option<PathBuf>, environment: Vec<(String, String)>, overrides: Overrides) -> Self {
        Self { file, environment, overrides }
    }

    /// Reads the configuration of a start.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        self.loader().finish()
    }

    /// Reads the configuration again, for a server with the configuration `running`.
    ///
    /// # Errors
    /// As [`super::load`], and violated rules between new values and those that need a restart.
    pub fn reload(&self, running: &Config) -> Result<Reloaded, ConfigErrors> {
        let mut loader = self.loader();
        // Without the adjustments of defaults, which belong to values that may need a restart.
        let mut new = loader.config.clone();
        loader.check()?;
        let (before, mut alone) = (snapshot(&mut running.clone()), loader.config.clone());
        let mut restart: Vec<_> = differences(&before, &mut alone, false);
        let new_apps = alone.pusher.apps.iter().filter(|app| running.pusher.apps.get(&app.id).is_none());
        let new_webhooks = new_apps.filter(|app| !app.options.webhooks.is_empty());
        restart.extend(new_webhooks.map(|app| format!("{PUSHER_APPS}.{}.webhooks", app.id)));
        new = new.with_fixed_options_of(running);
        let mut errors = Vec::new();
        check::check(&mut new, &loader.given, &mut errors);
        if !errors.is_empty() && !restart.is_empty() {
            let what =
                format!("options that need a restart keep their values until then: {}", restart.join(", "));
            errors.push(ConfigError::general(what));
        }
        ConfigErrors::unless_empty(errors)?;
        let mut changed = differences(&before, &mut new, true);
        let names = |config: &Config| config.names().into_iter().collect::<BTreeSet<_>>();
        changed.extend(names(running).symmetric_difference(&names(&new)).cloned());
        let Loaded { warnings, .. } = loader.into_loaded();
        Ok(Reloaded { config: new, changed, restart_required: restart, warnings })
    }

    fn loader(&self) -> Loader {
        Loader::read(self.file.as_deref(), self.environment.iter().cloned(), &self.overrides)
    }
}

/// The value of an option.
struct Saved {
    toml: Option<String>,
    value: Box<dyn Any>,
}

fn snapshot(config: &mut Config) -> BTreeMap<String, Saved> {
    struct Snapshot(BTreeMap<String, Saved>);
    impl Visitor for Snapshot {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
            self.0.insert(path.to_owned(), Saved { toml: slot.toml(), value: slot.save() });
        }
    }
    let mut snapshot = Snapshot(BTreeMap::new());
    config.walk_all(&mut snapshot);
    snapshot.0
}

/// The keys of the options with another value than before: of those that are reloadable, or of those that are not.
fn differences(before: &BTreeMap<String, Saved>, config: &mut Config, is_reloadable: bool) -> Vec<String> {
    struct Differences<'a>(&'a BTreeMap<String, Saved>, bool, Vec<String>);
    impl Visitor for Differences<'_> {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
            let is_other = self.0.get(path).is_some_and(|before| before.toml != slot.toml());
            if is_other && slot.is_reloadable() == self.1 {
                self.2.push(path.to_owned());
            }
        }
    }
    let mut differences = Differences(before, is_reloadable, Vec::new());
    config.walk_all(&mut differences);
    differences.2
}

/// Restores the values of options that need a restart.
struct Restore<'a>(&'a BTreeMap<String, Saved>);

impl Visitor for Restore<'_> {
    fn group(&mut self, _: &str, _: &'static [&'static str]) {}

    fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
        if let Some(before) = self.0.get(path).filter(|_| !slot.is_reloadable()) {
            slot.restore(&*before.value);
        }
    }
}

impl Config {
    /// The configuration with the options that need a restart as in `running`.
    #[must_use]
    pub fn with_fixed_options_of(mut self, running: &Self) -> Self {
        let before = snapshot(&mut running.clone());
        // The values of the other options of a new app are not among those of the start.
        for app in self.pusher.apps.0.iter_mut().filter(|app| running.pusher.apps.get(&app.id).is_none()) {
            app.options.webhooks.clear();
        }
        self.walk_all(&mut Restore(&before));
        self
    }

    /// A digest of all options, in 16 hexadecimal digits. Of a secret it contains only whether it is set, so that the digest
    /// can be public.
    pub fn digest(&self) -> String {
        struct Text(String);
        impl Visitor for Text {
            fn group(&mut self, _: &str, _: &'static [&'static str]) {}

            fn option(&mut self, path: &str, _: &'static [&'static str], slot: &mut dyn Slot) {
                let value = slot.toml().unwrap_or_default();
                let value = match slot.is_secret() {
                    true if matches!(&*value, "" | "\"\"" | "{}") => "unset",
                    true => "set",
                    false => &*value,
                };
                let _ = writeln!(self.0, "{path} = {value}");
            }
        }
        let mut text = Text(String::new());
        self.clone().walk_all(&mut text);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.0.as_bytes());
        digest.as_ref()[..8].iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }
}
