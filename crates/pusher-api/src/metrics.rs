//! Metrics of the apps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_metrics::{Collect, MetricWriter};
use tidings_pusher::AppCounters;

use crate::PusherApps;

/// One of the counters of an app.
type Counter = fn(&AppCounters) -> &AtomicU64;

/// Reports the counters of apps, with the id of the app as label.
#[derive(Debug)]
pub struct PusherMetrics(pub Arc<PusherApps>);

impl Collect for PusherMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let apps = self.0.load();
        if apps.is_empty() {
            return Ok(());
        }
        let values = |counter: Counter| {
            apps.iter().map(move |app| (app.id.as_str(), counter(&app.counters).load(Ordering::Relaxed)))
        };
        out.gauges(
            "tidings_pusher_connections",
            "Connections of the Pusher protocol on this node, by app",
            "app",
            values(|counters| &counters.connections),
        )?;
        let counters: [(&str, &str, Counter); 7] = [
            (
                "tidings_pusher_connections_refused",
                "Connections that were closed because of the app's limit on connections",
                |counters| &counters.connections_refused,
            ),
            (
                "tidings_pusher_unauthorized",
                "Subscriptions and sign-ins that were rejected because of their signature",
                |counters| &counters.unauthorized,
            ),
            (
                "tidings_pusher_members_refused",
                "Subscriptions to presence channels that were rejected because of the limit on users",
                |counters| &counters.members_refused,
            ),
            ("tidings_pusher_client_events", "Events that clients have sent", |counters| {
                &counters.client_events
            }),
            (
                "tidings_pusher_client_events_rejected",
                "Events of clients that were rejected, because of a limit or a rule of the protocol",
                |counters| &counters.client_events_rejected,
            ),
            (
                "tidings_pusher_api_events",
                "Events that backends have published over the HTTP API, once for each channel",
                |counters| &counters.api_events,
            ),
            (
                "tidings_pusher_api_errors",
                "Requests to the HTTP API that were answered with an error",
                |counters| &counters.api_errors,
            ),
        ];
        counters
            .into_iter()
            .try_for_each(|(name, help, counter)| out.counters(name, help, "app", values(counter)))
    }
}
