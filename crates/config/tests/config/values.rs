//! Values with a form of their own: addresses of listeners, brokers, stores of tables.

use tidings_config::{BrokerUrl, TablesStore};

use crate::support::{error_line, load_sets};

#[test]
fn listen_addresses_are_checked_before_anything_binds() {
    for good in ["127.0.0.1:0", "[::1]:0", "localhost:80", "unix:/run/t.sock", "off"] {
        let set = format!("tcp.listen={good}");
        assert!(load_sets(&[&set]).is_ok(), "{good}");
    }
    for (bad, why) in [
        ("5567", "has no port"),
        ("127.0.0.1:", "has no port from 0 to 65535"),
        ("127.0.0.1:65536", "has no port from 0 to 65535"),
        (":8000", "has no host (0.0.0.0 or [::] stand for every address)"),
        ("::1:80", "needs brackets around its IPv6 address"),
        ("[::g]:80", "has no IPv6 address in its brackets"),
        ("1.2.3:80", "has a host that is neither a name nor an IP address"),
        ("http://x:80", "has a host that is neither a name nor an IP address"),
        ("unix:", "has no path after unix:"),
    ] {
        let set = format!("tcp.listen={bad}");
        let expected = format!("--set tcp.listen: \"{bad}\" {why}; expected HOST:PORT, unix:PATH or off");
        assert_eq!(error_line(load_sets(&[&set])), expected);
    }
    assert_eq!(
        error_line(load_sets(&["tcp.listen=off,127.0.0.1:1"])),
        "--set tcp.listen: `off` cannot be combined with addresses"
    );
    assert_eq!(
        error_line(load_sets(&["tcp=off", "http=off"])),
        "--set http: tcp.listen and http.listen are both off, so the server could not be reached"
    );
}

#[test]
fn brokers_are_selected_by_their_scheme() {
    for good in [
        "redis://h",
        "rediss://u:p@h:1/2",
        "redis+sentinel://a,b/m",
        "redis+cluster://h:1,i:2",
        "rediss+cluster://u:p@h",
    ] {
        let set = format!("broker={good}");
        assert!(matches!(load_sets(&[&set]).expect(good).broker, BrokerUrl::Redis(_)));
    }
    assert!(error_line(load_sets(&["broker=nats://x"])).ends_with("got the scheme \"nats\""));
    assert!(error_line(load_sets(&["broker=localhost:6379"])).ends_with("got text without a scheme"));
    assert!(error_line(load_sets(&["broker=redis://"])).contains("expected redis://HOST:PORT"));
}

#[test]
fn tables_are_stored_in_a_folder_or_in_a_bucket() {
    let store = |text: &str| {
        let config = load_sets(&[&format!("tables.store={text}")]).expect("a configuration");
        config.tables.store.expect("a store")
    };
    assert_eq!(store("/var/lib/tables"), TablesStore::Folder("/var/lib/tables".into()));
    let in_bucket =
        |bucket: &str, prefix: &str| TablesStore::S3 { bucket: bucket.into(), prefix: prefix.into() };
    assert_eq!(store("s3://tables"), in_bucket("tables", ""));
    assert_eq!(store("s3://tables/"), in_bucket("tables", ""));
    assert_eq!(store("s3://my.tables/some/prefix/"), in_bucket("my.tables", "some/prefix"));
    assert_eq!(store("s3://my.tables/some/prefix/").to_string(), "s3://my.tables/some/prefix");
    for wrong in ["s3://", "s3:///prefix", "s3://a b", "s3://tables/../x", "s3://tables/a//b", "gs://tables"]
    {
        let words = error_line(load_sets(&[&format!("tables.store={wrong}")]));
        assert!(words.contains("s3://BUCKET/PREFIX"), "{wrong}: {words}");
    }
    let words = error_line(load_sets(&["tables.s3.endpoint=http://minio:9000"]));
    assert!(words.contains("tables.s3.allow_http = true"), "{words}");
    let words = error_line(load_sets(&["tables.s3.access_key_id=me"]));
    assert!(words.contains("tables.s3.secret_access_key is not"), "{words}");
    let config = load_sets(&["tables.s3.access_key_id=me", "tables.s3.secret_access_key=hush"]);
    assert!(!format!("{:?}", config.expect("a configuration")).contains("hush"));
}
