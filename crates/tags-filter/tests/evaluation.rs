//! Decoding and evaluation of filters, against a naive evaluator over JSON values.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_tags_filter::{Filter, FilterError, MAX_BYTES, MAX_DEPTH, MAX_NODES};

type Tags = Vec<(String, String)>;

fn tags(tags: &[(&str, &str)]) -> Tags {
    tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_json(filter: &Value) -> Result<Filter, FilterError> {
    Filter::from_json(filter.to_string().as_bytes())
}

/// The message `FilterNode` with the contents of a JSON filter.
fn protobuf(filter: &Value) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push((length as u8 & 0x7F) | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    }
    let mut out = Vec::new();
    for (number, name) in [(1, "op"), (2, "key"), (3, "cmp"), (4, "val")] {
        if let Some(text) = filter[name].as_str() {
            field(number, text.as_bytes(), &mut out);
        }
    }
    for value in filter["vals"].as_array().into_iter().flatten() {
        field(5, value.as_str().unwrap_or_default().as_bytes(), &mut out);
    }
    for node in filter["nodes"].as_array().into_iter().flatten() {
        field(6, &protobuf(node), &mut out);
    }
    out
}

/// Evaluates a valid filter as its definition reads.
fn naive(filter: &Value, tags: &Tags) -> bool {
    let nodes = || filter["nodes"].as_array().expect("nodes").iter();
    match filter["op"].as_str() {
        Some("and") => return nodes().all(|node| naive(node, tags)),
        Some("or") => return nodes().any(|node| naive(node, tags)),
        Some("not") => return !naive(&filter["nodes"][0], tags),
        _ => {}
    }
    let tag = tags.iter().find(|(name, _)| *name == filter["key"]).map(|(_, value)| value.clone());
    let val = filter["val"].as_str().unwrap_or_default();
    let is_in = || {
        let values = filter["vals"].as_array().expect("vals");
        values.iter().any(|value| value.as_str() == Some(tag.as_deref().unwrap_or_default()))
    };
    // The numbers of the generator are exact in an f64.
    let number = |text: &str| text.parse::<f64>().ok();
    let pair = tag.as_deref().and_then(number).zip(number(val));
    match filter["cmp"].as_str().expect("cmp") {
        "eq" => tag.as_deref() == Some(val),
        "neq" => tag.as_deref() != Some(val),
        "in" => is_in(),
        "nin" => !is_in(),
        "ex" => tag.is_some(),
        "nex" => tag.is_none(),
        "sw" => tag.is_some_and(|tag| tag.starts_with(val)),
        "ew" => tag.is_some_and(|tag| tag.ends_with(val)),
        "ct" => tag.is_some_and(|tag| tag.contains(val)),
        "gt" => pair.is_some_and(|(tag, val)| tag > val),
        "gte" => pair.is_some_and(|(tag, val)| tag >= val),
        "lt" => pair.is_some_and(|(tag, val)| tag < val),
        "lte" => pair.is_some_and(|(tag, val)| tag <= val),
        other => panic!("{other}"),
    }
}

/// Decimal numbers whose value is exact in an f64, in several spellings.
fn any_number() -> impl Strategy<Value = String> {
    (any::<bool>(), 0..30_u32, prop::sample::select(vec!["", ".0", ".5", ".50", ".25"])).prop_map(
        |(is_negative, whole, fraction)| format!("{}{whole}{fraction}", if is_negative { "-" } else { "" }),
    )
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,3}", any_number(), "[ä-ö]{1,2}"]
}

fn any_filter() -> impl Strategy<Value = Value> {
    let key = || "[k-m]";
    let leaf = prop_oneof![
        (key(), prop::sample::select(vec!["eq", "neq", "sw", "ew", "ct"]), "[abä]{1,2}")
            .prop_map(|(key, cmp, val)| json!({"key": key, "cmp": cmp, "val": val})),
        (key(), prop::sample::select(vec!["gt", "gte", "lt", "lte"]), any_number())
            .prop_map(|(key, cmp, val)| json!({"key": key, "cmp": cmp, "val": val})),
        (key(), prop::sample::select(vec!["in", "nin"]), prop::collection::vec(any_value(), 1..5))
            .prop_map(|(key, cmp, vals)| json!({"key": key, "cmp": cmp, "vals": vals})),
        (key(), prop::sample::select(vec!["ex", "nex"]))
            .prop_map(|(key, cmp)| json!({"key": key, "cmp": cmp})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (prop::sample::select(vec!["and", "or"]), prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(op, nodes)| json!({"op": op, "nodes": nodes})),
            inner.prop_map(|node| json!({"op": "not", "nodes": [node]})),
        ]
    })
}

proptest! {
    #[test]
    fn a_filter_passes_what_the_naive_evaluator_passes_in_both_encodings(
        filter in any_filter(),
        tags in prop::collection::vec(("[k-m]", any_value()), 0..4),
    ) {
        let json = from_json(&filter).unwrap();
        let bytes = protobuf(&filter);
        let protobuf = Filter::from_protobuf(&bytes).unwrap();
        prop_assert_eq!(json.matches(&tags), naive(&filter, &tags));
        prop_assert_eq!(&json, &protobuf);
    }

    #[test]
    fn what_passes_two_filters_passes_their_conjunction(
        a in any_filter(),
        b in any_filter(),
        tags in prop::collection::vec(("[k-m]", any_value()), 0..4),
    ) {
        let both = from_json(&a).unwrap().and(&from_json(&b).unwrap());
        prop_assert_eq!(both.matches(&tags), naive(&a, &tags) && naive(&b, &tags));
    }

    #[test]
    fn any_bytes_are_a_filter_or_refused(bytes: Vec<u8>) {
        let _ = Filter::from_protobuf(&bytes);
        let _ = Filter::from_json(&bytes);
    }
}

#[test]
fn the_examples_of_the_documentation_pass() {
    let stock = tags(&[
        ("ticker", "AAPL"),
        ("source", "NASDAQ"),
        ("price", "150.25"),
        ("category", "tech"),
        ("volume", "1000"),
    ]);
    for filter in [
        json!({"key": "ticker", "cmp": "eq", "val": "AAPL"}),
        json!({"key": "source", "cmp": "neq", "val": "TEST"}),
        json!({"key": "category", "cmp": "in", "vals": ["tech", "finance"]}),
        json!({"key": "ticker", "cmp": "nin", "vals": ["MSFT", "GOOGL"]}),
        json!({"key": "price", "cmp": "ex"}),
        json!({"key": "internal_id", "cmp": "nex"}),
        json!({"key": "ticker", "cmp": "sw", "val": "AA"}),
        json!({"key": "source", "cmp": "ew", "val": "DAQ"}),
        json!({"key": "category", "cmp": "ct", "val": "ec"}),
        json!({"key": "price", "cmp": "gt", "val": "100"}),
        json!({"key": "volume", "cmp": "gte", "val": "1000"}),
        json!({"key": "price", "cmp": "lt", "val": "200"}),
        json!({"key": "volume", "cmp": "lte", "val": "1000", "op": null, "vals": [], "later": {}}),
        json!({"op": "not", "nodes": [{"key": "source", "cmp": "eq", "val": "NYSE"}]}),
    ] {
        assert!(from_json(&filter).unwrap().matches(&stock), "{filter}");
        let negated = json!({"op": "not", "nodes": [filter]});
        assert!(!from_json(&negated).unwrap().matches(&stock), "{negated}");
    }
}

#[test]
fn equal_filters_are_equal_values_also_with_their_sets_in_another_order() {
    let filter = |vals: &[&str]| from_json(&json!({"key": "k", "cmp": "in", "vals": vals})).unwrap();
    assert_eq!(filter(&["b", "a"]), filter(&["a", "b", "a"]));
    assert_ne!(filter(&["a"]), filter(&["a", "b"]));
}

#[test]
fn a_meaningless_filter_is_refused_with_its_fault() {
    for (filter, fault) in [
        (json!({}), "a node needs an op or a cmp"),
        (json!([]), "a node is no object"),
        (json!({"op": "xor"}), "unknown op \"xor\"; expected and, or, not, or none for a comparison"),
        (json!({"op": "and"}), "and needs at least one node"),
        (
            json!({"op": "not", "nodes": [{"key": "a", "cmp": "ex"}, {"key": "a", "cmp": "ex"}]}),
            "not needs one node, and has 2",
        ),
        (json!({"key": "a", "cmp": "like", "val": "b"}), "unknown cmp \"like\""),
        (json!({"key": "a", "cmp": "eq"}), "eq needs a val"),
        (json!({"cmp": "eq", "val": "b"}), "eq needs a key"),
        (json!({"key": "a", "cmp": "in", "vals": []}), "in needs at least one value in vals"),
        (json!({"key": "a", "cmp": "in", "vals": ["b"], "val": "b"}), "in takes no val"),
        (json!({"key": "a", "cmp": "ex", "val": "b"}), "ex takes no val"),
        (json!({"key": "a", "cmp": "eq", "val": "b", "vals": ["b"]}), "eq takes no vals"),
        (json!({"key": "a", "cmp": "gt", "val": "1e5"}), "gt needs a decimal number as val"),
        (json!({"key": "a", "cmp": "ex", "nodes": [{}]}), "a comparison has nodes; they need an op"),
        (json!({"key": 1, "cmp": "ex"}), "key is no string"),
    ] {
        let error = from_json(&filter).unwrap_err();
        assert_eq!(error.to_string(), format!("bad request: filter: {fault}"), "{filter}");
        assert!(!error.is_limit());
    }
}

#[test]
fn filters_beyond_a_limit_are_refused_with_the_limit() {
    let nested = |levels: usize| {
        (1..levels).fold(json!({"key": "a", "cmp": "ex"}), |node, _| json!({"op": "not", "nodes": [node]}))
    };
    let wide = |nodes: usize| {
        let set = json!({"key": "a", "cmp": "in", "vals": vec!["b"; nodes - 102]});
        let mut all = vec![json!({"key": "a", "cmp": "ex"}); 100];
        all.push(set);
        json!({"op": "or", "nodes": all})
    };
    let long = |bytes: usize| {
        let filter = |length| json!({"key": "a", "cmp": "eq", "val": "x".repeat(length)});
        filter(bytes - filter(0).to_string().len())
    };
    for (allowed, refused, expected) in [
        (nested(MAX_DEPTH), nested(MAX_DEPTH + 1), FilterError::TooDeep),
        (wide(MAX_NODES), wide(MAX_NODES + 1), FilterError::TooManyNodes),
        (long(MAX_BYTES), long(MAX_BYTES + 1), FilterError::TooLong(MAX_BYTES + 1)),
    ] {
        from_json(&allowed).unwrap();
        Filter::from_protobuf(&protobuf(&allowed)).unwrap();
        assert_eq!(from_json(&refused).unwrap_err(), expected);
        assert!(expected.is_limit());
        if !matches!(expected, FilterError::TooLong(_)) {
            assert_eq!(Filter::from_protobuf(&protobuf(&refused)).unwrap_err(), expected);
        }
    }
    let deep = "[".repeat(MAX_BYTES);
    assert!(matches!(Filter::from_json(deep.as_bytes()), Err(FilterError::Malformed(_))));
}
