//! Every code of `tidings_wire::code`, which are those of the protocol's documentation, is caused by a client of the
//! running program. Codes that cannot be caused are listed in [`NEVER_SENT`], and in docs/centrifugo.md with the reason.

mod client;
mod disconnects;
mod errors;
mod unsubscribes;

use tidings_testkit::Tidings;

use crate::test_servers::TIDINGS;
use client::ReceivedCode;

/// Codes that this server never sends.
const NEVER_SENT: [u16; 4] = [
    3000, // A normal end is a close frame or the end of the stream, without a code.
    3508, // Messages without a reply are ignored.
    3509, // Any number of errors is answered.
    3590, // Ends sessions of MQTT alone, which get reason code 0x8E; see the tests of `mqtt`.
];

/// A code, and the function that causes it.
type Cause = (u16, fn() -> ReceivedCode);

/// Starts the program with these options in addition to the defaults of a test.
fn server(options: &[(&str, &str)]) -> Tidings {
    let flags = ["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--broker"];
    let broker = options.iter().find(|(key, _)| *key == "broker").map_or("memory", |(_, broker)| broker);
    let others = options.iter().filter(|(key, _)| *key != "broker");
    let builder = Tidings::builder(TIDINGS).args(flags).args([broker]);
    let variable = |key: &str| format!("TIDINGS_{}", key.replace('.', "_").to_ascii_uppercase());
    others.fold(builder, |builder, (key, value)| builder.env(&variable(key), value)).start()
}

/// The numbers of the table, and whether each is a temporary error.
fn table() -> Vec<(u16, bool)> {
    let source = include_str!("../../../../wire/src/code.rs");
    let entry = |line: &str| {
        let (kind, rest) = line.strip_prefix("pub const ")?.split_once("= ")?.1.split_once('(')?;
        Some((rest.split_once(',')?.0.parse().ok()?, kind == "passing"))
    };
    source.lines().filter_map(entry).collect()
}

/// Causes each code and compares the result with the table.
fn check_causes(all: &[Cause]) {
    let table = table();
    for (number, cause) in all {
        let received = cause();
        assert_eq!(received.code, *number, "{received:?}");
        assert!(!received.words.is_empty(), "{received:?}");
        let passes = table.contains(&(*number, true));
        assert_eq!(received.temporary.unwrap_or(passes), passes, "{received:?}");
    }
}

#[test]
fn errors_carry_the_documented_codes() {
    check_causes(&errors::ALL);
}

#[test]
fn subscriptions_that_the_server_ends_carry_the_documented_codes() {
    check_causes(&unsubscribes::ALL);
}

#[test]
fn disconnects_that_request_a_reconnect_carry_the_documented_codes() {
    check_causes(&disconnects::RECONNECT);
}

#[test]
fn disconnects_that_forbid_a_reconnect_carry_the_documented_codes() {
    check_causes(&disconnects::NO_RECONNECT);
}

#[test]
fn every_code_of_the_table_is_caused_or_listed_as_never_sent() {
    let mut known: Vec<u16> = table().into_iter().map(|(number, _)| number).collect();
    let groups = [&errors::ALL[..], &unsubscribes::ALL, &disconnects::RECONNECT, &disconnects::NO_RECONNECT];
    let mut caused: Vec<u16> = groups.concat().iter().map(|(number, _)| *number).chain(NEVER_SENT).collect();
    known.sort_unstable();
    caused.sort_unstable();
    assert_eq!(caused, known);
}
