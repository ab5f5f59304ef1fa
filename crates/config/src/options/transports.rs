//! The transports of the HTTP port.

use std::time::Duration;

use super::{HOUR, MIB};
use crate::group::group;
use crate::setting::{bytes, count, millis};
use crate::value::{HandlerPath, ListenAddr};

group! {
    /// `/connection/websocket`: the client protocol over WebSocket, in JSON, or in Protobuf with the sub-protocol
    /// `centrifuge-protobuf` or `?format=protobuf`.
    pub struct WebSocketOptions {
        /// Whether the path is disabled.
        disabled: bool = "false", ();
        /// A further path of this handler, besides `/connection/websocket`, which stays.
        handler_prefix: HandlerPath = "/connection/websocket", ();
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
        /// A further path of this handler, besides `/connection/sse`, which stays.
        handler_prefix: HandlerPath = "/connection/sse", ();
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
        /// A further path of this handler, besides `/connection/http_stream`, which stays.
        handler_prefix: HandlerPath = "/connection/http_stream", ();
        /// Largest body of a request that opens a connection; a larger one is answered with 413.
        max_request_body_size: usize = "65536", bytes(64, 16 * MIB), reload;
    }
}

group! {
    /// `/emulation`: commands of clients of `/connection/sse` and `/connection/http_stream`.
    pub struct EmulationOptions {
        /// A further path of this handler, besides `/emulation`, which stays.
        handler_prefix: HandlerPath = "/emulation", ();
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
        /// A further path of this handler, besides `/connection/uni_websocket`, which stays.
        handler_prefix: HandlerPath = "/connection/uni_websocket", ();
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
    /// MQTT 3.1.1 and 5.0: on the line port by the first byte of a connection, and over WebSocket at `/mqtt` with the
    /// sub-protocol `mqtt`.
    pub struct MqttOptions {
        /// Whether MQTT is served.
        enabled: bool = "true", ();
        /// Addresses that accept MQTT alone, such as `0.0.0.0:1883`; none by default. With `tls`, a client may begin with a TLS
        /// handshake on each of them, and must at the addresses of `tls.required`. `tcp.proxy_protocol` applies to them. An
        /// address that other machines can reach requires a key (see `client.insecure`).
        listen: Vec<ListenAddr> = "", ();
        /// Largest packet of a client with its fixed header; a larger one is refused with reason code 0x95. Over WebSocket,
        /// `websocket.message_size_limit` applies to a message, too.
        max_packet_size: usize = "65536", bytes(256, 16 * MIB), reload;
        /// Most messages with QoS 1 or 2 that a client of 5.0 may have published without an acknowledgement.
        receive_maximum: usize = "1024", count(1, 65_535), reload;
        /// Most messages with QoS 1 or 2 that a client is sent without its acknowledgement; fewer if it asks for fewer. Further
        /// ones wait.
        max_inflight: usize = "100", count(1, 65_535), reload;
        /// Most bytes of messages that wait for a client's acknowledgements, or for the return of a client whose session outlives
        /// its connection; each counts as 128 bytes more. At more the connection is closed with reason code 0x97; for a client
        /// that is away, the oldest messages with QoS 0 are dropped, then the oldest, and `CONNACK` states their number.
        session_queue_size: usize = "1048576", bytes(1024, 1024 * MIB), reload;
        /// How long a session outlives its connection at most. A client of 5.0 that asks for more gets this; a session of 3.1.1
        /// without clean session has this time. 0 ends every session with its connection.
        session_expiry_max: Duration = "168h", millis(0, 366 * 24 * HOUR), reload;
        /// Most sessions that outlive their connection, with and without one; with Redis of the deployment. A client whose session would be one more gets
        /// reason code 0x97.
        sessions_limit: usize = "100000", count(0, 10_000_000), reload;
        /// Most bytes of messages for all clients that are away. At more, a session that gets a message drops others as at
        /// `mqtt.session_queue_size`. With Redis, most bytes of the messages in all sessions of the deployment, and also of the wills of
        /// all clients; a client whose will would be one more gets reason code 0x97.
        sessions_max_bytes: usize = "268435456", bytes(1024, 1024 * 1024 * MIB), reload;
        /// Most topic aliases that a client of 5.0 may define.
        topic_alias_maximum: usize = "16", count(0, 1024), reload;
        /// Longest keep-alive time of a client of 5.0 in seconds. A client with a longer one, or without one, gets this one as
        /// its server keep-alive. 0 for any.
        max_keep_alive: usize = "0", count(0, 65_535), reload;
        /// Most retained messages, with Redis of the deployment. A client whose message would be one more gets reason code 0x97.
        /// With 0, messages are not retained.
        retain_limit: usize = "10000", count(0, 10_000_000);
        /// Most bytes of retained messages, with an allowance for each.
        retain_max_bytes: usize = "67108864", bytes(1024, 1024 * 1024 * MIB);
        /// Whether retained messages and sessions are also in files, in the folder `mqtt` of `data_dir`, so that they outlive the
        /// server. A message with QoS 1 or 2, or a retained one, is acknowledged after the operating system has it: it survives
        /// the end of the process. With `data_dir = "off"` there are no files.
        persistence: bool = "true", ();
        /// How often these files are synchronised with the disk. A loss of power loses the changes since then.
        sync_interval: Duration = "1s", millis(50, HOUR);
        /// How often the numbers about this node in `$SYS/broker/…` are published to clients of MQTT; 0 for never. A client
        /// may read them if it may subscribe in the namespace of channels without a colon.
        sys_interval: Duration = "10s", millis(0, 24 * HOUR);
        /// Highest QoS of publications that come from other protocols; a subscription may have a lower one.
        default_qos: usize = "1", count(0, 2), reload;
    }
}

group! {
    /// `/connection/uni_sse`: pushes as server-sent events. The client's `connect` is the parameter `cf_connect` of the
    /// request, or the body of a POST.
    pub struct UniSseOptions {
        /// Whether the path exists.
        enabled: bool = "true", ();
        /// A further path of this handler, besides `/connection/uni_sse`, which stays.
        handler_prefix: HandlerPath = "/connection/uni_sse", ();
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
        /// A further path of this handler, besides `/connection/uni_http_stream`, which stays.
        handler_prefix: HandlerPath = "/connection/uni_http_stream", ();
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
