//! The values of environment variables, as assignments.

use std::collections::BTreeMap;
use std::path::Path;

use super::assignment::Assignment;
use super::error::{ConfigError, Origin, nearest};
use super::keys::LISTS;
use super::raw::{Raw, shown};
use super::variables::{CENTRIFUGO_PREFIX, CREDENTIALS, FILE_VARIABLE, PREFIX, variable};

/// Variables that are not options: the file, and the variables of the client commands, which a server ignores.
const OTHER_VARIABLES: [&str; 3] = [FILE_VARIABLE, "TIDINGS_SERVER", "TIDINGS_TOKEN"];

/// The environment variables of this process that begin with `TIDINGS_`, as [`super::load`] takes them, the folder with the
/// credentials of systemd, and those that begin with `CENTRIFUGO_`, which cause warnings.
///
/// # Errors
/// A variable with a value that is not UTF-8.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let is_used =
        |name: &str| name.starts_with(PREFIX) || name.starts_with(CENTRIFUGO_PREFIX) || name == CREDENTIALS;
    ours.filter(|(name, _)| is_used(name))
        .map(|(name, value)| {
            if name.starts_with(CENTRIFUGO_PREFIX) {
                return Ok((name, value.to_string_lossy().into_owned()));
            }
            let origin = Origin::Environment(name.clone());
            let value = value.into_string().map_err(|_| ConfigError::at(&origin, "is not UTF-8"))?;
            Ok((name, value))
        })
        .collect()
}

/// The variables of tidings in an environment, by name, the names of those of Centrifugo, and the folder of credentials.
#[derive(Default)]
pub(super) struct Environment {
    ours: BTreeMap<String, String>,
    of_centrifugo: Vec<String>,
    credentials: Option<String>,
}

impl Environment {
    pub(super) fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in pairs.into_iter().filter(|(name, value)| !is_service_link(name, value)) {
            if name.starts_with(PREFIX) {
                environment.ours.insert(name, value);
            } else if name.starts_with(CENTRIFUGO_PREFIX) {
                environment.of_centrifugo.push(name);
            } else if name == CREDENTIALS && !value.is_empty() {
                environment.credentials = Some(value);
            }
        }
        environment.of_centrifugo.sort();
        environment
    }

    /// The names of Centrifugo's variables.
    pub(super) fn of_centrifugo(&self) -> impl Iterator<Item = &str> {
        self.of_centrifugo.iter().map(String::as_str)
    }

    /// The file to read if the command line contains none.
    pub(super) fn file(&self) -> Option<&str> {
        self.ours.get(FILE_VARIABLE).map(String::as_str).filter(|path| !path.is_empty())
    }

    /// The folder with the credentials of systemd.
    pub(super) fn credentials(&self) -> Option<&Path> {
        self.credentials.as_deref().map(Path::new)
    }

    /// The assignments of the names in lists. They come first, because they make the variables of their options known.
    pub(super) fn lists(&self) -> Vec<Assignment> {
        let assignment = |list: &str| {
            let name = variable(list);
            let names = self.ours.get(&name)?;
            Some(Assignment::new(list, Raw::Word(names.clone()), Origin::Environment(name)))
        };
        LISTS.into_iter().filter_map(assignment).collect()
    }

    /// The assignments of all other variables, given the existing keys, and the errors of unknown variables.
    pub(super) fn options(&self, keys: &[String]) -> (Vec<Assignment>, Vec<ConfigError>) {
        let mut known: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for key in keys.iter().map(String::as_str).chain(["tcp", "http"]) {
            known.entry(variable(key)).or_default().push(key);
        }
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        for (name, value) in &self.ours {
            if OTHER_VARIABLES.contains(&name.as_str()) || LISTS.iter().any(|list| *name == variable(list)) {
                continue;
            }
            let origin = Origin::Environment(name.clone());
            match known.get(name).map(Vec::as_slice) {
                Some([key]) => out.push(Assignment::new(*key, Raw::Word(value.clone()), origin)),
                Some(several) => {
                    let what = format!("is ambiguous: {}; set the option in a file", several.join(" or "));
                    errors.push(ConfigError::at(&origin, what));
                }
                None => {
                    let names = known.keys().map(String::as_str).chain(OTHER_VARIABLES);
                    let near = nearest(name, names, '_').unwrap_or(FILE_VARIABLE);
                    let what =
                        format!("unknown environment variable `{}`; did you mean `{near}`?", shown(name));
                    errors.push(ConfigError::general(what));
                }
            }
        }
        (out, errors)
    }
}

/// Whether this is a variable that Kubernetes and Docker set for a service named `tidings` or `tidings-…`: such
/// variables are no mistakes of the operator
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_service_link(name: &str, value: &str) -> bool {
    // The complete name after the first part, and the rest after each further part (`TIDINGS_WEB_SERVICE_HOST`).
    name.match_indices('_').map(|(at, _)| &name[at + 1..]).any(|tail| {
        let port = tail.strip_prefix("PORT_").and_then(|rest| rest.split_once('_'));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let protocol = |text: &str| matches!(text.split('_').next(), Some("TCP" | "UDP" | "SCTP"));
        tail == "SERVICE_HOST"
            || tail == "SERVICE_PORT"
            || tail.starts_with("SERVICE_PORT_")
            || tail == "PORT" && value.contains("://")
            || port.is_some_and(|(n, rest)| number(n) && protocol(rest))
    })
}
