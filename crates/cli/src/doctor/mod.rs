//! `tidings doctor`: tests a deployment from where its clients are, through whatever stands in between.
//!
//! Each check says what it saw; one that finds something wrong says what to change, in lines for nginx where it is the
//! proxy's ([`advice`]). What needs a token or a key that was not given is skipped, and said to be.
//!
//! Invariants: nothing is changed at the server: publications go into a channel with a random name; every wait has a
//! bound; exit code 0 means that no check failed.

mod advice;
mod idle;
mod live;
mod plain;
mod report;

use std::time::Duration;

use clap::Args;
use tidings_client::{Server, Web};

use self::report::Report;
use crate::failure::Failure;
use crate::input::duration;
use crate::interrupt::{block_on, interrupted};
use crate::target::TlsArgs;

/// How long the command may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// Tests a deployment through its proxy: upgrades, buffering, time-outs, limits, origins
#[derive(Args, Debug)]
#[command(after_long_help = "\
Give the address that clients use: https://push.example.org, with the path prefix if there is one. Each check says \
what it saw; what is wrong comes with the lines to change in nginx. Without --token a server that wants one can only be \
tested in part; with --key messages are published (to a channel of their own) to measure how long they take.

Proxies cut what is silent for too long, nginx after 60 s: --idle says for how long connections are watched. It makes \
up most of the command's time; 0 leaves it out.

Exit code 0 when no check failed, 1 otherwise.

Examples:
  tidings doctor http://127.0.0.1:8000
  tidings doctor https://push.example.org
  tidings doctor https://example.org/push --token \"$TOKEN\" --key \"$KEY\" --idle 10m")]
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

    /// The channel that is measured with, one that may be subscribed to; a random name if this is not given
    #[arg(long)]
    channel: Option<String>,

    /// For how long idle connections are watched
    #[arg(long, value_name = "DURATION", default_value = "70s", value_parser = duration)]
    idle: Duration,

    #[command(flatten)]
    tls: TlsArgs,
}

impl Doctor {
    /// Makes all checks that can be made.
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
        let mut report = Report::new(&self.url)?;
        if self.plain(&mut report).await? {
            let ways = self.live(&mut report).await?;
            self.idle(&mut report, ways).await?;
        }
        report.end()
    }

    /// The channel that is measured with.
    fn channel(&self) -> String {
        self.channel.clone().unwrap_or_else(|| format!("tidings-doctor-{:08x}", fastrand::u32(..)))
    }
}

/// Reads the address of a deployment; a bare host will do.
fn web(text: &str) -> Result<Web, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match with_scheme.parse()? {
        Server::Web(web) => Ok(Web { websocket: false, ..web }),
        other => Err(format!("{other} is not an HTTP address: use http://HOST:PORT or https://HOST")),
    }
}
