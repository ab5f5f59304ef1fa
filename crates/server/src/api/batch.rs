//! Several commands in one request: `batch`, and `POST /api` with one command a line.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidings_api::{ApiError, Batch, BatchItem, Command, CommandMethod, CommandReply, Envelope};
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
    let commands = batch.commands.into_iter().map(|item| match item {
        BatchItem::Command(command) => Ok(command),
        BatchItem::Unknown => Err(code::METHOD_NOT_FOUND.into()),
        BatchItem::Several => Err(ApiError::bad_request("more than one method in one command")),
    });
    let replies = run_all(services, caller, commands, batch.parallel.unwrap_or_default()).await;
    let mut reserved = Reservation::default();
    let mut out = b"{\"replies\":[".to_vec();
    for (i, reply) in replies.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        for part in [b"{\"", reply.key.as_bytes(), b"\":", &reply.json, b"}"] {
            out.extend_from_slice(part);
        }
        reserved.merge(reply.reserved);
    }
    out.extend_from_slice(b"]}");
    (out, reserved)
}

/// Runs the commands of `POST /api`. Returns the response body: `{"result":{…}}` for each, one a line.
pub(super) async fn run_envelopes(
    services: &Arc<Services>,
    caller: &Caller,
    envelopes: Vec<Envelope>,
) -> (Vec<u8>, Reservation) {
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    let replies = run_all(services, caller, envelopes.iter().map(Envelope::command), false).await;
    let (mut out, mut reserved) = (Vec::new(), Reservation::default());
    for (id, reply) in ids.into_iter().zip(replies) {
        if !out.is_empty() {
            out.push(b'\n');
        }
        out.push(b'{');
        if id > 0 {
            out.extend_from_slice(format!("\"id\":{id},").as_bytes());
        }
        let key: &[u8] = if reply.key == ERROR { b"\"error\":" } else { b"\"result\":" };
        for part in [key, &reply.json, b"}"] {
            out.extend_from_slice(part);
        }
        reserved.merge(reply.reserved);
    }
    (out, reserved)
}

/// The key of a reply that is an error.
const ERROR: &str = "error";

/// An encoded reply.
struct EncodedReply {
    /// The method, or [`ERROR`].
    key: &'static str,
    json: Vec<u8>,
    /// The memory that it takes until the whole response is sent.
    reserved: Reservation,
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
) -> Vec<EncodedReply> {
    let budget = Arc::new(AtomicUsize::new(MAX_REPLIES));
    let permits = Arc::new(Semaphore::new(MAX_PARALLEL));
    let mut tasks = JoinSet::new();
    let mut in_flight = InFlight::new(services);
    let mut pending = Vec::new();
    for command in commands {
        let reply = match command {
            Err(error) => PendingReply::Ready(encode(services, ERROR, &Err(error), &budget)),
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
                    Err(error) => PendingReply::Ready(encode(services, ERROR, &Err(error), &budget)),
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
            encode(services, CommandMethod::Publish.label(), &methods::publish_reply(&mut completed), &budget)
        }
        PendingReply::Broadcast(channels) => {
            let result = methods::broadcast_result(&mut completed, channels);
            encode(services, CommandMethod::Broadcast.label(), &Ok(result), &budget)
        }
        PendingReply::Task => {
            done.remove(&at).unwrap_or_else(|| encode(services, ERROR, &Err(code::INTERNAL.into()), &budget))
        }
        PendingReply::Ready(reply) => reply,
    });
    replies.collect()
}

/// Runs a command that is not a publication.
async fn run_one(
    services: &Services,
    caller: &Caller,
    command: Command,
    budget: &AtomicUsize,
) -> EncodedReply {
    services.counters.commands.add(command.method());
    let key = command.method().label();
    if !methods::has_large_reply(&command) {
        return encode(services, key, &methods::execute(services, caller, command).await, budget);
    }
    // Only a request without a reservation may wait for one.
    let is_first = budget.load(Ordering::Relaxed) == MAX_REPLIES;
    match services.counters.responses.reserve(is_first).await {
        Ok(mut reserved) => {
            let reply = encode(services, key, &methods::execute(services, caller, command).await, budget);
            reserved.shrink_to(reply.json.len());
            EncodedReply { reserved, ..reply }
        }
        Err(error) => encode(services, key, &Err(error), budget),
    }
}

/// Encodes a reply, or an error if the reply exceeds the rest of the budget. Counts its errors.
fn encode(
    services: &Services,
    method: &'static str,
    reply: &CommandReply,
    budget: &AtomicUsize,
) -> EncodedReply {
    methods::count_errors(services, reply);
    let encoded = match reply {
        Ok(result) => EncodedReply { key: method, json: result.json(), reserved: Reservation::default() },
        Err(error) => EncodedReply { key: ERROR, json: error.json(), reserved: Reservation::default() },
    };
    let spend = |left: usize| left.checked_sub(encoded.json.len());
    if budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok() {
        return encoded;
    }
    let json = ApiError::from(code::LIMIT_EXCEEDED).json();
    EncodedReply { key: ERROR, json, reserved: Reservation::default() }
}
