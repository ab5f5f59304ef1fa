//! Which server a command speaks to, and who asks: the arguments that several commands take.

use clap::Args;
use tidings_client::{DEFAULT, Server};

use crate::failure::Failure;

/// Any server, and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The server: its line port (HOST:PORT, tcp://HOST:PORT, unix:PATH), or its HTTP port (ws://HOST:PORT,
    /// http://HOST:PORT; wss:// and https:// for TLS; with the path prefix of a proxy, if there is one)
    #[arg(long, value_name = "URL", env = "TIDINGS_SERVER", default_value = DEFAULT)]
    pub(crate) server: Server,

    /// The server's API key: for http:// and the line port
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,

    /// A connection token, as `tidings token` makes them: for everything but the API
    #[arg(long, value_name = "TOKEN", env = "TIDINGS_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

impl ServerArgs {
    /// What RESP's `AUTH` takes: a token makes a client, a key a backend.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.token.as_deref().or(self.key.as_deref())
    }

    /// The connection token where a key would not do.
    ///
    /// # Errors
    /// [`Failure::Usage`] when there is a key and no token: the wish to be more than a client would be ignored.
    pub(crate) fn client_token(&self) -> Result<Option<String>, Failure> {
        if self.token.is_none() && self.key.is_some() {
            return Err(Failure::Usage(format!(
                "{} takes a connection token (--token), not the API key; `tidings token connection` makes one",
                self.server
            )));
        }
        Ok(self.token.clone())
    }
}

/// A line port, and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct LineArgs {
    /// The server's line port: HOST:PORT, tcp://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", env = "TIDINGS_SERVER", default_value = DEFAULT, value_parser = line_port)]
    pub(crate) server: Server,

    /// The secret to authenticate with: the server's API key or a connection token
    #[arg(long, value_name = "KEY", env = "TIDINGS_HTTP_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
}

/// Reads the address of a line port.
///
/// # Errors
/// What to write instead.
pub(crate) fn line_port(text: &str) -> Result<Server, String> {
    match text.parse()? {
        Server::Web(web) => {
            Err(format!("{web} is not a line port: use HOST:PORT, tcp://HOST:PORT or unix:PATH"))
        }
        server => Ok(server),
    }
}
