//! Properties of sessions under arbitrary input.

use std::collections::{BTreeMap, BTreeSet};

use crate::test_hub::{TestHub, part_three, settings};
use proptest::prelude::*;
use tidings_hub::{Flow, Slot};
use tidings_wire::{Channel, Form, Topic};

/// Complete inputs of a session.
const SCRIPTS: &[&str] = &[
    "hello\r\nSUBSCRIBE\r\nPUBLISH updates x\nPING\n\r\nSUBSCRIBE a b\r\nUNSUBSCRIBE\r\nUNSUBSCRIBE\nEXIT\r\nPING\r\n",
    "\u{feff}x\rPING\rSUBSCRIBE a\rPUBLISH a 1\r\n\rSUBSCRIBE a\r\0EXIT\rPING\r",
    "*1\r\n$4\r\nPING\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\nPING x\r\n*1\r\n$5\r\nRESET\r\n*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$5\r\n\r\n$1\n\r\n*1\r\n$4\r\nQUIT\r\n",
    "*1\r\n$5\r\nMULTI\r\nPING\r\n*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$1\r\nx\r\nSUBSCRIBE a\r\nMULTI\r\nEXEC\r\nMULTI\r\nRESET\r\nPING\r\n",
    "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\r\n{}\n{bad\n{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":\"é\"}}\n{\"id\":4,\"ping\":{}}\n",
];

fn outcome(script: &str, cuts: &BTreeSet<usize>) -> (String, bool) {
    let mut w = TestHub::new(settings());
    let c = w.open();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([script.len()]) {
        w.input(c, &script.as_bytes()[from..cut]);
        from = cut;
    }
    (w.output(c), w.closed.contains(&c))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_is_independent_of_the_fragmentation_of_input(
        index in 0..SCRIPTS.len(),
        cuts in prop::collection::btree_set(0..SCRIPTS[2].len(), 0..40),
    ) {
        let script = SCRIPTS[index];
        let cuts = cuts.into_iter().filter(|c| *c <= script.len()).collect();
        let whole = outcome(script, &BTreeSet::new());
        prop_assert!(!whole.0.is_empty());
        prop_assert_eq!(outcome(script, &cuts), whole);
    }

    #[test]
    fn arbitrary_input_never_panics_and_leaves_no_topics(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        first in prop::sample::select(vec![b'*', b'{', b'S', 0xff]),
    ) {
        let mut w = TestHub::new(settings());
        let c = w.open();
        w.input(c, [first]);
        for piece in pieces {
            if w.input(c, &piece) == Flow::Ended {
                break;
            }
        }
        w.close(c);
        prop_assert!(w.subscribed_topics.is_empty());
    }

    #[test]
    fn subscriber_lists_equal_a_naive_map(steps in prop::collection::vec((0..12usize, 0..6u32, 0..8usize), 1..200)) {
        let mut w = TestHub::with_protocols(settings(), part_three());
        // The subscribers of each channel, with their wire forms.
        let mut model: BTreeMap<String, BTreeMap<Slot, Form>> = BTreeMap::new();
        let mut open: BTreeMap<Slot, Form> = BTreeMap::new();
        let names = ["a", "b", "c:d", "updates", "e*", "f", "g", "h"];
        for (operation, client, index) in steps {
            let name = names[index];
            let live: Vec<Slot> = open.keys().copied().collect();
            let slot = live.get(client as usize % live.len().max(1)).copied();
            match (operation, slot) {
                (0 | 1, _) | (_, None) => {
                    let slot = w.open();
                    let (bytes, form) = [
                        ("PING\r\n", Form::PLAIN),
                        ("*1\r\n$4\r\nPING\r\n", Form::RESP2),
                        ("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", Form::RESP3),
                        ("{\"id\":1,\"connect\":{}}\n", Form::JSON_LINE),
                    ][client as usize % 4];
                    w.input(slot, bytes);
                    open.insert(slot, form);
                }
                (2, Some(slot)) => {
                    w.close(slot);
                    open.remove(&slot);
                    model.values_mut().for_each(|m| { m.remove(&slot); });
                }
                (3..=7, Some(slot)) => {
                    w.input(slot, subscribe(open[&slot], name, true));
                    model.entry(name.into()).or_default().insert(slot, open[&slot]);
                }
                (_, Some(slot)) => {
                    w.input(slot, subscribe(open[&slot], name, false));
                    model.entry(name.into()).or_default().remove(&slot);
                }
            }
            model.retain(|_, m| !m.is_empty());
            let expected: BTreeSet<Topic> =
                model.keys().map(|n| Channel::new(n).unwrap().into()).collect();
            prop_assert_eq!(&w.subscribed_topics, &expected);
            for (name, subscribers) in &model {
                let topic = Channel::new(name).unwrap().into();
                let entry = w.hub.entry(w.hub.topic(&topic).expect("a topic")).unwrap();
                for form in [Form::PLAIN, Form::RESP2, Form::RESP3, Form::JSON_LINE] {
                    let has: BTreeSet<Slot> = entry.subscribers(form).iter().copied().collect();
                    prop_assert_eq!(has.len(), entry.subscribers(form).len(), "no subscriber twice");
                    let should: BTreeSet<Slot> =
                        subscribers.iter().filter(|(_, f)| **f == form).map(|(s, _)| *s).collect();
                    prop_assert_eq!(has, should);
                }
                let count = w.counts[&topic].load(std::sync::atomic::Ordering::Relaxed);
                prop_assert_eq!(count, subscribers.len() as u64);
            }
        }
        prop_assert_eq!(w.hub.stats().subscriptions as usize, model.values().map(BTreeMap::len).sum::<usize>());
    }
}

fn subscribe(form: Form, name: &str, on: bool) -> String {
    let word = if on { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
    match form {
        Form::PLAIN => format!("{word} {name}\r\n"),
        Form::RESP2 | Form::RESP3 => {
            format!("*2\r\n${}\r\n{word}\r\n${}\r\n{name}\r\n", word.len(), name.len())
        }
        _ => {
            let method = word.to_lowercase();
            format!("{{\"id\":2,\"{method}\":{{\"channel\":\"{name}\"}}}}\n")
        }
    }
}

#[test]
fn an_idle_session_frees_its_memory() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    for (half, rest) in [
        ("SUBS", "CRIBE news\r\nPING\r\n"),
        ("*2\r\n$4", "\r\nECHO\r\n$1\r\nx\r\n"),
        ("{\"id\":1,", "\"connect\":{}}\n"),
    ] {
        let c = w.open();
        assert!(w.hub.is_idle(c));
        w.input(c, half);
        assert!(!w.hub.is_idle(c));
        w.input(c, rest);
        assert!(!w.output(c).is_empty() && w.hub.is_idle(c), "{half}");
    }
}
