//! Settings of Traefik 3. `entryPoints` belong to the static configuration, the rest to the dynamic one.

use super::{Advice, Problem};

pub(super) fn advice(problem: Problem) -> Advice {
    match problem {
        Problem::Path => Advice {
            why: "Another server responds at this path, or no router of Traefik matches it. A middleware removes a path \
                  prefix:",
            lines: &[
                "rule: \"Host(`push.example.org`) && PathPrefix(`/push/`)\"",
                "middlewares: [tidings-strip]    # stripPrefix: { prefixes: [/push] }",
            ],
        },
        Problem::Upstream => Advice {
            why: "Traefik does not reach the server. Is it running, and is this its address (`tidings serve` prints it)? \
                  With http.proxy_protocol the server closes connections without a PROXY header, and its log has the reason:",
            lines: &["servers: [{ url: \"http://127.0.0.1:8000\" }]"],
        },
        Problem::HeaderMissing => Advice {
            why: "The server expects a PROXY protocol header, which Traefik sends only to services of TCP. In the server's \
                  configuration file:",
            lines: &["[http]", "proxy_protocol = false"],
        },
        Problem::HeaderUnexpected => Advice {
            why: "Traefik sends a PROXY protocol header that the server does not expect. Remove `proxyProtocol` from the \
                  service, or set in the server's configuration file:",
            lines: &["trusted_proxies = [\"127.0.0.1\"]", "", "[http]", "proxy_protocol = true"],
        },
        Problem::Upgrade => Advice {
            why: "Traefik does not pass the upgrade. It does by default: remove the `headers` middleware that sets \
                  `Upgrade` or `Connection`, and point the service to plain HTTP/1.1:",
            lines: &["servers: [{ url: \"http://127.0.0.1:8000\" }]    # no h2c://"],
        },
        Problem::Host => Advice {
            why: "Pages from this address are rejected, because Traefik sends another host name. In the loadBalancer of the \
                  service:",
            lines: &["passHostHeader: true"],
        },
        Problem::Buffering => Advice {
            why: "Traefik collects responses before it passes them on. Remove the `buffering` middleware, and in the \
                  loadBalancer of the service:",
            lines: &["responseForwarding: { flushInterval: -1ms }"],
        },
        Problem::Delay => Advice {
            why: "Traefik passes parts of a stream on late: `flushInterval` (100 ms without the line). In the loadBalancer \
                  of the service:",
            lines: &["responseForwarding: { flushInterval: -1ms }"],
        },
        Problem::Compression => Advice {
            why: "Traefik compresses event streams, and delays them for that. Remove the `compress` middleware, or exclude \
                  the type:",
            lines: &["compress: { excludedContentTypes: [text/event-stream] }"],
        },
        Problem::IdleWebSocket | Problem::IdleStream => Advice {
            why: "Traefik closes long connections: `writeTimeout`, `readTimeout` or `idleTimeout` of `respondingTimeouts` is \
                  too short (readTimeout is 60 s without the line). Under transport of the entry point:",
            lines: &["respondingTimeouts: { readTimeout: 0s, writeTimeout: 0s, idleTimeout: 75s }"],
        },
        Problem::BodySize => Advice {
            why: "Traefik rejects requests of this size: `maxRequestBodyBytes` of the `buffering` middleware is too small. \
                  Remove the middleware, which also collects streams, or:",
            lines: &["buffering: { maxRequestBodyBytes: 16777216 }"],
        },
        Problem::RequestBuffering => Advice {
            why: "Traefik collects a request before the server gets it. Remove the `buffering` middleware:",
            lines: &["middlewares: []"],
        },
        Problem::Address => Advice {
            why: "Traefik does not state the client's address, so limits count all clients as one. It does by \
                  default; with another proxy in front, `forwardedHeaders.trustedIPs` of the entry point must \
                  contain the address of that proxy:",
            lines: &["forwardedHeaders: { trustedIPs: [10.0.0.5] }"],
        },
    }
}
