//! The connection of shared live tables ([`tidings_table_service`]) to this node: options, permissions, messages and metrics.

mod access;
mod bus;
mod feeds;
mod metrics;

use std::io;
use std::sync::Arc;

use tidings_table_service::{BucketOptions, Observers, Options, Service, StoreLocation, StoreOptions};

use crate::authority::Authorizer;
use crate::http::HttpServices;
use crate::internal::InternalChannels;
use access::NodeAccess;
use bus::BrokerBus;
use feeds::ChannelHistories;
use tidings_config::{Config, TablesStore};
use tidings_table_feed::{Feeds, Histories};

pub(crate) use bus::CHANNEL;
pub(crate) use metrics::TableMetrics;

/// Starts the table service; `None` if `tables.enabled` is off. Call within a tokio runtime.
///
/// # Errors
/// As [`Service::start`] and [`Feeds::start`].
pub(crate) fn start(
    services: &Arc<HttpServices>,
    authorizer: Authorizer,
    internal: &Arc<InternalChannels>,
    feeds: &Feeds,
) -> io::Result<Option<Arc<Service>>> {
    let config = services.config.load();
    if !config.tables.enabled {
        return Ok(None);
    }
    let access = Arc::new(NodeAccess::new(Arc::clone(services), authorizer));
    let bus = Arc::new(BrokerBus::new(services, internal));
    let observers = Observers { audit: Arc::clone(&services.api.audit), tracer: services.api.tracer.clone() };
    let service = Service::start(options(&config), access, bus, observers)?;
    let histories: Arc<dyn Histories> = Arc::new(ChannelHistories(Arc::clone(&services.api.router)));
    feeds.start(&service, &histories)?;
    Ok(Some(service))
}

fn options(config: &Config) -> Options {
    let options = &config.tables;
    Options {
        store: StoreOptions {
            location: location(config),
            max_total: options.max_total as u64,
            keep: options.keep,
        },
        max_size: options.max_size as u64,
        max_unpack_ratio: options.max_unpack_ratio as u64,
        min_data_rate: options.min_data_rate as u64,
        upload_timeout: options.upload_timeout,
        keep_previous: options.keep_previous,
        disarm_formulas: options.disarm_formulas,
        ping_interval: config.client.ping_interval,
        pong_timeout: config.client.pong_timeout,
    }
}

fn location(config: &Config) -> StoreLocation {
    let below = |name: &str| config.data_dir.folder().map(|folder| folder.join(name));
    let (name, prefix) = match &config.tables.store {
        None => return StoreLocation::Folder(below("tables")),
        Some(TablesStore::Folder(folder)) => return StoreLocation::Folder(Some(folder.clone())),
        Some(TablesStore::S3 { bucket, prefix }) => (bucket.clone(), prefix.clone()),
    };
    let s3 = &config.tables.s3;
    let bucket = BucketOptions {
        name,
        prefix,
        endpoint: s3.endpoint.as_ref().map(|endpoint| endpoint.uri().to_string()),
        region: s3.region.clone(),
        allow_http: s3.allow_http,
        virtual_hosted_style: s3.virtual_hosted_style,
        access_key_id: s3.access_key_id.clone(),
        secret_access_key: s3.secret_access_key.expose().to_owned(),
        timeout: s3.timeout,
        tls: |is_https| tidings_outbound::tls(is_https, "tables.store").map_err(io::Error::other),
    };
    StoreLocation::Bucket { bucket, copies: below("tables.cache") }
}
