//! The configuration that a server runs with at the moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidings_config::Config;

/// The current configuration, shared by the parts of a server that read options for each operation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveConfig(Arc<ArcSwap<Config>>);

impl LiveConfig {
    /// Begins with the configuration of the start.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// The configuration now. Takes no lock. Later replacements do not change it.
    pub fn load(&self) -> Arc<Config> {
        self.0.load_full()
    }

    /// Replaces the configuration.
    pub fn store(&self, config: Arc<Config>) {
        self.0.store(config);
    }
}
