//! Connections to a database.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use thiserror::Error;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config};

use super::tls::Tls;
use crate::SetupError;

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without data after which the kernel checks a connection, and for which sent data may be unacknowledged.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Why a connection cannot be used any more.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The database has refused a statement or the connection, or the connection has broken.
    #[error("{}", with_causes(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The database did not respond in time.
    #[error("no response within {} s", STATEMENT_TIMEOUT.as_secs())]
    Timeout,
    /// The database has closed the connection.
    #[error("the connection was closed")]
    Closed,
}

/// The address of a database, with the credentials.
pub(crate) struct Address {
    config: Config,
    tls: Tls,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
}

impl Address {
    /// Parses `dsn`, of the consumer `consumer`.
    ///
    /// # Errors
    /// [`SetupError`] if it is no address, or TLS cannot be set up.
    pub(crate) fn new(consumer: &str, dsn: &str) -> Result<Self, SetupError> {
        let option = format!("consumers.{consumer}.postgresql.dsn");
        let refused =
            |reason: &str| SetupError::Address { option: option.clone(), reason: reason.to_owned() };
        // The errors of the parser could repeat a part of the password.
        let mut config: Config = dsn.parse().map_err(|_| {
            refused("expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with parameters that are known (sslmode, connect_timeout)")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refused("it has no host: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"));
        }
        if config.get_ssl_mode() == SslMode::Prefer && is_local(&config) {
            config.ssl_mode(SslMode::Disable);
        }
        config.keepalives_idle(KEEP_ALIVE).tcp_user_timeout(KEEP_ALIVE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("tidings");
        }
        let uses_tls = config.get_ssl_mode() != SslMode::Disable;
        let tls = tidings_outbound::tls(uses_tls, &option)?;
        Ok(Self { config, tls: Tls::new(tls) })
    }

    /// Opens a connection. `on_event` is called with the payload of each notification, and with `None` when the connection has
    /// ended.
    ///
    /// # Errors
    /// [`Failure`] if the database cannot be reached or refuses the connection.
    pub(crate) async fn connect(
        &self,
        mut on_event: impl FnMut(Option<&str>) + Send + 'static,
    ) -> Result<Client, Failure> {
        let (client, mut connection) = within(self.config.connect(self.tls.clone())).await?;
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
            // The error of a broken connection is that of the statement that waits for a response.
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message {
                    on_event(Some(notification.payload()));
                }
            }
            on_event(None);
        });
        Ok(client)
    }
}

/// Waits for a response of the database, for a bounded time.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn within<T>(
    response: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, response).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::Timeout),
    }
}

/// The text of an error with those of its causes, which the client does not repeat.
fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Whether every host is this machine, so that no other machine can read the connection.
fn is_local(config: &Config) -> bool {
    let is_local_host = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
        Host::Unix(_) => true,
    };
    match config.get_hostaddrs() {
        [] => config.get_hosts().iter().all(is_local_host),
        addresses => addresses.iter().all(IpAddr::is_loopback),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(dsn: &str) -> Result<Address, SetupError> {
        Address::new("outbox", dsn)
    }

    #[test]
    fn only_connections_within_the_machine_are_without_tls_by_default() {
        let mode = |dsn: &str| address(dsn).unwrap().config.get_ssl_mode();
        for local in [
            "postgresql://ann@localhost/shop",
            "postgresql://ann@127.0.0.1:5433/shop",
            "host=/run/postgresql",
        ] {
            assert_eq!(mode(local), SslMode::Disable, "{local}");
        }
        for other in
            ["postgresql://ann@db/shop", "postgresql://localhost,db/shop", "host=localhost hostaddr=10.0.0.1"]
        {
            assert_eq!(mode(other), SslMode::Prefer, "{other}");
        }
        assert_eq!(mode("postgresql://localhost/shop?sslmode=require"), SslMode::Require);
    }

    #[test]
    fn the_error_of_an_address_contains_no_password() {
        for wrong in [
            "mysql://ann:hunter22@db/shop",
            "postgresql://ann:hunter22@db:port/shop",
            "postgresql://ann:hunter22@/shop",
        ] {
            let error = address(wrong).unwrap_err().to_string();
            assert!(error.starts_with("consumers.outbox.postgresql.dsn: "), "{error}");
            assert!(!error.contains("hunter22"), "{error}");
        }
        assert!(!format!("{:?}", address("postgresql://ann:hunter22@db/shop").unwrap()).contains("hunter22"));
    }
}
