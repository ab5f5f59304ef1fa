//! Limits of addresses and users on commands, whatever the order of answers.

use tidings_hub::{Response, Usage, UsageLimits};

use crate::world::{World, settings};

fn limited(address: &UsageLimits) -> World {
    let mut settings = settings();
    settings.usage = Usage::new(address, &UsageLimits::default());
    World::new(settings)
}

#[test]
fn a_command_that_waits_for_its_turn_is_charged_once_and_a_refusal_keeps_the_order() {
    let mut world = limited(&UsageLimits { commands: 3, ..UsageLimits::default() });
    world.answers = false;
    let slot = world.open();
    world.hub.meter_address(slot, 1);
    // The second and the third wait for the first one's answer; the fourth is one too many, and waits as well.
    world.input(slot, "PUBLISH a 1\r\nPING\r\nPING\r\nPING\r\n");
    assert_eq!(world.output(slot), "");
    world.answer_next(Response::Published(1));
    let refusal =
        "ERROR 111 too many requests: 3 commands a second of an address (limits.address.commands)\r\n";
    assert_eq!(world.output(slot), format!("CONFIRMED\r\nPONG\r\nPONG\r\n{refusal}"));
    assert_eq!(world.hub.stats().errors, 1);
    world.hub.set_clock(1_000_000_000);
    assert_eq!(world.say(slot, "PING\r\n"), "PONG\r\n");
}

#[test]
fn sessions_of_one_address_share_its_limit_and_another_address_has_its_own() {
    let mut world = limited(&UsageLimits { commands: 2, ..UsageLimits::default() });
    let slots = [world.open(), world.open(), world.open()];
    for (slot, address) in slots.into_iter().zip([1, 1, 2]) {
        world.hub.meter_address(slot, address);
    }
    assert_eq!(world.say(slots[0], "PING\r\n"), "PONG\r\n");
    assert_eq!(world.say(slots[1], "PING\r\n"), "PONG\r\n");
    for slot in &slots[..2] {
        assert!(world.say(*slot, "PING\r\n").starts_with("ERROR 111 "));
    }
    assert_eq!(world.say(slots[2], "PING\r\n"), "PONG\r\n");
    // A place that another session has taken over is not the former one's.
    world.close(slots[0]);
    let next = world.open();
    assert_eq!(next, slots[0]);
    assert_eq!(world.say(next, "PING\r\n"), "PONG\r\n");
}

#[test]
fn leaving_is_never_refused() {
    let mut world = limited(&UsageLimits { commands: 1, ..UsageLimits::default() });
    let (plain, resp) = (world.open(), world.open());
    world.hub.meter_address(plain, 1);
    world.hub.meter_address(resp, 1);
    assert_eq!(world.say(plain, "PING\r\n"), "PONG\r\n");
    world.input(plain, "EXIT\r\n");
    assert!(world.closed.contains(&plain));
    assert_eq!(world.say(resp, "*1\r\n$4\r\nQUIT\r\n"), "+OK\r\n");
}

fn command(words: &[&str]) -> String {
    let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{bulks}", words.len())
}

#[test]
fn a_transaction_past_a_limit_is_not_carried_out_in_part_and_ends() {
    let publish = ["PUBLISH", "a", "1"];
    let commands = |names: &[&[&str]]| names.iter().map(|words| command(words)).collect::<String>();
    for (limits, sent, replies) in [
        // One of its commands is refused.
        (
            UsageLimits { publications: 1, ..UsageLimits::default() },
            commands(&[&["MULTI"], &publish, &publish, &["EXEC"]]),
            ["+OK", "+QUEUED", "-ERR 111 ", "-EXECABORT "],
        ),
        // EXEC itself.
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
        let mut world = limited(&limits);
        let slot = world.open();
        world.hub.meter_address(slot, 1);
        let output = world.say(slot, sent);
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines.len(), replies.len(), "{output}");
        for (line, start) in lines.iter().zip(replies) {
            assert!(line.starts_with(start), "{start}: {output}");
        }
        assert_eq!(world.hub.protocols.stats().input_bytes, 0);
        // What comes next is in no transaction.
        world.hub.set_clock(5_000_000_000);
        assert_eq!(world.say(slot, command(&["PING"])), "+PONG\r\n");
    }
}

#[test]
fn input_that_is_no_command_is_charged_and_past_a_limit_not_answered() {
    let mut world = limited(&UsageLimits { commands: 2, ..UsageLimits::default() });
    let slots = [world.open(), world.open(), world.open(), world.open()];
    for (slot, address) in slots.into_iter().zip(1..) {
        world.hub.meter_address(slot, address);
    }
    // A pong that nobody waits for, an empty line, an empty array.
    let json = world.say(slots[0], "{\"id\":1,\"connect\":{}}\n{}\n{\"id\":2,\"ping\":{}}\n");
    assert!(json.contains("\"connect\"") && json.contains("\"code\":111"), "{json}");
    let blank = world.say(slots[1], "{\"id\":1,\"connect\":{}}\n\n{\"id\":2,\"ping\":{}}\n");
    assert!(blank.contains("\"connect\"") && blank.contains("\"code\":111"), "{blank}");
    let resp = world.say(slots[2], "*0\r\n*0\r\n*1\r\n$4\r\nPING\r\n");
    assert!(resp.starts_with("-ERR 111 "), "{resp}");
    let telnet = b"\xff\xfd\x01";
    let mut answers = 0;
    for _ in 0..5 {
        world.input(slots[3], telnet);
        answers += usize::from(!world.bytes(slots[3]).is_empty());
    }
    assert_eq!(answers, 2);
}
