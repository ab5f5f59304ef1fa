//! The listeners: the line port, the HTTP port, TLS.

use std::path::PathBuf;
use std::time::Duration;

use tidings_auth::Secret;
use tidings_wire::Channel;
use tidings_wire::plain::Escape;

use super::{HOUR, MIB, MINUTE, SECOND};
use crate::group::group;
use crate::setting::{bytes, count, millis};
use crate::value::{Http2, ListenAddr, PemText, TlsRequired, TlsVersion};

group! {
    /// The line port: plain lines, RESP and JSON lines over TCP. The first byte that a client sends selects the
    /// protocol.
    pub struct TcpOptions {
        /// Addresses of the line port; port 0 picks a free one, `off` or an empty list disables the port. The flag is
        /// `--tcp`; `tcp = …` in a file without other `tcp` options, and `TIDINGS_TCP`, are aliases. An address that
        /// other machines can reach requires a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "127.0.0.1:5567", ();
        /// Whether every connection of the line port begins with a PROXY protocol header (version 1 or 2), in which a proxy
        /// states the address of its client: HAProxy `send-proxy-v2`, nginx `proxy_protocol on`. Over TCP only proxies in
        /// `trusted_proxies` may connect then; over a Unix socket every process that may open it. A connection without a
        /// header within `client.stale_close_delay` is closed. Health checks send the header as well (HAProxy
        /// `check-send-proxy`).
        proxy_protocol: bool = "false", ();
        /// Whether a plain line that is not a command is echoed. Otherwise the answer is `UNKNOWN COMMAND`.
        echo: bool = "true", (), reload;
        /// Channels to which a new plain connection is subscribed; at most `client.channel_limit`.
        auto_subscribe: Vec<Channel> = "updates", (), reload;
        /// Channel of `SUBSCRIBE` and `UNSUBSCRIBE` without a name. Plain clients receive its messages as the body
        /// alone.
        default_channel: Channel = "updates", (), reload;
        /// Which messages are escaped on plain lines. `auto`: only messages with line breaks that are not JSON, as
        /// `\r`, `\n` and, for a backslash, `\\`; line breaks between the tokens of JSON become spaces, and every other
        /// message is sent byte for byte. `always`: line breaks and backslashes of every message, so that a client can
        /// unescape without inspecting the message.
        escape: Escape = "auto", (), reload;
        /// Longest line or RESP value from a client, without its line ending. A longer one is answered with an error
        /// that names the limit, and the connection is closed.
        max_line: usize = "65536", bytes(64, 16 * MIB), reload;
        /// Time for which automatic subscriptions wait for the first byte of a new connection, which selects the
        /// protocol. After it, a silent connection is served as plain lines.
        first_byte_wait: Duration = "250ms", millis(0, 10 * SECOND), reload;
    }
}

group! {
    /// The HTTP port: `/health`, `/ready`, `/metrics`, the page, the server API, and the transports below.
    pub struct HttpOptions {
        /// Addresses of the HTTP port; port 0 picks a free one, `off` or an empty list disables the port. The flag is
        /// `--http`; `http = …` in a file without other `http` options, and `TIDINGS_HTTP`, are aliases. An address
        /// that other machines can reach requires a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "127.0.0.1:8000", ();
        /// Whether every connection of the HTTP port begins with a PROXY protocol header, before TLS and HTTP; see
        /// `tcp.proxy_protocol`. Probes without a proxy use `internal.listen`, which expects no header. `Forwarded` and
        /// `X-Forwarded-For` are then only used if the address in the header belongs to `trusted_proxies`, as with two
        /// proxies in a row.
        proxy_protocol: bool = "false", ();
        /// Most connections that wait for a request or its response at a time. At the limit the slowest ones are closed
        /// for new ones; when none is slow, a request waits up to two seconds and is then answered with 503. `/health`,
        /// `/ready`, `/metrics` and WebSocket handshakes have a reserve of 64 more. A connection that becomes a
        /// WebSocket or a stream no longer counts here, but in `client.connection_limit`.
        connection_limit: usize = "512", count(1, 1_000_000);
        /// Most of those connections from one address (one /64 network of IPv6). 0 is half of `http.connection_limit`,
        /// and no limit for loopback addresses. The address is that of the peer, or with `http.proxy_protocol` that in the
        /// header. There is no such limit for proxies in
        /// `trusted_proxies`, because their connections carry requests of many clients, nor for Unix sockets: configure
        /// a limit in the proxy (nginx: `limit_conn`).
        connection_limit_per_address: usize = "0", count(0, 1_000_000);
        /// Lowest data rate of a request's body and of a client that reads a response, in bytes per second. A body that
        /// falls ten seconds behind is answered with 408, a response that falls thirty seconds behind is cut off. With
        /// 0 only transfers without any progress count as slow.
        min_data_rate: usize = "240", count(0, 1_000_000_000);
        /// HTTP/2. `auto`: a connection with TLS uses it if the client selects it (ALPN `h2`), and one without TLS if
        /// it begins with the preface of HTTP/2 (h2c with prior knowledge, as proxies use it). `off`: HTTP/1.1 alone.
        http2: Http2 = "auto", ();
        /// Most concurrent streams of an HTTP/2 connection: requests, event streams and WebSockets. A client opens
        /// another connection for further ones.
        http2_max_concurrent_streams: usize = "128", count(1, 65_536);
    }
}

group! {
    /// Listeners for operators: `/health`, `/ready`, `/metrics` and the server API, over plain HTTP.
    pub struct InternalOptions {
        /// Addresses of the internal port; port 0 picks a free one. With an address, these paths are served there and no
        /// longer on the HTTP port. Without one, `/metrics` on an HTTP port that other machines can reach requires
        /// `http_api.key`. An address that other machines can reach requires a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "", ();
    }
}

group! {
    /// TLS on the server's listeners: `https` and `wss` on the HTTP port, and every protocol of the line port inside
    /// TLS. Unix sockets stay plaintext. A renewed certificate is loaded without a restart, and connections stay open.
    pub struct TlsOptions {
        /// Whether TLS is enabled. The HTTP port then accepts TLS alone; for the line port see `tls.required`.
        enabled: bool = "false", ();
        /// File with the certificate in PEM, followed by the intermediate certificates.
        cert_pem_file: Option<PathBuf> = "", (), reload;
        /// The same without a file: PEM, or its base64. A path is accepted as well, as in Centrifugo 6.
        cert_pem: PemText = "", (), reload;
        /// File with the private key in PEM (PKCS #8, PKCS #1 or SEC 1), without a passphrase.
        key_pem_file: Option<PathBuf> = "", (), reload;
        /// The same without a file: PEM, or its base64, or a path.
        key_pem: Secret = "", (), reload;
        /// File with certificates of authorities, in PEM, that verify client certificates. With it, a client without a
        /// valid certificate is refused.
        client_ca_pem_file: Option<PathBuf> = "", (), reload;
        /// The same without a file: PEM, or its base64, or a path.
        client_ca_pem: PemText = "", (), reload;
        /// Lowest accepted version of TLS. Versions before 1.2 are not supported.
        min_version: TlsVersion = "1.2", (), reload;
        /// Whether the line port refuses connections without TLS. `auto`: on addresses that other machines can reach;
        /// on a loopback address plaintext is accepted, too. `false`: plaintext is accepted everywhere, and can be read
        /// on the network.
        required: TlsRequired = "auto", ();
        /// Longest time from accepting a connection to the end of its handshake.
        handshake_timeout: Duration = "10s", millis(100, 10 * MINUTE);
        /// Most handshakes in progress, of both ports together; further ones wait, at most `tls.handshake_timeout`.
        handshake_limit: usize = "1024", count(1, 1_000_000);
        /// Time for which a browser that has reached the server over TLS must use TLS (HTTP Strict Transport Security,
        /// RFC 6797); a whole number of seconds. 0 sends no such header. Never sent for `localhost` and IP addresses.
        hsts_max_age: Duration = "720h", millis(0, 20_000 * HOUR);
        /// Interval at which the files are checked for a renewed certificate. `SIGHUP` reads them at once.
        reload_interval: Duration = "1m", millis(100, 24 * HOUR);
    }
}
