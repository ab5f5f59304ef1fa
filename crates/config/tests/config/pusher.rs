//! The apps of the Pusher protocol.

use tidings_config::{self as config, Sources};

use crate::support::{env, file, load_text, no_overrides};

const SHOP: &str = "[[pusher.apps]]\nid = \"shop\"\nkey = \"shop-key\"\nsecret = \"s3cret\"\n";

#[test]
fn an_app_has_options_and_limits_from_every_source() {
    let text = format!(
        "{SHOP}channel_prefix = \"shop:\"\nclient_events = true\nallowed_origins = [\"https://a.example\"]\n\
         limits = {{ connections = 7 }}\n[[pusher.apps]]\nid = \"other\"\nkey = \"k\"\nsecret = \"x\"\n\
         [pusher.apps.limits]\npresence_members = 5\n"
    );
    let config = load_text("c.toml", &text).expect("two apps");
    let apps = config.pusher_apps();
    let [shop, other] = &apps[..] else { panic!("{apps:?}") };
    assert_eq!((&*shop.id, &*shop.options.key, shop.options.limits.connections), ("shop", "shop-key", 7));
    assert!(shop.options.client_events && !other.options.client_events);
    assert_eq!((other.options.limits.presence_members, other.options.limits.event_size), (5, 10_240));
    assert!(config.has_key() && !config.is_workbench(), "a secret of an app is a key");
    assert!(!format!("{apps:?}").contains("s3cret"));
    let by_variables = config::load(
        None,
        env(&[
            ("TIDINGS_PUSHER_APPS", "shop"),
            ("TIDINGS_PUSHER_APPS_SHOP_KEY", "k"),
            ("TIDINGS_PUSHER_APPS_SHOP_SECRET", "s3cret"),
            ("TIDINGS_PUSHER_APPS_SHOP_LIMITS_EVENT_SIZE", "100"),
        ]),
        &no_overrides(),
    );
    assert_eq!(by_variables.expect("an app").pusher_apps()[0].options.limits.event_size, 100);
}

#[test]
fn the_secret_of_an_app_may_be_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, "from a file\n").expect("a file");
    let line = format!("secret_file = {:?}", path.display().to_string());
    let config = load_text("c.toml", &SHOP.replace("secret = \"s3cret\"", &line)).expect("an app");
    assert_eq!(config.pusher_apps()[0].options.secret.expose(), "from a file");
}

#[test]
fn only_a_workbench_has_an_app_without_configuration() {
    let apps = load_text("c.toml", "").expect("nothing").pusher_apps();
    assert_eq!((apps.len(), &*apps[0].id, &*apps[0].options.key), (1, "app", "key"));
    assert!(apps[0].options.allowed_origins.iter().all(|origin| origin.as_str() != "*"));
    let apps = load_text("c.toml", "[http_api]\nkey = \"s3cret\"\n").expect("a key").pusher_apps();
    assert!(apps.is_empty());
}

#[test]
fn an_app_that_is_incomplete_or_shares_its_channels_is_refused() {
    let error = |text: &str| load_text("c.toml", text).expect_err(text).to_string();
    let no_secret = error("[[pusher.apps]]\nid = \"a\"\nkey = \"k\"\n");
    assert!(no_secret.contains("give pusher.apps.a.secret or pusher.apps.a.secret_file"), "{no_secret}");
    assert!(error("[[pusher.apps]]\nid = \"a\"\nsecret = \"s\"\n").contains("pusher.apps.a.key"));
    assert!(error("[[pusher.apps]]\nkey = \"k\"\n").contains("pusher.apps[0]: an app needs an id"));
    assert!(error("[[pusher.apps]]\nid = \"a.b\"\n").contains("is not a valid id of an app"));
    assert!(error(&format!("{SHOP}{SHOP}")).contains("two apps have the id \"shop\""));
    let other = SHOP.replace("\"shop\"", "\"other\"");
    let both = error(&format!("{SHOP}{other}"));
    assert!(both.contains("the apps \"shop\" and \"other\" have the same key"), "{both}");
    assert!(both.contains("the apps \"shop\" and \"other\" have the same channel_prefix"), "{both}");
    for prefix in ["shop", ":", "a#:"] {
        let text = format!("{SHOP}channel_prefix = \"{prefix}\"\n");
        assert!(error(&text).contains("must end in `:` (channel.namespace_boundary)"), "{prefix}");
    }
    let text = format!("channel.namespace_boundary = \"-\"\n{SHOP}channel_prefix = \"shop-\"\n");
    assert!(error(&text).contains("a character that names of Pusher channels cannot contain"));
    let namespace = format!("{SHOP}channel_prefix = \"shop:\"\n[[channel.namespaces]]\nname = \"chat\"\n");
    assert!(error(&namespace).contains("the namespace \"shop\", which channel.namespaces lacks"));
    assert!(error(&format!("{SHOP}limits = {{ users = 1 }}\n")).contains("pusher.apps.shop.limits.users"));
}

#[test]
fn apps_change_without_a_restart_except_for_the_receivers_of_their_webhooks() {
    let one = file("c.toml", SHOP);
    let sources = Sources::new(Some(one.path.clone()), Vec::new(), no_overrides());
    let running = sources.load().expect("an app").config;
    let more = format!(
        "{}[[pusher.apps]]\nid = \"b\"\nkey = \"k\"\nsecret = \"s\"\nchannel_prefix = \"b:\"\n\
         webhooks = [\"http://localhost/b\"]\n",
        SHOP.replace("s3cret", "other")
    );
    std::fs::write(&one.path, more).expect("a file");
    for _ in 0..2 {
        let reloaded = sources.reload(&running).expect("a reload");
        assert_eq!(reloaded.changed, ["pusher.apps.shop.secret", "pusher.apps.b"]);
        assert_eq!(reloaded.restart_required, ["pusher.apps.b.webhooks"]);
        let apps = reloaded.config.pusher_apps();
        assert_eq!((apps.len(), apps[0].options.secret.expose()), (2, "other"));
        assert!(apps[1].options.webhooks.is_empty(), "they are not used until a restart");
    }
    std::fs::write(&one.path, SHOP.replace("\"shop\"", "\"a\"")).expect("a file");
    let reloaded = sources.reload(&running).expect("a reload");
    assert_eq!(reloaded.changed, ["pusher.apps.a", "pusher.apps.shop"]);
    assert!(reloaded.restart_required.is_empty(), "{:?}", reloaded.restart_required);
}
