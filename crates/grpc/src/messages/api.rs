/// One command of a batch: exactly one field is set.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Command {
    #[prost(message, optional, tag = "4")]
    pub publish: ::core::option::Option<PublishRequest>,
    #[prost(message, optional, tag = "5")]
    pub broadcast: ::core::option::Option<BroadcastRequest>,
    #[prost(message, optional, tag = "6")]
    pub subscribe: ::core::option::Option<SubscribeRequest>,
    #[prost(message, optional, tag = "7")]
    pub unsubscribe: ::core::option::Option<UnsubscribeRequest>,
    #[prost(message, optional, tag = "8")]
    pub disconnect: ::core::option::Option<DisconnectRequest>,
    #[prost(message, optional, tag = "9")]
    pub presence: ::core::option::Option<PresenceRequest>,
    #[prost(message, optional, tag = "10")]
    pub presence_stats: ::core::option::Option<PresenceStatsRequest>,
    #[prost(message, optional, tag = "11")]
    pub history: ::core::option::Option<HistoryRequest>,
    #[prost(message, optional, tag = "12")]
    pub history_remove: ::core::option::Option<HistoryRemoveRequest>,
    #[prost(message, optional, tag = "13")]
    pub info: ::core::option::Option<InfoRequest>,
    #[prost(message, optional, tag = "15")]
    pub refresh: ::core::option::Option<RefreshRequest>,
    #[prost(message, optional, tag = "16")]
    pub channels: ::core::option::Option<ChannelsRequest>,
    #[prost(message, optional, tag = "17")]
    pub connections: ::core::option::Option<ConnectionsRequest>,
    #[prost(message, optional, tag = "21")]
    pub block_user: ::core::option::Option<BlockUserRequest>,
    #[prost(message, optional, tag = "22")]
    pub unblock_user: ::core::option::Option<UnblockUserRequest>,
    #[prost(message, optional, tag = "23")]
    pub revoke_token: ::core::option::Option<RevokeTokenRequest>,
    #[prost(message, optional, tag = "24")]
    pub invalidate_user_tokens: ::core::option::Option<InvalidateUserTokensRequest>,
    #[prost(message, optional, tag = "1000")]
    pub map_publish: ::core::option::Option<MapPublishRequest>,
    #[prost(message, optional, tag = "1001")]
    pub map_remove: ::core::option::Option<MapRemoveRequest>,
    #[prost(message, optional, tag = "1002")]
    pub map_read_state: ::core::option::Option<MapReadStateRequest>,
    #[prost(message, optional, tag = "1003")]
    pub map_read_stream: ::core::option::Option<MapReadStreamRequest>,
    #[prost(message, optional, tag = "1004")]
    pub map_stats: ::core::option::Option<MapStatsRequest>,
    #[prost(message, optional, tag = "1005")]
    pub map_clear: ::core::option::Option<MapClearRequest>,
    #[prost(message, optional, tag = "1006")]
    pub shared_poll_publish: ::core::option::Option<SharedPollPublishRequest>,
    #[prost(message, optional, tag = "1007")]
    pub reload: ::core::option::Option<ReloadRequest>,
}
/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Error {
    /// The code, one of docs/centrifugo.md.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// The reason.
    #[prost(string, tag = "2")]
    pub message: ::prost::alloc::string::String,
}
/// The reply to one command of a batch: an error, or the result of its method.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Reply {
    #[prost(message, optional, tag = "2")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "4")]
    pub publish: ::core::option::Option<PublishResult>,
    #[prost(message, optional, tag = "5")]
    pub broadcast: ::core::option::Option<BroadcastResult>,
    #[prost(message, optional, tag = "6")]
    pub subscribe: ::core::option::Option<SubscribeResult>,
    #[prost(message, optional, tag = "7")]
    pub unsubscribe: ::core::option::Option<UnsubscribeResult>,
    #[prost(message, optional, tag = "8")]
    pub disconnect: ::core::option::Option<DisconnectResult>,
    #[prost(message, optional, tag = "9")]
    pub presence: ::core::option::Option<PresenceResult>,
    #[prost(message, optional, tag = "10")]
    pub presence_stats: ::core::option::Option<PresenceStatsResult>,
    #[prost(message, optional, tag = "11")]
    pub history: ::core::option::Option<HistoryResult>,
    #[prost(message, optional, tag = "12")]
    pub history_remove: ::core::option::Option<HistoryRemoveResult>,
    #[prost(message, optional, tag = "13")]
    pub info: ::core::option::Option<InfoResult>,
    #[prost(message, optional, tag = "15")]
    pub refresh: ::core::option::Option<RefreshResult>,
    #[prost(message, optional, tag = "16")]
    pub channels: ::core::option::Option<ChannelsResult>,
    #[prost(message, optional, tag = "17")]
    pub connections: ::core::option::Option<ConnectionsResult>,
    #[prost(message, optional, tag = "21")]
    pub block_user: ::core::option::Option<BlockUserResult>,
    #[prost(message, optional, tag = "22")]
    pub unblock_user: ::core::option::Option<UnblockUserResult>,
    #[prost(message, optional, tag = "23")]
    pub revoke_token: ::core::option::Option<RevokeTokenResult>,
    #[prost(message, optional, tag = "24")]
    pub invalidate_user_tokens: ::core::option::Option<InvalidateUserTokensResult>,
    #[prost(message, optional, tag = "1000")]
    pub map_publish: ::core::option::Option<MapChangeResult>,
    #[prost(message, optional, tag = "1001")]
    pub map_remove: ::core::option::Option<MapChangeResult>,
    #[prost(message, optional, tag = "1002")]
    pub map_read_state: ::core::option::Option<MapEntriesResult>,
    #[prost(message, optional, tag = "1003")]
    pub map_read_stream: ::core::option::Option<MapEntriesResult>,
    #[prost(message, optional, tag = "1004")]
    pub map_stats: ::core::option::Option<MapStatsResult>,
    #[prost(message, optional, tag = "1005")]
    pub map_clear: ::core::option::Option<MapClearResult>,
    #[prost(message, optional, tag = "1006")]
    pub shared_poll_publish: ::core::option::Option<SharedPollPublishResult>,
    #[prost(message, optional, tag = "1007")]
    pub reload: ::core::option::Option<ReloadResult>,
}
/// Several commands.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BatchRequest {
    #[prost(message, repeated, tag = "1")]
    pub commands: ::prost::alloc::vec::Vec<Command>,
    /// Whether the commands run at the same time.
    #[prost(bool, tag = "2")]
    pub parallel: bool,
}
/// One reply for each command, in their order.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BatchResponse {
    #[prost(message, repeated, tag = "1")]
    pub replies: ::prost::alloc::vec::Vec<Reply>,
}
/// A publication.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    /// The body.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    /// The body in base64, which takes precedence.
    #[prost(string, tag = "3")]
    pub b64data: ::prost::alloc::string::String,
    /// Whether the publication is not added to the history.
    #[prost(bool, tag = "4")]
    pub skip_history: bool,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    /// A publication with the key of an earlier one is not published again.
    #[prost(string, tag = "6")]
    pub idempotency_key: ::prost::alloc::string::String,
    /// Whether subscribers with deltas get it as a delta.
    #[prost(bool, tag = "7")]
    pub delta: bool,
    /// Not available.
    #[prost(uint64, tag = "8")]
    pub version: u64,
    /// Not available.
    #[prost(string, tag = "9")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PublishResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<PublishResult>,
}
/// The position of a publication in the history; empty if it was not added to one.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PublishResult {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
}
/// A publication for several channels.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BroadcastRequest {
    #[prost(string, repeated, tag = "1")]
    pub channels: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "3")]
    pub b64data: ::prost::alloc::string::String,
    #[prost(bool, tag = "4")]
    pub skip_history: bool,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    #[prost(string, tag = "6")]
    pub idempotency_key: ::prost::alloc::string::String,
    #[prost(bool, tag = "7")]
    pub delta: bool,
    #[prost(uint64, tag = "8")]
    pub version: u64,
    #[prost(string, tag = "9")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BroadcastResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<BroadcastResult>,
}
/// One response for each channel, in the order of the request.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct BroadcastResult {
    #[prost(message, repeated, tag = "1")]
    pub responses: ::prost::alloc::vec::Vec<PublishResponse>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub user: ::prost::alloc::string::String,
    /// End of the subscription in Unix seconds; 0 for none.
    #[prost(int64, tag = "3")]
    pub expire_at: i64,
    /// Information on the subscriber for presence.
    #[prost(bytes = "bytes", tag = "4")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "5")]
    pub b64info: ::prost::alloc::string::String,
    /// One client of the user.
    #[prost(string, tag = "6")]
    pub client: ::prost::alloc::string::String,
    /// Data for the client.
    #[prost(bytes = "bytes", tag = "7")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "8")]
    pub b64data: ::prost::alloc::string::String,
    /// The position after which publications are recovered.
    #[prost(message, optional, tag = "9")]
    pub recover_since: ::core::option::Option<StreamPosition>,
    /// Options of the channel that differ for this subscription.
    #[prost(message, optional, tag = "10")]
    pub r#override: ::core::option::Option<SubscribeOptionOverride>,
    /// One session, by its secret.
    #[prost(string, tag = "11")]
    pub session: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<SubscribeResult>,
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SubscribeResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnsubscribeRequest {
    /// The channel; empty for all.
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub client: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub session: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnsubscribeResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<UnsubscribeResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnsubscribeResult {
}
/// The code and the reason for the client.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Disconnect {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub reason: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DisconnectRequest {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(message, optional, tag = "2")]
    pub disconnect: ::core::option::Option<Disconnect>,
    #[prost(string, tag = "3")]
    pub client: ::prost::alloc::string::String,
    /// Clients that stay connected.
    #[prost(string, repeated, tag = "4")]
    pub whitelist: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(string, tag = "5")]
    pub session: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DisconnectResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<DisconnectResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DisconnectResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<PresenceResult>,
}
/// A client in presence or as the publisher.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ClientInfo {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub client: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "3")]
    pub conn_info: ::prost::bytes::Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub chan_info: ::prost::bytes::Bytes,
}
/// The clients, by client id.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub presence: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ClientInfo>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceStatsRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceStatsResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<PresenceStatsResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PresenceStatsResult {
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
    #[prost(uint32, tag = "2")]
    pub num_users: u32,
}
/// A position in a history.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StreamPosition {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    /// Most publications; 0 for the position alone, negative for no limit.
    #[prost(int32, tag = "2")]
    pub limit: i32,
    /// The position after which (in reverse: before which) publications are read.
    #[prost(message, optional, tag = "3")]
    pub since: ::core::option::Option<StreamPosition>,
    /// Whether the newest publication comes first.
    #[prost(bool, tag = "4")]
    pub reverse: bool,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<HistoryResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Publication {
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    /// The publisher, if it is known.
    #[prost(message, optional, tag = "3")]
    pub info: ::core::option::Option<ClientInfo>,
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
}
/// A page of publications, and the position of the last publication of the history.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryResult {
    #[prost(message, repeated, tag = "1")]
    pub publications: ::prost::alloc::vec::Vec<Publication>,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRemoveRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRemoveResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<HistoryRemoveResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HistoryRemoveResult {
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct InfoRequest {
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<InfoResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InfoResult {
    #[prost(message, repeated, tag = "1")]
    pub nodes: ::prost::alloc::vec::Vec<NodeResult>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshRequest {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub client: ::prost::alloc::string::String,
    /// Whether the connections end now.
    #[prost(bool, tag = "3")]
    pub expired: bool,
    /// New end of the connections in Unix seconds; 0 for none.
    #[prost(int64, tag = "4")]
    pub expire_at: i64,
    /// Not available: error 108.
    #[prost(bytes = "bytes", tag = "5")]
    pub info: ::prost::bytes::Bytes,
    #[prost(string, tag = "6")]
    pub session: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<RefreshResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RefreshResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct NodeResult {
    #[prost(string, tag = "1")]
    pub uid: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub name: ::prost::alloc::string::String,
    #[prost(string, tag = "3")]
    pub version: ::prost::alloc::string::String,
    #[prost(uint32, tag = "4")]
    pub num_clients: u32,
    #[prost(uint32, tag = "5")]
    pub num_users: u32,
    #[prost(uint32, tag = "6")]
    pub num_channels: u32,
    /// Seconds since the start.
    #[prost(uint32, tag = "7")]
    pub uptime: u32,
    #[prost(uint32, tag = "10")]
    pub num_subs: u32,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ChannelsRequest {
    /// A glob pattern; empty for all channels.
    #[prost(string, tag = "1")]
    pub pattern: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ChannelsResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<ChannelsResult>,
}
/// The channels with subscribers, by name.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ChannelsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub channels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ChannelInfo>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ChannelInfo {
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ConnectionsRequest {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
    /// Not available: a filter of Centrifugo PRO.
    #[prost(string, tag = "2")]
    pub expression: ::prost::alloc::string::String,
    /// The connection of this client; empty for all.
    #[prost(string, tag = "1000")]
    pub client: ::prost::alloc::string::String,
    /// Connections with a subscription to this channel; empty for all.
    #[prost(string, tag = "1001")]
    pub channel: ::prost::alloc::string::String,
    /// A filter that the labels pass, as JSON in the form of filters by tags; empty for none.
    #[prost(string, tag = "1002")]
    pub label_filter: ::prost::alloc::string::String,
    /// Most connections of a page; 0 for the default.
    #[prost(uint32, tag = "1003")]
    pub limit: u32,
    /// The cursor of the page before; empty for the first page.
    #[prost(string, tag = "1004")]
    pub cursor: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectionsResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<ConnectionsResult>,
}
/// The connections of a page, by client id.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectionsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub connections: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ConnectionInfo>,
    /// The cursor of the next page; empty on the last one.
    #[prost(string, tag = "1000")]
    pub cursor: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectionInfo {
    #[prost(string, tag = "3")]
    pub transport: ::prost::alloc::string::String,
    #[prost(string, tag = "4")]
    pub protocol: ::prost::alloc::string::String,
    #[prost(string, tag = "8")]
    pub user: ::prost::alloc::string::String,
    /// The address of the client, if it is known.
    #[prost(string, tag = "1000")]
    pub address: ::prost::alloc::string::String,
    /// When it was opened, in Unix seconds.
    #[prost(uint64, tag = "1001")]
    pub since: u64,
    /// Unsent bytes in its queue.
    #[prost(uint64, tag = "1002")]
    pub queued_bytes: u64,
    /// The number of its subscriptions.
    #[prost(uint64, tag = "1003")]
    pub num_subs: u64,
    /// The labels, by name.
    #[prost(btree_map = "string, string", tag = "1004")]
    pub labels: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    /// The uid of the node.
    #[prost(string, tag = "1005")]
    pub node: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct BlockUserRequest {
    /// End of the block in Unix seconds; 0 for none.
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    #[prost(string, tag = "2")]
    pub user: ::prost::alloc::string::String,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct BlockUserResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct BlockUserResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<BlockUserResult>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnblockUserRequest {
    #[prost(string, tag = "1")]
    pub user: ::prost::alloc::string::String,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnblockUserResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct UnblockUserResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<UnblockUserResult>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokeTokenRequest {
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    /// The id of the token (`jti`).
    #[prost(string, tag = "2")]
    pub uid: ::prost::alloc::string::String,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokeTokenResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct RevokeTokenResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<RevokeTokenResult>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct InvalidateUserTokensRequest {
    #[prost(int64, tag = "1")]
    pub expire_at: i64,
    #[prost(string, tag = "2")]
    pub user: ::prost::alloc::string::String,
    /// Tokens issued earlier are invalid, in Unix seconds; 0 for now.
    #[prost(int64, tag = "3")]
    pub issued_before: i64,
    /// Not available: error 108.
    #[prost(string, tag = "4")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct InvalidateUserTokensResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct InvalidateUserTokensResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<InvalidateUserTokensResult>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapPublishRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub key: ::prost::alloc::string::String,
    /// The value.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "4")]
    pub b64data: ::prost::alloc::string::String,
    /// What subscribers get in place of the value; empty for the value.
    #[prost(bytes = "bytes", tag = "5")]
    pub stream_data: ::prost::bytes::Bytes,
    #[prost(string, tag = "6")]
    pub b64stream_data: ::prost::alloc::string::String,
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    /// The place in an ordered map.
    #[prost(int64, tag = "8")]
    pub score: i64,
    /// The condition: empty, `if_new` or `if_exists`.
    #[prost(string, tag = "9")]
    pub key_mode: ::prost::alloc::string::String,
    /// A request with the key of an earlier one changes nothing.
    #[prost(string, tag = "10")]
    pub idempotency_key: ::prost::alloc::string::String,
    /// A value with a version that is not higher than that of the key is discarded; 0 for none.
    #[prost(uint64, tag = "11")]
    pub version: u64,
    /// The epoch of `version`; a value with another epoch always replaces.
    #[prost(string, tag = "12")]
    pub version_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapRemoveRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub key: ::prost::alloc::string::String,
    /// Tags of the publication; without them those of the removed value.
    #[prost(btree_map = "string, string", tag = "3")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    #[prost(string, tag = "4")]
    pub idempotency_key: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapChangeResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<MapChangeResult>,
}
/// The position of the change, or that of the channel if nothing changed.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapChangeResult {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: ::prost::alloc::string::String,
    /// Whether nothing changed, and why.
    #[prost(bool, tag = "3")]
    pub suppressed: bool,
    #[prost(string, tag = "4")]
    pub suppress_reason: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapReadStateRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    /// The cursor of the page before; empty for the first page.
    #[prost(string, tag = "2")]
    pub cursor: ::prost::alloc::string::String,
    /// Most keys; 0 for the position alone, negative for no limit.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// This key alone; empty for all.
    #[prost(string, tag = "4")]
    pub key: ::prost::alloc::string::String,
    /// Whether an ordered map begins with the lowest score.
    #[prost(bool, tag = "5")]
    pub asc: bool,
    /// The position of an earlier page; the request fails when its epoch has ended.
    #[prost(uint64, tag = "6")]
    pub revision_offset: u64,
    #[prost(string, tag = "7")]
    pub revision_epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapReadStreamRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    /// The position after which (in reverse: before which) changes are read.
    #[prost(uint64, tag = "2")]
    pub since_offset: u64,
    #[prost(string, tag = "3")]
    pub since_epoch: ::prost::alloc::string::String,
    /// Most changes; 0 for the position alone, negative for no limit.
    #[prost(int64, tag = "4")]
    pub limit: i64,
    #[prost(bool, tag = "5")]
    pub reverse: bool,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapEntriesResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<MapEntriesResult>,
}
/// Keys with their values, or changes, and the position of the newest change.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapEntriesResult {
    #[prost(message, repeated, tag = "1")]
    pub entries: ::prost::alloc::vec::Vec<MapEntry>,
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    #[prost(string, tag = "3")]
    pub epoch: ::prost::alloc::string::String,
    /// The cursor of the next page of the state; empty on the last one.
    #[prost(string, tag = "4")]
    pub cursor: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapEntry {
    #[prost(string, tag = "1")]
    pub key: ::prost::alloc::string::String,
    /// The value; empty where the key is removed.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: ::prost::bytes::Bytes,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    #[prost(int64, tag = "4")]
    pub score: i64,
    #[prost(bool, tag = "5")]
    pub removed: bool,
    #[prost(btree_map = "string, string", tag = "6")]
    pub tags: ::prost::alloc::collections::BTreeMap<::prost::alloc::string::String, ::prost::alloc::string::String>,
    /// The client that made the change, if it is known.
    #[prost(message, optional, tag = "7")]
    pub info: ::core::option::Option<ClientInfo>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapStatsRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapStatsResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<MapStatsResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapStatsResult {
    #[prost(uint64, tag = "1")]
    pub num_keys: u64,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapClearRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapClearResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<MapClearResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct MapClearResult {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SharedPollPublishRequest {
    #[prost(string, tag = "1")]
    pub channel: ::prost::alloc::string::String,
    #[prost(string, tag = "2")]
    pub key: ::prost::alloc::string::String,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: ::prost::bytes::Bytes,
    #[prost(string, tag = "4")]
    pub b64data: ::prost::alloc::string::String,
    /// The version, from 1 on.
    #[prost(uint64, tag = "5")]
    pub version: u64,
    /// The epoch of the versions.
    #[prost(string, tag = "6")]
    pub epoch: ::prost::alloc::string::String,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SharedPollPublishResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<SharedPollPublishResult>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct SharedPollPublishResult {
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReloadRequest {
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReloadResponse {
    #[prost(message, optional, tag = "1")]
    pub error: ::core::option::Option<Error>,
    #[prost(message, optional, tag = "2")]
    pub result: ::core::option::Option<ReloadResult>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReloadResult {
    /// The options with new values.
    #[prost(string, repeated, tag = "1")]
    pub changed: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The options with new values that need a restart.
    #[prost(string, repeated, tag = "2")]
    pub restart_required: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// Settings without an effect.
    #[prost(string, repeated, tag = "3")]
    pub warnings: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    /// The digest of the configuration in use.
    #[prost(string, tag = "4")]
    pub hash: ::prost::alloc::string::String,
}
