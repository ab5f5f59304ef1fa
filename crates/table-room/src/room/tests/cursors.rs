//! Cursors of people, and the rows that they are at.

use serde_json::json;

use super::private::LiveRoom;

/// The row of a viewer's cursor.
fn row(live: &LiveRoom, viewer: u64) -> Option<u64> {
    let viewer = live.test_room.room.viewers.get(viewer).expect("a viewer");
    viewer.person.cursor.as_ref().map(|cursor| cursor.row)
}

fn point(live: &mut LiveRoom, viewer: u64, row: u64) {
    let cursor = json!({"row": row, "column": 0, "to_row": row, "to_column": 0});
    assert_eq!(live.send(viewer, &json!({ "cursor": cursor })), None);
}

#[test]
fn cursors_are_hidden_when_the_shared_view_has_other_rows() {
    let mut live = LiveRoom::new(60);
    let ((ann, _), (bob, _)) = (live.join(), live.join());
    for change in [
        json!({"sort": [{"column": 0}]}),
        json!({"filter": [{"column": 1, "op": "equals", "value": "apple"}]}),
        json!({"group": {"by": [1]}}),
        json!({"undo": {}}),
        json!({"search": "7"}),
        json!({"types": {"0": "text"}}),
    ] {
        point(&mut live, ann, 3);
        point(&mut live, bob, 7);
        assert_eq!(live.send(bob, &change), None, "{change}");
        // The rows before are shown until the new ones are computed.
        assert_eq!((row(&live, ann), row(&live, bob)), (Some(3), Some(7)), "{change}");
        live.settle();
        assert_eq!((row(&live, ann), row(&live, bob)), (None, None), "{change}");
    }
    point(&mut live, ann, 4);
    live.settle();
    assert_eq!(row(&live, ann), Some(4), "a cursor at the new rows stays");
}

#[test]
fn cursors_stay_while_the_shared_view_has_the_same_rows() {
    let mut live = LiveRoom::new(60);
    let ((ann, _), (bob, _)) = (live.join(), live.join());
    point(&mut live, ann, 3);
    for change in [
        json!({"page_size": 5}),
        json!({"page": 2}),
        json!({"columns": {"widths": {"0": 90}}}),
        json!({"private": {"sort": [{"column": 0}]}}),
    ] {
        assert_eq!(live.send(bob, &change), None, "{change}");
        live.settle();
        assert_eq!(row(&live, ann), Some(3), "{change}");
    }
    live.append(60);
    live.test_room.room.show_appended();
    live.settle();
    assert_eq!(row(&live, ann), Some(3), "after appended rows");
}
