//! Several commands in one request: `batch`, and `POST /api` with one command a line.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidings_api::{ApiError, Batch, BatchItem, Command, CommandMethod, CommandReply, Envelope};
use tidings_grpc_api::BatchWriter;
use tidings_metrics::Label as _;
use tidings_wire::code;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Services;
use super::audit::Caller;
use super::in_flight::{InFlight, PublishRequest};
use super::methods;
use tidings_api::response_budget::Reservation;

/// Most commands of one parallel batch that run at the same time, except publications.
const MAX_PARALLEL: usize = 64;
/// Most bytes of the replies of one request together; replies beyond it are errors.
const MAX_REPLIES: usize = 16 << 20;

/// Runs a batch. Returns the response body: `{"replies":[{METHOD:{…}},…]}`.
pub(super) async fn run(services: &Arc<Services>, caller: &Caller, batch: Batch) -> (Vec<u8>, Reservation) {
    let commands = batch.commands.into_iter().map(command);
    let parallel = batch.parallel.unwrap_or_default();
    let replies = run_all(services, caller, commands, parallel, json).await;
    let mut reserved = Reservation::default();
    let mut out = b"{\"replies\":[".to_vec();
    for (i, reply) in replies.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        for part in [b"{\"", reply.key().as_bytes(), b"\":", &reply.bytes, b"}"] {
            out.extend_from_slice(part);
        }
        reserved.merge(reply.reserved);
    }
    out.extend_from_slice(b"]}");
    (out, reserved)
}

/// Runs a batch over gRPC. Returns the message of its response.
pub(super) async fn run_grpc(
    services: &Arc<Services>,
    caller: &Caller,
    batch: Batch,
) -> (Vec<u8>, Reservation) {
    let commands = batch.commands.into_iter().map(command);
    let parallel = batch.parallel.unwrap_or_default();
    let replies = run_all(services, caller, commands, parallel, tidings_grpc_api::encode_reply).await;
    let mut reserved = Reservation::default();
    let mut out = BatchWriter::default();
    for reply in replies {
        out.add(&reply.bytes);
        reserved.merge(reply.reserved);
    }
    (out.finish(), reserved)
}

fn command(item: BatchItem) -> Result<Command, ApiError> {
    match item {
        BatchItem::Command(command) => Ok(command),
        BatchItem::Unknown => Err(code::METHOD_NOT_FOUND.into()),
        BatchItem::Several => Err(ApiError::bad_request("more than one method in one command")),
    }
}

/// Runs the commands of `POST /api`. Returns the response body: `{"result":{…}}` for each, one a line.
pub(super) async fn run_envelopes(
    services: &Arc<Services>,
    caller: &Caller,
    envelopes: Vec<Envelope>,
) -> (Vec<u8>, Reservation) {
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    let replies = run_all(services, caller, envelopes.iter().map(Envelope::command), false, json).await;
    let (mut out, mut reserved) = (Vec::new(), Reservation::default());
    for (id, reply) in ids.into_iter().zip(replies) {
        if !out.is_empty() {
            out.push(b'\n');
        }
        out.push(b'{');
        if id > 0 {
            out.extend_from_slice(format!("\"id\":{id},").as_bytes());
        }
        let key: &[u8] = if reply.is_error { b"\"error\":" } else { b"\"result\":" };
        for part in [key, &reply.bytes, b"}"] {
            out.extend_from_slice(part);
        }
        reserved.merge(reply.reserved);
    }
    (out, reserved)
}

/// Encodes the reply to a command; the method is `None` for a command that is none.
type Encode = fn(Option<CommandMethod>, &CommandReply) -> Vec<u8>;

/// The JSON of a result, or that of an error.
fn json(_: Option<CommandMethod>, reply: &CommandReply) -> Vec<u8> {
    match reply {
        Ok(result) => result.json(),
        Err(error) => error.json(),
    }
}

/// An encoded reply.
struct EncodedReply {
    method: Option<CommandMethod>,
    is_error: bool,
    bytes: Vec<u8>,
    /// The memory that it takes until the whole response is sent.
    reserved: Reservation,
}

impl EncodedReply {
    /// Its key in a batch in JSON.
    fn key(&self) -> &'static str {
        self.method.filter(|_| !self.is_error).map_or("error", |method| method.label())
    }
}

/// The reply to a command that may not have completed yet.
enum PendingReply {
    /// The reply to the next publication that completes.
    Publish,
    /// The reply to the next publications that complete, this many.
    Broadcast(usize),
    /// The reply of the task with the index of the command.
    Task,
    /// The reply is complete.
    Ready(EncodedReply),
}

/// Runs commands. Returns one reply for each, in their order.
///
/// Adjacent publications are sent to the broker together. Any other command starts after the publications before it have
/// completed, and completes before the next command starts; with `parallel` it runs at the same time as the others.
async fn run_all(
    services: &Arc<Services>,
    caller: &Caller,
    commands: impl Iterator<Item = Result<Command, ApiError>>,
    parallel: bool,
    encode: Encode,
) -> Vec<EncodedReply> {
    let budget = Arc::new(Budget { left: AtomicUsize::new(MAX_REPLIES), encode });
    let permits = Arc::new(Semaphore::new(MAX_PARALLEL));
    let mut tasks = JoinSet::new();
    let mut in_flight = InFlight::new(services);
    let mut pending = Vec::new();
    for command in commands {
        let reply = match command {
            Err(error) => PendingReply::Ready(budget.encode(services, None, &Err(error))),
            Ok(Command::Publish(publish)) => {
                services.counters.commands.add(CommandMethod::Publish);
                let (channel, fields) = publish.split();
                match PublishRequest::new(fields) {
                    Ok(publication) => in_flight.publish(&channel, &publication).await,
                    Err(error) => in_flight.reject(error),
                }
                PendingReply::Publish
            }
            Ok(Command::Broadcast(broadcast)) => {
                services.counters.commands.add(CommandMethod::Broadcast);
                let (channels, fields) = broadcast.split();
                match methods::broadcast_request(&channels, fields) {
                    Ok(publication) => {
                        for channel in &channels {
                            in_flight.publish(channel, &publication).await;
                        }
                        PendingReply::Broadcast(channels.len())
                    }
                    Err(error) => PendingReply::Ready(budget.encode(services, None, &Err(error))),
                }
            }
            Ok(command) if parallel => {
                let (services, budget, permits) =
                    (Arc::clone(services), Arc::clone(&budget), Arc::clone(&permits));
                let caller = caller.clone();
                let at = pending.len();
                tasks.spawn(async move {
                    let _permit = permits.acquire().await;
                    (at, run_one(&services, &caller, command, &budget).await)
                });
                PendingReply::Task
            }
            Ok(command) => {
                in_flight.complete_all().await;
                PendingReply::Ready(run_one(services, caller, command, &budget).await)
            }
        };
        pending.push(reply);
    }
    let mut completed = in_flight.finish().await.into_iter();
    let mut done = HashMap::new();
    while let Some(finished) = tasks.join_next().await {
        done.extend(finished);
    }
    let replies = pending.into_iter().enumerate().map(|(at, reply)| match reply {
        PendingReply::Publish => {
            budget.encode(services, Some(CommandMethod::Publish), &methods::publish_reply(&mut completed))
        }
        PendingReply::Broadcast(channels) => {
            let result = methods::broadcast_result(&mut completed, channels);
            budget.encode(services, Some(CommandMethod::Broadcast), &Ok(result))
        }
        PendingReply::Task => {
            done.remove(&at).unwrap_or_else(|| budget.encode(services, None, &Err(code::INTERNAL.into())))
        }
        PendingReply::Ready(reply) => reply,
    });
    replies.collect()
}

/// Runs a command that is not a publication.
async fn run_one(services: &Services, caller: &Caller, command: Command, budget: &Budget) -> EncodedReply {
    services.counters.commands.add(command.method());
    let method = Some(command.method());
    if !methods::has_large_reply(&command) {
        return budget.encode(services, method, &methods::execute(services, caller, command).await);
    }
    // Only a request without a reservation may wait for one.
    let is_first = budget.left.load(Ordering::Relaxed) == MAX_REPLIES;
    match services.counters.responses.reserve(is_first).await {
        Ok(mut reserved) => {
            let reply = budget.encode(services, method, &methods::execute(services, caller, command).await);
            reserved.shrink_to(reply.bytes.len());
            EncodedReply { reserved, ..reply }
        }
        Err(error) => budget.encode(services, method, &Err(error)),
    }
}

/// The bytes that are left for the replies of a request, and their encoding.
struct Budget {
    left: AtomicUsize,
    encode: Encode,
}

impl Budget {
    /// Encodes a reply, or an error if the reply exceeds the rest of the budget. Counts its errors.
    fn encode(
        &self,
        services: &Services,
        method: Option<CommandMethod>,
        reply: &CommandReply,
    ) -> EncodedReply {
        methods::count_errors(services, reply);
        let encoded = |reply: &CommandReply| EncodedReply {
            method,
            is_error: reply.is_err(),
            bytes: (self.encode)(method, reply),
            reserved: Reservation::default(),
        };
        let whole = encoded(reply);
        let spend = |left: usize| left.checked_sub(whole.bytes.len());
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok() {
            return whole;
        }
        encoded(&Err(code::LIMIT_EXCEEDED.into()))
    }
}
