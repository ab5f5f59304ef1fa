//! Several commands in one request: `batch`, and lines of commands with their methods.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_wire::code;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Services;
use super::answers::Charge;
use super::command::{Command, Entry, Json, MAX_COMMANDS, Object, list};
use super::in_flight::{InFlight, PublishRequest};
use super::methods;
use super::reply::{ApiError, Reply};

/// Commands of one parallel batch that are carried out at a time, publications not among them.
const AT_ONCE: usize = 64;
/// Most bytes of the replies of one request together; those after it are errors.
const REPLIES: usize = 16 << 20;

/// The request of `batch`.
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    #[serde(default, deserialize_with = "list::<_, _, MAX_COMMANDS>")]
    commands: Vec<Entry>,
    #[serde(default)]
    parallel: Option<bool>,
}

impl Batch {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is not one, or has more than [`MAX_COMMANDS`] commands.
    pub(super) fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json).map(|Object(batch)| batch)
    }

    /// How many commands it has.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }
}

/// A command with its method: `{"method":"publish","params":{…}}`.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    method: String,
    #[serde(default)]
    params: Option<Json>,
}

impl Envelope {
    /// Reads one after the other, usually a line each.
    ///
    /// # Errors
    /// When there is none, more than [`MAX_COMMANDS`], or one that is not a command.
    pub(super) fn read(json: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        let most = || serde::de::Error::custom(format_args!("more than {MAX_COMMANDS} commands"));
        let mut envelopes = Vec::new();
        for envelope in serde_json::Deserializer::from_slice(json).into_iter() {
            if envelopes.len() == MAX_COMMANDS {
                return Err(most());
            }
            let Object(envelope) = envelope?;
            envelopes.push(envelope);
        }
        if envelopes.is_empty() {
            return Err(serde::de::Error::custom("no command"));
        }
        Ok(envelopes)
    }

    fn command(&self) -> Result<Command, ApiError> {
        let params = self.params.as_deref().unwrap_or(RawValue::NULL).get();
        let params = if params == "null" { "{}" } else { params };
        match Command::read(&self.method, params.as_bytes()) {
            Some(command) => command.map_err(ApiError::bad),
            None => Err(code::METHOD_NOT_FOUND.into()),
        }
    }
}

/// Carries out a batch and gives the whole answer: `{"replies":[{METHOD:{…}},…]}`.
pub(super) async fn run(services: &Arc<Services>, batch: Batch) -> (Vec<u8>, Charge) {
    let commands = batch.commands.into_iter().map(|entry| match entry {
        Entry::Command(command) => Ok(command),
        Entry::Unknown => Err(code::METHOD_NOT_FOUND.into()),
        Entry::Several => Err(ApiError::bad("more than one method in one command")),
    });
    let written = all(services, commands, batch.parallel.unwrap_or_default()).await;
    let mut charges = Charge::default();
    let mut out = b"{\"replies\":[".to_vec();
    for (i, reply) in written.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        for part in [b"{\"", reply.key.as_bytes(), b"\":", &reply.json, b"}"] {
            out.extend_from_slice(part);
        }
        charges.merge(reply.charge);
    }
    out.extend_from_slice(b"]}");
    (out, charges)
}

/// Carries out commands with their methods and gives the whole answer: `{"result":{…}}`, a line each.
pub(super) async fn run_envelopes(services: &Arc<Services>, envelopes: Vec<Envelope>) -> (Vec<u8>, Charge) {
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    let written = all(services, envelopes.iter().map(Envelope::command), false).await;
    let (mut out, mut charges) = (Vec::new(), Charge::default());
    for (id, reply) in ids.into_iter().zip(written) {
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
        charges.merge(reply.charge);
    }
    (out, charges)
}

/// The key of a reply that is an error.
const ERROR: &str = "error";

/// A reply: the method or [`ERROR`], and what stands behind it.
struct Written {
    key: &'static str,
    json: Vec<u8>,
    /// Room that it takes until the whole answer is sent.
    charge: Charge,
}

/// What the reply to a command is waiting for.
enum Slot {
    /// The next publication that lands.
    One,
    /// So many of them.
    Many(usize),
    /// The task with this place among the commands.
    Task,
    /// Nothing.
    Ready(Written),
}

/// Carries out commands and gives a reply for each, in their order. Publications that stand side by side go to the
/// broker together; any other command waits for what was published before it, and what comes after it waits for it,
/// unless they are to be `parallel`.
async fn all(
    services: &Arc<Services>,
    commands: impl Iterator<Item = Result<Command, ApiError>>,
    parallel: bool,
) -> Vec<Written> {
    let budget = Arc::new(AtomicUsize::new(REPLIES));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    let mut in_flight = InFlight::new(services);
    let mut slots = Vec::new();
    for command in commands {
        let slot = match command {
            Err(error) => Slot::Ready(write(services, ERROR, &Err(error), &budget)),
            Ok(Command::Publish(publish)) => {
                methods::count(services, "publish");
                let (channel, content) = publish.split();
                match PublishRequest::new(content) {
                    Ok(publication) => in_flight.publish(&channel, &publication).await,
                    Err(error) => in_flight.refuse(error),
                }
                Slot::One
            }
            Ok(Command::Broadcast(broadcast)) => {
                methods::count(services, "broadcast");
                let (channels, content) = broadcast.split();
                match methods::broadcast_request(&channels, content) {
                    Ok(publication) => {
                        for channel in &channels {
                            in_flight.publish(channel, &publication).await;
                        }
                        Slot::Many(channels.len())
                    }
                    Err(error) => Slot::Ready(write(services, ERROR, &Err(error), &budget)),
                }
            }
            Ok(command) if parallel => {
                let (services, budget, places) =
                    (Arc::clone(services), Arc::clone(&budget), Arc::clone(&places));
                let at = slots.len();
                tasks.spawn(async move {
                    let _place = places.acquire().await;
                    (at, carry_out(&services, command, &budget).await)
                });
                Slot::Task
            }
            Ok(command) => {
                in_flight.complete_all().await;
                Slot::Ready(carry_out(services, command, &budget).await)
            }
        };
        slots.push(slot);
    }
    let mut completed = in_flight.finish().await.into_iter();
    let mut done = HashMap::new();
    while let Some(finished) = tasks.join_next().await {
        done.extend(finished);
    }
    let replies = slots.into_iter().enumerate().map(|(at, slot)| match slot {
        Slot::One => write(services, "publish", &methods::one(&mut completed), &budget),
        Slot::Many(channels) => {
            write(services, "broadcast", &Ok(methods::many(&mut completed, channels)), &budget)
        }
        Slot::Task => {
            done.remove(&at).unwrap_or_else(|| write(services, ERROR, &Err(code::INTERNAL.into()), &budget))
        }
        Slot::Ready(written) => written,
    });
    replies.collect()
}

/// Carries out a command that is no publication.
async fn carry_out(services: &Services, command: Command, budget: &AtomicUsize) -> Written {
    let method = command.method();
    methods::count(services, method);
    if !methods::reads(&command) {
        return write(services, method, &methods::carry_out(services, command).await, budget);
    }
    // A request that has read something already holds its room.
    let first = budget.load(Ordering::Relaxed) == REPLIES;
    match services.counters.answers.reserve(first).await {
        Ok(mut charge) => {
            let written = write(services, method, &methods::carry_out(services, command).await, budget);
            charge.shrink_to(written.json.len());
            Written { charge, ..written }
        }
        Err(refused) => write(services, method, &Err(refused), budget),
    }
}

/// Writes a reply, within what is left of the budget.
fn write(services: &Services, method: &'static str, reply: &Reply, budget: &AtomicUsize) -> Written {
    methods::tally(services, reply);
    let written = match reply {
        Ok(outcome) => Written { key: method, json: outcome.json(), charge: Charge::default() },
        Err(error) => Written { key: ERROR, json: error.json(), charge: Charge::default() },
    };
    let spend = |left: usize| left.checked_sub(written.json.len());
    if budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok() {
        return written;
    }
    Written { key: ERROR, json: ApiError::from(code::LIMIT_EXCEEDED).json(), charge: Charge::default() }
}
