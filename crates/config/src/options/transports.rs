//! The transports of the HTTP port.

use super::MIB;
use crate::group::group;
use crate::setting::{bytes, count};

group! {
    /// `/connection/websocket`: the client protocol over WebSocket, in JSON, or in Protobuf with the sub-protocol
    /// `centrifuge-protobuf` or `?format=protobuf`.
    pub struct WebSocketOptions {
        /// Whether the path is disabled.
        disabled: bool = "false", ();
        /// Longest message from a client over a WebSocket. At a longer one the connection is closed with code 1009. A
        /// compressed message counts with its decompressed size; decompression stops at the limit.
        message_size_limit: usize = "65536", bytes(64, 16 * MIB), reload;
        /// Whether messages are compressed for clients that offer it (`permessage-deflate`). A publication is
        /// compressed once for all subscribers of a channel that negotiated compression, and connections have no memory
        /// of their own for it. It takes a third of a megabyte per thread, and processor time per publication.
        compression: bool = "false", (), reload;
        /// Shortest publication, as a message, that is compressed. Shorter ones, and those that compression does not
        /// shorten, are sent uncompressed.
        compression_min_size: usize = "0", bytes(0, 16 * MIB);
        /// Compression level, from 1 (fast) to 9 (small).
        compression_level: usize = "1", count(1, 9);
    }
}

group! {
    /// `/connection/sse`: the client protocol over server-sent events. Clients send commands to `/emulation`.
    pub struct SseOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a POST that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB), reload;
    }
}

group! {
    /// `/connection/http_stream`: the client protocol over the body of an HTTP response, in JSON, or in Protobuf with
    /// `Content-Type: application/octet-stream`. Clients send commands to `/emulation`.
    pub struct HttpStreamOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a request that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB), reload;
    }
}

group! {
    /// `/emulation`: commands of clients of `/connection/sse` and `/connection/http_stream`.
    pub struct EmulationOptions {
        /// Largest body of a request; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB), reload;
    }
}

group! {
    /// `/connection/uni_websocket`: pushes over WebSocket. The client's first message is its `connect`;
    /// `websocket.message_size_limit` applies to further messages, too.
    pub struct UniWebSocketOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
    }
}

group! {
    /// `/stomp`: STOMP 1.2 over WebSocket, with the sub-protocol `v12.stomp`. `websocket.message_size_limit` applies to its
    /// messages and frames, too.
    pub struct StompOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
    }
}

group! {
    /// `/connection/uni_sse`: pushes as server-sent events. The client's `connect` is the parameter `cf_connect` of the
    /// request, or the body of a POST.
    pub struct UniSseOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a POST that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB), reload;
    }
}

group! {
    /// `/connection/uni_http_stream`: pushes over the body of an HTTP response, a JSON object a line. The client's
    /// `connect` is the body of the request.
    pub struct UniHttpStreamOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// Largest body of a request that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB), reload;
    }
}

group! {
    /// `/events`: publications in the requested channels, as plain server-sent events.
    pub struct EventsOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
    }
}
