//! Deltas between any two byte strings, and deltas of another implementation.

use proptest::prelude::*;
use tidings_fossil::{DeltaError, apply, create};

const LIMIT: usize = 1 << 20;

/// Deltas that the npm package fossil-delta 2.0.0 has made: source, target, delta.
const OTHERS: [(&str, &str, &str); 5] = [
    ("", "", "0\n0:0;"),
    ("", "abc", "3\n3:abc1XObC0;"),
    ("abc", "", "0\n0:0;"),
    (
        r#"{"home":2,"away":1,"minute":71,"events":["goal","corner","foul","goal"]}"#,
        r#"{"home":3,"away":1,"minute":72,"events":["goal","corner","foul","goal","goal"]}"#,
        "1F\nU:{\"home\":3,\"away\":1,\"minute\":72d@U,9:,\"goal\"]}37RGI0;",
    ),
    (
        "line one of a text that is long enough\nline two of a text that is long enough\n",
        "line two of a text that is long enough\nline one of a text that is long enough\nline three\n",
        "1P\nc@c,i@0,5:hree\n1h82~1;",
    ),
];

#[test]
fn deltas_of_another_implementation_are_applied() {
    for (source, target, delta) in OTHERS {
        // Some implementations write an empty literal.
        assert_eq!(
            apply(source.as_bytes(), delta.as_bytes(), LIMIT).as_deref(),
            Ok(target.as_bytes()),
            "{delta}"
        );
        let own = create(source.as_bytes(), target.as_bytes());
        assert!(own.len() <= delta.len(), "{} bytes for {delta}", own.len());
        assert_eq!(apply(source.as_bytes(), &own, LIMIT).as_deref(), Ok(target.as_bytes()));
    }
}

#[test]
fn a_change_in_a_few_places_of_a_document_takes_few_bytes() {
    let row = |price: usize| {
        format!("{{\"symbol\":\"SYM{price}\",\"bid\":{price}.25,\"ask\":{price}.75,\"volume\":1000}}")
    };
    let table = |changed: &[usize]| -> String {
        (0..200).map(|n| row(if changed.contains(&n) { n + 7000 } else { n })).collect::<Vec<_>>().join(",")
    };
    let (source, target) = (table(&[]), table(&[3, 90, 150]));
    let delta = create(source.as_bytes(), target.as_bytes());
    assert!(delta.len() < 400 && target.len() > 10_000, "{} of {}", delta.len(), target.len());
    assert_eq!(apply(source.as_bytes(), &delta, LIMIT).unwrap(), target.as_bytes());
    // Rows in another order are found by their blocks.
    let (first, second) = source.split_at(source.len() / 2);
    let delta = create(source.as_bytes(), [second, first].concat().as_bytes());
    assert!(delta.len() < 100, "{}", delta.len());
}

#[test]
fn a_delta_of_text_is_text_also_where_characters_differ_in_one_of_their_bytes() {
    // The last bytes of é and è differ, and so do the first ones of 中 (E4) and 怭 (E6).
    let source = "aaaaaaaaaaaaaaaaaaaaaaaaé中bbbbbbbbbbbbbbbbbbbbbbbbbb";
    let target = "aaaaaaaaaaaaaaaaaaaaaaaaè怭bbbbbbbbbbbbbbbbbbbbbbbbbb";
    let delta = create(source.as_bytes(), target.as_bytes());
    assert!(delta.len() < target.len());
    std::str::from_utf8(&delta).unwrap();
    assert_eq!(apply(source.as_bytes(), &delta, LIMIT).unwrap(), target.as_bytes());
}

#[test]
fn a_wrong_delta_is_an_error() {
    let source = b"0123456789abcdef0123456789abcdef";
    let target = b"0123456789abcdef0123456789abcdeX";
    let delta = create(source, target);
    assert_eq!(
        apply(b"0123456789abcdef0123456789abcdeg", &delta, LIMIT).unwrap(),
        target,
        "the last byte is a literal"
    );
    assert_eq!(apply(b"1123456789abcdef0123456789abcdef", &delta, LIMIT), Err(DeltaError::WrongChecksum));
    assert_eq!(apply(b"short", &delta, LIMIT), Err(DeltaError::PastSource));
    assert_eq!(apply(source, &delta, 31), Err(DeltaError::TooLong(32)));
    for (delta, error) in [
        (&b""[..], DeltaError::Malformed),
        (b"3", DeltaError::Malformed),
        (b"3\n", DeltaError::Malformed),
        (b"3\n3:ab", DeltaError::Malformed),
        (b"3\n3@0;", DeltaError::Malformed),
        (b"3\n3@0", DeltaError::Malformed),
        (b"3\n3?", DeltaError::Malformed),
        (b"2\n3:abc1XObC0;", DeltaError::WrongLength),
        (b"4\n3:abc1XObC0;", DeltaError::WrongLength),
        (b"3\n3:abc1XObC1;", DeltaError::WrongChecksum),
        (b"3\n3:abc1XObC0;more", DeltaError::Malformed),
        (b"3\n3@~~~~~,", DeltaError::PastSource),
        (b"~~~~~~~\n", DeltaError::Malformed),
    ] {
        assert_eq!(apply(source, delta, LIMIT), Err(error), "{}", String::from_utf8_lossy(delta));
    }
}

/// A byte string, and one that consists of pieces of it and of others.
fn related() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(0..3_u8, 0..300),
        "[ab{}\":,é中0-9]{0,200}".prop_map(String::into_bytes),
    ];
    let pieces =
        prop::collection::vec((any::<prop::sample::Index>(), 0..80_usize, any::<bool>(), any::<u8>()), 0..8);
    (bytes, pieces).prop_map(|(source, pieces)| {
        let mut target = Vec::new();
        for (index, length, is_copy, byte) in pieces {
            if is_copy && !source.is_empty() {
                let from = index.index(source.len());
                target.extend_from_slice(&source[from..source.len().min(from + length)]);
            } else {
                target.extend(std::iter::repeat_n(byte, length / 8));
            }
        }
        (source, target)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_delta_makes_its_target_from_its_source((source, target) in related()) {
        let delta = create(&source, &target);
        prop_assert_eq!(apply(&source, &delta, target.len()), Ok(target.clone()));
        prop_assert!(delta.len() <= target.len() + 32);
        if std::str::from_utf8(&target).is_ok() {
            prop_assert!(std::str::from_utf8(&delta).is_ok());
        }
    }

    #[test]
    fn any_two_texts_have_a_delta_that_is_text(source in ".{0,60}", target in ".{0,60}") {
        let delta = create(source.as_bytes(), target.as_bytes());
        prop_assert!(std::str::from_utf8(&delta).is_ok());
        prop_assert_eq!(apply(source.as_bytes(), &delta, target.len()), Ok(target.into_bytes()));
    }

    #[test]
    fn any_bytes_are_applied_within_the_limit_or_refused(source: Vec<u8>, delta in prop_oneof![
        any::<Vec<u8>>(),
        "[0-9A-Za-z_~]{1,2}\n([0-9A-F]{1,2}[@:;,]){0,6}".prop_map(String::into_bytes),
    ]) {
        if let Ok(target) = apply(&source, &delta, 64) {
            prop_assert!(target.len() <= 64);
        }
    }
}
