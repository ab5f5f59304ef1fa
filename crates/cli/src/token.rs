//! `tidings token`: creates tokens with the configured key; `check` prints the content of one.
//!
//! Invariants: stdout contains only the created token, so that it can be assigned to a variable; no key is ever
//! printed.

mod check;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_auth::sign_hs256;
use tidings_config::{ClientOptions, Overrides, Secret, SubscriptionTokenOptions, TokenOptions};
use tidings_wire::Channel;

use crate::failure::Failure;
use crate::input::duration;
use crate::stdout::print;

/// Creates tokens for clients, and checks them
#[derive(Args, Debug)]
#[command(after_long_help = "\
A connection token identifies a client; a subscription token permits it to subscribe to one channel. Both are JSON Web Tokens, \
signed with HS256 and the key of the server's configuration (client.token.hmac_secret_key, or that of \
client.subscription_token if it is enabled). In production the application creates them, with any JWT library.

Examples:
  tidings token connection 42 --config tidings.toml
  tidings token subscription 42 --channel '$gossips' --config tidings.toml
  tidings token check TOKEN --config tidings.toml")]
pub(crate) struct Token {
    #[command(subcommand)]
    action: TokenCommand,
}

#[derive(Subcommand, Debug)]
enum TokenCommand {
    Connection(Connection),
    Subscription(Subscription),
    Check(check::Check),
}

impl Token {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// A configuration that is invalid or has no key, a token that would be too long, an invalid token.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match &self.action {
            TokenCommand::Connection(command) => command.run(),
            TokenCommand::Subscription(command) => command.run(),
            TokenCommand::Check(command) => command.run(),
        }
    }
}

/// Prints a token with which a client connects
#[derive(Args, Debug)]
#[command(after_long_help = "\
Where client.token.audience and client.token.issuer are configured, the token names them.

Examples:
  export TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY=\"$(cat key)\"
  tidings token connection 42
  tidings token connection 42 --expires 10m --info '{\"name\":\"Ann\"}' --channels news,chat:1
  tidings token connection '' --expires never")]
struct Connection {
    #[command(flatten)]
    user: User,

    /// Channels that the server subscribes the client to
    #[arg(long, value_name = "CHANNEL,…", value_delimiter = ',', value_parser = channel)]
    channels: Vec<Channel>,

    /// Data for the backend, which other clients do not receive
    #[arg(long, value_name = "JSON", value_parser = json)]
    meta: Option<Box<RawValue>>,

    #[command(flatten)]
    common: Common,
}

/// Prints a token with which a client subscribes to a channel
#[derive(Args, Debug)]
#[command(after_long_help = "\
The token is valid for one channel, and for connections of the same user.

Examples:
  export TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY=\"$(cat key)\"
  tidings token subscription 42 --channel '$gossips'
  tidings token subscription 42 --channel chat:1 --expires 10m --info '{\"nick\":\"ann\"}'")]
struct Subscription {
    #[command(flatten)]
    user: User,

    /// The channel
    #[arg(long, value_name = "CHANNEL", value_parser = channel)]
    channel: Channel,

    #[command(flatten)]
    common: Common,
}

/// The user of a token, as an argument or as an option.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct User {
    /// The user's id, the same in both kinds of token; empty for an anonymous user
    #[arg(value_name = "USER")]
    name: Option<String>,

    /// The user's id as an option, for ids that begin with a dash
    #[arg(long = "user", value_name = "USER", allow_hyphen_values = true)]
    option: Option<String>,
}

impl User {
    /// The id; clap ensures that there is one.
    fn as_str(&self) -> &str {
        self.name.as_deref().or(self.option.as_deref()).unwrap_or_default()
    }
}

/// The options of both kinds of token.
#[derive(Args, Debug)]
struct Common {
    /// The lifetime of the token (10m, 1h), or never for one that does not expire
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    expires: Lifetime,

    /// Data that other clients receive: any JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    info: Option<Box<RawValue>>,

    #[command(flatten)]
    keys: KeySource,
}

/// The source of the key.
#[derive(Args, Debug)]
struct KeySource {
    /// The server's configuration file (.toml, .json, .yaml); also TIDINGS_CONFIG
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The HMAC key, instead of the configured keys. Other users of this machine may see it while the command runs:
    /// prefer TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY
    #[arg(long, value_name = "KEY", value_parser = secret)]
    secret: Option<Secret>,
}

impl KeySource {
    /// The token options, with the given key instead of the configured ones.
    fn options(&self) -> Result<ClientOptions, Failure> {
        let config = tidings_config::load(
            self.config.as_deref(),
            tidings_config::environment()?,
            &Overrides::default(),
        )?;
        let mut options = config.client;
        let Some(hmac_secret_key) = self.secret.clone() else { return Ok(options) };
        let TokenOptions { audience, issuer, .. } = options.token;
        options.token = TokenOptions {
            hmac_secret_key: hmac_secret_key.clone(),
            audience,
            issuer,
            ..TokenOptions::default()
        };
        let SubscriptionTokenOptions { enabled, audience, issuer, .. } = options.subscription_token;
        options.subscription_token = SubscriptionTokenOptions {
            enabled,
            hmac_secret_key,
            audience,
            issuer,
            ..SubscriptionTokenOptions::default()
        };
        Ok(options)
    }
}

/// The parameters of creating a token.
struct Maker {
    key: Secret,
    audience: String,
    issuer: String,
}

impl Maker {
    fn for_connections(options: ClientOptions) -> Result<Self, Failure> {
        let TokenOptions { hmac_secret_key, jwks_public_endpoint, audience, issuer, .. } = options.token;
        Self::new("client.token", hmac_secret_key, jwks_public_endpoint.is_some(), audience, issuer)
    }

    fn for_subscriptions(options: ClientOptions) -> Result<Self, Failure> {
        if !options.subscription_token.enabled {
            return Self::for_connections(options);
        }
        let SubscriptionTokenOptions { hmac_secret_key, jwks_public_endpoint, audience, issuer, .. } =
            options.subscription_token;
        Self::new(
            "client.subscription_token",
            hmac_secret_key,
            jwks_public_endpoint.is_some(),
            audience,
            issuer,
        )
    }

    fn new(
        group: &str,
        key: Secret,
        key_set: bool,
        audience: String,
        issuer: String,
    ) -> Result<Self, Failure> {
        if key_set {
            return Err(Failure::Usage(format!(
                "{group}.jwks_public_endpoint is configured, so the server accepts only tokens of that provider"
            )));
        }
        if !key.is_set() {
            return Err(Failure::Usage(format!(
                "there is no key to sign with: configure {group}.hmac_secret_key (--config, or in the environment), or \
                 give --secret"
            )));
        }
        Ok(Self { key, audience, issuer })
    }

    /// Creates a token with these claims and prints it.
    fn print(&self, common: &Common, claims: Claims<'_>) -> Result<(), Failure> {
        let now = unix_now();
        let present = |text: &'_ String| !text.is_empty();
        let claims = Claims {
            iat: now,
            exp: common.expires.0.map(|lifetime| now + lifetime.as_secs()),
            aud: Some(&self.audience).filter(|text| present(text)),
            iss: Some(&self.issuer).filter(|text| present(text)),
            info: common.info.as_deref(),
            ..claims
        };
        let token = sign_hs256(&self.key, &claims).map_err(Failure::new)?;
        print(format!("{token}\n").as_bytes())
    }
}

/// The claims of a token.
#[derive(Default, Serialize)]
struct Claims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

impl Connection {
    fn run(&self) -> Result<(), Failure> {
        let maker = Maker::for_connections(self.common.keys.options()?)?;
        let claims = Claims {
            sub: self.user.as_str(),
            channels: self.channels.iter().map(Channel::as_str).collect(),
            meta: self.meta.as_deref(),
            ..Claims::default()
        };
        maker.print(&self.common, claims)
    }
}

impl Subscription {
    fn run(&self) -> Result<(), Failure> {
        let maker = Maker::for_subscriptions(self.common.keys.options()?)?;
        let claims =
            Claims { sub: self.user.as_str(), channel: Some(self.channel.as_str()), ..Claims::default() };
        maker.print(&self.common, claims)
    }
}

fn unix_now() -> u64 {
    // With a clock before 1970 every token is not valid yet, which the check reports.
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// The lifetime of a token; `None`: it does not expire.
#[derive(Clone, Copy, Debug)]
struct Lifetime(Option<Duration>);

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime(None));
    }
    let lifetime = duration(text).map_err(|e| format!("{e}, or never"))?;
    if lifetime < Duration::from_secs(1) {
        return Err("less than a second: no client could use it; write 10m, 1h or never".to_owned());
    }
    Ok(Lifetime(Some(lifetime)))
}

fn secret(text: &str) -> Result<Secret, String> {
    let secret = Secret::new(text);
    if secret.is_set() { Ok(secret) } else { Err("the key is empty".to_owned()) }
}

fn channel(name: &str) -> Result<Channel, String> {
    Channel::new(name).map_err(|e| e.to_string())
}

fn json(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_at_least_a_second_or_unlimited() {
        assert_eq!(lifetime("10m").unwrap().0, Some(Duration::from_secs(600)));
        assert_eq!(lifetime("never").unwrap().0, None);
        for wrong in ["0", "500ms", "soon", ""] {
            assert!(lifetime(wrong).unwrap_err().contains("never"), "{wrong}");
        }
    }
}
