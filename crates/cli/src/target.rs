//! Server address and credentials: the arguments that several commands share.

use std::path::PathBuf;

use clap::Args;
use tidings_client::tls::{Trust, trust};
use tidings_client::{DEFAULT, Error, Server};

use crate::failure::Failure;

/// Any server, and credentials.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The server: its line port (HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, unix:PATH), or its HTTP port
    /// (ws://HOST:PORT, http://HOST:PORT; wss:// and https:// for TLS; with the path prefix of a proxy, if there is one)
    #[arg(long, value_name = "URL", env = "TIDINGS_SERVER", default_value = DEFAULT)]
    pub(crate) server: Server,

    /// The server's API key: for http:// and the line port
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,

    /// A connection token, as `tidings token` makes them: for everything but the API
    #[arg(long, value_name = "TOKEN", env = "TIDINGS_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// Whose certificates are good where TLS is spoken.
#[derive(Args, Clone, Debug)]
pub(crate) struct TlsArgs {
    /// Trusts the certificates in this file (PEM) and those that they have signed, instead of this machine's
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,

    /// Trusts every certificate, so that a machine in between may read and change everything: for tests
    #[arg(long, conflicts_with = "cafile")]
    insecure: bool,
}

impl TlsArgs {
    /// Has it hold for every connection from now on.
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
    /// What RESP's `AUTH` takes: a token makes a client, a key a backend.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.token.as_deref().or(self.key.as_deref())
    }

    /// Converts an error into the command's failure. A client that was refused without a token at a WebSocket or an
    /// event stream gets a hint that it needs one: a key, which may be set for other servers, does not apply there.
    pub(crate) fn failure(&self, error: Error) -> Failure {
        let is_web = matches!(self.server, Server::Web(_));
        match error {
            Error::Refused { what, words, temporary: false } if is_web && self.token.is_none() => {
                Failure::Failed(format!(
                    "the server refused {what}: {words}; --token gives a connection token, and `tidings token \
                     connection` makes one"
                ))
            }
            other => Failure::new(other),
        }
    }
}

/// Reads the address of a line port.
///
/// # Errors
/// What to write instead.
pub(crate) fn line_port(text: &str) -> Result<Server, String> {
    match text.parse()? {
        Server::Web(web) => {
            Err(format!("{web} is not a line port: use HOST:PORT, tls://HOST:PORT or unix:PATH"))
        }
        server => Ok(server),
    }
}
