//! `proto/client.proto` for prost, by hand, with the same names in the same order.

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Command {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(message, optional, tag = "4")]
    connect: Option<ConnectRequest>,
    #[prost(message, optional, tag = "5")]
    subscribe: Option<SubscribeRequest>,
    #[prost(message, optional, tag = "6")]
    unsubscribe: Option<UnsubscribeRequest>,
    #[prost(message, optional, tag = "7")]
    publish: Option<PublishRequest>,
    #[prost(message, optional, tag = "8")]
    presence: Option<PresenceRequest>,
    #[prost(message, optional, tag = "9")]
    presence_stats: Option<PresenceStatsRequest>,
    #[prost(message, optional, tag = "10")]
    history: Option<HistoryRequest>,
    #[prost(message, optional, tag = "11")]
    ping: Option<PingRequest>,
    #[prost(message, optional, tag = "12")]
    send: Option<SendRequest>,
    #[prost(message, optional, tag = "13")]
    rpc: Option<RpcRequest>,
    #[prost(message, optional, tag = "14")]
    refresh: Option<RefreshRequest>,
    #[prost(message, optional, tag = "15")]
    sub_refresh: Option<SubRefreshRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Reply {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(message, optional, tag = "2")]
    error: Option<Error>,
    #[prost(message, optional, tag = "4")]
    push: Option<Push>,
    #[prost(message, optional, tag = "5")]
    connect: Option<ConnectResult>,
    #[prost(message, optional, tag = "6")]
    subscribe: Option<SubscribeResult>,
    #[prost(message, optional, tag = "7")]
    unsubscribe: Option<UnsubscribeResult>,
    #[prost(message, optional, tag = "8")]
    publish: Option<PublishResult>,
    #[prost(message, optional, tag = "9")]
    presence: Option<PresenceResult>,
    #[prost(message, optional, tag = "10")]
    presence_stats: Option<PresenceStatsResult>,
    #[prost(message, optional, tag = "11")]
    history: Option<HistoryResult>,
    #[prost(message, optional, tag = "12")]
    ping: Option<PingResult>,
    #[prost(message, optional, tag = "13")]
    rpc: Option<RpcResult>,
    #[prost(message, optional, tag = "14")]
    refresh: Option<RefreshResult>,
    #[prost(message, optional, tag = "15")]
    sub_refresh: Option<SubRefreshResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Push {
    #[prost(string, tag = "2")]
    channel: String,
    #[prost(message, optional, tag = "4")]
    r#pub: Option<Publication>,
    #[prost(message, optional, tag = "5")]
    join: Option<Join>,
    #[prost(message, optional, tag = "6")]
    leave: Option<Leave>,
    #[prost(message, optional, tag = "7")]
    unsubscribe: Option<Unsubscribe>,
    #[prost(message, optional, tag = "8")]
    message: Option<Message>,
    #[prost(message, optional, tag = "9")]
    subscribe: Option<Subscribe>,
    #[prost(message, optional, tag = "10")]
    connect: Option<Connect>,
    #[prost(message, optional, tag = "11")]
    disconnect: Option<Disconnect>,
    #[prost(message, optional, tag = "12")]
    refresh: Option<Refresh>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Error {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(bool, tag = "3")]
    temporary: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClientInfo {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(bytes = "vec", tag = "3")]
    conn_info: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    chan_info: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Publication {
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    info: Option<ClientInfo>,
    #[prost(uint64, tag = "6")]
    offset: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    tags: BTreeMap<String, String>,
    #[prost(bool, tag = "8")]
    delta: bool,
    #[prost(int64, tag = "9")]
    time: i64,
    #[prost(string, tag = "10")]
    channel: String,
    #[prost(string, tag = "11")]
    key: String,
    #[prost(bool, tag = "12")]
    removed: bool,
    #[prost(uint64, tag = "16")]
    version: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Join {
    #[prost(message, optional, tag = "1")]
    info: Option<ClientInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Leave {
    #[prost(message, optional, tag = "1")]
    info: Option<ClientInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Unsubscribe {
    #[prost(uint32, tag = "2")]
    code: u32,
    #[prost(string, tag = "3")]
    reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Subscribe {
    #[prost(bool, tag = "1")]
    recoverable: bool,
    #[prost(string, tag = "4")]
    epoch: String,
    #[prost(uint64, tag = "5")]
    offset: u64,
    #[prost(bool, tag = "6")]
    positioned: bool,
    #[prost(bytes = "vec", tag = "7")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Connect {
    #[prost(string, tag = "1")]
    client: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
    #[prost(btree_map = "string, message", tag = "4")]
    subs: BTreeMap<String, SubscribeResult>,
    #[prost(bool, tag = "5")]
    expires: bool,
    #[prost(uint32, tag = "6")]
    ttl: u32,
    #[prost(uint32, tag = "7")]
    ping: u32,
    #[prost(bool, tag = "8")]
    pong: bool,
    #[prost(string, tag = "9")]
    session: String,
    #[prost(string, tag = "10")]
    node: String,
    #[prost(int64, tag = "11")]
    time: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Disconnect {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(bool, tag = "3")]
    reconnect: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Refresh {
    #[prost(bool, tag = "1")]
    expires: bool,
    #[prost(uint32, tag = "2")]
    ttl: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConnectRequest {
    #[prost(string, tag = "1")]
    token: String,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
    #[prost(btree_map = "string, message", tag = "3")]
    subs: BTreeMap<String, SubscribeRequest>,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    version: String,
    #[prost(btree_map = "string, string", tag = "6")]
    headers: BTreeMap<String, String>,
    #[prost(int64, tag = "7")]
    flag: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConnectResult {
    #[prost(string, tag = "1")]
    client: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(bool, tag = "3")]
    expires: bool,
    #[prost(uint32, tag = "4")]
    ttl: u32,
    #[prost(bytes = "vec", tag = "5")]
    data: Vec<u8>,
    #[prost(btree_map = "string, message", tag = "6")]
    subs: BTreeMap<String, SubscribeResult>,
    #[prost(uint32, tag = "7")]
    ping: u32,
    #[prost(bool, tag = "8")]
    pong: bool,
    #[prost(string, tag = "9")]
    session: String,
    #[prost(string, tag = "10")]
    node: String,
    #[prost(int64, tag = "11")]
    time: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RefreshRequest {
    #[prost(string, tag = "1")]
    token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RefreshResult {
    #[prost(string, tag = "1")]
    client: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(bool, tag = "3")]
    expires: bool,
    #[prost(uint32, tag = "4")]
    ttl: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubscribeRequest {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(string, tag = "2")]
    token: String,
    #[prost(bool, tag = "3")]
    recover: bool,
    #[prost(string, tag = "6")]
    epoch: String,
    #[prost(uint64, tag = "7")]
    offset: u64,
    #[prost(bytes = "vec", tag = "8")]
    data: Vec<u8>,
    #[prost(bool, tag = "9")]
    positioned: bool,
    #[prost(bool, tag = "10")]
    recoverable: bool,
    #[prost(bool, tag = "11")]
    join_leave: bool,
    #[prost(string, tag = "12")]
    delta: String,
    #[prost(message, optional, tag = "13")]
    tf: Option<FilterNode>,
    #[prost(int64, tag = "14")]
    flag: i64,
    #[prost(int32, tag = "15")]
    r#type: i32,
    #[prost(int32, tag = "16")]
    phase: i32,
    #[prost(string, tag = "17")]
    cursor: String,
    #[prost(int32, tag = "18")]
    limit: i32,
    #[prost(bool, tag = "19")]
    asc: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubscribeResult {
    #[prost(bool, tag = "1")]
    expires: bool,
    #[prost(uint32, tag = "2")]
    ttl: u32,
    #[prost(bool, tag = "3")]
    recoverable: bool,
    #[prost(string, tag = "6")]
    epoch: String,
    #[prost(message, repeated, tag = "7")]
    publications: Vec<Publication>,
    #[prost(bool, tag = "8")]
    recovered: bool,
    #[prost(uint64, tag = "9")]
    offset: u64,
    #[prost(bool, tag = "10")]
    positioned: bool,
    #[prost(bytes = "vec", tag = "11")]
    data: Vec<u8>,
    #[prost(bool, tag = "12")]
    was_recovering: bool,
    #[prost(bool, tag = "13")]
    delta: bool,
    #[prost(int32, tag = "15")]
    r#type: i32,
    #[prost(int32, tag = "16")]
    phase: i32,
    #[prost(string, tag = "17")]
    cursor: String,
    #[prost(message, repeated, tag = "18")]
    state: Vec<Publication>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubRefreshRequest {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(string, tag = "2")]
    token: String,
    #[prost(int32, tag = "3")]
    r#type: i32,
    #[prost(message, repeated, tag = "4")]
    track: Vec<TrackBatch>,
    #[prost(string, repeated, tag = "5")]
    untrack: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrackBatch {
    #[prost(string, tag = "1")]
    signature: String,
    #[prost(message, repeated, tag = "2")]
    items: Vec<KeyedItem>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyedItem {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    version: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubRefreshResult {
    #[prost(bool, tag = "1")]
    expires: bool,
    #[prost(uint32, tag = "2")]
    ttl: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UnsubscribeRequest {
    #[prost(string, tag = "1")]
    channel: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UnsubscribeResult {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
    #[prost(int32, tag = "3")]
    r#type: i32,
    #[prost(string, tag = "4")]
    key: String,
    #[prost(bool, tag = "5")]
    removed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishResult {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PresenceRequest {
    #[prost(string, tag = "1")]
    channel: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PresenceResult {
    #[prost(btree_map = "string, message", tag = "1")]
    presence: BTreeMap<String, ClientInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PresenceStatsRequest {
    #[prost(string, tag = "1")]
    channel: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PresenceStatsResult {
    #[prost(uint32, tag = "1")]
    num_clients: u32,
    #[prost(uint32, tag = "2")]
    num_users: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamPosition {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(string, tag = "2")]
    epoch: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HistoryRequest {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(int32, tag = "7")]
    limit: i32,
    #[prost(message, optional, tag = "8")]
    since: Option<StreamPosition>,
    #[prost(bool, tag = "9")]
    reverse: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HistoryResult {
    #[prost(message, repeated, tag = "1")]
    publications: Vec<Publication>,
    #[prost(string, tag = "2")]
    epoch: String,
    #[prost(uint64, tag = "3")]
    offset: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PingRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PingResult {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RpcRequest {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(string, tag = "2")]
    method: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RpcResult {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SendRequest {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FilterNode {
    #[prost(string, tag = "1")]
    op: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, tag = "3")]
    cmp: String,
    #[prost(string, tag = "4")]
    val: String,
    #[prost(string, repeated, tag = "5")]
    vals: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    nodes: Vec<FilterNode>,
}
