//! Advice: reasons and lines of configuration. Lines for nginx belong in the `location` of the server.

/// A recommended change.
#[derive(Debug)]
pub struct Advice {
    /// The problem and its place, in a sentence.
    pub why: &'static str,
    /// The lines to add.
    pub lines: &'static [&'static str],
}

/// Requests do not reach the server.
pub(crate) const PASS: Advice = Advice {
    why: "Another server responds at this path. In nginx, the location must point to the server; with a path prefix both \
          paths must end with a slash:",
    lines: &["location /push/ {", "    proxy_pass http://127.0.0.1:8000/;", "}"],
};

/// The proxy cannot reach the server.
pub(crate) const UPSTREAM: Advice = Advice {
    why: "The proxy does not reach the server. Is it running, and is this its address (`tidings serve` prints it)?",
    lines: &["proxy_pass http://127.0.0.1:8000;"],
};

/// The server does not accept the host name of clients.
pub(crate) const HOST: Advice = Advice {
    why: "Without a key the server only accepts this machine's own names. For other names, configure it for \
          other clients, in its configuration file:",
    lines: &["[http_api]", "key = \"…\"", "", "[client.token]", "hmac_secret_key = \"…\""],
};

/// The proxy does not pass the upgrade.
pub(crate) const UPGRADE: Advice = Advice {
    why: "The proxy does not pass the upgrade. In nginx:",
    lines: &[
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection \"upgrade\";",
    ],
};

/// A page of the deployment is treated as one of another site.
pub(crate) const ORIGIN: Advice = Advice {
    why: "Pages from this address are rejected, because the proxy sends another host name. In nginx:",
    lines: &["proxy_set_header Host $http_host;"],
};

/// Pages of any site may connect.
pub(crate) const ANY_ORIGIN: Advice = Advice {
    why: "Pages of any site may connect with their visitors' permissions. Unless this is intended, in the server's \
          configuration file:",
    lines: &["[client]", "allowed_origins = [\"https://app.example.org\"]"],
};

/// Streams are buffered.
pub(crate) const BUFFERING: Advice = Advice {
    why: "The proxy buffers streams of the server. In nginx (and no proxy_ignore_headers X-Accel-Buffering):",
    lines: &["proxy_buffering off;", "proxy_cache off;"],
};

/// Streams are compressed.
pub(crate) const COMPRESSED: Advice = Advice {
    why: "The proxy compresses event streams, and delays them for that. In nginx:",
    lines: &["gzip off;    # or: no text/event-stream in gzip_types"],
};

/// Idle connections are cut.
pub(crate) const IDLE: Advice = Advice {
    why: "A proxy closes idle connections (the server pings every 25 s unless \
          client.ping_interval sets another interval). In nginx:",
    lines: &["proxy_read_timeout 75s;", "proxy_send_timeout 75s;"],
};

/// Large requests are rejected.
pub(crate) const BODY: Advice = Advice {
    why: "A proxy rejects requests of this size; the server accepts rows of up to 16 MiB. In nginx:",
    lines: &["client_max_body_size 16m;"],
};

/// Large messages are lost.
pub(crate) const MESSAGE: Advice = Advice {
    why: "A proxy, or the server's own limit, rejects messages of this size. The \
          server's limit, in its configuration file:",
    lines: &["[websocket]", "message_size_limit = \"64 KiB\""],
};
