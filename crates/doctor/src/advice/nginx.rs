//! Settings of nginx. The lines belong in the `location` of the server.

use super::{Advice, Problem};

pub(super) fn advice(problem: Problem) -> Advice {
    match problem {
        Problem::Path => Advice {
            why: "Another server responds at this path. In nginx, the location must point to the server; with a path prefix \
                  both paths must end with a slash:",
            lines: &["location /push/ {", "    proxy_pass http://127.0.0.1:8000/;", "}"],
        },
        Problem::Upstream => Advice {
            why: "The proxy does not reach the server. Is it running, and is this its address in nginx (`tidings serve` prints \
                  it)? With http.proxy_protocol the server closes connections without a PROXY header, and its log has the \
                  reason:",
            lines: &["proxy_pass http://127.0.0.1:8000;"],
        },
        Problem::HeaderMissing => Advice {
            why: "The server expects a PROXY protocol header, which nginx does not send to an HTTP upstream. In the server's \
                  configuration file:",
            lines: &["[http]", "proxy_protocol = false"],
        },
        Problem::HeaderUnexpected => Advice {
            why: "The server rejects the input before the request: probably a PROXY protocol header that it does not expect. \
                  Remove the line from nginx, or set http.proxy_protocol = true in the server's configuration file:",
            lines: &["proxy_protocol off;"],
        },
        Problem::Upgrade => Advice {
            why: "The proxy does not pass the upgrade. In nginx:",
            lines: &[
                "proxy_http_version 1.1;",
                "proxy_set_header Upgrade $http_upgrade;",
                "proxy_set_header Connection \"upgrade\";",
            ],
        },
        Problem::Host => Advice {
            why: "Pages from this address are rejected, because the proxy sends another host name. In nginx:",
            lines: &["proxy_set_header Host $http_host;"],
        },
        Problem::Buffering => Advice {
            why: "The proxy buffers streams of the server. In nginx (and no proxy_ignore_headers X-Accel-Buffering):",
            lines: &["proxy_buffering off;", "proxy_cache off;"],
        },
        Problem::Delay => Advice {
            why: "Parts of a stream arrive late. In nginx:",
            lines: &["proxy_buffering off;", "tcp_nodelay on;"],
        },
        Problem::Compression => Advice {
            why: "The proxy compresses event streams, and delays them for that. In nginx:",
            lines: &["gzip off;    # or: no text/event-stream in gzip_types"],
        },
        Problem::IdleWebSocket | Problem::IdleStream => Advice {
            why: "A proxy closes idle connections (the server pings every 25 s unless client.ping_interval sets another \
                  interval). In nginx, proxy_read_timeout is too short (60 s without the line):",
            lines: &["proxy_read_timeout 75s;", "proxy_send_timeout 75s;"],
        },
        Problem::BodySize => Advice {
            why: "A proxy rejects requests of this size; the server accepts rows of up to 16 MiB. In nginx, \
                  client_max_body_size is too small (1m without the line):",
            lines: &["client_max_body_size 16m;"],
        },
        Problem::RequestBuffering => Advice {
            why: "nginx collects a request (proxy_request_buffering on, the default) before the server gets it, so uploads \
                  occupy its disk and begin late. In the location:",
            lines: &["proxy_request_buffering off;"],
        },
        Problem::Address => Advice {
            why: "nginx does not state the client's address, so limits count all clients as one. In the \
                  location:",
            lines: &[
                "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
                "proxy_set_header X-Forwarded-Proto $scheme;",
            ],
        },
    }
}
