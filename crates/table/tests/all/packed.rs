//! Compressed files, and files in other encodings, are read like plain ones.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::write::GzEncoder;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tidings_table::{Budget, Choice, Compression, Control, Encoding, Error, Evidence, Limits, Writer};

use crate::support::{TestTable, in_pieces};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn text(rows: usize) -> String {
    let row = |i| format!("{i}\tname {i}\t{}\n", i * i);
    "id\tname\tsquare\n".to_owned() + &(0..rows).map(row).collect::<String>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_compressed_file_reads_the_same_at_every_split(
        sizes in prop::collection::vec(1..5_000_usize, 1..5),
        rows in 0..20_000_usize,
        cut in 0..1_000_usize,
    ) {
        let text = text(rows);
        let expected = TestTable::whole(text.as_bytes(), Choice::default());
        let (first, rest) = text.as_bytes().split_at(cut.min(text.len()));
        for (pack, compression) in
            [(gzip as fn(&[u8]) -> Vec<u8>, Compression::Gzip), (zstd, Compression::Zstd)]
        {
            // Two members or frames are one text.
            let packed = [pack(first), pack(rest)].concat();
            let made = TestTable::of(&packed, &sizes, Choice::default(), Limits::default());
            let (found, expected) = (made.reading(), expected.reading());
            prop_assert_eq!(found.dialect().compression, compression);
            prop_assert_eq!(found.dialect().syntax, expected.dialect().syntax);
            prop_assert_eq!(found.summary().lines, expected.summary().lines);
            let page = |reading| tidings_table::View::plain(reading, false).page(rows as u64 / 2, 3).unwrap();
            prop_assert_eq!(page(&found), page(&expected));
        }
    }

    #[test]
    fn another_encoding_reads_the_same_at_every_split(
        sizes in prop::collection::vec(1..70_usize, 1..5),
        words in prop::collection::vec("[a-zäöüß€ñ]{1,9}", 2..60),
    ) {
        let text: String = words.iter().map(|word| format!("{word}\tStraße\r\n")).collect();
        let utf_16: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = utf_16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = utf_16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let legacy = encoding_rs::WINDOWS_1252.encode(&text).0.into_owned();
        let expected: Vec<Vec<String>> = words.iter().map(|word| vec![word.clone(), "Straße".to_owned()]).collect();
        let files = [
            ("UTF-16LE", [&[0xFF, 0xFE], &little[..]].concat(), None),
            ("UTF-16BE", [&[0xFE, 0xFF], &big[..]].concat(), None),
            ("UTF-16LE", little, None),
            ("UTF-16BE", big, None),
            ("windows-1252", legacy, Some("windows-1252")),
            ("UTF-8", [&[0xEF, 0xBB, 0xBF], text.as_bytes()].concat(), None),
            ("UTF-8", text.into_bytes(), None),
        ];
        for (name, file, given) in files {
            let choice = Choice {
                header: Some(false),
                encoding: given.map(|name| Encoding::named(name).unwrap()),
                ..Choice::default()
            };
            let made = TestTable::of(&file, &sizes, choice, Limits::default());
            prop_assert_eq!(made.reading().dialect().encoding.name(), name);
            prop_assert!(!made.reading().summary().lossy);
            prop_assert_eq!(made.rows(), expected.clone());
        }
    }
}

#[test]
fn a_zstd_frame_of_another_program_reads_the_same() {
    // Created by `zstd -19 --check`, with a skippable frame before it.
    let made = TestTable::whole(include_bytes!("../golden/packed.csv.zst"), Choice::default());
    assert_eq!(made.rows(), [["1", "one"], ["2", "two"]]);
}

#[test]
fn zeros_after_gzip_members_are_padding() {
    let zeros = |count| vec![0; count];
    let (first, second) = (gzip(b"a,b\n1,2\n"), gzip(b"3,4\n"));
    for packed in [
        [&first[..], &second, &zeros(512)].concat(),
        [&first[..], &zeros(1), &second].concat(),
        [&first[..], &zeros(5_000), &second, &zeros(70_000)].concat(),
    ] {
        for sizes in [&[usize::MAX][..], &[1], &[first.len()], &[2_049, 3]] {
            let mut made = TestTable::of(&packed, sizes, Choice::default(), Limits::default());
            assert_eq!(made.rows(), [["1", "2"], ["3", "4"]]);
            made.writer.append_rows([["5", "6"]]).unwrap();
            assert_eq!(made.rows()[2], ["5", "6"]);
        }
    }
    for wrong in [&b"\0x"[..], b"\x1F\x8B", b"x"] {
        let mut made = TestTable::empty(Choice::default(), Limits::default());
        let packed = [&first[..], wrong].concat();
        let result = made.writer.append(&packed).and_then(|_| made.writer.finish());
        assert!(matches!(result, Err(Error::Compression(_))), "{result:?}");
    }
}

#[test]
fn incomplete_or_invalid_compressed_data_is_an_error() {
    for packed in [gzip(text(3_000).as_bytes()), zstd(text(3_000).as_bytes())] {
        for length in [5, 11, 30, packed.len() / 2, packed.len() - 1] {
            let mut made = TestTable::empty(Choice::default(), Limits::default());
            let result = made.writer.append(&packed[..length]).and_then(|_| made.writer.finish());
            assert!(matches!(result, Err(Error::Compression(_))), "{length} of {}: {result:?}", packed.len());
        }
        let mut broken = packed.clone();
        let length = broken.len();
        broken[length - 3] ^= 0x55;
        let mut made = TestTable::empty(Choice::default(), Limits::default());
        let result = made.writer.append(&broken).and_then(|_| made.writer.finish());
        assert!(matches!(result, Err(Error::Compression(_))), "{result:?}");
    }
}

#[test]
fn a_small_file_that_decompresses_to_a_huge_one_is_rejected_at_the_limit() {
    let bomb = gzip(&vec![b'x'; 30 << 20]);
    assert!(bomb.len() < 40_000);
    let limits = Limits { text_bytes: 1 << 20, ..Limits::default() };
    for packed in [bomb, zstd(&vec![b'x'; 30 << 20])] {
        let mut made = TestTable::empty(Choice::default(), limits);
        let result = made.writer.append(&packed);
        assert!(matches!(result, Err(Error::TooLarge { limit, .. }) if limit == 1 << 20), "{result:?}");
    }
}

#[test]
fn a_file_with_too_large_a_ratio_is_rejected_below_the_limit_of_text() {
    let limits = Limits { unpack_ratio: 20, ..Limits::default() };
    for packed in [gzip(&vec![b'x'; 64 << 20]), zstd(&vec![b'x'; 64 << 20])] {
        for size in [usize::MAX, 1_000] {
            let mut made = TestTable::empty(Choice::default(), limits);
            let mut result = Ok(());
            in_pieces(&packed, &[size], |piece| {
                if result.is_ok() {
                    result = made.writer.append(piece).map(|_| ());
                }
            });
            assert!(matches!(result, Err(Error::UnpackRatio { ratio: 20 })), "{result:?}");
            assert!(
                made.reading().disk_bytes() <= Limits::UNPACK_FREE + 21 * packed.len() as u64 + (4 << 20)
            );
        }
    }
    // A file with an allowed total ratio is accepted also when it is read again in pieces, although the ratio of its
    // first part alone is too large.
    let mut file = gzip(&vec![b'x'; 30 << 20]);
    let mut seed = 1_u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8 | 0x80
    };
    let noise: Vec<u8> = (0..2_000_000).map(|_| noise()).collect();
    file.extend_from_slice(&gzip(&noise));
    let mut made =
        TestTable::empty(Choice { encoding: Encoding::named("latin1"), ..Choice::default() }, limits);
    made.writer.append(&file).expect("within the ratio");
    made.writer.finish().expect("a whole file");
    made.writer.reread(Choice::default(), Control::default()).expect("within the ratio again");
}

#[test]
fn unlinked_files_are_charged_to_the_budget_until_the_last_reader_is_dropped() {
    #[derive(Debug)]
    struct Room(AtomicU64, u64);
    impl Budget for Room {
        fn reserve(&self, bytes: u64) -> io::Result<()> {
            if self.0.fetch_add(bytes, Ordering::Relaxed) + bytes > self.1 {
                self.release(bytes);
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            Ok(())
        }
        fn release(&self, bytes: u64) {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
    let text = text(20_000);
    let packed = gzip(text.as_bytes());
    let create = |room: &Arc<Room>, folder: &std::path::Path| {
        Writer::create_within(Arc::clone(room) as _, folder, Choice::default(), Limits::default())
    };
    let room = Arc::new(Room(AtomicU64::new(0), u64::MAX));
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = create(&room, folder.path()).expect("a table");
    writer.append(&packed).expect("a disk");
    writer.finish().expect("a whole file");
    assert_eq!(room.0.load(Ordering::Relaxed), text.len() as u64);
    let reader = writer.table().reading();
    drop((writer, folder));
    assert_eq!(room.0.load(Ordering::Relaxed), text.len() as u64);
    drop(reader);
    assert_eq!(room.0.load(Ordering::Relaxed), 0);
    let small = Arc::new(Room(AtomicU64::new(0), 100_000));
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = create(&small, folder.path()).expect("a table");
    let refused = writer.append(&packed);
    assert!(
        matches!(&refused, Err(Error::Io(error)) if error.kind() == io::ErrorKind::QuotaExceeded),
        "{refused:?}"
    );
    drop(writer);
    assert_eq!(small.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_text_that_is_not_utf_8_after_its_head_is_read_again_in_its_encoding() {
    let mut file = text(20_000).into_bytes();
    file.extend_from_slice(b"20000\tM\xFCller, Z\xFCrich\t1\n20001\tcaf\xE9\t2\n");
    for sizes in [&[usize::MAX][..], &[50_000], &[1_000_000]] {
        let made = TestTable::of(&file, sizes, Choice::default(), Limits::default());
        let reading = made.reading();
        assert_eq!(reading.dialect().encoding.name(), "windows-1252");
        assert_eq!(reading.dialect().evidence, Evidence::Guessed);
        let page = tidings_table::View::plain(&reading, false).page(20_000, 2).unwrap();
        assert_eq!(page.rows[0].cells[1].text, "Müller, Zürich");
        assert_eq!(page.rows[1].cells[1].text, "café");
        assert_eq!(page.total, 20_002);
    }
}

#[test]
fn one_invalid_byte_in_utf_8_does_not_change_the_encoding() {
    let mut file = "naïve\tb\n".repeat(20_000).into_bytes();
    file.extend_from_slice(b"caf\xE9\tb\n");
    let made = TestTable::of(
        &file,
        &[60_000],
        Choice { header: Some(false), ..Choice::default() },
        Limits::default(),
    );
    let reading = made.reading();
    assert_eq!((reading.dialect().encoding, reading.summary().lossy), (Encoding::UTF_8, true));
    let page = tidings_table::View::plain(&reading, false).page(20_000, 1).unwrap();
    assert_eq!(page.rows[0].cells[0].text, "caf\u{FFFD}");
}

#[test]
fn another_file_format_is_rejected_with_its_name() {
    for (head, what) in
        [(&b"PK\x03\x04\x14\0"[..], "ZIP"), (b"%PDF-1.7\n", "PDF"), (b"\x89PNG\r\n\x1A\n\0", "image")]
    {
        let mut made = TestTable::empty(Choice::default(), Limits::default());
        let mut result = Ok(());
        in_pieces(head, &[3], |piece| {
            if result.is_ok() {
                result = made.writer.append(piece).map(|_| ());
            }
        });
        let result = result.and_then(|()| made.writer.finish().map(|_| ()));
        assert!(matches!(&result, Err(Error::NotText(text)) if text.contains(what)), "{result:?}");
        assert!(matches!(made.writer.append(b"a"), Err(Error::Broken)));
    }
}
