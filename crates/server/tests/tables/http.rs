//! Tables over plain HTTP, and in a channel.

use serde_json::{Value, json};
use tidings_testkit::LineClient;

use crate::table_server::{TableServer, tsv};

#[test]
fn a_page_as_json_does_not_change_the_view() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(250));
    let (status, head, body) = server.get(&format!("/tables/{table}.json?page=3"));
    assert!(status == 200 && head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    let page: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&page["page_no"], &page["total_number"]), (&json!(3), &json!(250)));
    assert_eq!(page["data"].as_array().map(Vec::len), Some(50));
    assert_eq!(page["header"], json!(["id", "name", "value"]));
    let (_, _, body) = server.get(&format!("/tables/{table}.json"));
    assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON")["page_no"], 1);
    let (_, _, body) = server.get(&format!("/tables/{table}.json?page=25&page_size=10"));
    assert_eq!(
        serde_json::from_slice::<Value>(&body).expect("JSON")["data"].as_array().map(Vec::len),
        Some(10)
    );
    viewer.send(&json!({"page_size": 50}));
    assert_eq!(viewer.view(|view| view["page_size"] == 50)["page_no"], 1);
    for (path, status) in [
        (format!("/tables/{table}.json?page=0"), 400),
        (format!("/tables/{table}.json?page=99"), 400),
        (format!("/tables/{table}.json?page=x"), 400),
        (format!("/tables/{table}.json?page_size=0"), 400),
        ("/tables/0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a10.json".into(), 404),
        ("/tables/nonsense.json".into(), 404),
        ("/tables/nonsense/download".into(), 404),
    ] {
        let (answer, _, body) = server.get(&path);
        let error: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((answer, &error["error"]["code"]), (status, &json!(status)), "{path}");
    }
}

#[test]
fn a_download_is_the_file_as_it_was_uploaded() {
    let server = TableServer::with(&[]);
    let text = "a;b\r\n\"1\";  2 \r\n\r\nrag;ged;row";
    let (_viewer, table, _) = server.shared("Über \"uns\".csv", text);
    let (status, head, body) = server.get(&format!("/tables/{table}/download"));
    assert_eq!((status, &*body), (200, text.as_bytes()));
    let head = head.to_ascii_lowercase();
    assert!(head.contains(&format!("content-length: {}", text.len())), "{head}");
    assert!(
        head.contains(r#"filename="_ber _uns_.csv"; filename*=utf-8''%c3%9cber%20%22uns%22.csv"#),
        "{head}"
    );
}

#[test]
fn the_view_can_be_downloaded_as_csv_and_tsv() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", "name\tn\nb, c\t2\na\t10\nd\t1\n");
    viewer.send(&json!({"sort": [{"column": 1, "desc": true}]}));
    viewer.view(|view| view["sort"] != json!([]));
    viewer.send(&json!({"filter": [{"column": 1, "op": ">", "value": 1}]}));
    viewer.view(|view| view["total_number"] == 2);
    let (status, head, body) = server.get(&format!("/tables/{table}/download?view=csv"));
    assert_eq!((status, &*String::from_utf8_lossy(&body)), (200, "name,n\na,10\n\"b, c\",2\n"));
    assert!(head.contains("filename=\"rows.csv\""), "{head}");
    let (_, _, body) = server.get(&format!("/tables/{table}/download?view=tsv"));
    assert_eq!(String::from_utf8_lossy(&body), "name\tn\na\t10\nb, c\t2\n");
    assert_eq!(server.get(&format!("/tables/{table}/download?view=xls")).0, 400);
}

#[test]
fn a_long_view_is_downloaded_whole() {
    let server = TableServer::with(&[]);
    let (_viewer, table, _) = server.shared("rows.tsv", &tsv(100_000));
    let (_, _, body) = server.get(&format!("/tables/{table}/download?view=tsv"));
    assert!(body == tsv(100_000).as_bytes(), "{} bytes", body.len());
}

#[test]
fn a_backend_appends_lines_and_cells() {
    let server = TableServer::with(&[]);
    // Without a line break at the end.
    let (mut viewer, table, secret) = server.shared("rows.csv", "a,b\n1,2");
    let (status, answer) = server.append(&table, &secret, "text/csv", "3,\"x, y\"\n4,5");
    assert_eq!((status, answer), (200, json!({"appended": 2, "size": 20})));
    let view = viewer.view(|view| view["total_number"] == 3);
    assert_eq!(view["data"], json!([["1", "2"], ["3", "x, y"], ["4", "5"]]));
    let (status, _) =
        server.append(&table, &secret, "application/json; charset=utf-8", r#"[["007",1.50],[null,true]]"#);
    assert_eq!(status, 200);
    let view = viewer.view(|view| view["total_number"] == 5);
    assert_eq!((&view["data"][3], &view["data"][4]), (&json!(["007", "1.50"]), &json!(["", "true"])));
    let (_, _, body) = server.get(&format!("/tables/{table}/download"));
    assert_eq!(String::from_utf8_lossy(&body), "a,b\n1,2\n3,\"x, y\"\n4,5\n007,1.50\n,true\n");
    for (table, secret, kind, rows, status) in [
        (&*table, "guess", "text/csv", "1,2\n", 403),
        (&*table, &*secret, "text/csv", "1,\"2\n", 400),
        (&*table, &*secret, "application/json", "{}", 400),
        ("0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a10", &*secret, "text/csv", "1,2\n", 404),
    ] {
        assert_eq!(server.append(table, secret, kind, rows).0, status, "{rows}");
    }
    let request = format!(
        "POST /tables/{table}/rows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let (status, head, _) = server.ask(request.as_bytes());
    assert!(status == 401 && head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{head}");
}

#[test]
fn an_unauthorized_append_is_rejected_before_its_body_is_read() {
    let server = TableServer::with(&[]);
    let (_viewer, table, secret) = server.shared("rows.tsv", &tsv(10));
    // The body of 16 MB is never sent, but a response is.
    let ask = |table: &str, headers: &str| {
        let head = format!(
            "POST /tables/{table}/rows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n\
             Content-Type: application/json\r\nContent-Length: 16000000\r\n{headers}\r\n"
        );
        server.ask(head.as_bytes()).0
    };
    let owner = format!("Authorization: Bearer {secret}\r\n");
    assert_eq!(ask(&table, ""), 401);
    assert_eq!(ask(&table, "Authorization: Bearer guess\r\n"), 403);
    assert_eq!(ask("0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a10", &owner), 404);
    assert_eq!(ask(&table, &format!("{owner}Content-Encoding: gzip\r\n")), 415);
}

#[test]
fn a_client_that_sends_all_rows_first_still_gets_the_rejection() {
    let server = TableServer::with(&[]);
    let (_viewer, table, secret) = server.shared("rows.tsv", &tsv(10));
    let many = "a\tb\tc\n".repeat(2_000_000);
    assert_eq!(server.append(&table, "guess", "text/plain", &many).0, 403);
    let (status, answer) = server.append(&table, &secret, "text/plain", &many.repeat(2));
    assert_eq!(status, 413, "{answer}");
}

#[test]
fn rows_are_appended_in_the_encoding_and_compression_of_the_file() {
    let server = TableServer::with(&[]);
    let text: Vec<u8> = "name;n\nMüller;1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut viewer = server.viewer("/tables/ws");
    viewer.upload("wide.csv", &[&[0xFF, 0xFE], &*text].concat());
    let secret = viewer.until("the secret", |message| message["owner"].is_string())["owner"].clone();
    let view = viewer.view(|view| view["loading"] == false);
    assert_eq!(view["dialect"]["encoding"], "UTF-16LE");
    let table = view["uuid"].as_str().expect("a name");
    let (status, answer) = server.append(table, secret.as_str().expect("text"), "text/csv", "Größe;2\n");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(viewer.view(|view| view["total_number"] == 2)["data"][1], json!(["Größe", "2"]));
}

#[test]
fn appended_rows_move_only_views_of_the_last_page() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("log.tsv", &tsv(150));
    assert_eq!(server.append(&table, &secret, "text/plain", "new\trow\t1\n").0, 200);
    assert_eq!(viewer.view(|view| view["total_number"] == 151)["page_no"], 1);
    viewer.send(&json!({"page": 2}));
    viewer.view(|view| view["page_no"] == 2);
    assert_eq!(server.append(&table, &secret, "text/plain", &"new\trow\t2\n".repeat(60)).0, 200);
    let view = viewer.view(|view| view["total_number"] == 211);
    assert_eq!((&view["page_no"], &view["data"][10]), (&json!(3), &json!(["new", "row", "2"])));
}

#[test]
fn appended_rows_are_sorted_and_filtered() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("rows.tsv", &tsv(100));
    viewer.send(&json!({"sort": [{"column": 2, "desc": true}]}));
    viewer.view(|view| view["sort"] != json!([]));
    assert_eq!(server.append(&table, &secret, "text/plain", "new\trow\t5000\n").0, 200);
    assert_eq!(viewer.view(|view| view["total_number"] == 101)["data"][0], json!(["new", "row", "5000"]));
}

#[test]
fn every_view_is_a_publication_without_rows() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(250));
    let mut follower = LineClient::connect(server.tcp);
    follower.send(&format!("SUBSCRIBE tables:{table}"));
    follower.expect("CONFIRMED");
    viewer.send(&json!({"page": 3}));
    let view = viewer.view(|view| view["page_no"] == 3);
    let head = format!("MESSAGE tables:{table} ");
    loop {
        let line = follower.line();
        // Plain lines have backslashes escaped.
        let body = line.strip_prefix(&head).expect("a message").replace(r"\\", r"\");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert!(body.get("data").is_none());
        if body["page_no"] == 3 {
            let mut without = view.clone();
            without.as_object_mut().expect("an object").remove("data");
            assert_eq!(body, without);
            break;
        }
    }
}
