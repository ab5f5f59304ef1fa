//! Applies a reloaded configuration to the parts of the server.
//!
//! Every option with the mark `reload` in the table of options is applied here, or is read from [`LiveConfig`] for each
//! operation. Parts that can fail are prepared first; after that nothing fails.
//!
//! [`LiveConfig`]: tidings_reload::LiveConfig

use std::sync::Arc;

use tidings_cluster::Cluster;
use tidings_config::Config;
use tidings_reload::Apply;
use tidings_shard::{ShardMessage, ShardSettings};

use crate::api;
use crate::authority::Authorizer;
use crate::http::HttpServices;
use crate::mqtt_sessions::MqttSessions;
use tidings_canary::Canary;
use tidings_settings as settings;
use tidings_webhooks::Webhooks;

/// Applies options that concern the whole process, such as the log level.
pub type ProcessOptions = Box<dyn Fn(&Config) + Send + Sync>;

/// The parts of the server with options.
pub(crate) struct ReloadedParts {
    pub(crate) http: Arc<HttpServices>,
    pub(crate) authorizer: Authorizer,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) canary: Arc<Canary>,
    pub(crate) mqtt_sessions: MqttSessions,
    pub(crate) webhooks: Option<Arc<Webhooks>>,
    pub(crate) process: ProcessOptions,
}

impl Apply for ReloadedParts {
    fn apply(&self, config: &Arc<Config>) -> Result<(), Vec<String>> {
        let authority = self.authorizer.prepare(config).map_err(|error| error.to_string());
        let tls = self.http.tls.as_ref().map(|tls| tls.prepare(&config.tls)).transpose();
        let (authority, renewal) = match (authority, tls.map_err(|error| error.to_string())) {
            (Ok(authority), Ok(renewal)) => (authority, renewal),
            (authority, tls) => return Err(authority.err().into_iter().chain(tls.err()).collect()),
        };
        self.authorizer.replace(authority);
        if let (Some(tls), Some(renewal)) = (&self.http.tls, renewal) {
            tls.renew(renewal);
        }
        self.configure_sessions(config);
        self.configure_http(config);
        self.http
            .api
            .polls
            .configure(tidings_shared_poll::limits(config), tidings_shared_poll::signature_keys(config));
        (self.process)(config);
        Ok(())
    }
}

impl ReloadedParts {
    /// The router first, so that a session never waits for a history that the router does not keep yet.
    fn configure_sessions(&self, config: &Config) {
        let HttpServices { api, shards, limiter, .. } = &*self.http;
        let sessions = Arc::new(settings::reloaded_settings(config, &api.router.settings()));
        self.cluster.set_channel_options(settings::channel_options_digest(&sessions));
        self.canary.set_features(settings::probed_features(config));
        self.mqtt_sessions.set_limits(settings::session_limits(config));
        api.router.set_settings(Arc::clone(&sessions));
        let count = shards.metrics().len();
        let limits = settings::shard_limits(config, count);
        limiter.set_limit(limits.connections);
        let apps = self.http.pusher.load().renewed(config);
        let protocols = Arc::new(settings::protocols(config, count, &apps));
        let all = Arc::new(ShardSettings { sessions, protocols, limits });
        // Before the shards, which compute the addresses of clients with these proxies.
        settings::configure_process(shards.process(), config);
        shards.post_to_all(|| ShardMessage::Reconfigure(Arc::clone(&all)));
        // After the shards, so that they have an app before its first client.
        self.http.pusher.store(apps);
        if let Some(webhooks) = &self.webhooks {
            webhooks.reconfigure_apps(config);
        }
    }

    fn configure_http(&self, config: &Config) {
        let HttpServices { api, policy, .. } = &*self.http;
        policy.reconfigure(config);
        let access = api::ApiAccess::from_config(config, Some(&api.access.load()));
        api.access.store(Arc::new(access));
        api.counters.rate.set(config.http_api.rate_limit);
    }
}
