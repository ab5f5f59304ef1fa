//! Settings of Caddy.

use super::{Advice, Problem};

pub(super) fn advice(problem: Problem) -> Advice {
    match problem {
        Problem::Path => Advice {
            why: "Another server responds at this path. In the Caddyfile, `handle_path` removes a path prefix:",
            lines: &["handle_path /push/* {", "    reverse_proxy 127.0.0.1:8000", "}"],
        },
        Problem::Upstream => Advice {
            why: "Caddy does not reach the server. Is it running, and is this its address (`tidings serve` prints it)? If the \
                  server has http.proxy_protocol, its trusted_proxies must contain the address of Caddy, and the server's \
                  log has the reason:",
            lines: &["reverse_proxy 127.0.0.1:8000"],
        },
        Problem::HeaderMissing => Advice {
            why: "The server expects a PROXY protocol header (http.proxy_protocol), and Caddy sends none. In reverse_proxy, \
                  from Caddy 2.7 on:",
            lines: &["transport http {", "    proxy_protocol v2", "}"],
        },
        Problem::HeaderUnexpected => Advice {
            why: "Caddy sends a PROXY protocol header that the server does not expect. Remove `proxy_protocol` from \
                  `transport http`, or set in the server's configuration file:",
            lines: &["trusted_proxies = [\"127.0.0.1\"]", "", "[http]", "proxy_protocol = true"],
        },
        Problem::Upgrade => Advice {
            why: "Caddy does not pass the upgrade. Its reverse_proxy does by default: remove `header_up -Upgrade`, \
                  `header_up -Connection` and `versions` of `transport http` without 1.1:",
            lines: &["transport http {", "    versions 1.1", "}"],
        },
        Problem::Host => Advice {
            why: "Pages from this address are rejected, because Caddy sends another host name: remove `header_up Host`, or \
                  in reverse_proxy:",
            lines: &["header_up Host {host}"],
        },
        Problem::Buffering | Problem::Delay => Advice {
            why: "Caddy collects responses before it passes them on. Remove `buffer_responses` (`response_buffers`), and in \
                  reverse_proxy:",
            lines: &["flush_interval -1"],
        },
        Problem::Compression => Advice {
            why: "Caddy compresses event streams, and delays them for that. Remove `encode` for tidings, which compresses \
                  its responses itself, or limit it:",
            lines: &["encode gzip {", "    match header Content-Type text/html*", "}"],
        },
        Problem::IdleWebSocket | Problem::IdleStream => Advice {
            why: "Caddy closes silent connections: `read_timeout` or `write_timeout` of `transport http` is too short (for a \
                  stream also `write` of the global `timeouts`). The server pings every 25 s unless client.ping_interval \
                  sets another interval. In reverse_proxy, no timeout or:",
            lines: &["transport http {", "    read_timeout 75s", "    write_timeout 75s", "}"],
        },
        Problem::BodySize => Advice {
            why: "Caddy rejects requests of this size: `max_size` of `request_body` is too small. The server accepts rows of \
                  up to 16 MiB:",
            lines: &["request_body {", "    max_size 16MiB", "}"],
        },
        Problem::RequestBuffering => Advice {
            why: "Caddy collects a request before the server gets it, so uploads occupy its memory and begin late. In \
                  reverse_proxy remove:",
            lines: &["buffer_requests    # request_buffers from Caddy 2.7 on"],
        },
        Problem::Address => Advice {
            why: "Caddy does not state the client's address, so limits count all clients as one. It does by \
                  default: remove `header_up -X-Forwarded-For`, or in reverse_proxy:",
            lines: &["header_up X-Forwarded-For {remote_host}"],
        },
    }
}
