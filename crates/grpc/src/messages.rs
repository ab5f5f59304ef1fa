//! The messages of the services in `proto/`, as `scripts/grpc-messages.sh` writes them, and the descriptors that reflection
//! serves. The fields are documented there.

/// The server API (`proto/api.proto`).
#[expect(missing_docs, reason = "generated; the fields are documented in proto/api.proto")]
#[rustfmt::skip]
pub mod api;
/// Hooks (`proto/proxy.proto`).
#[expect(missing_docs, reason = "generated; the fields are documented in proto/proxy.proto")]
#[rustfmt::skip]
pub mod proxy;

/// The file of the server API, as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("messages/descriptors.bin");
