//! Tests of the guard of the program, with a script that prints the same output.

use tidings_testkit::Tidings;

const IMPOSTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/impostor.sh");

#[test]
fn a_started_program_reports_its_addresses_memory_and_end() {
    let mut program = Tidings::builder(IMPOSTOR).env("TIDINGS_TCP_ECHO", "false").start();
    assert_eq!(program.tcp(), "127.0.0.1:40001".parse().unwrap());
    assert_eq!(program.http(), "127.0.0.1:40002".parse().unwrap());
    assert_eq!(program.http_url(), "http://127.0.0.1:40002/");
    program.wait_for_log("echo is false");
    assert!(program.pss() > 0 && program.rss() >= program.pss());
    assert_eq!(program.terminate(), 7);
    assert!(program.stderr().contains("stopping"));
}

#[test]
fn no_test_starts_the_program_on_its_default_ports() {
    let ports = |args: &[&str], env: &[(&str, &str)]| {
        let mut builder = Tidings::builder(IMPOSTOR).args(args);
        for (name, value) in env {
            builder = builder.env(name, value);
        }
        let program = builder.start();
        program.wait_for_log("http port is");
        let log = program.stderr();
        log.lines().find(|line| line.starts_with("tcp port is")).expect("the line").to_owned()
    };
    assert_eq!(ports(&[], &[]), "tcp port is 127.0.0.1:0, http port is 127.0.0.1:0");
    assert_eq!(ports(&["--tcp", "off"], &[]), "tcp port is , http port is 127.0.0.1:0");
    assert_eq!(ports(&["--config", "c.toml"], &[]), "tcp port is , http port is ");
    assert_eq!(ports(&[], &[("TIDINGS_HTTP", "off")]), "tcp port is 127.0.0.1:0, http port is off");
}

#[test]
fn a_program_that_does_not_start_returns_its_code_and_output() {
    let (code, stdout, stderr) = Tidings::builder(IMPOSTOR).args(["--bad"]).run_to_end();
    assert_eq!((code, stdout.as_str(), stderr.trim()), (2, "", "no flag --bad"));
}
