//! The list of consumers, and the rules of their options.

use super::error::ConfigError;
use super::given::GivenOptions;
use super::group::{Group, Visitor};
use super::keys::{CONSUMERS, set_names};
use super::named_proxies::check_names;
use super::options::{Config, ConsumerOptions};
use super::value::ConsumerType;

/// The most streams of one consumer.
const MAX_STREAMS: usize = 64;

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

/// Rejects an enabled consumer without a source.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    for Consumer { name, options } in config.consumers.iter().filter(|consumer| consumer.options.enabled) {
        let mut reject = |option: &str, what: &str| {
            let what = what.replace("%", &format!("{CONSUMERS}.{name}"));
            errors.push(given.item_error(CONSUMERS, name, option, what));
        };
        match options.r#type {
            ConsumerType::Postgresql => {
                let is_in_file = given.contains(&format!("{CONSUMERS}.{name}.postgresql.dsn_file"));
                if !options.postgresql.dsn.is_set() && !is_in_file {
                    let what = "the address of the database is missing; give %.postgresql.dsn or %.postgresql.dsn_file";
                    reject("postgresql.dsn", what);
                }
                if options.postgresql.outbox_table_name.is_empty() {
                    reject("postgresql.outbox_table_name", "%.postgresql.outbox_table_name is missing");
                }
            }
            ConsumerType::RedisStream => {
                let stream = &options.redis_stream;
                if stream.streams.is_empty() {
                    reject("redis_stream.streams", "%.redis_stream.streams is empty");
                }
                if stream.consumer_group.is_empty() {
                    reject("redis_stream.consumer_group", "%.redis_stream.consumer_group is missing");
                }
                if stream.streams.len() > MAX_STREAMS {
                    reject("redis_stream.streams", "%.redis_stream.streams has more than 64 streams");
                }
            }
        }
    }
}
