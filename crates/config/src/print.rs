//! The output of `tidings config default` and `tidings config docs`: a commented file, and the list of options in
//! Markdown.

use super::group::{Group, Slot, Visitor};
use super::keys::SECRET_FILE_SUFFIX;
use super::options::{Config, ConsumerOptions, PusherAppOptions};
use super::variables::variable;

/// The longest line of a comment in the default file, in characters.
const WIDTH: usize = 100;

const FILE_HEAD: &str = "\
Configuration of tidings: every option with its default.

A flag overrides an environment variable, a variable overrides this file, and this file overrides the default. \
`tidings config docs` lists every option, `tidings config check FILE` checks a file.";

const FILE_NAMESPACES: &str = "\
Namespaces: options for channels whose names begin with the namespace and a colon (`chat:…`), instead of \
[channel.without_namespace]. Each namespace has the same options.";

const NAMESPACE_EXAMPLE: &str = "\
# [[channel.namespaces]]
# name = \"chat\"
# allow_subscribe_for_client = true
# allow_publish_for_subscriber = true
";

const DOCS_HEAD: &str = "\
# Configuration

<!-- Written by `tidings config docs`. To change it, change the table in crates/config/src/options. -->

`tidings serve` runs without any configuration. Each option is taken from the first source that has it: flags, environment
variables, the file, a credential of systemd (secrets only), the default.

- **The file** is given by `--config FILE` or `TIDINGS_CONFIG`. Its ending selects TOML, JSON or YAML (`.toml`, `.json`,
  `.yaml`, `.yml`). `tidings config default` prints a commented file, `tidings config check FILE` checks a file.
- **The environment variable** of an option is `TIDINGS_` and its key in capitals, with `_` for every other character:
  `tcp.auto_subscribe` is `TIDINGS_TCP_AUTO_SUBSCRIBE`.
- **The flag** of any option is `--set KEY=VALUE`; the common ones have their own.
- **A list** is a list in a file. In other sources it is text: items separated by commas or by spaces, or a JSON list
  (`[\"a\", \"b\"]`). Quotes around the text and around an item are removed; empty text is an empty list.
- **A duration** is a number with a unit (`250ms`, `25s`, `5m`, `24h`), several of them from the largest unit to the
  smallest (`1m30s`), or a number of seconds.
- **A size** is a number of bytes, or has a unit: `KiB`, `MiB`, `GiB` are powers of 1,024, `KB`, `MB`, `GB` of 1,000.
- **A secret** may be in a file of its own: `http_api.key_file` (`TIDINGS_HTTP_API_KEY_FILE`) names the file with
  `http_api.key`, and so for every option that lists such a key below. The last line break of the file is removed. The value
  and the file together are an error; a file that other users can read causes a warning. A secret that no source sets is
  taken from the credential of systemd with the name of its option (`LoadCredential=http_api.key:/etc/tidings/api.key`).
  The order is: flag, environment, file, credential, default.
- **A reload** (`SIGHUP`, `systemctl reload`, `POST /api/reload`) reads the file, the files with secrets and the credentials
  again, with the flags and the environment of the start. Each option below is reloadable or needs a restart; see
  [reload](operations/reload.md).
- An unknown key or variable is an error that names the nearest known one. A value out of bounds is an error. Only
  the variables that Kubernetes and Docker set for a service named `tidings` are ignored. One run reports all errors.
- **A file of Centrifugo** is imported by `tidings config import FILE`; see [centrifugo.md](centrifugo.md#options).

## Keys

With listeners on loopback addresses and Unix sockets alone and no key, the server is a workbench: every client may
connect, subscribe, publish and use the API. Once a token key (`client.token`) or `http_api.key` is set, the
options of channels define the permissions of clients. A listener on any other address without a key is an error, unless
`client.insecure` is set.
";

const DOCS_NAMESPACES: &str = "\
## `channel.namespaces`

Options for the channels of a namespace. The namespace of a channel is the text before the first colon of its name (`chat`
in `chat:room`). A namespace has a `name` (2 to 253 letters, digits, `-`, `_` or `.`) and every option of
`channel.without_namespace`, with the same defaults. `match`, `pattern` and `user_variable` are options of namespaces alone. Without any namespace, a colon in a channel's name has no meaning;
with at least one, a channel in an unknown namespace does not exist. In a file namespaces are a list of
tables:

```toml
[[channel.namespaces]]
name = \"chat\"
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
```

In the environment, `TIDINGS_CHANNEL_NAMESPACES=chat,news` sets the namespaces (instead of those of the file; a namespace
in both keeps its options), and `TIDINGS_CHANNEL_NAMESPACES_CHAT_ALLOW_PUBLISH_FOR_CLIENT=true` sets an option.
";

const DOCS_API_KEYS: &str = "\
## `http_api.keys`

Named keys of the server API, at most 64, besides `http_api.key`. Several keys are valid at the same time, so that a key can
be replaced without an interruption ([rotate keys](operations/keys.md)). A key has

- a `name` (1 to 64 letters, digits, `-`, `_` or `.`; not `http_api.key`), by which logs refer to it;
- a `key`, or a `key_file` with it;
- `scopes`, a list of `publish`, `read` and `manage`: the groups of operations that it permits
  ([api.md](api.md#keys-and-scopes) lists them);
- a `rate_limit`, the number of commands per second, beside `http_api.rate_limit` of all keys together; none by default.

All of them are reloadable. In a file the keys are a list of tables:

```toml
[[http_api.keys]]
name = \"shop\"
key_file = \"/etc/tidings/shop.key\"
scopes = [\"publish\", \"read\"]
```

In the environment, `TIDINGS_HTTP_API_KEYS=shop` sets the names (instead of those of the file; a key in both keeps its
options), and `TIDINGS_HTTP_API_KEYS_SHOP_KEY=…` and `TIDINGS_HTTP_API_KEYS_SHOP_SCOPES=publish,read` set the options. The
credential of its key is `http_api.keys.shop.key`.
";

const DOCS_PUSHER_APPS: &str = "\
## `pusher.apps`

The apps of the Pusher protocol, at most 64 ([pusher.md](pusher.md)). An app has an `id` (1 to 64 letters, digits, `-` or `_`),
a `key`, a `secret` (or a `secret_file` with it) and the options below. They are reloadable, except `webhooks`. In a file the apps are a list of
tables:

```toml
[[pusher.apps]]
id = \"shop\"
key = \"shop-key\"
secret_file = \"/etc/tidings/shop.secret\"
client_events = true
limits = { connections = 10000 }
```

In the environment, `TIDINGS_PUSHER_APPS=shop` sets the ids (instead of those of the file; an app in both keeps its options),
and `TIDINGS_PUSHER_APPS_SHOP_KEY=…`, `TIDINGS_PUSHER_APPS_SHOP_SECRET=…` and
`TIDINGS_PUSHER_APPS_SHOP_LIMITS_CONNECTIONS=10000` set the options. The credential of its secret is `pusher.apps.shop.secret`.
";

const DOCS_PROXIES: &str = "\
## `proxies`

Named hooks, at most 256, for namespaces that use other hooks than those of `channel.proxy` and `rpc.proxy`
([hooks.md](hooks.md#several-applications)). A proxy has a `name` (2 to 64 letters, digits, `-`, `_` or `.`; not `default`) and every option of
`channel.proxy.subscribe`, with the same defaults. All of them are reloadable. In a file proxies are a list of tables:

```toml
[[proxies]]
name = \"billing\"
endpoint = \"http://localhost:3001/tidings\"
http = { static_headers = { X-Key = \"value\" } }
```

In the environment, `TIDINGS_PROXIES=billing` sets the names (instead of those of the file; a proxy in both keeps its options), and
`TIDINGS_PROXIES_BILLING_ENDPOINT=http://localhost:3001/tidings` sets an option.
";

const DOCS_CONSUMERS: &str = "\
## `consumers`

Consumers, which run commands of the server API that a backend leaves in a table of its own database ([outbox.md](outbox.md)) or in streams
of Redis ([redis-streams.md](redis-streams.md)). A consumer has a `name` (2 to 64 letters, digits, `-`, `_` or `.`) and the options below. A change needs a restart. In a file consumers are a list of tables:

```toml
[[consumers]]
name = \"outbox\"
enabled = true
type = \"postgresql\"
postgresql = { dsn_file = \"/etc/tidings/outbox.dsn\", outbox_table_name = \"outbox\" }
```

In the environment, `TIDINGS_CONSUMERS=outbox` sets the names (instead of those of the file; a consumer in both keeps its options), and
`TIDINGS_CONSUMERS_OUTBOX_POSTGRESQL_DSN=…` sets an option. The credential of its address is `consumers.outbox.postgresql.dsn`.
";

const DOCS_RPC_NAMESPACES: &str = "\
## `rpc.namespaces`

Namespaces of the methods of `rpc` commands, at most 256. The namespace of a method is the text before the first
`rpc.namespace_boundary` (`chat` in `chat:typing`). A namespace has a `name` (2 to 64 letters, digits, `-`, `_` or `.`),
`proxy_enabled` (`false` by default; without it the reply is error 108) and `proxy_name` (a name in `proxies`, or `default` for
`rpc.proxy`). All of them are reloadable. Without any namespace the boundary has no meaning; with at least one, a method in an
unknown namespace is error 104.

```toml
[[rpc.namespaces]]
name = \"chat\"
proxy_enabled = true
```

In the environment, `TIDINGS_RPC_NAMESPACES=chat` sets the names, and `TIDINGS_RPC_NAMESPACES_CHAT_PROXY_ENABLED=true` an option.
";

/// One option for the printers.
struct Entry {
    key: String,
    doc: String,
    kind: String,
    toml: Option<String>,
    gloss: Option<String>,
    is_secret: bool,
    is_reloadable: bool,
}

impl Entry {
    /// The effect of a new value in a running server.
    fn reload(&self) -> &'static str {
        if self.is_reloadable { "reloadable" } else { "needs a restart" }
    }
}

/// The options of one group, with the group's path (ending in a dot, or empty).
struct Section {
    path: String,
    doc: String,
    entries: Vec<Entry>,
}

impl Section {
    /// The path in the brackets of TOML.
    fn table(&self) -> &str {
        self.path.trim_end_matches('.')
    }
}

fn sections() -> Vec<Section> {
    struct CollectSections(Vec<Section>);
    impl Visitor for CollectSections {
        fn group(&mut self, path: &str, doc: &'static [&'static str]) {
            self.0.push(Section { path: path.to_owned(), doc: joined(doc), entries: Vec::new() });
        }

        fn option(&mut self, path: &str, doc: &'static [&'static str], slot: &mut dyn Slot) {
            let (kind, toml, gloss) = (slot.kind(), slot.toml(), slot.gloss());
            let entry = Entry {
                key: path.to_owned(),
                doc: joined(doc),
                kind,
                toml,
                gloss,
                is_secret: slot.is_secret(),
                is_reloadable: slot.is_reloadable(),
            };
            if let Some(section) = self.0.last_mut() {
                section.entries.push(entry);
            }
        }
    }
    let mut collect = CollectSections(Vec::new());
    Config::default().walk("", &mut collect);
    collect.0
}

/// The lines of a doc comment as one paragraph.
pub(super) fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// A TOML file with every option, its documentation in comments and its default as value: loading it yields
/// [`Config::default`].
pub fn default_file() -> String {
    let mut out = comment(FILE_HEAD);
    for section in sections() {
        if !section.path.is_empty() {
            out += &format!("\n{}[{}]\n", comment(&section.doc), section.table());
        }
        for entry in &section.entries {
            let name = &entry.key[section.path.len()..];
            let gloss = entry.gloss.as_ref().map(|gloss| format!(" # {gloss}")).unwrap_or_default();
            let kind = entry.kind.replace('`', "\"");
            let value = format!("Value: {kind}; {}.", entry.reload());
            out += &format!("\n{}{}", comment(&entry.doc), comment(&value));
            out += &match &entry.toml {
                Some(value) => format!("{name} = {value}{gloss}\n"),
                None => format!("# {name} = …\n"),
            };
        }
    }
    out + "\n" + &comment(FILE_NAMESPACES) + NAMESPACE_EXAMPLE
}

/// `text`, paragraph by paragraph, as comments of at most [`WIDTH`] characters.
pub(super) fn comment(text: &str) -> String {
    let mut out = String::new();
    for paragraph in text.lines() {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                out += &line;
                out += "\n";
                line = String::from("#");
            }
            line += " ";
            line += word;
        }
        out += &line;
        out += "\n";
    }
    out
}

/// The options of the items of a list, as rows of a table.
fn item_options(mut item: impl Group) -> String {
    struct Rows(String);
    impl Visitor for Rows {
        fn group(&mut self, _: &str, _: &'static [&'static str]) {}

        fn option(&mut self, path: &str, doc: &'static [&'static str], slot: &mut dyn Slot) {
            let default = slot.toml().map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
            let (kind, doc) = (slot.kind(), joined(doc));
            self.0 += &format!("| `{path}` | {kind} | {default} | {doc} |\n");
        }
    }
    let mut rows = Rows("\n| option | value | default | what |\n|---|---|---|---|\n".to_owned());
    item.walk("", &mut rows);
    rows.0
}

/// Every option with its type, bounds, default and environment variable, in Markdown.
pub fn docs() -> String {
    let mut out = String::from(DOCS_HEAD);
    for section in sections() {
        out += &match section.table() {
            "" => "\n## Top level\n".to_owned(),
            table => format!("\n## `{table}`\n\n{}\n", section.doc),
        };
        let has_option = |key: &str| section.entries.iter().any(|entry| entry.key == key);
        for entry in &section.entries {
            let Entry { key, doc, kind, toml, gloss, is_secret, .. } = entry;
            let default = match (toml, gloss) {
                (Some(value), Some(gloss)) => format!("default `{value}` ({gloss})"),
                (Some(value), None) => format!("default `{value}`"),
                (None, _) => "no default".to_owned(),
            };
            let file = format!("{key}{SECRET_FILE_SUFFIX}");
            let file =
                if *is_secret && !has_option(&file) { format!("; also `{file}`") } else { String::new() };
            out += &format!(
                "\n### `{key}`\n\n{kind}; {default}; {}{file}; `{}`\n\n{doc}\n",
                entry.reload(),
                variable(key)
            );
        }
        if section.table() == "channel.without_namespace" {
            out += "\n";
            out += DOCS_NAMESPACES;
        }
        if section.table() == "rpc.without_namespace" {
            out += "\n";
            out += DOCS_RPC_NAMESPACES;
            out += "\n";
            out += DOCS_PROXIES;
            out += "\n";
            out += DOCS_CONSUMERS;
            out += &item_options(ConsumerOptions::default());
        }
        if section.table() == "http_api" {
            out += "\n";
            out += DOCS_API_KEYS;
        }
        if section.table() == "pusher" {
            out += "\n";
            out += DOCS_PUSHER_APPS;
            out += &item_options(PusherAppOptions::default());
        }
    }
    out
}
