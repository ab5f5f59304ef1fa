//! Advice: reasons and lines of configuration, for the proxy of the deployment or for the server.

mod caddy;
mod haproxy;
mod nginx;
mod traefik;

use crate::proxy::Proxy;

/// A recommended change.
#[derive(Debug)]
pub struct Advice {
    /// The problem and its place, in a sentence.
    pub why: &'static str,
    /// The lines to add, or to correct.
    pub lines: &'static [&'static str],
}

/// A problem that a wrong setting of a proxy causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Requests do not reach the server.
    Path,
    /// The proxy cannot reach the server.
    Upstream,
    /// The proxy sends no PROXY header, and the server expects one.
    HeaderMissing,
    /// The proxy sends a PROXY header, and the server expects none.
    HeaderUnexpected,
    /// The proxy does not pass the WebSocket upgrade.
    Upgrade,
    /// The proxy sends another host name, so a page of the deployment is treated as one of another site.
    Host,
    /// Responses are collected before they are passed on.
    Buffering,
    /// Parts of a stream are passed on late.
    Delay,
    /// Streams are compressed.
    Compression,
    /// A silent WebSocket is closed.
    IdleWebSocket,
    /// A silent event stream is closed.
    IdleStream,
    /// Large requests are rejected.
    BodySize,
    /// Requests are collected before they are passed on.
    RequestBuffering,
    /// The proxy does not state the address of the client.
    Address,
}

#[cfg(test)]
const PROBLEMS: [Problem; 14] = [
    Problem::Path,
    Problem::Upstream,
    Problem::HeaderMissing,
    Problem::HeaderUnexpected,
    Problem::Upgrade,
    Problem::Host,
    Problem::Buffering,
    Problem::Delay,
    Problem::Compression,
    Problem::IdleWebSocket,
    Problem::IdleStream,
    Problem::BodySize,
    Problem::RequestBuffering,
    Problem::Address,
];

impl Problem {
    /// The setting of this proxy that causes the problem, and the right one. Without a proxy, the lines are those of nginx.
    pub(crate) fn advice(self, proxy: Option<Proxy>) -> Advice {
        match proxy {
            None | Some(Proxy::Nginx) => nginx::advice(self),
            Some(Proxy::HaProxy) => haproxy::advice(self),
            Some(Proxy::Caddy) => caddy::advice(self),
            Some(Proxy::Traefik) => traefik::advice(self),
        }
    }
}

/// The server does not accept the host name of clients.
pub(crate) const HOST: Advice = Advice {
    why: "Without a key the server only accepts this machine's own names. For other names, configure it for \
          other clients, in its configuration file:",
    lines: &["[http_api]", "key = \"…\"", "", "[client.token]", "hmac_secret_key = \"…\""],
};

/// The server ignores the address that the proxy states.
pub(crate) const UNTRUSTED: Advice = Advice {
    why: "The proxy states the client's address, and the server ignores it, because trusted_proxies does not contain the \
          proxy's address. In the server's configuration file:",
    lines: &["trusted_proxies = [\"127.0.0.1\"]    # the address of the proxy"],
};

/// Pages of any site may connect.
pub(crate) const ANY_ORIGIN: Advice = Advice {
    why: "Pages of any site may connect with their visitors' permissions. Unless this is intended, in the server's \
          configuration file:",
    lines: &["[client]", "allowed_origins = [\"https://app.example.org\"]"],
};

/// Large messages are lost.
pub(crate) const MESSAGE: Advice = Advice {
    why: "A proxy, or the server's own limit, rejects messages of this size. The \
          server's limit, in its configuration file:",
    lines: &["[websocket]", "message_size_limit = \"64 KiB\""],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_a_setting_of_each_proxy() {
        for problem in PROBLEMS {
            for proxy in Proxy::ALL {
                let Advice { why, lines } = problem.advice(Some(proxy));
                assert!(why.contains(&proxy.to_string()), "{problem:?} {proxy}: {why}");
                assert!(why.ends_with(':') && !lines.is_empty(), "{problem:?} {proxy}: {why}");
            }
        }
    }
}
