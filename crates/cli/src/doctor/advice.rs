//! Advice: reasons, and lines of configuration. Lines for nginx belong into the `location` of the server.

/// Something to be changed.
#[derive(Debug)]
pub(super) struct Advice {
    /// The problem and its place, in a sentence.
    pub(super) why: &'static str,
    /// The lines to add.
    pub(super) lines: &'static [&'static str],
}

/// Requests do not come to the server.
pub(super) const PASS: Advice = Advice {
    why: "Something else answers at this path. In nginx, the location leads to the server; with a path prefix both \
          paths end with a slash:",
    lines: &["location /push/ {", "    proxy_pass http://127.0.0.1:8000/;", "}"],
};

/// The proxy does not reach the server.
pub(super) const UPSTREAM: Advice = Advice {
    why: "The proxy does not reach the server. Is it running, and is this its address (`tidings serve` prints it)?",
    lines: &["proxy_pass http://127.0.0.1:8000;"],
};

/// The server does not answer for the name that clients use.
pub(super) const HOST: Advice = Advice {
    why: "Without a key the server answers for this machine's own names alone. For other names, configure it for \
          others' use, in its configuration file:",
    lines: &["[http_api]", "key = \"…\"", "", "[client.token]", "hmac_secret_key = \"…\""],
};

/// The upgrade is lost on the way.
pub(super) const UPGRADE: Advice = Advice {
    why: "The proxy does not pass the upgrade on. In nginx:",
    lines: &[
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection \"upgrade\";",
    ],
};

/// A page of the deployment's own is taken for one of another site.
pub(super) const ORIGIN: Advice = Advice {
    why: "Pages from this very address are refused, because the server is asked for another host. In nginx:",
    lines: &["proxy_set_header Host $http_host;"],
};

/// Pages of any site may connect.
pub(super) const ANY_ORIGIN: Advice = Advice {
    why: "Pages of any site may connect with their visitors' rights. Unless that is meant, in the server's \
          configuration file:",
    lines: &["[client]", "allowed_origins = [\"https://app.example.org\"]"],
};

/// Streams are buffered.
pub(super) const BUFFERING: Advice = Advice {
    why: "The proxy collects what the server streams. In nginx (and no proxy_ignore_headers X-Accel-Buffering):",
    lines: &["proxy_buffering off;", "proxy_cache off;"],
};

/// Streams are compressed.
pub(super) const COMPRESSED: Advice = Advice {
    why: "The proxy compresses event streams, and holds them back for that. In nginx:",
    lines: &["gzip off;    # or: no text/event-stream in gzip_types"],
};

/// Connections are cut.
pub(super) const IDLE: Advice = Advice {
    why: "Something in between ends connections that are silent for a while (the server pings every 25 s unless \
          client.ping_interval says otherwise). In nginx:",
    lines: &["proxy_read_timeout 75s;", "proxy_send_timeout 75s;"],
};

/// Large requests are refused.
pub(super) const BODY: Advice = Advice {
    why: "Something in between takes no requests of this size; the server takes rows of up to 16 MiB. In nginx:",
    lines: &["client_max_body_size 16m;"],
};

/// Large messages are lost.
pub(super) const MESSAGE: Advice = Advice {
    why: "Something in between, or the server's own limit, does not let a message of this size through. The \
          server's, in its configuration file:",
    lines: &["[websocket]", "message_size_limit = \"64 KiB\""],
};
