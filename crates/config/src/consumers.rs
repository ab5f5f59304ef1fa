//! The list of consumers, and the rules of their options.

use super::error::ConfigError;
use super::given::GivenOptions;
use super::group::{Group, Visitor};
use super::keys::{CONSUMERS, set_names};
use super::named_proxies::check_names;
use super::options::{Config, ConsumerOptions};

/// A consumer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consumer {
    /// The name: 2 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its options.
    pub options: ConsumerOptions,
}

/// The consumers; names are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consumers(pub(super) Vec<Consumer>);

impl Consumers {
    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.0.iter()
    }

    /// Sets the list to `names`, in order. An existing item keeps its options.
    ///
    /// # Errors
    /// The first invalid name. The list is set nevertheless, so that the options are checked in the same run.
    pub(super) fn rename(&mut self, names: &[String]) -> Result<(), String> {
        let create = |name: &String| Consumer { name: name.clone(), ..Consumer::default() };
        set_names(&mut self.0, names, |consumer| &consumer.name, create);
        check_names(names, "a consumer")
    }
}

impl Group for Consumers {
    /// Visits nothing: each consumer is walked separately.
    fn walk(&mut self, _: &str, _: &mut dyn Visitor) {}
}

/// Rejects an enabled consumer without a database or a table.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    for Consumer { name, options } in config.consumers.iter().filter(|consumer| consumer.options.enabled) {
        let path = format!("{CONSUMERS}.{name}.postgresql");
        let mut reject = |option: &str, what: String| {
            errors.push(given.item_error(CONSUMERS, name, &format!("postgresql.{option}"), what));
        };
        if !options.postgresql.dsn.is_set() && !given.contains(&format!("{path}.dsn_file")) {
            reject(
                "dsn",
                format!("the address of the database is missing; give {path}.dsn or {path}.dsn_file"),
            );
        }
        if options.postgresql.outbox_table_name.is_empty() {
            reject("outbox_table_name", format!("{path}.outbox_table_name is missing"));
        }
    }
}
