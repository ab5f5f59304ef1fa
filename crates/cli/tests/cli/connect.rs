//! Tests of `tidings connect`, on a terminal and in a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::{fs, thread};

use rustix::process::Signal;
use tidings_testkit::{LineClient, free_port};
use vt100::Color;

use crate::terminal::Terminal;
use crate::tool::{TIDINGS, Tool, command, run, server};

/// Waits for the first line of a new terminal.
fn connected(addr: &str, columns: u16, env: &[(&str, &str)]) -> Terminal {
    let keeps_history = env.iter().any(|(name, _)| *name == "XDG_STATE_HOME");
    let args: &[&str] = if keeps_history { &["connect", addr] } else { &["connect", addr, "--no-history"] };
    let terminal = Terminal::start(24, columns, args, env);
    let greeting = format!("connected to {addr}; HELP lists the commands, EXIT or Ctrl-D leaves");
    terminal.shows(&[&greeting, ">"]);
    terminal
}

/// Waits until the row before the last one begins with `begin`. Returns the last three rows.
fn last_rows(terminal: &Terminal, begin: &str) -> [String; 3] {
    let mut last = None;
    tidings_testkit::wait_until(tidings_testkit::PATIENCE, begin, || {
        let rows = terminal.rows();
        last = rows.last_chunk::<3>().filter(|rows| rows[1].starts_with(begin)).cloned();
        last.is_some()
    });
    last.expect("three rows")
}

#[test]
fn a_message_stands_above_the_line_being_typed() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 80, &[]);
    terminal.type_keys("SUBSCRIBE news\r");
    terminal.shows(&["> SUBSCRIBE news", "CONFIRMED", ">"]);

    terminal.type_keys("half a li");
    terminal.shows(&["CONFIRMED", "> half a li"]);
    let mut publisher = LineClient::connect(server.tcp());
    publisher.send("PUBLISH news it is snowing");
    terminal.shows(&["CONFIRMED", "MESSAGE news it is snowing", "> half a li"]);
    assert_eq!(terminal.cursor().1, 11, "the cursor stays behind what was typed");

    terminal.type_keys("\x1b[D\x1b[D");
    publisher.send("PUBLISH news and snowing");
    terminal.shows(&["MESSAGE news it is snowing", "MESSAGE news and snowing", "> half a li"]);
    terminal.type_keys("!\x05ne\r");
    terminal.shows(&["MESSAGE news and snowing", "> half a !line", "half a !line", ">"]);
    terminal.type_keys("EXIT\r");
    assert_eq!(terminal.finish(), Some(0));
}

#[test]
fn many_messages_do_not_garble_a_long_line() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 50, &[]);
    terminal.type_keys("SUBSCRIBE news\r");
    terminal.shows(&["CONFIRMED", ">"]);
    let long = "0123456789".repeat(8);
    let mut publisher = LineClient::connect(server.tcp());
    for (n, digit) in long.chars().enumerate() {
        terminal.type_keys(&digit.to_string());
        publisher.send(&format!("PUBLISH news {n}"));
    }
    // 50 columns: the prompt, the end of the line, and the empty last column.
    let row = format!("> {}", &long[80 - 47..]);
    terminal.shows(&["MESSAGE news 77", "MESSAGE news 78", "MESSAGE news 79", &row]);
    terminal.type_keys("\r");
    terminal.shows(&[&format!("> {long}"), &long, ">"]);
}

#[test]
fn confirmations_errors_and_messages_differ_in_colour_unless_colours_are_off() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let session = ["SUBSCRIBE news", "SUBSCRIBE news", "SUBSCRIBE two words", "PUBLISH news hi"];
    let mut colours = Vec::new();
    for env in [&[][..], &[("NO_COLOR", "1")]] {
        let mut terminal = connected(&addr, 120, env);
        for line in session {
            terminal.type_keys(&format!("{line}\r"));
        }
        terminal.shows(&["MESSAGE news hi", "CONFIRMED", ">"]);
        let error = terminal.rows().into_iter().find(|row| row.starts_with("ERROR ")).expect("an error");
        let rows = ["CONFIRMED", "ALREADY SUBSCRIBED", &error, "MESSAGE news hi"];
        colours.push(rows.map(|row| terminal.colour_of(row)));
        terminal.type_keys("\x04");
        assert_eq!(terminal.finish(), Some(0));
    }
    assert_eq!(colours[0], [Color::Idx(2), Color::Idx(3), Color::Idx(1), Color::Idx(6)]);
    assert_eq!(colours[1], [Color::Default; 4]);
}

#[test]
fn a_message_cannot_control_the_terminal() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 80, &[]);
    // Automatic subscriptions take effect after the first byte.
    terminal.type_keys("PING\r");
    terminal.shows(&["PONG", ">"]);
    LineClient::connect(server.tcp()).send("PUBLISH updates \x1b[2J\x07gone?");
    terminal.shows(&["\\x1b[2J\\x07gone?", ">"]);
    assert!(!terminal.was_sent(b"\x1b[2J"));
    terminal.type_keys("\x04");
    assert_eq!(terminal.finish(), Some(0));
}

#[test]
fn the_history_restores_a_line() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 80, &[]);
    terminal.type_keys("PING\r");
    terminal.shows(&["> PING", "PONG", ">"]);
    terminal.type_keys("\x1b[A");
    terminal.shows(&["PONG", "> PING"]);
    terminal.type_keys("\r");
    terminal.shows(&["PONG", "> PING", "PONG", ">"]);
}

#[test]
fn the_history_is_available_in_the_next_session_without_secrets() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let state = tempfile::tempdir().unwrap();
    let env = [("XDG_STATE_HOME", state.path().to_str().unwrap())];
    let mut terminal = connected(&addr, 80, &env);
    terminal.type_keys("PING\rAUTH hunter2\r");
    terminal.shows(&[">"]);
    last_rows(&terminal, "ERROR ");
    terminal.type_keys("\x03");
    assert_eq!(terminal.finish(), Some(0));
    let path = state.path().join("tidings/connect_history");
    assert_eq!(fs::read_to_string(&path).unwrap(), "PING\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut terminal = connected(&addr, 80, &env);
    terminal.type_keys("\x1b[A");
    terminal.shows(&["> PING"]);
}

#[test]
fn a_resized_terminal_shows_the_line_once() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 100, &[]);
    terminal.type_keys("PING\r");
    terminal.shows(&["PONG", ">"]);
    let line = "0123456789".repeat(6);
    terminal.type_keys(&line);
    terminal.shows(&["PONG", &format!("> {line}")]);
    terminal.resize(24, 40);
    terminal.shows(&["PONG", &format!("> {}", &line[60 - 37..])]);
    terminal.resize(24, 100);
    terminal.shows(&["PONG", &format!("> {line}")]);
    terminal.type_keys("\r");
    terminal.shows(&[&format!("> {line}"), &line, ">"]);
}

#[test]
fn pasted_lines_wait_for_enter_and_are_then_sent_one_by_one() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 80, &[]);
    assert!(terminal.was_sent(b"\x1b[?2004h"));
    terminal.type_keys("\x1b[200~SUBSCRIBE news\rPUBLISH news hi\r\x03\x1b[201~");
    terminal.shows(&["> SUBSCRIBE news↵PUBLISH news hi↵"]);
    terminal.type_keys("\r");
    let answers = || {
        let mut rows = terminal.rows();
        rows.sort();
        rows.iter().filter(|row| row.as_str() == "CONFIRMED" || row.as_str() == "MESSAGE news hi").count()
    };
    tidings_testkit::wait_until(tidings_testkit::PATIENCE, "the answers to both", || answers() == 3);
    assert!(terminal.rows().iter().any(|row| row == "> PUBLISH news hi"), "{:#?}", terminal.rows());
    terminal.type_keys("half a line\x03");
    assert_eq!(terminal.finish(), Some(0));
    assert!(terminal.was_sent(b"\x1b[?2004l"));
}

#[test]
fn help_lists_the_commands_locally_and_an_echo_has_its_own_colour() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 130, &[]);
    terminal.type_keys("SUBSCRIBE\r");
    terminal.shows(&["ALREADY SUBSCRIBED", ">"]);
    terminal.type_keys("HELP\rhello\r");
    terminal.shows(&["> hello", "hello", ">"]);
    let rows = terminal.rows();
    for command in ["SUBSCRIBE [channel]", "PUBLISH channel body", "AUTH token", "PING", "EXIT"] {
        assert!(rows.iter().any(|row| row.starts_with(command)), "{command}: {rows:#?}");
    }
    assert!(!rows.iter().any(|row| row == "HELP"), "{rows:#?}");
    LineClient::connect(server.tcp()).send("PUBLISH updates news");
    terminal.shows(&["hello", "news", ">"]);
    assert_eq!(terminal.colour_of("hello"), Color::Idx(5));
    assert_eq!(terminal.colour_of("news"), Color::Idx(6));
}

#[test]
fn the_client_reconnects_to_a_restarted_server_and_keeps_the_typed_line() {
    let mut server = server(&["--set", "shutdown.drain=0s"]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 120, &[]);
    terminal.type_keys("PI");
    terminal.shows(&["> PI"]);
    assert_eq!(server.terminate(), 0);
    let [told, lost, line] = last_rows(&terminal, "connection lost");
    assert!(told.starts_with("ERROR 3001 shutdown, reconnect in "), "{told}");
    assert!(lost.starts_with("connection lost: the server closed it; reconnecting in "), "{lost}");
    assert_eq!(line, "> PI");
    // Without a connection a line is not sent and stays.
    terminal.type_keys("N\r");
    let again = tidings_testkit::Tidings::builder(TIDINGS)
        .args(["--tcp", &addr, "--http", "127.0.0.1:0", "--set", "shutdown.drain=0s"])
        .start();
    let [_, back, line] = last_rows(&terminal, "reconnected to");
    assert!(back.contains("subscriptions must be renewed"), "{back}");
    assert_eq!(line, "> PIN");
    terminal.type_keys("G\r");
    terminal.shows(&["> PING", "PONG", ">"]);
    drop(again);
}

#[test]
fn a_server_that_forbids_reconnecting_is_reported_and_the_terminal_restored() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 80, &[]);
    terminal.type_keys("GET / HTTP/1.1\r");
    assert_eq!(terminal.finish(), Some(1));
    // The screen may lag behind the command.
    let is_said =
        || terminal.rows().iter().any(|row| row == "tidings: connection lost: the server closed it");
    tidings_testkit::wait_until(tidings_testkit::PATIENCE, "the reason on the screen", is_said);
    assert!(terminal.echoes());
}

#[test]
fn a_signal_ends_the_session_and_restores_the_terminal() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut terminal = connected(&addr, 80, &[]);
    assert!(!terminal.echoes());
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.finish(), Some(0));
    assert!(terminal.echoes());
}

#[test]
fn in_a_pipe_every_line_gets_its_response() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let done = run(&["connect", &addr], b"SUBSCRIBE news\r\nPUBLISH news a\nhello\nPING\nlast");
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let mut lines: Vec<&str> = done.text().lines().collect();
    // The message may arrive before or after the confirmation of its publisher.
    let message = lines.iter().position(|line| *line == "MESSAGE news a").expect("the message");
    lines.remove(message);
    assert_eq!(lines, ["CONFIRMED", "CONFIRMED", "hello", "PONG", "last"]);
    assert!(!done.text().contains('\r'));
}

#[test]
fn in_a_pipe_no_response_is_lost_at_the_end_of_much_input() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let input: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let done = run(&["connect", &addr], input.as_bytes());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(done.text(), input);
}

#[test]
fn in_a_pipe_messages_arrive_while_nothing_is_sent() {
    let server = server(&[]);
    let mut tool = Tool::start(command(&["connect", &server.tcp().to_string()]));
    let stdin = tool.stdin.as_mut().expect("a piped stdin");
    stdin.write_all(b"PING\n").expect("a pipe to write to");
    tool.lines(1);
    LineClient::connect(server.tcp()).send("PUBLISH updates hello world");
    assert_eq!(tool.lines(2), ["PONG", "hello world"]);
    drop(tool.stdin.take());
    assert_eq!(tool.finish().code, Some(0));
}

#[test]
fn in_a_pipe_a_server_that_closes_first_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let rude = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(b"ERROR 3001 shutdown\r\n").unwrap();
    });
    let mut tool = Tool::start(command(&["connect", &addr]));
    let stdin = tool.stdin.as_mut().expect("a piped stdin");
    stdin.write_all(b"hello\n").expect("a pipe to write to");
    rude.join().unwrap();
    tool.lines(1);
    let done = tool.finish();
    assert_eq!(done.text(), "ERROR 3001 shutdown\n");
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(1), "tidings: connection lost: the server closed it\n")
    );
}

#[test]
fn an_unreachable_server_is_one_line() {
    let addr = format!("127.0.0.1:{}", free_port());
    run(&["connect", &addr], b"").refused(1, &[&addr, "refused"]);
    run(&["connect", "localhost"], b"").refused(2, &["HOST:PORT"]);
    run(&["connect", "ws://localhost:1"], b"")
        .refused(2, &["ws://localhost:1 is not a line port: use HOST:PORT"]);
}

#[test]
fn a_unix_socket_works_like_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let addr = format!("unix:{}", dir.path().join("line.sock").display());
    let _server = server(&["--tcp", &addr]);
    let done = run(&["connect", &addr], b"PING\n");
    assert_eq!((done.code, done.text()), (Some(0), "PONG\n"));
}
