//! Tests of `tidings share`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tidings_testkit::{PATIENCE, RespClient, Tidings, wait_until};

use crate::tool::{Done, Tool, command, run, server};

/// Starts `share` with these arguments for this server.
fn share(server: &Tidings, args: &[&str]) -> Tool {
    Tool::start(command(&[&["share", "--server", &server.http_url()], args].concat()))
}

/// The link in the first line of stdout.
fn link(tool: &Tool) -> String {
    tool.lines(1).swap_remove(0)
}

/// The current page of a table.
fn page(link: &str) -> Value {
    let url = format!("{link}.json?page_size=1000");
    let got = Command::new("curl").args(["-sS", "-m", "20", &url]).output().expect("curl");
    serde_json::from_slice(&got.stdout).unwrap_or_else(|e| panic!("{url}: {e}: {got:?}"))
}

/// Waits until the table has these rows.
fn wait_for_rows(link: &str, rows: &[&[&str]]) {
    let expected = serde_json::json!(rows);
    let mut last = Value::Null;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until(PATIENCE, "the rows", || {
            last = page(link);
            last["data"] == expected
        });
    }));
    assert!(seen.is_ok(), "{last}");
}

fn append(path: &Path, text: &str) {
    append_bytes(path, text.as_bytes());
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    File::options().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Follows a file with this initial content. Returns the command and the table's link.
fn follow(server: &Tidings, path: &Path, begin: &[u8]) -> (Tool, String) {
    append_bytes(path, begin);
    let tool = share(server, &["--follow", path.to_str().unwrap()]);
    let link = link(&tool);
    (tool, link)
}

#[test]
fn a_file_becomes_a_table_and_the_links_are_printed_first() {
    let server = server(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scores.tsv");
    let rows: String = (0..500).map(|n| format!("player {n}\t{}\n", n * n)).collect();
    fs::write(&path, format!("name\tscore\n{rows}")).unwrap();
    let Done { code, stdout, stderr } = share(&server, &[path.to_str().unwrap()]).finish();
    assert_eq!(code, Some(0), "{stderr}");
    let out = String::from_utf8(stdout).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with(&format!("{}tables/", server.http_url())), "{out}");
    assert!(lines[1].starts_with(&format!("owner: {}#owner=", lines[0])), "{out}");
    assert!(stderr.contains("500 rows of 2 columns"), "{stderr}");
    let page = page(lines[0]);
    assert_eq!((&page["name"], &page["total_number"]), (&"scores.tsv".into(), &500.into()), "{page}");
    assert_eq!(page["data"][499], serde_json::json!(["player 499", "249001"]));
}

#[test]
fn standard_input_creates_the_table_and_appends_until_it_ends() {
    let server = server(&[]);
    let mut tool = share(&server, &["-", "--name", "job"]);
    let mut stdin = tool.stdin.take().expect("a piped stdin");
    stdin.write_all(b"a,b\n1,x\n2,y\n3,").unwrap();
    let link = link(&tool);
    wait_for_rows(&link, &[&["1", "x"], &["2", "y"]]);
    stdin.write_all(b"z\n4,\"with, comma\"\n").unwrap();
    wait_for_rows(&link, &[&["1", "x"], &["2", "y"], &["3", "z"], &["4", "with, comma"]]);
    stdin.write_all(b"5,end").unwrap();
    drop(stdin);
    let done = tool.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("3 rows appended"), "{done:?}");
    let last = page(&link);
    assert_eq!(last["data"][4], serde_json::json!(["5", "end"]), "{last}");
    assert_eq!(last["name"], "job");
}

#[test]
fn the_objects_of_a_channel_become_rows_that_are_replaced_by_key() {
    let server = server(&["--set", "client.insecure=true"]);
    let tool = share(&server, &["--channel", "prices", "--row-key", "symbol"]);
    let mut publisher = RespClient::connect(server.tcp());
    wait_until(PATIENCE, "a subscription", || {
        publisher.command(&["PUBSUB", "NUMSUB", "prices"]).texts() == ["prices", "1"]
    });
    let mut publish =
        |body: &str| assert_eq!(publisher.command(&["PUBLISH", "prices", body]).int(), 1, "{body}");
    publish(r#"{"symbol":"AAA","price":1.5}"#);
    publish("{\"symbol\":\"BBB\",\n \"price\":2}");
    let link = link(&tool);
    wait_for_rows(&link, &[&["AAA", "1.5"], &["BBB", "2"]]);
    assert_eq!(page(&link)["name"], "prices");
    publish("not an object");
    publish(r#"{"symbol":"CCC","price":3}"#);
    publish(r#"{"symbol":"AAA","price":9}"#);
    wait_for_rows(&link, &[&["AAA", "9"], &["BBB", "2"], &["CCC", "3"]]);
    tool.wait_for_stderr("a publication was skipped: it is no JSON object");
}

#[test]
fn a_growing_file_is_followed_across_rotation_and_truncation() {
    let server = server(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    let tool = share(&server, &["--follow", path.to_str().unwrap()]);
    tool.wait_for_stderr("waiting for the first line");
    append(&path, "n,what\n1,first\n2,sec");
    let link = link(&tool);
    wait_for_rows(&link, &[&["1", "first"]]);
    append(&path, "ond\n");
    wait_for_rows(&link, &[&["1", "first"], &["2", "second"]]);
    fs::rename(&path, dir.path().join("log.csv.1")).unwrap();
    append(&dir.path().join("log.csv.1"), "3,late\n");
    append(&path, "4,new file\n");
    wait_for_rows(&link, &[&["1", "first"], &["2", "second"], &["3", "late"], &["4", "new file"]]);
    tool.wait_for_stderr("was replaced");
    fs::write(&path, "5,cut\n").unwrap();
    tool.wait_for_stderr("was cut");
    wait_until(PATIENCE, "the fifth row", || page(&link)["data"][4] == serde_json::json!(["5", "cut"]));
    tool.signal(Signal::INT);
    let done = tool.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn rows_of_a_followed_file_are_decoded_and_split_at_its_line_breaks() {
    let server = server(&[]);
    let dir = tempfile::tempdir().unwrap();
    let (tool, link) = follow(&server, &dir.path().join("latin1.csv"), b"name;city\nJos\xe9;M\xe1laga\n");
    append_bytes(&dir.path().join("latin1.csv"), b"\xc5sa;Malm\xf6\n");
    wait_for_rows(&link, &[&["José", "Málaga"], &["Åsa", "Malmö"]]);
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let path = dir.path().join("wide.tsv");
    let (other, link) = follow(&server, &path, &wide("\u{FEFF}name\tcity\nJosé\tMálaga\nÅ"));
    append_bytes(&path, &wide("sa\tMalmö\n"));
    wait_for_rows(&link, &[&["José", "Málaga"], &["Åsa", "Malmö"]]);
    let path = dir.path().join("mac.csv");
    let (third, link) = follow(&server, &path, b"n,what\r1,a\r");
    append(&path, "2,b\r3,c\r");
    wait_for_rows(&link, &[&["1", "a"], &["2", "b"], &["3", "c"]]);
    for tool in [tool, other, third] {
        tool.signal(Signal::INT);
        let done = tool.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

#[test]
fn a_followed_row_waits_for_its_closing_quote_and_no_row_ends_the_command() {
    let server = server(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.csv");
    let (tool, link) = follow(&server, &path, b"id,note\n1,a\n");
    append(&path, "2,\"x\n");
    append(&path, "y\"\n3,c\n");
    wait_for_rows(&link, &[&["1", "a"], &["2", "x\ny"], &["3", "c"]]);
    // A row that cannot be written in the file's encoding.
    let latin = dir.path().join("latin1.csv");
    let (other, link) = follow(&server, &latin, b"name;city\nJos\xe9;M\xe1laga\n");
    append_bytes(&latin, b"\x81;a\nB\xe9a;b\n");
    wait_until(PATIENCE, "the row behind it", || {
        let rows = page(&link)["data"].as_array().map_or(0, Vec::len);
        rows >= 2 && page(&link)["data"][rows - 1] == serde_json::json!(["Béa", "b"])
    });
    for tool in [tool, other] {
        tool.signal(Signal::INT);
        let done = tool.finish();
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

#[test]
fn the_header_of_a_rotated_file_is_skipped() {
    let server = server(&[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    let (tool, link) = follow(&server, &path, b"id,name\n1,a\n");
    fs::rename(&path, dir.path().join("log.csv.1")).unwrap();
    append(&path, "id,name\n9,z\n");
    wait_for_rows(&link, &[&["1", "a"], &["9", "z"]]);
    tool.signal(Signal::INT);
    assert_eq!(tool.finish().code, Some(0));
}

#[test]
fn sharing_requires_a_token_or_the_key_if_uploads_are_restricted() {
    let keys = ["--set", "http_api.key=a-key-of-backends", "--set", "client.token.hmac_secret_key=users"];
    let server = server(&keys);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    fs::write(&path, "a,b\n1,2\n").unwrap();
    let path = path.to_str().unwrap();
    let done = share(&server, &[path]).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("you may not upload here"), "{done:?}");
    let done = share(&server, &[path, "--key", "a-key-of-backends"]).finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut make = command(&["token", "connection", "--user", "ann"]);
    make.env("TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY", "users");
    let token = String::from_utf8(Tool::start(make).finish().stdout).unwrap();
    let done = share(&server, &[path, "--token", token.trim()]).finish();
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn lines_are_appended_once_despite_cuts() {
    let server = server(&[]);
    let proxy = tidings_testkit::Proxy::to(server.http());
    let args = ["share", "-", "--server", &format!("http://{}", proxy.addr())];
    let mut tool = Tool::start(command(&args));
    let mut stdin = tool.stdin.take().expect("a piped stdin");
    stdin.write_all(b"n,m\n0,0\n").unwrap();
    let through = link(&tool);
    let (_, uuid) = through.rsplit_once('/').unwrap();
    let direct = format!("{}tables/{uuid}", server.http_url());
    wait_until(PATIENCE, "the table", || page(&direct)["total_number"] == 1);
    for n in 1..=200 {
        stdin.write_all(format!("{n},{n}\n").as_bytes()).unwrap();
        if n % 40 == 0 {
            proxy.cut();
            // Cut at different stages of requests.
            let rows = n / 2;
            wait_until(PATIENCE, "some rows", || page(&direct)["total_number"].as_u64().unwrap() >= rows);
        }
    }
    drop(stdin);
    let done = tool.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    let page = page(&direct);
    let numbers: Vec<&str> =
        page["data"].as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..=200).map(|n: u32| n.to_string()).collect();
    assert_eq!(numbers, expected, "{}", done.stderr);
}

#[test]
fn a_failure_to_share_is_one_line() {
    let server = server(&[]);
    let url = server.http_url();
    run(&["share", "/nowhere.csv", "--server", &url], b"").refused(1, &["/nowhere.csv", "No such file"]);
    run(&["share", "/", "--server", &url], b"").refused(2, &["/ is a folder"]);
    run(&["share", "-", "--server", &url], b"").refused(1, &["standard input is empty"]);
    run(&["share", "-", "-F", "--server", &url], b"").refused(2, &["--follow"]);
    run(&["share", "x", "--server", "localhost:5567"], b"").refused(2, &["http://HOST:PORT"]);
    let nobody = format!("http://127.0.0.1:{}", tidings_testkit::free_port());
    run(&["share", "/etc/hostname", "--server", &nobody], b"").refused(1, &["cannot reach", "refused"]);
}

#[test]
fn a_file_that_is_too_large_is_rejected_with_the_server_s_text() {
    let server = server(&["--set", "tables.max_size=1MiB"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.csv");
    fs::write(&path, "a,b\n".repeat(500_000)).unwrap();
    let done = share(&server, &[path.to_str().unwrap()]).finish();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("the server refused the file"), "{done:?}");
}

#[test]
fn a_file_is_sent_again_when_the_server_restarts() {
    let mut first = server(&["--set", "shutdown.drain=0s"]);
    let http = first.http().to_string();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.csv");
    let row = format!("{}\n", "some text,".repeat(10));
    fs::write(&path, row.repeat(2_400_000)).unwrap();
    let tool = share(&first, &[path.to_str().unwrap()]);
    // The link is printed when the first rows are visible, long before the upload is complete.
    link(&tool);
    // Stopped, so that it cannot send the rest before the server ends.
    tool.signal(Signal::STOP);
    assert_eq!(first.terminate(), 0);
    tool.signal(Signal::CONT);
    tool.wait_for_stderr("sending the file again");
    let second =
        Tidings::builder(crate::tool::TIDINGS).args(["--tcp", "127.0.0.1:0", "--http", &http]).start();
    let Done { code, stdout, stderr } = tool.finish();
    assert_eq!(code, Some(0), "{stderr}");
    let out = String::from_utf8(stdout).unwrap();
    let link = out.lines().rfind(|line| line.starts_with("http")).expect("a link");
    assert_eq!(page(link)["total_number"], 2_400_000, "{out}");
    drop(second);
}
