//! Server address and credentials: the arguments that several commands share.

use std::path::PathBuf;

use clap::Args;
use tidings_client::tls::{Trust, trust};
use tidings_client::{DEFAULT, Error, Server, Web};

use crate::failure::Failure;

/// A server address and credentials.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The server: its line port (HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, unix:PATH), or its HTTP port
    /// (ws://HOST:PORT, http://HOST:PORT; wss:// and https:// for TLS; with the path prefix of a proxy, if there is
    /// one); to subscribe, publish and bench also a broker of MQTT (mqtt://HOST:PORT, mqtts:// for TLS)
    #[arg(long, value_name = "URL", env = "TIDINGS_SERVER", default_value = DEFAULT)]
    pub(crate) server: Server,

    /// The server's API key: for http:// and the line port
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,

    /// A connection token, as `tidings token` creates them: for everything except the API
    #[arg(long, value_name = "TOKEN", env = "TIDINGS_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// The trusted certificates for TLS.
#[derive(Args, Clone, Debug)]
pub(crate) struct TlsArgs {
    /// Trusts the certificates in this file (PEM) and those that they have signed, instead of the system's
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,

    /// Trusts every certificate, so that an attacker on the network can read and change everything: only for tests
    #[arg(long, conflicts_with = "cafile")]
    insecure: bool,
}

impl TlsArgs {
    /// Applies the setting to all later connections.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        let whom = match &self.cafile {
            Some(path) => Trust::File(path.clone()),
            None if self.insecure => Trust::Insecure,
            None => return Ok(()),
        };
        trust(&whom).map_err(|why| Failure::Usage(format!("--cafile: {why}")))
    }
}

impl ServerArgs {
    /// The secret for RESP's `AUTH`: a token makes a client, a key makes a backend.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.token.as_deref().or(self.key.as_deref())
    }

    /// Converts an error into the command's failure. A client that was rejected without a token at a WebSocket or an
    /// event stream gets a hint that it needs one: a key, which may be configured for other servers, does not apply
    /// there.
    pub(crate) fn failure(&self, error: Error) -> Failure {
        let is_web = matches!(self.server, Server::Web(_));
        match error {
            Error::Refused { what, text, temporary: false } if is_web && self.token.is_none() => {
                Failure::Failed(format!(
                    "the server refused {what}: {text}; --token gives a connection token, and `tidings token \
                     connection` makes one"
                ))
            }
            other => Failure::new(other),
        }
    }
}

/// Parses the address of a line port.
///
/// # Errors
/// The expected form.
pub(crate) fn line_port(text: &str) -> Result<Server, String> {
    match text.parse()? {
        server @ (Server::Web(_) | Server::Mqtt { .. }) => {
            Err(format!("{server} is not a line port: use HOST:PORT, tls://HOST:PORT or unix:PATH"))
        }
        server => Ok(server),
    }
}

/// Parses the address of an HTTP port; a WebSocket address is accepted.
///
/// # Errors
/// The expected form.
pub(crate) fn http_port(text: &str) -> Result<Web, String> {
    match text.parse()? {
        Server::Web(web) => Ok(Web { websocket: false, ..web }),
        other => Err(format!("{other} is not an HTTP port: use http://HOST:PORT or https://HOST")),
    }
}
