//! Checks of a deployment from a client's location, through all proxies.
//!
//! Each check reports its observation to a [`Report`]; a failed check reports the necessary change ([`advice`]), for the proxy that
//! was recognised ([`proxy`]). Checks that need a missing token or key are skipped and reported as skipped.
//!
//! Invariants: the server's state is not changed, except for publications in a channel with a random name; every wait
//! has a timeout.

mod advice;
mod idle;
mod live;
mod plain;
mod proxy;
mod report;

use std::time::Duration;

use tidings_client::Web;

pub use advice::Advice;
pub use proxy::Proxy;
pub use report::{Report, Verdict};

/// The deployment to check, and how.
#[derive(Debug)]
pub struct Doctor {
    /// The address that clients use.
    pub url: Web,
    /// A connection token, if the server requires one.
    pub token: Option<String>,
    /// The API key, to publish test messages.
    pub key: Option<String>,
    /// The address of the server API, if it is another one (`internal.listen`).
    pub api: Option<Web>,
    /// The channel for the measurement, to which the client may subscribe; `None` for a random name.
    pub channel: Option<String>,
    /// The time for which idle connections are watched; zero skips this check.
    pub idle: Duration,
    /// The proxy in front of the server; `None` to recognise it.
    pub proxy: Option<Proxy>,
}

impl Doctor {
    /// Runs all checks.
    ///
    /// # Errors
    /// The error of the report.
    pub async fn examine<R: Report>(mut self, report: &mut R) -> Result<(), R::Error> {
        if self.plain(report).await? {
            let connections = self.live(report).await?;
            self.idle(report, connections).await?;
        }
        Ok(())
    }

    /// The channel for the measurement.
    fn channel(&self) -> String {
        self.channel.clone().unwrap_or_else(|| format!("tidings-doctor-{:08x}", fastrand::u32(..)))
    }
}
