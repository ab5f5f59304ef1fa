//! The reader agrees with the `csv` crate at every split of the text.

use std::ops::ControlFlow;

use proptest::prelude::*;
use tidings_table::{Event, Reader, Syntax};

use crate::support::{by_csv, in_pieces};

fn read(text: &[u8], sizes: &[usize], syntax: Syntax) -> Vec<Vec<Vec<u8>>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), Vec::new());
    let mut sink = |event: Event<'_>| {
        match event {
            Event::Content(content) => cell.extend_from_slice(content),
            Event::Cell => row.push(std::mem::take(&mut cell)),
            Event::Row => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
        }
        ControlFlow::Continue(())
    };
    let mut reader = Reader::new(syntax);
    in_pieces(text, sizes, |piece| {
        assert_eq!(reader.feed(piece, &mut sink), piece.len());
    });
    reader.finish(&mut sink);
    rows
}

fn syntax() -> impl Strategy<Value = Syntax> {
    (prop::sample::select(&b",\t;|"[..]), prop::sample::select(vec![Some(b'"'), Some(b'\''), None]))
        .prop_map(|(delimiter, quote)| Syntax::new(delimiter, quote, None).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_reader_agrees_with_the_csv_crate_at_every_split(
        text in "([ab\u{e9}]{0,3}[,\t;|\"'\r\n]{0,3}){0,40}",
        sizes in prop::collection::vec(1..9_usize, 1..6),
        syntax in syntax(),
    ) {
        prop_assert_eq!(read(text.as_bytes(), &sizes, syntax), by_csv(text.as_bytes(), syntax));
    }

    #[test]
    fn an_escaped_quote_is_part_of_the_cell(
        text in r#"([ab]{0,2}(\\"|\\\\|""|"|,|\n){0,3}){0,30}"#,
        sizes in prop::collection::vec(1..9_usize, 1..6),
    ) {
        // A backslash that escapes nothing is kept by the reader and dropped by the csv crate; the text has none except
        // at its end.
        prop_assume!(!text.ends_with('\\'));
        let syntax = Syntax::new(b',', Some(b'"'), Some(b'\\')).unwrap();
        prop_assert_eq!(read(text.as_bytes(), &sizes, syntax), by_csv(text.as_bytes(), syntax));
    }
}

#[test]
fn a_backslash_that_escapes_nothing_stays() {
    let syntax = Syntax::new(b',', Some(b'"'), Some(b'\\')).unwrap();
    let rows = read(br#""C:\new","\\N\"",\N,"open\"#, &[3], syntax);
    let expected: [&[u8]; 4] = [br"C:\new", br#"\N""#, br"\N", br"open\"];
    assert_eq!(rows, [expected]);
}

#[test]
fn an_invalid_syntax_is_rejected() {
    for (delimiter, quote, escape) in
        [(b'"', Some(b'"'), None), (b'\n', None, None), (0xE9, None, None), (b',', Some(b'"'), Some(b'"'))]
    {
        assert!(Syntax::new(delimiter, quote, escape).is_err());
    }
}
