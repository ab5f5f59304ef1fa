//! Options of tables after a reload of the configuration.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::TestServer;
use crate::table_server::{Viewer, tsv};

/// A token of the user `ann`.
fn token() -> String {
    let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "HS256"})), part(&json!({"sub": "ann"})));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"users");
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())))
}

/// A server with a configuration file. Requests come through a proxy, from 192.0.2.1.
struct World {
    server: TestServer,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    fn start(tables: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        let text = format!(
            "trusted_proxies = [\"127.0.0.1\"]\nhttp_api.key = \"a-key-of-backends\"\n\
             client.token.hmac_secret_key = \"users\"\nshutdown.drain = \"0s\"\ndata_dir = \"{}\"\n",
            folder.path().display()
        );
        std::fs::write(&path, format!("{text}{tables}")).expect("a file");
        Self { server: TestServer::start_with_file(Some(&path), &[]), path, _folder: folder }
    }

    /// Replaces the options of tables.
    fn reload(&self, tables: &str) {
        let text = std::fs::read_to_string(&self.path).expect("a file");
        let others = text.lines().filter(|line| !line.starts_with("tables.")).collect::<Vec<_>>().join("\n");
        std::fs::write(&self.path, format!("{others}\n{tables}")).expect("a file");
        let report = self.server.runtime.block_on(self.server.server().reload()).expect("a reload");
        assert_eq!(report.restart_required, Vec::<String>::new());
    }

    fn guest(&self) -> Viewer {
        Viewer::with_header(self.server.http(), "/tables/ws", ("X-Forwarded-For", "192.0.2.1"))
    }

    fn ann(&self) -> Viewer {
        let mut viewer = self.guest();
        viewer.send(&json!({"token": token()}));
        viewer.until("an answer", |message| message["rights"].is_object());
        viewer
    }
}

fn uploads(viewer: &mut Viewer) -> String {
    viewer.upload("rows.tsv", tsv(3).as_bytes());
    let view = viewer.view(|view| view["loading"] == false && view["total_number"] == 3);
    view["uuid"].as_str().expect("an id").to_owned()
}

/// The code of a rejected upload, whose reason names the option.
fn rejected(viewer: &mut Viewer, option: &str) -> u64 {
    viewer.upload("rows.tsv", tsv(3).as_bytes());
    let (code, reason) = viewer.error();
    assert!(reason.contains(option), "{option}: {reason}");
    code
}

#[test]
fn the_permission_to_upload_and_the_space_of_a_user_change_for_open_connections() {
    let world = World::start("");
    let (mut ann, mut guest) = (world.ann(), world.guest());
    uploads(&mut ann);
    assert_eq!(rejected(&mut guest, "tables.allow_upload"), 401);
    world.reload("tables.allow_upload = \"anyone\"\n");
    uploads(&mut guest);
    world.reload("tables.allow_upload = \"anyone\"\ntables.user_max_total = 1\n");
    assert_eq!(rejected(&mut ann, "tables.user_max_total"), 507);
    uploads(&mut guest);
    world.reload("tables.allow_upload = \"anyone\"\ntables.address_max_total = 1\n");
    assert_eq!(rejected(&mut guest, "tables.address_max_total"), 507);
    uploads(&mut ann);
    world.reload("tables.allow_upload = \"key\"\n");
    let mut other = world.guest();
    other.send(&json!({"token": token()}));
    let (code, reason) = other.error();
    assert!(code == 403 && reason.contains("tables.allow_upload"), "{code} {reason}");
    // The owner of a table may still upload to it.
    uploads(&mut ann);
}

#[test]
fn the_numbers_of_uploads_and_downloads_change_for_open_connections() {
    let world = World::start("tables.allow_upload = \"anyone\"\n");
    // Uploads that do not end.
    let begin = |mut viewer: Viewer| {
        viewer.send(&json!({"upload": {"name": "rows.tsv"}}));
        viewer.binary(tsv(3).as_bytes());
        viewer.until("progress", |message| message.get("progress").is_some() || message["total_number"] == 3);
        viewer
    };
    let (mut ann, mut guest) = (world.ann(), world.guest());
    let _running = [begin(world.ann()), begin(world.guest())];
    let table = uploads(&mut ann);
    uploads(&mut guest);
    world.reload("tables.allow_upload = \"anyone\"\ntables.user_upload_limit = 1\n");
    assert_eq!(rejected(&mut ann, "tables.user_upload_limit"), 429);
    uploads(&mut world.guest());
    world.reload("tables.allow_upload = \"anyone\"\ntables.address_upload_limit = 1\n");
    assert_eq!(rejected(&mut guest, "tables.address_upload_limit"), 429);
    uploads(&mut world.ann());

    world.reload("tables.allow_upload = \"anyone\"\n");
    ann.upload("rows.tsv", tsv(300_000).as_bytes());
    ann.view(|view| view["loading"] == false && view["total_number"] == 300_000);
    let begin = || {
        let mut stream = TcpStream::connect(world.server.http()).expect("a server");
        let request = format!(
            "GET /tables/{table}/download?view=csv HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("a response");
        (stream, String::from_utf8_lossy(&status[9..]).into_owned())
    };
    // Their responses are not read.
    let downloads = [begin(), begin()];
    assert!(downloads.iter().all(|(_, status)| status == "200"));
    world.reload("tables.allow_upload = \"anyone\"\ntables.address_download_limit = 2\n");
    assert_eq!(begin().1, "429");
}
