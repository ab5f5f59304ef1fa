//! Named keys of the server API.

use std::sync::Arc;

use tidings_auth::Secret;
use tidings_keys::{ApiKey, ApiKeys, MAX_KEYS, Scope, Scopes};

use super::group::{Group, Visitor, group};
use super::keys::set_names;
use super::options::HttpApiOptions;
use super::raw::{Raw, shown};
use super::setting::{Setting, count, quoted};

/// The name of the key in `http_api.key`. No named key may have it.
const UNNAMED: &str = "http_api.key";
/// The name of the key in the option `grpc_api.key`.
const GRPC: &str = "grpc_api.key";
/// The longest name in bytes.
const MAX_NAME: usize = 64;

group! {
    /// A named key of the server API.
    pub struct ApiKeyOptions {
        /// The key.
        key: Secret = "", (), reload;
        /// Groups of operations that the key permits: `publish`, `read`, `manage`.
        scopes: Scopes = "", (), reload;
        /// Commands per second with this key; those of a batch count singly. 0 for no limit.
        rate_limit: usize = "0", count(0, 10_000_000), reload;
    }
}

/// A named key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedApiKey {
    /// The name: 1 to 64 letters, digits, `-`, `_` and `.`; not `http_api.key`.
    pub name: String,
    /// The key and its scopes.
    pub options: ApiKeyOptions,
}

/// The list of named keys; names are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedApiKeys(pub(super) Vec<NamedApiKey>);

impl NamedApiKeys {
    /// The keys, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &NamedApiKey> {
        self.0.iter()
    }

    /// Sets the list of keys to `names`, in order. An existing key keeps its options.
    ///
    /// # Errors
    /// The first invalid name. The list is set nevertheless, so that the options are checked in the same run.
    pub(super) fn rename(&mut self, names: &[String]) -> Result<(), String> {
        if names.len() > MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys"));
        }
        let create = |name: &String| NamedApiKey { name: name.clone(), ..NamedApiKey::default() };
        set_names(&mut self.0, names, |key| &key.name, create);
        for (i, name) in names.iter().enumerate() {
            let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(letter) {
                return Err(format!(
                    "\"{}\" is not a valid name of a key: expected 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`",
                    shown(name)
                ));
            }
            if let Some(option) = [UNNAMED, GRPC].iter().find(|option| name == *option) {
                return Err(format!(
                    "no key in this list may be named \"{option}\": logs, metrics and the audit log use this name for the key in the option {option}"
                ));
            }
            if names[..i].contains(name) {
                return Err(format!("two keys are named \"{}\"", shown(name)));
            }
        }
        Ok(())
    }
}

impl Group for NamedApiKeys {
    /// Visits nothing: each key is walked separately.
    fn walk(&mut self, _: &str, _: &mut dyn Visitor) {}
}

impl HttpApiOptions {
    /// All keys: `http_api.key` with every scope, and the named keys.
    pub fn all_keys(&self) -> ApiKeys {
        self.keys_with(None)
    }

    /// The keys of the server API over gRPC: all keys, and `grpc_api.key` with every scope.
    pub fn grpc_keys(&self, grpc: &Secret) -> ApiKeys {
        let key = ApiKey { name: GRPC.into(), secret: grpc.clone(), scopes: Scopes::ALL };
        self.keys_with(Some(key))
    }

    fn keys_with(&self, more: Option<ApiKey>) -> ApiKeys {
        let unnamed = ApiKey { name: UNNAMED.into(), secret: self.key.clone(), scopes: Scopes::ALL };
        let named = self.keys.0.iter().map(|NamedApiKey { name, options }| ApiKey {
            name: Arc::from(name.as_str()),
            secret: options.key.clone(),
            scopes: options.scopes,
        });
        std::iter::once(unnamed).chain(more).chain(named).collect()
    }

    /// Whether any key is set.
    pub fn has_key(&self) -> bool {
        self.key.is_set() || self.keys.0.iter().any(|key| key.options.key.is_set())
    }
}

/// A list of names.
impl Setting for Scopes {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        Vec::<Scope>::read(raw, &()).map(|scopes| scopes.into_iter().collect())
    }

    fn kind((): &()) -> String {
        "list of `publish`, `read`, `manage`".into()
    }

    fn toml(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().map(|scope| quoted(scope.name())).collect::<Vec<_>>().join(", ")))
    }
}

impl Setting for Scope {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let scope = raw.as_text().and_then(Self::from_name);
        scope.ok_or_else(|| format!("expected `publish`, `read` or `manage`, got {raw}"))
    }

    fn kind((): &()) -> String {
        "scope".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.name()))
    }
}
