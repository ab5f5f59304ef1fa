//! `tidings health`: one request to a server's `/health` or `/ready`, for containers and scripts.
//!
//! Invariants: the command ends within its time limit; exit code 0 means that the server answered 200; anything else is one
//! line on stderr with the reason and exit code 1.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tidings_client::http::{HttpClient, HttpRequest, HttpResponse};
use tidings_client::{Server, Web};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::input::duration;
use crate::interrupt::block_on;
use crate::target::TlsArgs;

/// Checks a server: exit code 0 when it serves, or with --ready when it is ready for clients
#[derive(Args, Debug)]
#[command(after_long_help = "\
/health answers 200 as long as the process serves. /ready answers 200 only while publications pass through the broker, and \
503 while the server is stopping. Use the first to decide on a restart, the second to decide whether clients are sent \
there.

Prints nothing when the check passes; else the reason, on stderr, with exit code 1.

Examples:
  tidings health
  tidings health --ready http://127.0.0.1:8000
  tidings health --ready unix:/run/tidings/http.sock
  tidings health https://localhost:8000 --insecure")]
pub(crate) struct Health {
    /// The server's HTTP port: http://HOST:PORT, https://HOST:PORT (with the path prefix of a proxy, if there is one), or
    /// unix:PATH
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8000", value_parser = http_port)]
    url: Server,

    /// Checks /ready instead of /health
    #[arg(long)]
    ready: bool,

    /// Longest time of the whole check
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    timeout: Duration,

    #[command(flatten)]
    tls: TlsArgs,
}

impl Health {
    /// Makes the check.
    ///
    /// # Errors
    /// The server cannot be reached, does not answer in time, or does not answer 200.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        self.tls.apply()?;
        block_on(async {
            match timeout(self.timeout, self.check()).await {
                Ok(done) => done,
                Err(_) => Err(self.failure(&format!("no answer within {:?}", self.timeout))),
            }
        })
    }

    async fn check(&self) -> Result<(), Failure> {
        let mut client = match &self.url {
            Server::Unix(path) => HttpClient::over_unix_socket(path.clone()),
            Server::Web(web) => HttpClient::new(web.clone()),
            other => return Err(Failure::Usage(format!("{other} is not an HTTP port"))),
        };
        let reply = client.call(HttpRequest::get(self.path())).await.map_err(Failure::new)?;
        if reply.status == 200 { Ok(()) } else { Err(self.failure(&reason(&reply))) }
    }

    fn path(&self) -> &'static str {
        if self.ready { "/ready" } else { "/health" }
    }

    fn failure(&self, reason: &str) -> Failure {
        Failure::Failed(format!("{} of {}: {reason}", self.path(), self.url))
    }
}

/// The reason in an answer: that of `/ready` has two fields, any other the first line of its body.
fn reason(reply: &HttpResponse) -> String {
    let fields: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let field = |name| fields.as_ref()?.get(name)?.as_str();
    match (field("part"), field("reason"), reply.text()) {
        (Some(part), Some(reason), _) => format!("not ready: {part}: {reason}"),
        (_, _, text) if text.is_empty() => format!("status {}", reply.status),
        (_, _, text) => format!("status {}: {text}", reply.status),
    }
}

/// Reads the address of an HTTP port; a host without a scheme is one of `http://`.
fn http_port(text: &str) -> Result<Server, String> {
    let is_whole = text.contains("://") || text.starts_with("unix:");
    let whole = if is_whole { text.to_owned() } else { format!("http://{text}") };
    match whole.parse()? {
        Server::Web(web) => Ok(Server::Web(Web { websocket: false, ..web })),
        Server::Unix(path) => Ok(Server::Unix(path)),
        other => Err(format!("{other} is not an HTTP port: use http://HOST:PORT, https://HOST or unix:PATH")),
    }
}
