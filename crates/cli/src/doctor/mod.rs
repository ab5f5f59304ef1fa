//! `tidings doctor`: tests a deployment from a client's location, through all proxies.
//!
//! Each check reports its observation; a failed check reports the necessary change (crate `tidings-doctor`).
//!
//! Invariant: exit code 0 means that no check failed.

mod report;

use std::time::Duration;

use clap::Args;
use tidings_client::{Server, Web};
use tidings_doctor::Proxy;

use self::report::DoctorReport;
use crate::failure::Failure;
use crate::input::duration;
use crate::interrupt::{block_on, interrupted};
use crate::target::TlsArgs;

/// The time for the command to end after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// Tests a deployment through its proxy: upgrades, buffering, timeouts, limits, origins
#[derive(Args, Debug)]
#[command(after_long_help = "\
Give the address that clients use: https://push.example.org, with the path prefix if there is one. Each check reports \
its observation; a failed check names the wrong setting of the proxy (nginx, HAProxy, Caddy, Traefik) and the lines to \
change. On a server with keys, streaming and idle connections are tested only with a --token and, where namespaces restrict \
channels, with a --channel to which the token may subscribe; otherwise these checks are skipped, and the last line \
counts them. With --key messages are published (to a separate channel) to measure their delivery time.

Proxies close idle connections, nginx after 60 s: --idle sets how long connections are watched. This takes \
most of the command's time; 0 skips it.

Exit code 0 when no check failed, 1 otherwise.

Examples:
  tidings doctor http://127.0.0.1:8000
  tidings doctor https://push.example.org
  tidings doctor https://example.org/push --token \"$TOKEN\" --channel news --key \"$KEY\" --idle 10m
  tidings doctor https://push.example.org --token \"$TOKEN\" --key \"$KEY\" --api http://10.0.0.2:8001")]
pub(crate) struct Doctor {
    /// The address that clients use
    #[arg(value_name = "URL", value_parser = web)]
    url: Web,

    /// A connection token, if the server requires one
    #[arg(long, value_name = "TOKEN", env = "TIDINGS_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// The API key, to publish test messages
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    key: Option<String>,

    /// The address of the server API, if it is not that of clients (internal.listen)
    #[arg(long, value_name = "URL", value_parser = web)]
    api: Option<Web>,

    /// The channel for the measurement, to which the client may subscribe; by default a random name
    #[arg(long)]
    channel: Option<String>,

    /// The time for which idle connections are watched
    #[arg(long, value_name = "DURATION", default_value = "70s", value_parser = duration)]
    idle: Duration,

    /// The proxy in front of the server, for the lines to change: nginx, haproxy, caddy or traefik; by default it is recognised
    /// by its responses
    #[arg(long, value_name = "NAME")]
    proxy: Option<Proxy>,

    #[command(flatten)]
    tls: TlsArgs,
}

impl Doctor {
    /// Runs all checks.
    ///
    /// # Errors
    /// A check failed.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        self.tls.apply()?;
        let stop = interrupted(1, GRACE)?;
        block_on(async {
            tokio::select! {
                done = self.examine() => done,
                _ = stop => Err(Failure::Failed("interrupted".to_owned())),
            }
        })
    }

    async fn examine(&self) -> Result<(), Failure> {
        let mut report = DoctorReport::new(&self.url)?;
        let doctor = tidings_doctor::Doctor {
            url: self.url.clone(),
            token: self.token.clone(),
            key: self.key.clone(),
            api: self.api.clone(),
            channel: self.channel.clone(),
            idle: self.idle,
            proxy: self.proxy,
        };
        doctor.examine(&mut report).await?;
        report.end()
    }
}

/// Parses the address of a deployment; a host name without a scheme is accepted.
fn web(text: &str) -> Result<Web, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match with_scheme.parse()? {
        Server::Web(web) => Ok(Web { websocket: false, ..web }),
        other => Err(format!("{other} is not an HTTP address: use http://HOST:PORT or https://HOST")),
    }
}
