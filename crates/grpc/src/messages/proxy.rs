/// A node of a filter by tags.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FilterNode {
    #[prost(string, tag = "1")]
    pub op: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub key: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub cmp: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub val: ::prost::alloc::string::String,
    #[prost(string, repeated, tag = "5")]
    pub vals: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(message, repeated, tag = "6")]
    pub nodes: ::prost::alloc::vec::Vec<FilterNode>,
}
/// Ends the connection.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Disconnect {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub reason: ::prost::alloc::string::String,
}
/// Rejects the command.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Error {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub message: ::prost::alloc::string::String,
    #[prost(bool, tag = "3")]
    pub temporary: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ConnectRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "10")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "11")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(string, tag = "12")]
    pub name: ::prost::alloc::string::String,
    #[prost(string, tag = "13")]
    pub version: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubscribeOptions {
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "3")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "5")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "6")]
    pub r#override: ::core::option::Option<SubscribeOptionOverride>,
    #[prost(message, optional, tag = "7")]
    pub server_tags_filter: ::core::option::Option<FilterNode>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectResult {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "3")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "4")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "5")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "6")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(string, repeated, tag = "7")]
    pub channels: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(btree_map = "string, message", tag = "8")]
    pub subs: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, SubscribeOptions>,
    #[prost(bytes = "bytes", tag = "9")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(message, repeated, tag = "10")]
    pub caps: ::prost::alloc::vec::Vec<ChannelsCapability>,
    #[prost(btree_map = "string, string", tag = "11")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ChannelsCapability {
    #[prost(string, repeated, tag = "1")]
    pub channels: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(string, repeated, tag = "2")]
    pub allow: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(string, tag = "3")]
    pub r#match: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<ConnectResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RefreshRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "11")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(btree_map = "string, string", tag = "12")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RefreshResult {
    #[prost(bool, tag = "1")]
    pub expired: bool,
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "3")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "4")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "5")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(message, repeated, tag = "6")]
    pub caps: ::prost::alloc::vec::Vec<ChannelsCapability>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RefreshResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<RefreshResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubscribeRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "13")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(bytes = "bytes", tag = "14")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "15")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(btree_map = "string, string", tag = "16")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct BoolValue {
    #[prost(bool, tag = "1")]
    pub value: bool,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeOptionOverride {
    #[prost(message, optional, tag = "1")]
    pub presence: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "2")]
    pub join_leave: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "3")]
    pub force_recovery: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "4")]
    pub force_positioning: ::core::option::Option<BoolValue>,
    #[prost(message, optional, tag = "5")]
    pub force_push_join_leave: ::core::option::Option<BoolValue>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubscribeResult {
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "3")]
    pub b64info: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "5")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "6")]
    pub r#override: ::core::option::Option<SubscribeOptionOverride>,
    #[prost(string, repeated, tag = "7")]
    pub allow: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(message, optional, tag = "8")]
    pub server_tags_filter: ::core::option::Option<FilterNode>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubscribeResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<SubscribeResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "12")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "13")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "14")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(btree_map = "string, string", tag = "15")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishResult {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "2")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bool, tag = "3")]
    pub skip_history: bool,
    #[prost(btree_map = "string, string", tag = "4")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    #[prost(string, tag = "5")]
    pub idempotency_key: ::prost::alloc::string::String,
    #[prost(bool, tag = "6")]
    pub delta: bool,
    #[prost(uint64, tag = "7")]
    pub version: u64,
    #[prost(string, tag = "8")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<PublishResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RpcRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub method: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "12")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "13")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "14")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(btree_map = "string, string", tag = "15")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcResult {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "2")]
    pub b64data: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RpcResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<RpcResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubRefreshRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "12")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(btree_map = "string, string", tag = "13")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubRefreshResult {
    #[prost(bool, tag = "1")]
    pub expired: bool,
    #[prost(int64, tag = "2")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "3")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "4")]
    pub b64info: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubRefreshResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<SubRefreshResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SharedPollRefreshRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(message, repeated, tag = "2")]
    pub items: ::prost::alloc::vec::Vec<SharedPollRefreshItem>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SharedPollRefreshItem {
    #[prost(string, tag = "1")]
    pub key: ::prost::alloc::string::String,
    #[prost(uint64, tag = "2")]
    pub version: u64,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SharedPollRefreshResult {
    #[prost(message, repeated, tag = "1")]
    pub items: ::prost::alloc::vec::Vec<SharedPollRefreshResultItem>,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SharedPollRefreshResultItem {
    #[prost(string, tag = "1")]
    pub key: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(uint64, tag = "3")]
    pub version: u64,
    #[prost(bool, tag = "4")]
    pub removed: bool,
    #[prost(bytes = "bytes", tag = "5")]
    pub prev_data: ::prost::bytes::Bytes,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SharedPollRefreshResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<SharedPollRefreshResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
}
/// A publication of a stream. The fields have the numbers of publications of the client protocol.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Publication {
    #[prost(bytes = "bytes", tag = "4")]
    pub data: ::prost::bytes::Bytes,
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
/// The first message has the request alone, later ones a publication of the client.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct StreamSubscribeRequest {
    #[prost(message, optional, tag = "1")]
    pub subscribe_request: ::core::option::Option<SubscribeRequest>,
    #[prost(message, optional, tag = "2")]
    pub publication: ::core::option::Option<Publication>,
}
/// The first message has the response alone, later ones a publication for the client.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct StreamSubscribeResponse {
    #[prost(message, optional, tag = "1")]
    pub subscribe_response: ::core::option::Option<SubscribeResponse>,
    #[prost(message, optional, tag = "2")]
    pub publication: ::core::option::Option<Publication>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct NotifyCacheEmptyRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct NotifyCacheEmptyResult {
    #[prost(bool, tag = "1")]
    pub populated: bool,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct NotifyCacheEmptyResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<NotifyCacheEmptyResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapPublishRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "12")]
    pub key: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "13")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "14")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "15")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(btree_map = "string, string", tag = "16")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapPublishResult {
    #[prost(string, tag = "1")]
    pub key: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "3")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(btree_map = "string, string", tag = "4")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    #[prost(int64, tag = "5")]
    pub score: i64,
    #[prost(string, tag = "6")]
    pub key_mode: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "7")]
    pub stream_data: ::prost::bytes::Bytes,
    #[prost(string, tag = "8")]
    pub b64stream_data: ::prost::alloc::string::String,
    #[prost(string, tag = "9")]
    pub idempotency_key: ::prost::alloc::string::String,
    #[prost(bool, tag = "10")]
    pub delta: bool,
    #[prost(uint64, tag = "11")]
    pub version: u64,
    #[prost(string, tag = "12")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapPublishResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<MapPublishResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapRemoveRequest {
    #[prost(string, tag = "1")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub encoding: ::prost::alloc::string::String,
    #[prost(string, tag = "10")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "11")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "12")]
    pub key: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "13")]
    pub meta: ::prost::bytes::Bytes,
    #[prost(btree_map = "string, string", tag = "14")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapRemoveResult {
    #[prost(string, tag = "1")]
    pub key: ::prost::alloc::string::String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    #[prost(string, tag = "3")]
    pub idempotency_key: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapRemoveResponse {
    #[prost(message, optional, tag = "1")]
    pub result: ::core::option::Option<MapRemoveResult>,
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "3")]
    pub disconnect: ::core::option::Option<Disconnect>,
}
