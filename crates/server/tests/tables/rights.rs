//! The permission to create tables and upload files when a key is configured.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, wait_until};

use crate::table_server::{TableServer, Viewer, tsv};

const KEYS: [&str; 2] = ["http_api.key=a-key-of-backends", "client.token.hmac_secret_key=users"];

fn token(claims: &Value) -> String {
    let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "HS256"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"users");
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())))
}

fn rejected_upload(viewer: &mut Viewer, code: u64) -> String {
    viewer.upload("rows.tsv", tsv(3).as_bytes());
    let (got, reason) = viewer.error();
    assert_eq!(got, code, "{reason}");
    reason
}

fn uploads(viewer: &mut Viewer) -> Value {
    viewer.upload("rows.tsv", tsv(3).as_bytes());
    viewer.view(|view| view["loading"] == false && view["total_number"] == 3)
}

#[test]
fn with_a_key_uploads_need_a_permission_on_every_path() {
    let server = TableServer::with(&KEYS);
    let reason = rejected_upload(&mut server.viewer("/tables/ws"), 401);
    assert!(reason.contains("you may not upload here") && reason.contains("tables.allow_upload"), "{reason}");
    let mut article = server.viewer("/parser/ws");
    article.binary(tsv(3).as_bytes());
    assert_eq!(article.error().0, 401);
    // The same for an existing table: anyone with the link can view it, but an upload needs the permission.
    let mut owner = server.viewer("/tables/ws");
    owner.send(&json!({"token": token(&json!({"sub": "ann"}))}));
    assert_eq!(owner.until("an answer", |message| message["rights"].is_object())["rights"]["upload"], true);
    let table = uploads(&mut owner)["uuid"].as_str().expect("a name").to_owned();
    let mut guest = server.viewer(&format!("/tables/ws/{table}"));
    guest.view(|view| view["total_number"] == 3);
    rejected_upload(&mut guest, 401);
    let mut guest = server.viewer(&format!("/parser/ws/{table}"));
    guest.binary(tsv(5).as_bytes());
    assert_eq!(guest.error().0, 401);
    assert_eq!(server.append(&table, "guess", "text/plain", "1\t2\t3\n").0, 403);
    let metric = "tidings_table_refused_total{reason=\"right\"} 4";
    wait_until(PATIENCE, metric, || String::from_utf8_lossy(&server.get("/metrics").2).contains(metric));
}

#[test]
fn the_owner_s_secret_in_the_first_message_is_enough() {
    let server = TableServer::with(&KEYS);
    let mut creator = server.viewer("/tables/ws");
    creator.send(&json!({"token": token(&json!({"sub": "ann"}))}));
    creator.upload("rows.tsv", tsv(3).as_bytes());
    let secret = creator.until("the secret", |message| message["owner"].is_string())["owner"].clone();
    let table = creator.view(|view| view["loading"] == false)["uuid"].as_str().expect("a name").to_owned();
    drop(creator);
    let mut owner = server.viewer(&format!("/tables/ws/{table}"));
    owner.send(&json!({"owner": "guess"}));
    assert_eq!(owner.error().0, 403);
    owner.send(&json!({"lock": {"uploads": true}}));
    assert_eq!(owner.error().0, 403);
    owner.send(&json!({"owner": secret}));
    owner.until("an answer", |message| message["rights"]["owner"] == true);
    owner.send(&json!({"lock": {"uploads": true}}));
    owner.until("the locks", |message| message["lock"]["uploads"] == true);
    owner.upload("more.tsv", tsv(7).as_bytes());
    owner.view(|view| view["total_number"] == 7);
}

#[test]
fn tokens_grant_and_deny_uploads() {
    let server = TableServer::with(&KEYS);
    let mut viewer = server.viewer("/tables/ws");
    for (token, code) in [
        (token(&json!({"sub": "ann", "tables": {"upload": false}})), 403),
        (token(&json!({"sub": "ann", "exp": 1})), 401),
        (token(&json!({"sub": "ann", "channel": "news"})), 401),
        ("a.b.c".to_owned(), 401),
    ] {
        viewer.send(&json!({"token": token}));
        assert_eq!(viewer.error().0, code);
        rejected_upload(&mut viewer, code);
    }
    viewer.send(&json!({"token": token(&json!({"sub": "ann"}))}));
    uploads(&mut viewer);
    let key = ["tables.allow_upload=key"];
    let server = TableServer::with(&[&KEYS[..], &key].concat());
    let mut viewer = server.viewer("/tables/ws");
    viewer.send(&json!({"token": token(&json!({"sub": "ann"}))}));
    assert_eq!(viewer.error().0, 403);
    viewer.send(&json!({"token": token(&json!({"sub": "ann", "tables": {"upload": true}}))}));
    uploads(&mut viewer);
    uploads(&mut Viewer::with_header(server.http, "/tables/ws", ("X-API-Key", "a-key-of-backends")));
    let mut wrong = Viewer::with_header(server.http, "/tables/ws", ("X-API-Key", "another-key"));
    rejected_upload(&mut wrong, 401);
}

#[test]
fn uploads_are_open_to_everyone_by_option_and_in_the_workbench() {
    uploads(&mut TableServer::with(&[]).viewer("/tables/ws"));
    uploads(
        &mut TableServer::with(&[&KEYS[..], &["tables.allow_upload=anyone"]].concat()).viewer("/tables/ws"),
    );
    let server = TableServer::with(&["tables.allow_upload=token"]);
    rejected_upload(&mut server.viewer("/tables/ws"), 401);
}

#[test]
fn each_user_has_its_own_quota() {
    let server = TableServer::with(&[&KEYS[..], &["tables.user_max_total=300000"]].concat());
    let text = "x\ty\n".repeat(30_000);
    let share = |user: &str| {
        let mut viewer = server.viewer("/tables/ws");
        viewer.send(&json!({"token": token(&json!({"sub": user}))}));
        viewer.upload("rows.tsv", text.as_bytes());
        viewer
    };
    let whole = |viewer: &mut Viewer| {
        let view = viewer.view(|view| view["loading"] == false && view["total_number"] != 0);
        view["uuid"].as_str().expect("a name").to_owned()
    };
    let (mut other, mut unused) = (share("bob"), share("ann"));
    let (of_bob, of_ann) = (whole(&mut other), whole(&mut unused));
    drop((other, unused));
    let (mut second, mut third) = (share("ann"), share("ann"));
    whole(&mut second);
    whole(&mut third);
    // Her own table is evicted, although his is older.
    assert_eq!(server.get(&format!("/tables/{of_ann}.json")).0, 404);
    assert_eq!(server.get(&format!("/tables/{of_bob}.json")).0, 200);
    let (code, reason) = share("ann").error();
    assert!(code == 507 && reason.contains("tables.user_max_total"), "{reason}");
    whole(&mut share("bob"));
}
