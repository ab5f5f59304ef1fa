//! Files come in: seen at once, whole at the end, and with nothing left behind when they do not.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::ws::Opcode;

use crate::world::{Viewer, World, kept, listing, tsv};

/// Begins an upload of a file that is larger, and sends its first rows.
fn begin(viewer: &mut Viewer, rows: usize) {
    viewer.send(&json!({"upload": {"name": "big.tsv", "size": 1 << 20}}));
    viewer.binary(tsv(rows).as_bytes());
}

/// Waits until a store holds these files and no others.
fn until_left(world: &World, files: &[String]) {
    let store = world.store();
    wait_until(PATIENCE, &format!("only {files:?} to be left"), || listing(&store) == files);
}

#[test]
fn the_first_page_shows_while_the_rest_still_arrives() {
    let world = World::with(&[]);
    let mut uploader = world.viewer("/tables/ws");
    begin(&mut uploader, 150);
    uploader.until("the owner's secret", |message| message["owner"].is_string());
    let view = uploader.view(|_| true);
    assert_eq!(
        (&view["loading"], &view["name"], &view["size"]),
        (&json!(true), &json!("big.tsv"), &json!(1 << 20))
    );
    assert_eq!(view["data"].as_array().map(Vec::len), Some(100));
    // Somebody who comes now sees it too, and can turn the page.
    let table = view["uuid"].as_str().expect("a name").to_owned();
    let mut other = world.viewer(&format!("/tables/ws/{table}"));
    assert_eq!(other.json()["loading"], true);
    other.send(&json!({"page": 2}));
    assert_eq!(uploader.view(|view| view["page_no"] == 2)["data"].as_array().map(Vec::len), Some(50));
    uploader.binary(b"more\trows\tcome\n");
    uploader.send(&json!({"upload_end": {}}));
    for viewer in [&mut uploader, &mut other] {
        let view = viewer.view(|view| view["loading"] == false);
        assert_eq!((&view["total_number"], &view["page_no"]), (&json!(151), &json!(2)));
    }
}

#[test]
fn everybody_sees_how_far_an_upload_is() {
    let world = World::with(&[]);
    let (mut uploader, table, _) = world.shared("rows.tsv", &tsv(10));
    let mut other = world.viewer(&format!("/tables/ws/{table}"));
    begin(&mut uploader, 5000);
    let received = tsv(5000).len();
    for viewer in [&mut uploader, &mut other] {
        let told = viewer.until("progress", |message| message["progress"]["received"] == received);
        assert_eq!(told["progress"], json!({"received": received, "size": 1 << 20, "rows": 5000}));
    }
    uploader.send(&json!({"upload_end": {}}));
    // The end is unmistakable: a last word on progress, and then the whole table.
    for viewer in [&mut uploader, &mut other] {
        viewer.until("the last progress", |message| message["progress"]["received"] == received);
        assert_eq!(viewer.view(|view| view["total_number"] == 5000)["loading"], false);
    }
}

#[test]
fn an_upload_that_is_aborted_leaves_the_old_table_and_nothing_else() {
    let world = World::with(&[]);
    let (mut uploader, table, _) = world.shared("rows.tsv", &tsv(250));
    let mut other = world.viewer(&format!("/tables/ws/{table}"));
    other.send(&json!({"page": 2}));
    uploader.view(|view| view["page_no"] == 2);
    let files = kept(&world.store());
    begin(&mut uploader, 5000);
    other.until("progress", |message| message["progress"].is_object());
    uploader.send(&json!({"upload_abort": {}}));
    for viewer in [&mut uploader, &mut other] {
        let view = viewer.view(|_| true);
        assert_eq!(
            (&view["total_number"], &view["page_no"], &view["name"]),
            (&json!(250), &json!(2), &json!("rows.tsv"))
        );
    }
    until_left(&world, &files);
    // The connection goes on as if nothing had been.
    uploader.upload("new.tsv", tsv(20).as_bytes());
    assert_eq!(uploader.view(|view| view["total_number"] == 20)["name"], "new.tsv");
}

#[test]
fn an_uploader_that_vanishes_leaves_the_old_table_and_nothing_else() {
    let world = World::with(&[]);
    let (mut viewer, table, _) = world.shared("rows.tsv", &tsv(250));
    let files = kept(&world.store());
    for path in ["/tables/ws/", "/parser/ws/"] {
        let mut uploader = world.viewer(&format!("{path}{table}"));
        match path {
            "/tables/ws/" => begin(&mut uploader, 5000),
            _ => uploader.frame(false, Opcode::Binary, tsv(5000).as_bytes()),
        }
        viewer.until("progress", |message| message["progress"].is_object());
        drop(uploader);
        assert_eq!(viewer.view(|view| view["viewers"] == 1)["total_number"], 250);
        until_left(&world, &files);
    }
}

#[test]
fn a_first_upload_that_is_cut_leaves_nothing() {
    let world = World::with(&[]);
    let mut uploader = world.viewer("/tables/ws");
    begin(&mut uploader, 200);
    let view = uploader.view(|_| true);
    let path = format!("/tables/ws/{}", view["uuid"].as_str().expect("a name"));
    let mut other = world.viewer(&path);
    assert_eq!(other.json()["total_number"], 200);
    drop(uploader);
    let view = other.view(|view| view["total_number"] == 0);
    assert_eq!((&view["loading"], &view["data"], &view["name"]), (&json!(false), &json!([]), &json!("")));
    drop(other);
    until_left(&world, &[]);
    let mut late = world.viewer(&path);
    assert_eq!(late.error().0, 404);
    assert_eq!(late.close_code(), 4404);
}

#[test]
fn who_aborts_a_first_upload_may_begin_another() {
    let world = World::with(&[]);
    let mut uploader = world.viewer("/tables/ws");
    begin(&mut uploader, 200);
    let table = uploader.view(|view| view["total_number"] == 200)["uuid"].clone();
    uploader.send(&json!({"upload_abort": {}}));
    uploader.view(|view| view["total_number"] == 0 && view["loading"] == false);
    uploader.upload("second.tsv", tsv(5).as_bytes());
    assert_eq!(uploader.view(|view| view["total_number"] == 5)["uuid"], table);
}

#[test]
fn of_two_uploads_at_once_the_first_goes_on_and_the_second_is_refused() {
    let world = World::with(&[]);
    let (mut first, table, _) = world.shared("rows.tsv", &tsv(10));
    let mut second = world.viewer(&format!("/tables/ws/{table}"));
    let mut third = world.viewer(&format!("/parser/ws/{table}"));
    begin(&mut first, 300);
    second.until("progress", |message| message["progress"].is_object());
    second.upload("other.tsv", tsv(400).as_bytes());
    assert_eq!(second.error().0, 409);
    third.binary(tsv(500).as_bytes());
    assert_eq!(third.error().0, 409);
    first.send(&json!({"upload_end": {}}));
    for viewer in [&mut first, &mut second] {
        viewer.view(|view| view["total_number"] == 300 && view["name"] == "big.tsv");
    }
    // Whoever was refused may try again.
    second.upload("other.tsv", tsv(400).as_bytes());
    first.view(|view| view["total_number"] == 400);
}

#[test]
fn what_is_no_table_is_refused_and_the_old_one_stays() {
    let world = World::with(&[]);
    let (mut viewer, ..) = world.shared("rows.tsv", &tsv(10));
    let files = kept(&world.store());
    viewer.upload("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    assert_eq!(viewer.error().0, 415);
    assert_eq!(viewer.view(|_| true)["total_number"], 10);
    until_left(&world, &files);
    viewer.send(&json!({"upload_end": {}}));
    assert_eq!(viewer.error(), (409, "no upload is under way".into()));
}

#[test]
fn a_file_of_any_size_shows_in_one_piece_when_it_is_small() {
    let world = World::with(&[]);
    for (text, rows) in [("", 0), ("a", 1), ("a\n", 1), ("a\tb\n1\t2", 1)] {
        let mut viewer = world.viewer("/tables/ws");
        viewer.upload("small.tsv", text.as_bytes());
        let view = viewer.view(|_| true);
        assert_eq!((&view["total_number"], &view["loading"]), (&json!(rows), &json!(false)), "{text:?}");
        assert!(viewer.next_within(Duration::from_millis(20)).is_none());
    }
}
