//! Clients of every transport: connections, tokens, personal channels.

use std::time::Duration;

use http::HeaderName;
use tidings_auth::{JwksUrl, KeyType, PublicKey, Secret};
use tidings_pattern::Pattern;

use super::{GIB, HOUR, KIB, MINUTE};
use crate::group::group;
use crate::origin::AllowedOrigin;
use crate::proxy::ClientProxies;
use crate::setting::{MaxLength, bytes, count, millis};

/// The last second of the year 9999, in Unix time.
pub(super) const END_OF_TIME: usize = 253_402_300_799;
/// An example of the address of a key set.
const KEY_SET: &str = "https://id.example.com/.well-known/jwks.json";

group! {
    /// Clients of every transport.
    pub struct ClientOptions {
        /// Origins of pages that may connect, besides the server's own: `https://example.com`, `https://*.example.com`,
        /// or `*` for all. A browser with a page of another origin is refused. Clients that send no origin (all but
        /// browsers) are not affected. `*` matches any characters. The default port of a scheme is removed, as browsers
        /// do; an origin that a browser never sends is an error.
        allowed_origins: Vec<AllowedOrigin> = "", (), reload;
        /// Whether every client may connect, subscribe and publish in all channels, regardless of keys and channel
        /// options. Listeners may then be reachable from other machines without any key. For tests, and for networks
        /// where every client is trusted.
        insecure: bool = "false", (), reload;
        /// Whether tokens are accepted with any signature, and without a key, so that every client can connect as any user and
        /// subscribe to private channels. The times, the audience and the issuer of tokens are checked. For tests alone: a
        /// listener that other machines can reach needs a key or `client.insecure` nevertheless.
        insecure_skip_token_signature_verify: bool = "false", (), reload;
        /// Whether a client with a token without a user (`sub`) is refused with error 103.
        disallow_anonymous_connection_tokens: bool = "false", (), reload;
        /// Whether a client without a token may connect as an anonymous user when a token key is configured.
        allow_anonymous_connect_without_token: bool = "false", (), reload;
        /// Bound of the queue of one connection with a client that does not read as fast as the server sends. At the
        /// bound the channel's `slow_consumer` applies.
        queue_max_size: usize = "1048576", bytes(KIB, GIB), reload;
        /// Bound of all queues together; at least `client.queue_max_size`. At the bound, a connection with a queue is
        /// treated as if its own queue were full.
        queue_max_total: usize = "268435456", bytes(KIB, 1024 * GIB);
        /// Interval of the server's pings to clients of the client protocol, so that neither side, nor a proxy between
        /// them, closes a silent connection.
        ping_interval: Duration = "25s", millis(100, HOUR);
        /// Longest time for a client's reply to a ping, after which its connection is closed; shorter than
        /// `client.ping_interval`, and half of that when only the interval is given and is too short.
        pong_timeout: Duration = "8s", millis(10, HOUR);
        /// Most subscriptions of one connection.
        channel_limit: usize = "128", count(1, 1_000_000), reload;
        /// Most publications in a reply to a client's request for a history; further ones need further requests. 0 is no limit
        /// besides `client.queue_max_size`, which limits the bytes. It does not apply to the server API.
        history_max_publication_limit: usize = "100000", count(0, 10_000_000), reload;
        /// Most publications that a client recovers in a channel. A client that missed more gets none of them, and
        /// `recovered: false`. 0 is no limit besides `client.queue_max_size`, which limits the bytes.
        recovery_max_publication_limit: usize = "100000", count(0, 10_000_000), reload;
        /// Name of an HTTP header with the user's id, such as `X-User-Id`, which an authenticating proxy sets: a client without
        /// a token whose request has it connects as that user, unless the connect hook is enabled. Taken from proxies in
        /// `trusted_proxies` alone, which must remove the header that a client sends. Empty for none.
        user_id_http_header: Option<HeaderName> = "", (), reload;
        /// Whether the reply to `connect` has the server's time in Unix milliseconds (`time`), for clients that compare their
        /// clocks with it.
        connect_include_server_time: bool = "false", (), reload;
        /// Most connections of the server, of all transports together. 0 is the limit of open files.
        connection_limit: usize = "0", count(0, 10_000_000), reload;
        /// Most new connections per second on this server, of all transports together, with bursts of the same number.
        /// Further ones are answered with error 3013 on the line port and 429 over HTTP. 0 is no limit.
        connection_rate_limit: usize = "0", count(0, 10_000_000), reload;
        /// Most connections of one user on this server. A further one is closed with code 3504, after which clients do
        /// not reconnect. 0 is no limit.
        user_connection_limit: usize = "0", count(0, 10_000_000), reload;
        /// Whether a user has one connection at a time, over all nodes: a new connection closes earlier ones with code
        /// 3503, after which clients do not reconnect. Nodes compare the times of connections by their clocks.
        single_connection: bool = "false", (), reload;
        /// Longest time until a connection of the client protocol sends its `connect` command.
        stale_close_delay: Duration = "10s", millis(10, HOUR), reload;
        /// Time for a client that is disconnected for being slow to read the notice.
        slow_close_delay: Duration = "5s", millis(0, MINUTE), reload;
        /// Time for a client to send a new token after its connection has expired, before the connection is closed.
        expired_close_delay: Duration = "25s", millis(0, HOUR), reload;
        /// Time for a client to send a new token after a subscription has expired, before the subscription ends.
        expired_sub_close_delay: Duration = "25s", millis(0, HOUR), reload;
        /// Time without the broker after which clients with subscriptions to channels with a history receive a request
        /// to reconnect, to another node: with code 3011, spread over the same time again. 0 disables it. Clients
        /// without such subscriptions, and those that connect meanwhile, stay; their subscribe commands get the
        /// temporary error 100 until the broker is back.
        broker_down_delay: Duration = "15s", millis(0, HOUR), reload;
    }
    groups {
        /// Personal channels of users.
        subscribe_to_user_personal_channel: PersonalChannelOptions;
        /// Verification of connection tokens.
        token: TokenOptions;
        /// Verification of subscription tokens, where it differs from that of connection tokens.
        subscription_token: SubscriptionTokenOptions;
        /// Hooks for clients.
        proxy: ClientProxies;
    }
}

group! {
    /// A personal channel for each user, `#` and the user's id. The server subscribes all connections of the user to
    /// it, so that a backend reaches a user on any node. A user with `#` or `,` in the id is refused (103), because the
    /// name could be that of another user's channel.
    pub struct PersonalChannelOptions {
        /// Whether clients with a user are subscribed to their personal channel when they connect.
        enabled: bool = "false", (), reload;
        /// Namespace of personal channels, which are then `NAMESPACE:#USER`; empty for none.
        personal_channel_namespace: String = "", MaxLength(253), reload;
    }
}

group! {
    /// Verification of connection tokens (JSON Web Tokens), and of subscription tokens unless
    /// `client.subscription_token.enabled` is set.
    pub struct TokenOptions {
        /// Key of tokens signed with HMAC (`HS256`, `HS384`, `HS512`). Once this or another key is set, clients need a
        /// token, and the options of channels define their permissions.
        hmac_secret_key: Secret = "", (), reload;
        /// The previous `client.token.hmac_secret_key`: tokens signed with it are still accepted, so that the key can
        /// be rotated.
        hmac_previous_secret_key: Secret = "", (), reload;
        /// Time until which the previous key is accepted, in Unix seconds; 0 is no end.
        hmac_previous_secret_key_valid_until: usize = "0", count(0, END_OF_TIME), reload;
        /// Key of tokens signed with RSA (`RS256`, `RS384`, `RS512`), of 2048 to 8192 bits. A line break may be written
        /// as `\n`.
        rsa_public_key: Option<PublicKey> = "", KeyType::Rsa, reload;
        /// Key of tokens signed with ECDSA: on P-256 for `ES256`, on P-384 for `ES384`, on P-521 for `ES512`. A line
        /// break may be written as `\n`.
        ecdsa_public_key: Option<PublicKey> = "", KeyType::Ecdsa, reload;
        /// URL at which an identity provider publishes its keys as a JSON Web Key Set. A token is verified with the key
        /// that its header names (`kid`), and the other keys here have no effect. The set is fetched when a token needs
        /// it, again after an hour, and for an unknown key at most every 10 seconds; known keys stay in use while the
        /// URL is not reachable. Keys that cannot be used are logged with the reason. A variable such as `{{realm}}` stands for the
        /// group `(?P<realm>…)` of `client.token.issuer_regex` or `client.token.audience_regex`: each issuer has a key set of its own.
        jwks_public_endpoint: Option<JwksUrl> = "", KEY_SET, reload;
        /// Required audience of tokens (`aud`). Without it any audience is accepted: set it when the same issuer or key
        /// makes tokens for other services.
        audience: String = "", MaxLength(1024), reload;
        /// Required issuer of tokens (`iss`). Without it any issuer with the key is accepted.
        issuer: String = "", MaxLength(1024), reload;
        /// Pattern of accepted audiences: one of the token's audiences must match. It matches any part unless it has `^` and
        /// `$`. Not with `client.token.audience`.
        audience_regex: Option<Pattern> = "", (), reload;
        /// Pattern of accepted issuers, which matches any part unless it has `^` and `$`. Not with `client.token.issuer`.
        issuer_regex: Option<Pattern> = "", (), reload;
        /// Claim with the user's id in place of `sub`, for identity providers that have it elsewhere. Empty for `sub`.
        user_id_claim: String = "", MaxLength(128), reload;
    }
}

group! {
    /// Verification of subscription tokens, where it differs from that of connection tokens.
    pub struct SubscriptionTokenOptions {
        /// Whether subscription tokens have keys and rules of their own: those of this group, and none of
        /// `client.token`.
        enabled: bool = "false", (), reload;
        /// As `client.token.hmac_secret_key`.
        hmac_secret_key: Secret = "", (), reload;
        /// As `client.token.hmac_previous_secret_key`.
        hmac_previous_secret_key: Secret = "", (), reload;
        /// As `client.token.hmac_previous_secret_key_valid_until`.
        hmac_previous_secret_key_valid_until: usize = "0", count(0, END_OF_TIME), reload;
        /// As `client.token.rsa_public_key`.
        rsa_public_key: Option<PublicKey> = "", KeyType::Rsa, reload;
        /// As `client.token.ecdsa_public_key`.
        ecdsa_public_key: Option<PublicKey> = "", KeyType::Ecdsa, reload;
        /// As `client.token.jwks_public_endpoint`.
        jwks_public_endpoint: Option<JwksUrl> = "", KEY_SET, reload;
        /// As `client.token.audience`.
        audience: String = "", MaxLength(1024), reload;
        /// As `client.token.issuer`.
        issuer: String = "", MaxLength(1024), reload;
        /// As `client.token.audience_regex`.
        audience_regex: Option<Pattern> = "", (), reload;
        /// As `client.token.issuer_regex`.
        issuer_regex: Option<Pattern> = "", (), reload;
        /// As `client.token.user_id_claim`.
        user_id_claim: String = "", MaxLength(128), reload;
    }
}

impl TokenOptions {
    /// Whether connection tokens can be verified: any kind of key is configured.
    pub fn has_key(&self) -> bool {
        let public = self.rsa_public_key.is_some() || self.ecdsa_public_key.is_some();
        public || self.hmac_secret_key.is_set() || self.jwks_public_endpoint.is_some()
    }
}
