//! JSON, XLSX and Parquet files.

use std::io::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidings_table::{Choice, Control, Error, FileFormat, Limits, View, Writer};

use crate::support::{TestTable, rows};

fn header(made: &TestTable) -> Vec<String> {
    let header = View::plain(&made.reading(), false).header().unwrap();
    header.map(|row| row.cells.into_iter().map(|cell| cell.text).collect()).unwrap_or_default()
}

/// Objects as lists of keys and values, and the file with them.
fn objects() -> impl Strategy<Value = Vec<Vec<(String, serde_json::Value)>>> {
    let key =
        prop_oneof![Just("a".to_owned()), Just("b\"".to_owned()), "[a-h]{1,2}", Just("é,\n".to_owned())];
    let value = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[ -~äß\n\t]{0,8}".prop_map(Into::into),
        proptest::collection::vec("[a-c\"\\\\ ]{0,3}", 0..3).prop_map(Into::into),
    ];
    proptest::collection::vec(proptest::collection::vec((key, value), 0..5), 0..250)
}

fn object(pairs: &[(String, serde_json::Value)]) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{} :{value}", serde_json::json!(key)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// The expected columns and rows: the union of the keys in order, the last value of each.
fn naive(objects: &[Vec<(String, serde_json::Value)>]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut names: Vec<String> = Vec::new();
    for (key, _) in objects.iter().flatten() {
        if !names.contains(key) {
            names.push(key.clone());
        }
    }
    let rows = objects.iter().map(|pairs| {
        let cell = |name: &String| match pairs.iter().rev().find(|(key, _)| key == name) {
            Some((_, serde_json::Value::String(text))) => text.clone(),
            Some((_, serde_json::Value::Null)) | None => String::new(),
            Some((_, value)) => value.to_string(),
        };
        names.iter().map(cell).collect()
    });
    let rows = rows.collect();
    (names, rows)
}

proptest! {
    #[test]
    fn json_has_the_union_of_keys_however_it_arrives(
        objects in objects(),
        is_array: bool,
        sizes in proptest::collection::vec(1_usize..400, 1..4),
    ) {
        let all: Vec<String> = objects.iter().map(|pairs| object(pairs)).collect();
        let file = if is_array { format!("[{}\n]", all.join(" ,\n")) } else { all.join("\n") };
        let (names, expected) = naive(&objects);
        for sizes in [&sizes[..], &[usize::MAX]] {
            let made = TestTable::of(file.as_bytes(), sizes, Choice::default(), Limits::default());
            let reading = made.reading();
            if objects.is_empty() {
                continue;
            }
            prop_assert_eq!(reading.dialect().format, FileFormat::Json);
            let shown: Vec<Vec<String>> = made
                .rows()
                .into_iter()
                .map(|mut row| {
                    row.resize(names.len().max(1), String::new());
                    row
                })
                .collect();
            if names.is_empty() {
                prop_assert_eq!(shown.len(), expected.len());
            } else {
                prop_assert_eq!(header(&made), &names[..]);
                prop_assert_eq!(shown, &expected[..]);
            }
        }
    }
}

#[test]
fn the_first_json_rows_are_available_before_the_rest() {
    let mut made = TestTable::empty(Choice::default(), Limits::default());
    let line = |n: usize| format!("{{\"n\":{n}}}\n");
    let first: String = (0..150).map(line).collect();
    let summary = made.writer.append(first.as_bytes()).unwrap();
    assert_eq!((summary.rows, summary.finished), (150, false));
    made.writer.append(b"{\"n\":1,\"late\":2}\n").unwrap();
    made.writer.finish().unwrap();
    assert_eq!((header(&made), made.rows().len()), (vec!["n".to_owned(), "late".to_owned()], 151));
}

#[test]
fn a_table_stays_what_it_was_when_it_was_uploaded() {
    let folder = tempfile::tempdir().unwrap();
    let text = Choice { is_text: true, ..Choice::default() };
    for (choice, format) in [(text.clone(), FileFormat::Text), (Choice::default(), FileFormat::Json)] {
        let folder = folder.path().join(format.name());
        std::fs::create_dir(&folder).unwrap();
        let mut writer = Writer::create(&folder, choice, Limits::default()).unwrap();
        writer.append(b"{\"a\":1}\n{\"a\":2}\n").unwrap();
        writer.finish().unwrap();
        let before = rows(&View::plain(&writer.table().reading(), true));
        drop(writer);
        // Files of both kinds are opened as text that was accepted before.
        let writer =
            Writer::open(&folder, text.clone(), Limits::default(), Control::default(), |_| {}).unwrap();
        let reading = writer.table().reading();
        assert_eq!(reading.dialect().format, format);
        assert_eq!(rows(&View::plain(&reading, true)), before);
    }
}

#[test]
fn compressed_json_is_read_and_gets_no_objects() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"a\":1}\n{\"a\":2}\n").unwrap();
    let mut made = TestTable::whole(&packed.finish().unwrap(), Choice::default());
    assert_eq!(made.rows(), [["1"], ["2"]]);
    assert!(matches!(made.writer.append_json(b"{\"a\":3}"), Err(Error::Unwritable(_))));
}

#[test]
fn objects_are_appended_or_refused_as_a_whole() {
    let mut made = TestTable::whole(b"{\"a\":1}", Choice::default());
    assert_eq!(made.writer.append_json(b"{\"b\":2} {\"a\":3}\n").unwrap(), 2);
    assert_eq!(made.writer.append_json(b" \n").unwrap(), 0);
    for (bytes, part) in [(&b"{\"a\":"[..], "within an object"), (b"1,2\n", "expected an object")] {
        let error = made.writer.append_json(bytes).unwrap_err();
        assert!(matches!(&error, Error::Format(why) if why.contains(part)), "{error}");
    }
    assert!(matches!(made.writer.append_json(b"[{\"a\":1}]"), Err(Error::Unwritable(_))));
    assert!(matches!(made.writer.append_rows([["1"]]), Err(Error::Unwritable(_))));
    assert_eq!(
        (header(&made), made.rows()),
        (
            vec!["a".into(), "b".into()],
            vec![
                vec!["1".to_owned()],
                vec![String::new(), "2".to_owned()],
                vec!["3".to_owned(), String::new()],
            ]
        )
    );
}

/// Uploads a file. Returns its error, which must come soon, even if conversions of other tests come first.
fn refused(bytes: &[u8]) -> Error {
    let began = Instant::now();
    let mut made = TestTable::empty(Choice::default(), Limits::default());
    let error = made.writer.append(bytes).and_then(|_| made.writer.finish()).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(60), "{error} took {:?}", began.elapsed());
    error
}

#[test]
fn json_beyond_the_limits_is_refused() {
    let keys: Vec<String> = (0..10_001).map(|key| format!("\"k{key}\":1")).collect();
    assert!(
        refused(format!("{{{}}}", keys.join(",")).as_bytes())
            .to_string()
            .contains("more than 10000 different keys")
    );
    let long: String = (0..20).map(|key| format!("{{\"{key}{}\":1}}\n", "k".repeat(60_000))).collect();
    assert!(refused(long.as_bytes()).to_string().contains("1048576 bytes together"));
    let mut object = b"{\"a\":\"".to_vec();
    object.resize(17 << 20, b'x');
    assert!(matches!(refused(&object), Error::FormatLimit(why) if why.contains("16777216 bytes")));
    // Thousands of columns, and millions of rows that have none of them.
    let mut sparse: String = (0..5_000).map(|key| format!("{{\"k{key}\":1}}\n")).collect();
    sparse.push_str(&"{}\n".repeat(200_000));
    assert!(matches!(refused(sparse.as_bytes()), Error::UnpackRatio { ratio: 100 }));
    // Nested lists are a cell.
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let made = TestTable::whole(deep.as_bytes(), Choice::default());
    assert_eq!(View::plain(&made.reading(), false).page(0, 1).unwrap().rows[0].cells[0].cut, Some(200_000));
}

/// Writes the content of a file of an archive.
type WriteContent<'a> = &'a dyn Fn(&mut dyn std::io::Write);

/// A ZIP archive with these files, compressed.
fn archive(files: &[(&str, WriteContent<'_>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, write) in files {
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        write(&mut packed);
        let packed = packed.finish().unwrap();
        let offset = out.len() as u32;
        let sizes = [(packed.len() as u32).to_le_bytes(), [0; 4]].concat();
        let lengths = [(name.len() as u16).to_le_bytes(), [0; 2]].concat();
        let fields = [&[20, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &sizes, &lengths].concat();
        out.extend_from_slice(&[b"PK\x03\x04", &fields[..], name.as_bytes(), &packed].concat());
        let rest = [&[0; 10][..], &offset.to_le_bytes()].concat();
        directory.extend_from_slice(&[b"PK\x01\x02\x14\0", &fields[..], &rest, name.as_bytes()].concat());
    }
    let (count, offset) = ((files.len() as u16).to_le_bytes(), (out.len() as u32).to_le_bytes());
    let size = (directory.len() as u32).to_le_bytes();
    out.extend_from_slice(&directory);
    out.extend_from_slice(&[b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &offset, &[0, 0]].concat());
    out
}

/// A workbook with this sheet and these strings.
fn workbook(sheet: WriteContent<'_>, strings: WriteContent<'_>) -> Vec<u8> {
    let text =
        |text: &'static str| move |out: &mut dyn std::io::Write| out.write_all(text.as_bytes()).unwrap();
    archive(&[
        ("xl/workbook.xml", &text("<workbook><sheets><sheet name=\"a\" r:id=\"1\"/></sheets></workbook>")),
        (
            "xl/_rels/workbook.xml.rels",
            &text(
                "<Relationships><Relationship Id=\"1\" Type=\"/worksheet\" Target=\"s.xml\"/>\
                 <Relationship Id=\"2\" Type=\"/sharedStrings\" Target=\"t.xml\"/></Relationships>",
            ),
        ),
        ("xl/s.xml", sheet),
        ("xl/t.xml", strings),
    ])
}

#[test]
fn workbooks_that_unpack_to_much_more_are_refused() {
    let nothing = |_: &mut dyn std::io::Write| {};
    let repeat = |head: &'static str, part: &'static str, times: usize| {
        move |out: &mut dyn std::io::Write| {
            let piece = part.repeat((1 << 16) / part.len());
            out.write_all(head.as_bytes()).unwrap();
            (0..times * part.len() / piece.len()).for_each(|_| out.write_all(piece.as_bytes()).unwrap());
        }
    };
    let made = TestTable::whole(
        &workbook(
            &|out| out.write_all(b"<row><c t=\"s\"><v>1</v></c><c><v>2</v></c></row>").unwrap(),
            &|out| out.write_all(b"<si><t>x</t></si><si><t>y</t></si>").unwrap(),
        ),
        Choice { header: Some(false), ..Choice::default() },
    );
    assert_eq!(made.rows(), [["y", "2"]]);
    // One element, one comment, many elements, many strings.
    let element = refused(&workbook(&repeat("<row><c><v>", "1", 100 << 20), &nothing));
    assert!(
        element.to_string().contains("a longer XML element in xl/s.xml; the limit is 4194304 bytes"),
        "{element}"
    );
    let comment = refused(&workbook(&repeat("<!--", "a>", 50 << 20), &nothing));
    assert!(comment.to_string().contains("a longer XML element"), "{comment}");
    let elements = refused(&workbook(&repeat("<row>", "<c/>", 20 << 20), &nothing));
    assert!(elements.to_string().contains("in column 16385"), "{elements}");
    let cells = refused(&workbook(&repeat("<x>", "<row></row>", 20 << 20), &nothing));
    assert!(
        cells.to_string().contains("too much XML in xl/s.xml; the limit is tables.max_unpack_ratio"),
        "{cells}"
    );
    let strings = refused(&workbook(&nothing, &repeat("<sst>", "<si/>", 40 << 20)));
    assert!(strings.to_string().contains("more shared strings; the limit is 8388608"), "{strings}");
}

#[test]
fn damaged_workbooks_and_parquet_files_are_refused() {
    let sheet = |out: &mut dyn std::io::Write| out.write_all(b"<row><c><v>1</v></c></row>").unwrap();
    let whole = workbook(&sheet, &|out| out.write_all(b"<sst/>").unwrap());
    assert_eq!(TestTable::whole(&whole, Choice::default()).reading().summary().lines, 1);
    for length in (64..whole.len()).step_by(7) {
        assert!(matches!(refused(&whole[..length]), Error::Format(_)), "{length} of {} bytes", whole.len());
    }
    let parquet = include_bytes!("../../../../fuzz/seeds/table_formats/types.parquet");
    assert_eq!(TestTable::whole(parquet, Choice::default()).reading().summary().rows, 3);
    for length in (8..parquet.len()).step_by(97) {
        assert!(matches!(refused(&parquet[..length]), Error::Format(_)), "{length} bytes");
    }
    let columns = Choice { sheet: Some("b".into()), ..Choice::default() };
    let mut made = TestTable::whole(&whole, Choice::default());
    assert!(
        matches!(made.writer.reread(columns, Control::default()), Err(Error::NoSheet(name)) if name == "b")
    );
    assert!(matches!(made.writer.append(b"x"), Err(Error::Unwritable(_))));
}

#[test]
fn every_wrong_byte_of_a_parquet_file_gives_a_table_or_an_error() {
    let file = include_bytes!("../../../../fuzz/seeds/table_formats/one.parquet");
    for at in 4..file.len() {
        for byte in [0, 0x7F, 0xFF, file[at] ^ 1] {
            let mut damaged = file.to_vec();
            damaged[at] = byte;
            let mut made = TestTable::empty(Choice::default(), Limits::default());
            let read = made.writer.append(&damaged).and_then(|_| made.writer.finish());
            match read {
                Ok(summary) => assert!(summary.rows <= 100, "byte {at} as {byte}: {} rows", summary.rows),
                Err(error) => assert!(
                    matches!(error, Error::Format(_) | Error::FormatLimit(_) | Error::UnpackRatio { .. }),
                    "byte {at} as {byte}: {error}"
                ),
            }
        }
    }
}

#[test]
fn entities_of_xml_are_not_expanded() {
    let laughs: String =
        (1..30).map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10))).collect();
    let sheet = move |out: &mut dyn std::io::Write| {
        write!(
            out,
            "<!DOCTYPE x [<!ENTITY e0 \"ha\">{laughs}]><x><row><c t=\"str\"><v>&e29;</v></c></row></x>"
        )
        .unwrap();
    };
    let error = refused(&workbook(&sheet, &|_| {}));
    assert!(matches!(&error, Error::Format(why) if why.contains("an unknown XML entity")), "{error}");
}
