//! Secrets in files of their own and in credentials of systemd.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tidings_config::{self as config, BrokerUrl, Config, ConfigErrors, Loaded, Overrides};

use crate::support::{env, file, no_overrides, sets};

/// Writes a file with a secret, readable for its owner alone.
fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    path.display().to_string()
}

fn load(text: &str, variables: &[(&str, &str)], overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    config::load_with_warnings(Some(&file("c.toml", text).path), env(variables), overrides)
}

fn key(config: &Config) -> &str {
    config.http_api.key.expose()
}

#[test]
fn every_secret_option_can_be_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let documented = config::docs();
    let files: Vec<_> = documented
        .lines()
        .filter_map(|line| Some(line.split_once("; also `")?.1.split_once('`')?.0.to_owned()))
        .collect();
    assert!(files.len() >= 10 && files.iter().any(|key| key == "cluster.secret_file"), "{files:?}");
    for key in files {
        let content = match key.trim_end_matches("_file") {
            "broker" => "redis://:s3cret-s3cret@127.0.0.1:6379\n",
            "admin.password_hash" => {
                "$argon2id$v=19$m=19456,t=2,p=1$8sFXdKOeD+mi+PZQ5obO5Q$JIWn1T4/CAJmHgyMplW2Q5/PXkGq+gKw7rlMwDH9W6o\n"
            }
            option if option.ends_with("headers") => "{\"X-Key\": \"s3cret\"}\n",
            _ => "s3cret-s3cret-s3cret\n",
        };
        let path = secret(folder.path(), "secret", content);
        let by_file = config::load(None, [], &sets(&[&format!("{key}={path}")]));
        let option = key.trim_end_matches("_file");
        let by_value = config::load(None, [], &sets(&[&format!("{option}={}", content.trim_end())]));
        match (by_file, by_value) {
            (Ok(by_file), Ok(by_value)) => {
                assert!(by_file == by_value && by_file != Config::default(), "{key}");
            }
            // A half key of the bucket is refused in both forms.
            (Err(_), Err(_)) if key.starts_with("tables.s3") => {}
            (by_file, by_value) => panic!("{key}: {by_file:?} {by_value:?}"),
        }
        let variable = format!("TIDINGS_{}", key.replace('.', "_").to_uppercase());
        let by_variable = config::load(None, env(&[(&variable, &path)]), &no_overrides());
        assert!(by_variable.is_ok() || key.starts_with("tables.s3"), "{variable}: {by_variable:?}");
    }
}

#[test]
fn a_secret_and_its_file_together_are_an_error_that_names_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = secret(folder.path(), "key", "s3cret\n");
    let text = format!("[http_api]\nkey = \"other\"\nkey_file = \"{path}\"\n");
    let error = load(&text, &[], &no_overrides()).expect_err("two values").to_string();
    assert!(error.contains("c.toml:3: http_api.key_file: `http_api.key` is given too, by "), "{error}");
    assert!(!error.contains("other\"") && !error.contains("s3cret"), "{error}");
    // An empty value is no value.
    let text = format!("[http_api]\nkey = \"\"\nkey_file = \"{path}\"\n");
    assert_eq!(key(&load(&text, &[], &no_overrides()).expect("one value").config), "s3cret");
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_and_one_for_other_users_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing").display().to_string();
    let error =
        load("", &[], &sets(&[&format!("http_api.key_file={missing}")])).expect_err("missing").to_string();
    assert!(
        error.starts_with("--set http_api.key_file: ") && error.contains("cannot be read: No such file"),
        "{error}"
    );
    let path = secret(folder.path(), "key", "s3cret");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let loaded = load("", &[("TIDINGS_HTTP_API_KEY_FILE", &path)], &no_overrides()).expect("a key");
    assert_eq!(key(&loaded.config), "s3cret");
    let warning = loaded.warnings.first().expect("a warning");
    assert!(warning.contains("TIDINGS_HTTP_API_KEY_FILE") && warning.contains("mode 0644"), "{warning}");
    let unknown =
        load("[tcp]\necho_file = \"x\"\n", &[], &no_overrides()).expect_err("not secret").to_string();
    assert!(unknown.contains("unknown key `tcp.echo_file`"), "{unknown}");
}

#[test]
fn a_credential_is_used_when_no_other_source_sets_the_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    secret(folder.path(), "http_api.key", "from-credential\n");
    secret(folder.path(), "broker", "redis://127.0.0.1:6379\n");
    secret(folder.path(), "unrelated", "x");
    let path = secret(folder.path(), "other", "from-file");
    let credentials = folder.path().display().to_string();
    let with = |text: &str, more: &[(&str, &str)], overrides: &Overrides| {
        let mut variables = vec![("CREDENTIALS_DIRECTORY", &*credentials)];
        variables.extend(more);
        load(text, &variables, overrides).expect("valid").config
    };
    let config = with("", &[("TIDINGS_CLUSTER_SECRET", "0123456789abcdef")], &no_overrides());
    assert_eq!(key(&config), "from-credential");
    assert!(matches!(config.broker, BrokerUrl::Redis(_)));
    let text = "[http_api]\nkey = \"from-text\"\n";
    assert_eq!(key(&with(text, &[], &no_overrides())), "from-text");
    assert_eq!(key(&with("[http_api]\nkey = \"\"\n", &[], &no_overrides())), "from-credential");
    assert_eq!(key(&with(text, &[("TIDINGS_HTTP_API_KEY", "from-env")], &no_overrides())), "from-env");
    assert_eq!(key(&with("", &[("TIDINGS_HTTP_API_KEY_FILE", &path)], &no_overrides())), "from-file");
    assert_eq!(key(&with(text, &[], &sets(&["http_api.key=from-flag"]))), "from-flag");
    assert_eq!(with("", &[], &sets(&["broker=memory"])).broker, BrokerUrl::Memory);
}

#[test]
fn named_keys_have_scopes_and_their_secrets_may_be_files_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = secret(folder.path(), "key", "ops-s3cret\n");
    let text = format!(
        "[[http_api.keys]]\nname = \"shop\"\nkey = \"shop-s3cret\"\nscopes = [\"publish\", \"read\"]\n\
         [[http_api.keys]]\nname = \"ops\"\nkey_file = \"{path}\"\nscopes = \"manage\"\n"
    );
    let loaded = load(&text, &[], &no_overrides()).expect("two keys");
    let is_warning = |line: &String| line.starts_with("http_api.keys.shop.key is weak");
    assert!(loaded.warnings.iter().any(is_warning), "{:?}", loaded.warnings);
    let config = loaded.config;
    assert!(config.has_key() && !config.is_workbench());
    let keys = config.http_api.all_keys();
    let found = |given: &str| {
        let key = keys.find(given.as_bytes()).and_then(|at| keys.get(at)).expect(given);
        (key.name.to_string(), key.scopes.to_string())
    };
    assert_eq!(found("shop-s3cret"), ("shop".into(), "publish, read".into()));
    assert_eq!(found("ops-s3cret"), ("ops".into(), "manage".into()));
    let by_variables = config::load(
        None,
        env(&[
            ("TIDINGS_HTTP_API_KEYS", "shop"),
            ("TIDINGS_HTTP_API_KEYS_SHOP_KEY", "shop-s3cret"),
            ("TIDINGS_HTTP_API_KEYS_SHOP_SCOPES", "read"),
        ]),
        &no_overrides(),
    );
    assert!(by_variables.expect("a key").http_api.all_keys().find(b"shop-s3cret").is_some());
}

#[test]
fn a_named_key_without_a_key_a_scope_or_a_name_of_its_own_is_refused() {
    let line = |text: &str| load(text, &[], &no_overrides()).expect_err(text).to_string();
    let empty = line("[[http_api.keys]]\nname = \"shop\"\nscopes = [\"read\"]\n");
    assert!(empty.contains("c.toml:1: http_api.keys: the key \"shop\" is empty"), "{empty}");
    let scopes = line("[[http_api.keys]]\nname = \"shop\"\nkey = \"s3cret\"\n");
    assert!(scopes.contains("has no scopes") && !scopes.contains("s3cret"), "{scopes}");
    let unknown = line("[[http_api.keys]]\nname = \"shop\"\nkey = \"s3cret\"\nscopes = [\"admin\"]\n");
    assert!(
        unknown.contains("c.toml:4: http_api.keys.shop.scopes: expected `publish`, `read` or `manage`"),
        "{unknown}"
    );
    let one = "[[http_api.keys]]\nname = \"shop\"\nkey = \"s3cret\"\nscopes = [\"read\"]\n";
    assert!(line(&format!("{one}{one}")).contains("two keys are named \"shop\""));
    let unnamed = line(&one.replace("shop", "http_api.key"));
    assert!(unnamed.contains("c.toml:1: http_api.keys: no key in this list may be named"), "{unnamed}");
    let equal = line(&format!("{one}{}", one.replace("shop", "other")));
    assert!(equal.contains("the keys \"other\" and \"shop\" are equal"), "{equal}");
    assert!(
        line(&format!("http_api.key = \"s3cret\"\n{one}"))
            .contains("\"shop\" and \"http_api.key\" are equal")
    );
    assert!(line("[[http_api.keys]]\nkey = \"s3cret\"\n").contains("http_api.keys[0]: a key needs a name"));
}
