//! Runs the commands of consumers ([`tidings_consumers`]) as those of the server API.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tidings_api::reply::BroadcastResponse;
use tidings_api::{ApiError, Command, CommandMethod, CommandReply, CommandResult};
use tidings_consumers::{CommandTarget, ConsumedCommand, Outcome};
use tidings_keys::{ApiIdentity, Scope, Scopes};

use crate::api::{Caller, Services, execute_counted};

/// The server API, for consumers.
pub(crate) struct ConsumedCommands(pub(crate) Arc<Services>);

impl CommandTarget for ConsumedCommands {
    fn run<'a>(&'a self, command: ConsumedCommand<'a>) -> BoxFuture<'a, Outcome> {
        async move {
            let method = match changing_method(command.method) {
                Ok(method) => method,
                Err(reason) => return Outcome::Refused(reason),
            };
            let mut parsed = match Command::parse(method, &command.params) {
                Ok(parsed) => parsed,
                Err(error) => {
                    return Outcome::Refused(format!(
                        "the payload is not a request of {}: {error}",
                        command.method
                    ));
                }
            };
            drop(command.params);
            parsed.set_idempotency_key(command.idempotency_key);
            let name = format!("consumer {}", command.consumer).into();
            let identity = ApiIdentity { name, scopes: Scopes::ALL };
            let caller = Caller { identity, rate: None, address: None };
            outcome(&execute_counted(&self.0, &caller, parsed).await.0)
        }
        .boxed()
    }
}

/// The method with this name, if it changes something.
///
/// # Errors
/// The reason why a consumer does not run it.
fn changing_method(name: &str) -> Result<CommandMethod, String> {
    match CommandMethod::from_name(name) {
        None => Err(format!("there is no method \"{}\"", name.escape_debug())),
        Some(method) if method.scope() == Scope::Read => {
            Err(format!("{name} changes nothing, and a consumer has no reader for its reply"))
        }
        Some(method) => Ok(method),
    }
}

/// The outcome of a command with this reply. A broadcast that has failed for one channel is repeated for all of them; its idempotency
/// key prevents second publications.
fn outcome(reply: &CommandReply) -> Outcome {
    let error = match reply {
        Err(error) => Some(error),
        Ok(CommandResult::Broadcast { responses }) => {
            let errors = || {
                responses.iter().filter_map(|response| match response {
                    BroadcastResponse::Error(error) => Some(error),
                    BroadcastResponse::Result(_) => None,
                })
            };
            errors().find(|error| error.is_temporary()).or_else(|| errors().next())
        }
        Ok(_) => None,
    };
    let reason = |error: &ApiError| format!("error {}: {}", error.code, error.message);
    match error {
        None => Outcome::Done,
        Some(error) if error.is_temporary() => Outcome::Unavailable(reason(error)),
        Some(error) => Outcome::Refused(reason(error)),
    }
}
