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
    /// unix:PATH; by default the address in TIDINGS_INTERNAL_LISTEN, else that in TIDINGS_HTTP_LISTEN, on this machine, else
    /// http://127.0.0.1:8000
    #[arg(value_name = "URL", value_parser = http_port)]
    url: Option<Server>,

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
        let url = match &self.url {
            Some(url) => url.clone(),
            None => own_port(|name| std::env::var(name).ok()).map_err(Failure::Usage)?,
        };
        block_on(async {
            match timeout(self.timeout, self.check(&url)).await {
                Ok(done) => done,
                Err(_) => Err(self.failure(&url, &format!("no answer within {:?}", self.timeout))),
            }
        })
    }

    async fn check(&self, url: &Server) -> Result<(), Failure> {
        let mut client = match url {
            Server::Unix(path) => HttpClient::over_unix_socket(path.clone()),
            Server::Web(web) => HttpClient::new(web.clone()),
            other => return Err(Failure::Usage(format!("{other} is not an HTTP port"))),
        };
        let reply = client.call(HttpRequest::get(self.path())).await.map_err(Failure::new)?;
        if reply.status == 200 { Ok(()) } else { Err(self.failure(url, &reason(&reply))) }
    }

    fn path(&self) -> &'static str {
        if self.ready { "/ready" } else { "/health" }
    }

    fn failure(&self, url: &Server, reason: &str) -> Failure {
        Failure::Failed(format!("{} of {url}: {reason}", self.path()))
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

/// The port for probes of the server with these variables, which has the environment of this process in a container.
///
/// # Errors
/// The first address of a variable is invalid.
fn own_port(variable: impl Fn(&str) -> Option<String>) -> Result<Server, String> {
    let listeners = ["TIDINGS_INTERNAL_LISTEN", "TIDINGS_HTTP_LISTEN"].into_iter().filter_map(variable);
    let first = |list: String| Some(list.split(',').next()?.trim().to_owned());
    let address = listeners.filter_map(first).find(|first| !matches!(&**first, "" | "off"));
    let local = address.map(|address| match address.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address,
    });
    http_port(local.as_deref().unwrap_or("127.0.0.1:8000"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_port_for_probes_of_the_environment() {
        let port = |internal: &'static str, http: &'static str| {
            let variable = move |name: &str| {
                let value = if name == "TIDINGS_INTERNAL_LISTEN" { internal } else { http };
                (!value.is_empty()).then(|| value.to_owned())
            };
            own_port(variable).map(|url| url.to_string())
        };
        let url = |text: &str| http_port(text).map(|url| url.to_string());
        assert_eq!(port("", ""), url("127.0.0.1:8000"));
        assert_eq!(port("", "0.0.0.0:9000"), url("127.0.0.1:9000"));
        assert_eq!(port("[::]:8001, 10.0.0.2:8002", "0.0.0.0:8000"), url("[::1]:8001"));
        assert_eq!(port("off", "10.0.0.2:8000"), url("10.0.0.2:8000"));
        assert_eq!(port("unix:/run/tidings/http.sock", ""), url("unix:/run/tidings/http.sock"));
    }
}
