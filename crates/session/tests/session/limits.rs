//! Usage limits of addresses and users, with responses in any order.

use tidings_hub::{Usage, UsageLimits};
use tidings_session::Response;

use crate::test_hub::{TestHub, settings};

fn limited(address: &UsageLimits) -> TestHub {
    let mut settings = settings();
    settings.usage = Usage::new(address, &UsageLimits::default());
    TestHub::new(settings)
}

#[test]
fn a_command_that_is_held_back_is_charged_once_and_a_refusal_keeps_the_order() {
    let mut test_hub = limited(&UsageLimits { commands: 3, ..UsageLimits::default() });
    test_hub.respond_at_once = false;
    let slot = test_hub.open();
    test_hub.hub.meter_address(slot, 1);
    // The second and the third wait for the response to the first; the fourth exceeds the limit, and waits as well.
    test_hub.input(slot, "PUBLISH a 1\r\nPING\r\nPING\r\nPING\r\n");
    assert_eq!(test_hub.output(slot), "");
    test_hub.respond_next(Response::Published(1));
    let refusal =
        "ERROR 111 too many requests: 3 commands a second of an address (limits.address.commands)\r\n";
    assert_eq!(test_hub.output(slot), format!("CONFIRMED\r\nPONG\r\nPONG\r\n{refusal}"));
    assert_eq!(test_hub.hub.stats().errors, 1);
    test_hub.hub.set_clock(1_000_000_000);
    assert_eq!(test_hub.exchange(slot, "PING\r\n"), "PONG\r\n");
}

#[test]
fn a_limit_is_shared_by_the_sessions_of_an_address_only() {
    let mut test_hub = limited(&UsageLimits { commands: 2, ..UsageLimits::default() });
    let slots = [test_hub.open(), test_hub.open(), test_hub.open()];
    for (slot, address) in slots.into_iter().zip([1, 1, 2]) {
        test_hub.hub.meter_address(slot, address);
    }
    assert_eq!(test_hub.exchange(slots[0], "PING\r\n"), "PONG\r\n");
    assert_eq!(test_hub.exchange(slots[1], "PING\r\n"), "PONG\r\n");
    for slot in &slots[..2] {
        assert!(test_hub.exchange(*slot, "PING\r\n").starts_with("ERROR 111 "));
    }
    assert_eq!(test_hub.exchange(slots[2], "PING\r\n"), "PONG\r\n");
    // A new session in the slot does not inherit the address.
    test_hub.close(slots[0]);
    let next = test_hub.open();
    assert_eq!(next, slots[0]);
    assert_eq!(test_hub.exchange(next, "PING\r\n"), "PONG\r\n");
}

#[test]
fn commands_that_end_a_session_are_never_refused() {
    let mut test_hub = limited(&UsageLimits { commands: 1, ..UsageLimits::default() });
    let (plain, resp) = (test_hub.open(), test_hub.open());
    test_hub.hub.meter_address(plain, 1);
    test_hub.hub.meter_address(resp, 1);
    assert_eq!(test_hub.exchange(plain, "PING\r\n"), "PONG\r\n");
    test_hub.input(plain, "EXIT\r\n");
    assert!(test_hub.closed.contains(&plain));
    assert_eq!(test_hub.exchange(resp, "*1\r\n$4\r\nQUIT\r\n"), "+OK\r\n");
}

fn command(words: &[&str]) -> String {
    let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{bulks}", words.len())
}

#[test]
fn a_transaction_beyond_a_limit_ends_and_is_not_executed_partially() {
    let publish = ["PUBLISH", "a", "1"];
    let commands = |names: &[&[&str]]| names.iter().map(|words| command(words)).collect::<String>();
    for (limits, sent, replies) in [
        // One of its commands is refused.
        (
            UsageLimits { publications: 1, ..UsageLimits::default() },
            commands(&[&["MULTI"], &publish, &publish, &["EXEC"]]),
            ["+OK", "+QUEUED", "-ERR 111 ", "-EXECABORT "],
        ),
        // `EXEC` is refused.
        (
            UsageLimits { commands: 2, ..UsageLimits::default() },
            commands(&[&["MULTI"], &publish, &publish, &["EXEC"]]),
            ["+OK", "+QUEUED", "+QUEUED", "-EXECABORT "],
        ),
        (
            UsageLimits { commands: 1, ..UsageLimits::default() },
            commands(&[&["PING"], &["MULTI"], &publish, &["DISCARD"]]),
            ["+PONG", "+OK", "-ERR 111 ", "-ERR 111 "],
        ),
    ] {
        let mut test_hub = limited(&limits);
        let slot = test_hub.open();
        test_hub.hub.meter_address(slot, 1);
        let output = test_hub.exchange(slot, sent);
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines.len(), replies.len(), "{output}");
        for (line, start) in lines.iter().zip(replies) {
            assert!(line.starts_with(start), "{start}: {output}");
        }
        assert_eq!(test_hub.hub.protocols.stats().input_bytes, 0);
        // The next command is in no transaction.
        test_hub.hub.set_clock(5_000_000_000);
        assert_eq!(test_hub.exchange(slot, command(&["PING"])), "+PONG\r\n");
    }
}

#[test]
fn input_that_is_no_command_is_charged_and_not_answered_beyond_a_limit() {
    let mut test_hub = limited(&UsageLimits { commands: 2, ..UsageLimits::default() });
    let slots = [test_hub.open(), test_hub.open(), test_hub.open(), test_hub.open()];
    for (slot, address) in slots.into_iter().zip(1..) {
        test_hub.hub.meter_address(slot, address);
    }
    // An unexpected pong, an empty line, an empty array.
    let json = test_hub.exchange(slots[0], "{\"id\":1,\"connect\":{}}\n{}\n{\"id\":2,\"ping\":{}}\n");
    assert!(json.contains("\"connect\"") && json.contains("\"code\":111"), "{json}");
    let blank = test_hub.exchange(slots[1], "{\"id\":1,\"connect\":{}}\n\n{\"id\":2,\"ping\":{}}\n");
    assert!(blank.contains("\"connect\"") && blank.contains("\"code\":111"), "{blank}");
    let resp = test_hub.exchange(slots[2], "*0\r\n*0\r\n*1\r\n$4\r\nPING\r\n");
    assert!(resp.starts_with("-ERR 111 "), "{resp}");
    let telnet = b"\xff\xfd\x01";
    let mut replies = 0;
    for _ in 0..5 {
        test_hub.input(slots[3], telnet);
        replies += usize::from(!test_hub.bytes(slots[3]).is_empty());
    }
    assert_eq!(replies, 2);
}
