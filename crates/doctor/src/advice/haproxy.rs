//! Settings of HAProxy.

use super::{Advice, Problem};

pub(super) fn advice(problem: Problem) -> Advice {
    match problem {
        Problem::Path => Advice {
            why: "Another server responds at this path. In HAProxy, requests must go to the backend of tidings; a path prefix \
                  is removed in the frontend:",
            lines: &[
                "http-request replace-path /push(/.*) \\1 if { path_beg /push/ }",
                "use_backend tidings_http if { path_beg /push/ }",
            ],
        },
        Problem::Upstream => Advice {
            why: "HAProxy does not reach the server. Is it running, and is this its address (`tidings serve` prints it)? If \
                  the server has http.proxy_protocol, its trusted_proxies must contain the address of HAProxy, and the \
                  server's log has the reason:",
            lines: &["server node1 127.0.0.1:8000"],
        },
        Problem::HeaderMissing => Advice {
            why: "The server expects a PROXY protocol header (http.proxy_protocol), and HAProxy sends none. In the backend:",
            lines: &["server node1 127.0.0.1:8000 send-proxy-v2"],
        },
        Problem::HeaderUnexpected => Advice {
            why: "HAProxy sends a PROXY protocol header that the server does not expect. Remove `send-proxy` or \
                  `send-proxy-v2` from the server line, or set http.proxy_protocol = true and trusted_proxies in the \
                  server's configuration file:",
            lines: &["server node1 127.0.0.1:8000"],
        },
        Problem::Upgrade => Advice {
            why: "HAProxy does not pass the upgrade. It needs `mode http` and no rule that removes the headers \
                  (`http-request del-header`):",
            lines: &["mode http"],
        },
        Problem::Host => Advice {
            why: "Pages from this address are rejected, because HAProxy sends another host name. Remove \
                  `http-request set-header Host`, or keep the host:",
            lines: &["http-request set-header Host %[req.hdr(host)]"],
        },
        Problem::Buffering => Advice {
            why: "HAProxy holds streams of the server back. Remove `http-response wait-for-body` and every filter of \
                  responses, and pass parts on at once:",
            lines: &["option http-no-delay"],
        },
        Problem::Delay => Advice {
            why: "HAProxy waits up to 200 ms for more data before it passes a part of a stream on: `option http-no-delay` is \
                  missing. In the section defaults or in the backend:",
            lines: &["option http-no-delay"],
        },
        Problem::Compression => Advice {
            why: "HAProxy compresses event streams, and delays them for that. Remove `compression algo`, or leave \
                  text/event-stream out of `compression type`:",
            lines: &["compression type text/html text/css application/json"],
        },
        Problem::IdleWebSocket => Advice {
            why: "HAProxy closes a silent WebSocket: `timeout tunnel` (without it `timeout client` and `timeout server`) is \
                  too short. The server pings every 25 s unless client.ping_interval sets another interval. In the \
                  section defaults:",
            lines: &["timeout tunnel 75s"],
        },
        Problem::IdleStream => Advice {
            why: "HAProxy closes a silent event stream: `timeout server` or `timeout client` is too short. The server sends \
                  a comment every 25 s unless client.ping_interval sets another interval. In the section defaults:",
            lines: &["timeout client 75s", "timeout server 75s"],
        },
        Problem::BodySize => Advice {
            why: "HAProxy rejects requests of this size; the server accepts rows of up to 16 MiB. Remove \
                  `http-request deny` on `req.body_size`, or allow this size:",
            lines: &["http-request deny deny_status 413 if { req.body_size gt 16777216 }"],
        },
        Problem::RequestBuffering => Advice {
            why: "HAProxy collects a request before the server gets it: `option http-buffer-request`. A body that is slower \
                  than `timeout http-request` is answered with 408. Remove the line, or in the backend:",
            lines: &["no option http-buffer-request"],
        },
        Problem::Address => Advice {
            why: "HAProxy does not state the client's address, so limits count all clients as one: `option \
                  forwardfor` is missing. In the section defaults or in the frontend:",
            lines: &["option forwardfor"],
        },
    }
}
