//! Filters by tags: a subscriber gets exactly the publications that pass its filter, live and recovered, and subscribers with
//! equal filters share one evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_hub::{Admission, AuthorizationRequest, NamespaceOptions, Namespaces, Settings, Slot};
use tidings_session::{Request, Response};
use tidings_tags_filter::Filter;
use tidings_wire::{
    Channel, Extra, History, HistoryPage, HistoryQuery, Position, Publication, RecoveryMode, Topic,
};

use crate::test_hub::{TestHub, settings};

fn options() -> NamespaceOptions {
    NamespaceOptions { allow_tags_filter: true, tags_filter_limit: 100, ..NamespaceOptions::default() }
}

fn test_hub(options: NamespaceOptions) -> TestHub {
    TestHub::without_auto_subscribe(Settings { namespaces: Namespaces::new(options, []), ..settings() })
}

fn topic() -> Topic {
    Topic::Channel(Channel::new("news").unwrap())
}

/// A publication with its number as body and these tags.
fn publication(number: u64, tags: &[(&str, &str)]) -> Publication {
    let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let extra = Some(Box::new(Extra { tags, ..Extra::default() }));
    Publication { extra, ..Publication::new(Channel::new("news").unwrap(), number.to_string()) }
}

fn connect(w: &mut TestHub) -> Slot {
    let slot = w.open();
    w.input(slot, "{\"id\":1,\"connect\":{}}\n");
    w.bytes(slot);
    slot
}

fn subscribe(w: &mut TestHub, slot: Slot, mut options: Value) -> Value {
    options["channel"] = json!("news");
    w.input(slot, format!("{}\n", json!({"id": 2, "subscribe": options})));
    reply(w, slot)
}

fn reply(w: &mut TestHub, slot: Slot) -> Value {
    let sent = w.bytes(slot);
    serde_json::from_slice(&sent).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&sent)))
}

/// The numbers of the publications that a session got since the last call.
fn numbers(w: &mut TestHub, slot: Slot) -> Vec<u64> {
    let lines = String::from_utf8(w.bytes(slot)).unwrap();
    let number =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["push"]["pub"]["data"].as_u64().unwrap();
    lines.lines().map(number).collect()
}

/// A filter: the tag `t` is one of these letters.
fn one_of(letters: &[&str]) -> Value {
    json!({"key": "t", "cmp": "in", "vals": letters})
}

proptest! {
    #[test]
    fn every_subscriber_gets_exactly_the_publications_that_pass_its_filter(
        steps in prop::collection::vec((0..10_u8, 0..6_usize, 0..4_usize), 1..120),
    ) {
        let mut w = test_hub(options());
        let letters = ["a", "b", "c", "d"];
        let filters: [&[&str]; 4] = [&[], &["a"], &["a", "b"], &["b", "a"]];
        let mut subscribers: BTreeMap<Slot, (usize, Vec<u64>)> = BTreeMap::new();
        let mut published = 0;
        for (operation, client, index) in steps {
            let slot = subscribers.keys().nth(client % subscribers.len().max(1)).copied();
            match (operation, slot) {
                (0..=2, _) | (_, None) => {
                    let slot = connect(&mut w);
                    let filter = match index { 0 => Value::Null, _ => one_of(filters[index]) };
                    let reply = subscribe(&mut w, slot, json!({"tf": filter}));
                    prop_assert!(reply["subscribe"].is_object(), "{reply}");
                    subscribers.insert(slot, (index, Vec::new()));
                }
                (3, Some(slot)) => {
                    let (_, expected) = subscribers.remove(&slot).unwrap();
                    prop_assert_eq!(numbers(&mut w, slot), expected);
                    w.close(slot);
                }
                (_, Some(_)) => {
                    let batch: Vec<_> = (0..=client)
                        .map(|i| {
                            let letter = letters[(index + i) % 4];
                            published += 1;
                            for (index, expected) in subscribers.values_mut() {
                                if *index == 0 || filters[*index].contains(&letter) {
                                    expected.push(published);
                                }
                            }
                            Arc::new(publication(published, &[("t", letter)]))
                        })
                        .collect();
                    w.fan_out(&topic(), &batch);
                }
            }
            let entry = w.hub.topic(&topic()).and_then(|key| w.hub.entry(key));
            // The last two filters are equal.
            let mut different: Vec<_> = subscribers.values().map(|(index, _)| (*index).min(2)).collect();
            different.retain(|index| *index > 0);
            different.sort_unstable();
            different.dedup();
            prop_assert_eq!(entry.map_or(0, |entry| entry.selections().count()), different.len());
        }
        for (slot, (_, expected)) in subscribers {
            prop_assert_eq!(numbers(&mut w, slot), expected);
        }
    }
}

#[test]
fn a_filter_is_refused_where_it_is_not_allowed_malformed_or_beyond_a_limit() {
    let mut w = test_hub(NamespaceOptions { tags_filter_limit: 1, ..options() });
    let error = |w: &mut TestHub, tf: &Value| {
        let slot = connect(w);
        let error = subscribe(w, slot, json!({"tf": tf}))["error"].clone();
        (error["code"].as_u64().unwrap_or(0), error["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(error(&mut w, &one_of(&["a"])), (0, String::new()));
    assert_eq!(error(&mut w, &one_of(&["a"])), (0, String::new()), "an equal filter");
    let (code, text) = error(&mut w, &one_of(&["b"]));
    assert_eq!((code, &*text), (106, "limit exceeded: 1 different filters in a channel (tags_filter_limit)"));
    let (code, text) = error(&mut w, &json!({"op": "xor"}));
    assert!(code == 107 && text.starts_with("bad request: filter: unknown op \"xor\""), "{code} {text}");
    let (code, text) = error(&mut w, &one_of(&[&"x".repeat(9000)]));
    assert!(code == 106 && text.ends_with("8192 is the limit"), "{code} {text}");
    let mut w = test_hub(NamespaceOptions { allow_tags_filter: false, ..options() });
    let (code, text) = error(&mut w, &one_of(&["a"]));
    assert!(code == 107 && text.ends_with("(allow_tags_filter)"), "{code} {text}");
    assert_eq!(w.hub.stats().subscriptions, 0);
}

#[test]
fn a_filter_in_connect_is_refused_because_it_would_be_ignored() {
    let mut w = test_hub(options());
    let slot = w.open();
    let subs = json!({"news": {"tf": one_of(&["a"])}});
    w.input(slot, format!("{}\n", json!({"id": 1, "connect": {"subs": subs}})));
    assert_eq!(reply(&mut w, slot)["error"]["code"], 107);
}

#[test]
fn a_client_narrows_the_filter_of_the_application_and_cannot_widen_it() {
    let mut w = test_hub(NamespaceOptions { subscribe_proxy: true, ..options() });
    w.authority = |request| match request {
        AuthorizationRequest::Subscribe { .. } => {
            let filter = Filter::from_json(br#"{"key":"t","cmp":"neq","val":"secret"}"#).unwrap();
            Response::Allowed(Box::new(Admission { filter: Some(Arc::new(filter)), ..Admission::default() }))
        }
        other => panic!("{other:?}"),
    };
    let clients: Vec<_> = [Value::Null, one_of(&["a", "secret"])]
        .into_iter()
        .map(|tf| {
            let slot = connect(&mut w);
            w.input(
                slot,
                format!("{}\n", json!({"id": 2, "subscribe": {"channel": "news", "tf": tf, "token": "t"}})),
            );
            assert!(reply(&mut w, slot)["subscribe"].is_object());
            slot
        })
        .collect();
    let batch = [(1, "a"), (2, "b"), (3, "secret")].map(|(n, t)| Arc::new(publication(n, &[("t", t)])));
    w.fan_out(&topic(), &batch);
    assert_eq!(numbers(&mut w, clients[0]), [1, 2]);
    assert_eq!(numbers(&mut w, clients[1]), [1]);
}

/// Subscribes with recovery from offset 2 in a history of the offsets 1 to 6 with the letters of `letters`; the reply, and the
/// query of the history.
fn recover(mode: RecoveryMode, letters: &[&str; 6], filter: &Value) -> (Value, HistoryQuery) {
    let mut w = test_hub(NamespaceOptions {
        history_size: 10,
        history_ttl: Duration::from_secs(60),
        history_meta_ttl: Duration::from_secs(60),
        force_recovery: true,
        force_recovery_mode: mode,
        ..options()
    });
    let slot = connect(&mut w);
    let options = json!({"channel": "news", "recover": true, "offset": 2, "epoch": "e", "tf": filter});
    w.input(slot, format!("{}\n", json!({"id": 2, "subscribe": options})));
    let (id, ticket, request) = w.pending_requests.pop_front().expect("a read of the history");
    let Request::History(_, query) = request else { panic!("{request:?}") };
    let position = |offset| Position { offset, epoch: "e".into() };
    let mut publications: Vec<_> = (1..=6)
        .map(|n| {
            let publication = publication(n, &[("t", letters[n as usize - 1])]);
            Arc::new(Publication { position: Some(position(n)), ..publication })
        })
        .filter(|p| query.since.as_ref().is_none_or(|since| p.offset() > Some(since.offset)))
        .collect();
    if query.reverse {
        publications.reverse();
    }
    publications.truncate(query.limit.unwrap_or(usize::MAX));
    let history = History::Page(HistoryPage { position: position(6), publications });
    w.with(|hub, fx| hub.respond(id, ticket, Response::History(history), fx));
    (reply(&mut w, slot)["subscribe"].clone(), query)
}

#[test]
fn recovered_publications_pass_the_filter_and_the_others_leave_no_gap() {
    let offsets = |reply: &Value| -> Vec<u64> {
        let publications = reply["publications"].as_array().cloned().unwrap_or_default();
        publications.iter().map(|publication| publication["offset"].as_u64().unwrap()).collect()
    };
    let letters = ["a", "b", "a", "b", "a", "b"];
    let (reply, _) = recover(RecoveryMode::Stream, &letters, &one_of(&["a"]));
    assert_eq!(
        (offsets(&reply), &reply["recovered"], &reply["offset"]),
        (vec![3, 5], &json!(true), &json!(6))
    );
    let (reply, _) = recover(RecoveryMode::Stream, &letters, &one_of(&["z"]));
    assert_eq!((offsets(&reply), &reply["recovered"], &reply["offset"]), (vec![], &json!(true), &json!(6)));

    let (reply, query) = recover(RecoveryMode::Cache, &letters, &one_of(&["a"]));
    assert_eq!((offsets(&reply), &reply["recovered"], &reply["offset"]), (vec![5], &json!(true), &json!(6)));
    assert!(!query.for_subscriber && query.reverse);
    let (reply, _) = recover(RecoveryMode::Cache, &["a", "b", "b", "b", "b", "b"], &one_of(&["a"]));
    assert_eq!((offsets(&reply), &reply["recovered"]), (vec![], &json!(true)), "the client has the newest");
    let (_, query) = recover(RecoveryMode::Cache, &letters, &Value::Null);
    assert_eq!((query.limit, query.for_subscriber), (Some(1), true));
}
