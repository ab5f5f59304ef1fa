//! `tidings serve` as a process: its output, its end, and rejected options.

use std::fs;
use std::io::{BufRead as _, BufReader, PipeWriter, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use tidings_testkit::{LineClient, PATIENCE, Tidings, get_http, wait_until};

use crate::tool::{Done, TIDINGS, command, server};

/// Starts a server that must reject its flags.
fn refused(flags: &[&str]) -> Done {
    let (code, stdout, stderr) = Tidings::builder(TIDINGS).args(flags).run_to_end();
    Done { code: Some(code), stdout: stdout.into_bytes(), stderr }
}

#[test]
fn it_announces_its_listeners_and_then_that_it_is_ready() {
    let mut server = server(&["--tcp", "127.0.0.1:0"]);
    let lines = server.stdout_lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("tcp 127.0.0.1:") && lines[1].starts_with("tcp 127.0.0.1:"), "{lines:?}");
    assert!(lines[2].starts_with("http http://127.0.0.1:") && lines[2].ends_with('/'), "{lines:?}");
    assert_eq!(lines[3], "ready");
    assert_eq!(server.terminate(), 0);
    assert_eq!(server.stdout_lines(), lines, "nothing but announcements on stdout");
}

#[test]
fn it_warns_about_weak_keys_without_printing_them() {
    let start = |key: &str| server(&["--set", &format!("http_api.key={key}")]);
    for weak in ["s3cret-k", "my-secret-password-1", "abababababababababab"] {
        let mut server = start(weak);
        server.wait_for_log("http_api.key is weak");
        assert_eq!(server.terminate(), 0);
        assert!(!server.stderr().contains(weak), "{}", server.stderr());
    }
    let mut server = start("5f1c0a9be27d4836a1c4");
    assert_eq!(server.terminate(), 0);
    assert!(!server.stderr().contains("is weak"), "{}", server.stderr());
}

#[test]
fn tables_survive_a_restart_in_the_user_s_folder_which_one_server_uses_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let start = |flags: &[&str]| {
        let ports = ["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let home = data.path().to_str().unwrap();
        Tidings::builder(TIDINGS).args(ports).args(flags).env("XDG_DATA_HOME", home).start()
    };
    let file = data.path().join("rows.csv");
    fs::write(&file, "a,b\n1,2\n").unwrap();
    let share = |server: &Tidings| {
        let args = ["share", file.to_str().unwrap(), "--server", &server.http_url()];
        let done = crate::tool::Tool::start(command(&args)).finish();
        done.text()
            .lines()
            .next()
            .unwrap_or_else(|| panic!("{done:?}"))
            .rsplit_once('/')
            .unwrap()
            .1
            .to_owned()
    };
    let mut first = start(&[]);
    first.wait_for_log(&format!("data is kept in {}", data.path().join("tidings").display()));
    let table = share(&first);
    let mut second = start(&[]);
    second.wait_for_log("is in use by another server of this user");
    share(&second);
    assert_eq!((second.terminate(), first.terminate()), (0, 0));
    let kept = || {
        let tables = data.path().join("tidings/tables");
        let names = fs::read_dir(tables).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(kept(), [&*table]);
    let mut again = start(&[]);
    let url = format!("{}tables/{table}.json", again.http_url());
    let got = std::process::Command::new("curl").args(["-sS", "-m", "20", &url]).output().expect("curl");
    assert!(String::from_utf8_lossy(&got.stdout).contains("[[\"1\",\"2\"]]"), "{got:?}");
    let folder = data.path().join("tidings");
    let taken = refused(&["--tcp", "off", "--http", "127.0.0.1:0", "--data-dir", folder.to_str().unwrap()]);
    assert!(taken.code == Some(2) && taken.stderr.contains("is in use by another server"), "{taken:?}");
    assert_eq!(again.terminate(), 0);
    let mut off = start(&["--data-dir", "off"]);
    off.wait_for_log("data_dir is off");
    share(&off);
    assert_eq!(off.terminate(), 0);
    assert_eq!(kept(), [&*table]);
}

#[test]
fn an_invalid_token_is_logged_with_the_address_from_a_trusted_proxy() {
    let options =
        ["client.token.hmac_secret_key=0123456789abcdef0123456789abcdef", "trusted_proxies=127.0.0.0/8"];
    let server = server(&options.map(|option| ["--set", option]).concat());
    let body = r#"{"id":1,"connect":{"token":"a.b.c"}}"#;
    let mut stream = TcpStream::connect(server.http()).unwrap();
    write!(
        stream,
        "POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    server.wait_for_log("authentication failed address=\"192.0.2.7\" count=1 credential=\"token\"");
}

#[test]
fn the_log_contains_the_reasons_of_disconnects_individually_and_in_sum() {
    let mut server = server(&["--log-level", "debug", "--set", "client.connection_limit=2"]);
    for _ in 0..3 {
        let mut client = LineClient::connect(server.tcp());
        client.send("{\"no\":\"command\"}");
        client.line();
        client.expect_closed();
    }
    // Disconnected clients occupy places for a moment longer.
    let mut held = Vec::new();
    wait_until(PATIENCE, "two connections, and one that is refused", || {
        let mut client = LineClient::connect(server.tcp());
        client.send("PING");
        let is_refused = client.line().starts_with("ERROR 3504 connection limit: 2");
        if !is_refused {
            held.push(client);
        }
        is_refused && held.len() == 2
    });
    server.wait_for_log("refused at limits: connections: ");
    assert_eq!(server.terminate(), 0);
    let log = server.stderr();
    let ended = log.lines().filter(|line| line.contains("a connection has ended") && line.contains(" code="));
    assert_eq!(ended.count(), 5, "{log}");
    assert!(
        log.contains("clients disconnected by the server: 3001 shutdown: 2, 3501 bad request: 3"),
        "{log}"
    );
}

#[test]
fn it_logs_that_it_is_a_workbench() {
    let mut open = server(&[]);
    open.wait_for_log("workbench");
    assert_eq!(open.terminate(), 0);
    let mut keyed = server(&["--set", "http_api.key=secret"]);
    assert_eq!(keyed.terminate(), 0);
    assert!(!keyed.stderr().contains("workbench"));
    assert!(!keyed.stderr().contains("secret"));
}

#[test]
fn logs_are_lines_of_json_on_request_and_never_coloured_in_a_pipe() {
    let mut json = server(&["--log-format", "json"]);
    assert_eq!(json.terminate(), 0);
    for line in json.stderr().lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a JSON object a line");
    }
    assert!(json.stderr().lines().count() > 0);
    let mut text = server(&["--log-level", "debug"]);
    assert_eq!(text.terminate(), 0);
    assert!(!text.stderr().contains('\x1b'));
}

#[test]
fn both_signals_stop_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = server(&["--set", "shutdown.drain=100ms"]);
        let mut client = LineClient::connect(server.tcp());
        client.send("PING");
        client.expect("PONG");
        server.signal(signal);
        assert!(client.line().starts_with("ERROR 3001 shutdown"));
        client.expect_closed();
        assert_eq!(server.wait(), 0);
    }
}

#[test]
fn sighup_reloads_the_file_and_names_what_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (folder.path().join("c.toml"), folder.path().join("api.key"));
    let config = format!("log_level = \"info\"\n[http_api]\nkey_file = \"{}\"\n", key.display());
    fs::write(&path, &config).unwrap();
    fs::write(&key, "first-s3cret-0123456789\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut server = server(&["--config", path.to_str().unwrap()]);
    let mut client = LineClient::connect(server.tcp());
    let mut auth = |secret: &str, answer: &str| {
        client.send(&format!("AUTH {secret}"));
        client.expect(answer);
    };
    auth("first-s3cret-0123456789", "CONFIRMED");
    fs::write(&key, "second-s3cret-0123456789\n").unwrap();
    fs::write(&path, format!("shards = 3\n{}", config.replace("info", "debug"))).unwrap();
    // Two signals at once are two reloads at most, and the last one sees both files.
    server.signal(Signal::HUP);
    server.signal(Signal::HUP);
    server.wait_for_log("the configuration was reloaded changed=[\"log.level\", \"http_api.key\"]");
    server.wait_for_log("restart_required=[\"shards\"]");
    let mut client = LineClient::connect(server.tcp());
    client.send("AUTH second-s3cret-0123456789");
    client.expect("CONFIRMED");
    client.send("AUTH first-s3cret-0123456789");
    client.expect("ERROR 101 unauthorized");
    fs::write(&path, "[http_api\n").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_log("nothing has changed reason=");
    client.send("PING");
    client.expect("PONG");
    assert_eq!(get_http(server.http(), "/connection/websocket").status, 426);
    server.wait_for_log("DEBUG");
    let log = server.stderr();
    assert!(!log.contains("s3cret"), "{log}");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn at_the_shutdown_timeout_it_ends_and_logs_the_pending_work() {
    let mut server = server(&["--set", "shutdown.timeout=40ms", "--set", "shutdown.drain=0s"]);
    let mut request = TcpStream::connect(server.http()).unwrap();
    let half =
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    request.write_all(half.as_bytes()).unwrap();
    // The server requests the body, so it has the head.
    let mut asked = [0; 12];
    request.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100");
    assert_eq!(server.terminate(), 1);
    let log = server.stderr();
    assert!(log.contains("shutdown.timeout is over") && log.contains("1 HTTP connections"), "{log}");
}

#[test]
fn it_ends_in_time_although_its_log_is_not_read() {
    for signals in [1, 2] {
        let (_reader, writer) = std::io::pipe().unwrap();
        let limit = if signals == 1 { "2s" } else { "1h" };
        let mut child = command(&["serve", "--data-dir", "off"])
            .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set"])
            .arg(format!("shutdown.timeout={limit}"))
            .args(["--set", "shutdown.drain=0s"])
            .stdout(Stdio::piped())
            .stderr(writer.try_clone().unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        assert!(stdout.lines().any(|line| line.unwrap() == "ready"));
        fill(writer);
        let pid = Pid::from_child(&child);
        for _ in 0..signals {
            kill_process(pid, Signal::TERM).unwrap();
            // Two pending signals of one kind are merged.
            std::thread::sleep(Duration::from_millis(300));
        }
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("it still runs");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(1));
    }
}

/// Fills a pipe completely.
fn fill(mut pipe: PipeWriter) {
    let flags = fcntl_getfl(&pipe).unwrap();
    fcntl_setfl(&pipe, flags | OFlags::NONBLOCK).unwrap();
    while pipe.write(&[b'.'; 4096]).is_ok() {}
    while pipe.write(b".").is_ok() {}
    fcntl_setfl(&pipe, flags).unwrap();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = server(&["--set", "shutdown.drain=1h", "--set", "shutdown.timeout=1h"]);
    // An open connection, so that the stop takes time.
    let mut client = LineClient::connect(server.tcp());
    client.send("PING");
    client.expect("PONG");
    server.signal(Signal::TERM);
    server.wait_for_log("stopping");
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), 1);
    assert!(server.stderr().contains("tidings: ended at once by a second signal"));
}

#[test]
fn an_invalid_address_or_broker_is_a_configuration_error() {
    // RFC 5737: an address for documentation.
    let elsewhere = ["--tcp", "192.0.2.1:5567", "--http", "off", "--set", "client.insecure=true"];
    refused(&elsewhere).refused(2, &["192.0.2.1:5567", "tcp.listen"]);
    refused(&["--broker", "redis+cluster://127.0.0.1:1/3"]).refused(2, &["a cluster has no databases"]);
}

#[test]
fn a_port_in_use_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    refused(&["--tcp", &addr, "--http", "off"]).refused(1, &[&addr, "in use"]);
    refused(&["--tcp", "off", "--http", &addr]).refused(1, &[&addr, "in use"]);
}

#[test]
fn invalid_flags_and_values_are_one_line_with_exit_code_2() {
    refused(&["--brokr", "memory"]).refused(2, &["--brokr", "--broker"]);
    refused(&["--tcp", "nowhere"]).refused(2, &["--tcp", "nowhere"]);
    refused(&["--log-level", "loud"]).refused(2, &["--log-level", "loud"]);
    refused(&["--set", "tcp.ecko=true"]).refused(2, &["tcp.ecko", "tcp.echo"]);
    refused(&["--set", "nonsense"]).refused(2, &["KEY=VALUE"]);
    refused(&["--broker", "kafka://x"]).refused(2, &["--broker"]);
    refused(&["--tcp", "0.0.0.0:0"]).refused(2, &["0.0.0.0:0", "client.insecure"]);
}

#[test]
fn an_invalid_file_is_one_line_with_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let missing = dir.path().join("missing.toml").display().to_string();
    refused(&["--config", &missing]).refused(2, &[&missing]);
    let broken = write("broken.toml", "[tcp\n");
    refused(&["--config", &broken]).refused(2, &[&broken]);
    let unknown = write("unknown.yaml", "tcp:\n  ecko: true\n");
    refused(&["--config", &unknown]).refused(2, &[&unknown, "tcp.ecko", "tcp.echo"]);
    let typed = write("typed.json", r#"{"tcp": {"max_line": "long"}}"#);
    refused(&["--config", &typed]).refused(2, &[&typed, "tcp.max_line"]);
}

#[test]
fn an_unused_key_of_a_key_set_is_logged_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let option = format!("client.token.jwks_public_endpoint=http://{}/keys", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let body = r#"{"keys":[{"kty":"RSA","kid":"e1","use":"enc","n":"AQAB","e":"AQAB"}]}"#;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let server = server(&["--set", &option]);
    let mut client = LineClient::connect(server.tcp());
    // A token with a header that names a key.
    client.send(r#"{"id":1,"connect":{"token":"eyJhbGciOiJSUzI1NiIsImtpZCI6InIxIn0.e30.AAAA"}}"#);
    server.wait_for_log("is not used: it is for another use");
    let log = server.stderr();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("is not used")).collect();
    assert!(told.len() == 1 && told[0].contains("WARN") && told[0].contains("e1"), "{told:?}");
}

#[test]
fn a_variable_of_centrifugo_causes_a_warning() {
    let server =
        Tidings::builder(TIDINGS).env("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "https://a.example").start();
    server.wait_for_log(
        "CENTRIFUGO_CLIENT_ALLOWED_ORIGINS has no effect; tidings reads TIDINGS_CLIENT_ALLOWED_ORIGINS",
    );
}

#[test]
fn a_flag_overrides_the_environment_and_the_environment_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    fs::write(&file, "[tcp]\nlisten = [\"127.0.0.1:0\"]\necho = false\n[http]\nlisten = \"off\"\n").unwrap();
    let start = |flags: &[&str], env: &[(&str, &str)]| {
        let mut builder = Tidings::builder(TIDINGS).args(["--config".as_ref(), file.as_os_str()]).args(flags);
        for (name, value) in env {
            builder = builder.env(name, value);
        }
        builder.start()
    };
    let answer = |server: &Tidings| {
        let mut client = LineClient::connect(server.tcp());
        client.send("hello");
        client.line()
    };
    let echo = ("TIDINGS_TCP_ECHO", "true");
    // Variables of the client commands are not reported as misspelt options.
    let client_variable = ("TIDINGS_SERVER", "127.0.0.1:5567");
    assert_eq!(answer(&start(&[], &[client_variable])), "UNKNOWN COMMAND");
    assert_eq!(answer(&start(&[], &[echo])), "hello");
    assert_eq!(answer(&start(&["--set", "tcp.echo=false"], &[echo])), "UNKNOWN COMMAND");
}
