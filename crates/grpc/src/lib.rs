//! gRPC over HTTP/2 without I/O: the frames of messages, statuses and deadlines in headers, and the messages of the services
//! in `proto/`. The format is that of gRPC's public documentation ("gRPC over HTTP2").
//!
//! The connections are those of `http` and `outbound`, so that gRPC has the limits of every other request, and TLS, proxies
//! and metrics are the same.
//!
//! Invariants:
//! - A message is compressed only in a call whose headers name gzip. It is bounded in bytes as it is sent and when it is decompressed.
//! - A second message is refused where one is expected.
//! - A status with any text is a valid header.

pub mod body;
pub mod compression;
pub mod fields;
pub mod frame;
pub mod messages;
mod request_body;
pub mod status;
pub mod timeout;

pub use body::UnaryBody;
pub use compression::MessageEncoding;
pub use request_body::{MessageSender, RequestBody, SendError};
pub use status::{Code, Status};

/// The media type of requests and responses.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Whether a media type is that of gRPC with messages in Protobuf.
pub fn is_grpc(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case(CONTENT_TYPE) || media_type.eq_ignore_ascii_case("application/grpc+proto")
}
