//! The methods of the services, and the methods of the HTTP API that they are.

use tidings_api::CommandMethod;
use tidings_metrics::Label as _;

/// The service of Centrifugo's definition.
const CENTRIFUGO: &str = "centrifugal.centrifugo.api.CentrifugoApi";
/// The service of the methods that are not in that definition.
const TIDINGS: &str = "centrifugal.centrifugo.api.TidingsApi";

/// The services of the API.
pub const SERVICES: [&str; 2] = [CENTRIFUGO, TIDINGS];

/// A method of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// `Batch`: several commands.
    Batch,
    /// One command.
    Command(CommandMethod),
}

impl Rpc {
    /// The method at the path `/SERVICE/NAME`; `None` if there is none.
    pub fn find(service: &str, name: &str) -> Option<Self> {
        if service == CENTRIFUGO && name == "Batch" {
            return Some(Self::Batch);
        }
        let is_method = |method: &CommandMethod| {
            service_of(*method) == service && camel_case(method.label()).eq(name.chars())
        };
        CommandMethod::ALL.iter().copied().find(is_method).map(Self::Command)
    }

    /// The method of the HTTP API; `None` for `batch`.
    pub fn method(self) -> Option<CommandMethod> {
        match self {
            Self::Batch => None,
            Self::Command(method) => Some(method),
        }
    }
}

/// The service of a method.
fn service_of(method: CommandMethod) -> &'static str {
    match method {
        CommandMethod::MapPublish
        | CommandMethod::MapRemove
        | CommandMethod::MapReadState
        | CommandMethod::MapReadStream
        | CommandMethod::MapStats
        | CommandMethod::MapClear
        | CommandMethod::SharedPollPublish
        | CommandMethod::Reload => TIDINGS,
        _ => CENTRIFUGO,
    }
}

/// The field of a method in the commands and in the replies of a batch.
pub(crate) fn tag(method: CommandMethod) -> u32 {
    match method {
        CommandMethod::Publish => 4,
        CommandMethod::Broadcast => 5,
        CommandMethod::Subscribe => 6,
        CommandMethod::Unsubscribe => 7,
        CommandMethod::Disconnect => 8,
        CommandMethod::Presence => 9,
        CommandMethod::PresenceStats => 10,
        CommandMethod::History => 11,
        CommandMethod::HistoryRemove => 12,
        CommandMethod::Info => 13,
        CommandMethod::Refresh => 15,
        CommandMethod::Channels => 16,
        CommandMethod::Connections => 17,
        CommandMethod::BlockUser => 21,
        CommandMethod::UnblockUser => 22,
        CommandMethod::RevokeToken => 23,
        CommandMethod::InvalidateUserTokens => 24,
        CommandMethod::MapPublish => 1000,
        CommandMethod::MapRemove => 1001,
        CommandMethod::MapReadState => 1002,
        CommandMethod::MapReadStream => 1003,
        CommandMethod::MapStats => 1004,
        CommandMethod::MapClear => 1005,
        CommandMethod::SharedPollPublish => 1006,
        CommandMethod::Reload => 1007,
    }
}

/// `presence_stats` as `PresenceStats`.
fn camel_case(name: &str) -> impl Iterator<Item = char> {
    let words = name.split('_');
    words.flat_map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(chars)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::reflection::descriptors;

    #[test]
    fn the_services_have_exactly_the_methods_of_the_http_api() {
        let mut described = BTreeSet::new();
        for service in descriptors().iter().flat_map(|file| &file.parsed.services) {
            let full = format!("centrifugal.centrifugo.api.{}", service.name);
            assert!(SERVICES.contains(&&*full), "{full}");
            for method in &service.methods {
                let found = Rpc::find(&full, &method.name);
                let found = found.unwrap_or_else(|| panic!("{full}/{} is no method", method.name));
                assert!(described.insert(found.method().map_or("batch", |method| method.label())));
            }
        }
        let methods = CommandMethod::ALL.iter().map(|method| method.label()).chain(["batch"]);
        assert_eq!(described, methods.collect());
    }

    #[test]
    fn a_method_is_found_by_its_exact_path_alone() {
        assert_eq!(Rpc::find(CENTRIFUGO, "PresenceStats"), Some(Rpc::Command(CommandMethod::PresenceStats)));
        assert_eq!(Rpc::find(TIDINGS, "Reload"), Some(Rpc::Command(CommandMethod::Reload)));
        for (service, name) in [
            (CENTRIFUGO, "presence_stats"),
            (CENTRIFUGO, "Reload"),
            (CENTRIFUGO, "MapPublish"),
            (TIDINGS, "Publish"),
            (TIDINGS, "Batch"),
            ("CentrifugoApi", "Publish"),
            (CENTRIFUGO, ""),
        ] {
            assert_eq!(Rpc::find(service, name), None, "{service}/{name}");
        }
    }
}
