//! The protocol of the article's page, which the paths `/parser/…` use.

use serde_json::json;
use tidings_wire::ws::Opcode;

use crate::table_server::{Sent, TableServer, tsv};

#[test]
fn a_file_in_one_message_and_pages_as_bare_numbers() {
    let server = TableServer::with(&[]);
    let mut uploader = server.viewer("/parser/ws");
    uploader.binary(tsv(250).as_bytes());
    // The only message is the complete view.
    let view = uploader.json();
    assert_eq!((&view["page_no"], &view["total_number"]), (&json!(1), &json!(251)));
    assert_eq!(view["data"][0], json!(["id", "name", "value"]));
    assert_eq!(view["data"].as_array().map(Vec::len), Some(100));
    let table = view["uuid"].as_str().expect("a name").to_owned();
    let mut viewer = server.viewer(&format!("/parser/ws/{table}"));
    assert_eq!(viewer.json()["page_no"], 1);
    viewer.text("3");
    for viewer in [&mut uploader, &mut viewer] {
        let view = viewer.json();
        assert_eq!((&view["page_no"], &view["data"][0][0]), (&json!(3), &json!("000199")));
        assert_eq!(view["data"].as_array().map(Vec::len), Some(51));
    }
    uploader.text("4");
    assert_eq!(uploader.error().0, 400);
}

#[test]
fn empty_lines_are_rows_only_if_quoted() {
    let server = TableServer::with(&[]);
    let mut viewer = server.viewer("/parser/ws");
    viewer.binary(b"\n\na\tb\n\n\"1\n\n2\"\tc\r\n\r\n\"\"\n");
    let view = viewer.json();
    assert_eq!(view["data"], json!([["a", "b"], ["1\n\n2", "c"], [""]]));
    assert_eq!(view["total_number"], 3);
}

#[test]
fn a_message_in_many_frames_is_one_file() {
    let server = TableServer::with(&[]);
    let mut viewer = server.viewer("/parser/ws");
    let text = tsv(5000);
    let pieces: Vec<_> = text.as_bytes().chunks(1000).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
        viewer.frame(at + 1 == pieces.len(), opcode, piece);
        // A ping between frames gets a pong and is no part of the message.
        viewer.frame(true, Opcode::Ping, b"there?");
    }
    assert_eq!(viewer.view(|view| view["loading"] == false)["total_number"], 5001);
}

#[test]
fn another_file_replaces_the_first_for_all_viewers() {
    let server = TableServer::with(&[]);
    let mut first = server.viewer("/parser/ws");
    first.binary(tsv(250).as_bytes());
    let table = first.json()["uuid"].as_str().expect("a name").to_owned();
    let mut second = server.viewer(&format!("/parser/ws/{table}"));
    second.text("2");
    second.view(|view| view["page_no"] == 2);
    second.binary(b"new\tfile\n");
    for viewer in [&mut first, &mut second] {
        let view = viewer.view(|view| view["total_number"] == 1);
        assert_eq!((&view["page_no"], &view["data"]), (&json!(1), &json!([["new", "file"]])));
        assert_eq!(view["uuid"], *table);
    }
}

#[test]
fn viewers_of_both_protocols_share_one_table() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(200));
    let mut article = server.viewer(&format!("/parser/ws/{table}"));
    assert_eq!(article.json()["total_number"], 201);
    // The article's third page contains only the last row, which is on the second page of the table.
    article.text("3");
    let view = article.view(|view| view["page_no"] == 3);
    assert_eq!(view["data"], json!([["000199", "row 199", view["data"][0][2]]]));
    assert_eq!(viewer.view(|view| view["page_no"] == 2)["total_number"], 200);
}

#[test]
fn the_article_s_page_receives_views_and_errors_only() {
    let server = TableServer::with(&[]);
    let (mut owner, table, _) = server.shared("rows.tsv", &tsv(200));
    let mut article = server.viewer(&format!("/parser/ws/{table}"));
    article.json();
    let _other = server.viewer(&format!("/tables/ws/{table}"));
    owner.view(|view| view["viewers"] == 3);
    owner.send(&json!({"lock": {"view": true}}));
    owner.upload("new.tsv", tsv(300).as_bytes());
    owner.view(|view| view["total_number"] == 300);
    let Sent::Json(view) = article.next() else { panic!("a view") };
    assert_eq!(view["total_number"], 301, "{view}");
    article.text("2");
    assert_eq!(article.error().0, 403);
}
