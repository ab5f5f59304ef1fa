//! What deploy/ ships, in use: the systemd unit and its protocols, each proxy with its configuration, the health check.
//!
//! The proxies are Debian's, on free ports; only addresses in their configurations are replaced. Packages, the chart, the
//! container and the metrics are checked by `make lint-deploy`, which needs larger tools.

#[path = "deploy/proxy_protocol.rs"]
mod proxy_protocol;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidings_testkit::{
    HttpResponse, LineClient, PATIENCE, RedisServer, Signal, Tidings, connect_http, free_port, get_http,
    post_http, wait_until,
};

const TIDINGS: &str = env!("CARGO_BIN_EXE_tidings");

/// The path of a file in deploy/.
fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

/// A shipped file with replacements, each of which must occur in it.
fn adapted(file: &str, replacements: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(shipped(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    for (from, to) in replacements {
        assert!(text.contains(from), "{from:?} is not in {file}");
        text = text.replace(from, to);
    }
    text
}

/// The program with arguments, none of this process' own settings, and its output.
fn run(args: &[&str]) -> Output {
    clean(Command::new(TIDINGS)).args(args).stdin(Stdio::null()).output().expect("the program starts")
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TIDINGS_") || name == "STATE_DIRECTORY" {
            command.env_remove(name);
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Another program; killed on drop. Its output goes to a file, which is shown when the test panics.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, dir: &Path) -> Self {
        let log = dir.join("output.log");
        let file = fs::File::create(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second descriptor"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}, which `make test-tools` installs: {e}"));
        Self { child, log }
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_for(&mut self, address: SocketAddr) {
        wait_until(PATIENCE, &format!("a listener at {address}"), || {
            assert!(self.child.try_wait().expect("a child").is_none(), "it has ended: {}", self.output());
            TcpStream::connect(address).is_ok()
        });
    }

    /// Sends SIGTERM and waits for the end.
    fn terminate(&mut self) -> Option<i32> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM)
            .expect("a process to signal");
        let end = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return status.code(),
                None if Instant::now() > end => panic!("it still runs: {}", self.output()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of another program ---\n{}---", self.output());
        }
    }
}

/// A server that trusts the address headers of its proxy.
fn server() -> Tidings {
    Tidings::start(TIDINGS, &["--set", "trusted_proxies=127.0.0.1"])
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Checks everything that a proxy must pass on, at the address `http://127.0.0.1:PORT` + `base`.
fn check_proxy(port: u16, base: &str) {
    let url = format!("http://127.0.0.1:{port}{base}");
    // The upgrade, messages of 60 kB, streams without a delay, own and other origins, a body of 2 MiB.
    let doctor = run(&["doctor", &url, "--idle", "1s"]);
    assert_eq!(doctor.status.code(), Some(0), "{url}: {}", text(&doctor.stdout));

    // Server-sent events: the publication arrives while the response is open.
    let mut events = connect_http(local(port));
    write!(events, "GET {base}/events?channel=through HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").unwrap();
    let head = HttpResponse::read_head(&mut events);
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"), "{}", head.head);
    let published = run(&["publish", "through", "the proxy", "--server", &url]);
    assert_eq!(published.status.code(), Some(0), "{}", text(&published.stderr));
    let mut seen = Vec::new();
    while !text(&seen).contains("the proxy") {
        let mut chunk = [0; 4096];
        let read = events.read(&mut chunk).expect("an event in time");
        assert!(read > 0, "the stream ended: {}", text(&seen));
        seen.extend_from_slice(&chunk[..read]);
    }

    // An upload over WebSocket, larger than the buffers in between, and rows that are posted.
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("rows.csv");
    fs::write(&file, "number,text\n".to_owned() + &"1,abcdefghijklmnopqrstuvwxyz\n".repeat(300_000)).unwrap();
    let shared = run(&["share", file.to_str().unwrap(), "--server", &url]);
    assert_eq!(shared.status.code(), Some(0), "{}", text(&shared.stderr));
    let (shared, link) = (text(&shared.stdout), format!("{url}/tables/"));
    let table =
        shared.lines().next().and_then(|line| line.strip_prefix(&link)).unwrap_or_else(|| panic!("{shared}"));
    let secret = shared.split_once("#owner=").expect("the owner's secret").1.trim();
    let rows = "2,more\n".repeat(2_000_000);
    let headers = [&*format!("Authorization: Bearer {secret}"), "Content-Type: text/csv"];
    let posted = post_http(local(port), &format!("{base}/tables/{table}/rows"), &headers, rows);
    assert_eq!(posted.status, 200, "{}", posted.body);

    // Metrics are not public; a path without its slash leads to the page.
    assert_eq!(get_http(local(port), &format!("{base}/metrics")).status, 403);
    if !base.is_empty() {
        let redirect = get_http(local(port), base);
        assert!(redirect.status == 301 && redirect.header("location").ends_with("/live/"), "{redirect:?}");
    }
    assert!(get_http(local(port), &format!("{base}/")).body.contains("<title>tidings</title>"));
}

#[test]
fn caddy_passes_everything_on() {
    let (server, dir, port) = (server(), TempDir::new().unwrap(), free_port());
    let site = adapted(
        "proxies/Caddyfile",
        &[
            ("push.example.org {", &format!("http://:{port} {{")),
            ("127.0.0.1:8000", &server.http().to_string()),
        ],
    );
    let file = dir.path().join("Caddyfile");
    fs::write(&file, format!("{{\n\tadmin off\n}}\n{site}")).unwrap();
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
    command.env("XDG_DATA_HOME", dir.path()).env("XDG_CONFIG_HOME", dir.path());
    let mut caddy = Process::start(command, dir.path());
    caddy.wait_for(local(port));
    check_proxy(port, "");
    check_proxy(port, "/live");
}

#[test]
fn haproxy_passes_everything_on() {
    let server = server();
    let haproxy = Haproxy::start(server.http(), server.tcp(), str::to_owned);
    check_proxy(haproxy.port, "");
    check_proxy(haproxy.port, "/live");
    check_lines(haproxy.lines);
    let log = haproxy.process.output();
    assert!(!log.contains("token="), "{log}");
}

#[test]
fn the_comments_of_haproxy_describe_the_internal_port_and_the_paths_of_operators() {
    let flags =
        ["trusted_proxies=127.0.0.1", "internal.listen=127.0.0.1:0", "http_api.key=0f2d8f5c1a9b4e7d86c3"];
    let server = Tidings::start(TIDINGS, &flags.map(|option| ["--set", option]).concat());
    let internal = server.listeners("internal").pop().expect("a listener");
    let internal = internal.trim_end_matches('/').rsplit_once(':').expect("a port").1.to_owned();
    let (http, tcp) = (server.http(), server.tcp());
    let haproxy = Haproxy::start(http, tcp, |config| {
        let config = config
            .replace(
                &format!("    server node1 {http}\n"),
                &format!("    server node1 {http} port {internal}\n"),
            )
            .replace(&format!("{tcp} port {}\n", http.port()), &format!("{tcp} port {internal}\n"))
            .replace("#   http-request deny", "  http-request deny")
            .replace("option httpchk\n", "option httpchk\n option log-health-checks\n");
        assert_eq!(config.matches(&format!("port {internal}\n")).count(), 2, "{config}");
        config
    });
    for backend in ["tidings_http", "tidings_tcp"] {
        let passed = format!("Health check for server {backend}/node1 succeeded");
        wait_until(PATIENCE, &passed, || haproxy.process.output().contains(&passed));
    }
    assert!(!haproxy.process.output().contains("failed"), "{}", haproxy.process.output());
    assert_eq!(get_http(local(haproxy.port), "/").status, 200);
    for path in ["/api/info", "/admin/", "/live/api", "/live/admin"] {
        assert_eq!(get_http(local(haproxy.port), path).status, 403, "{path}");
    }
}

/// HAProxy with the shipped configuration, in front of a server.
struct Haproxy {
    process: Process,
    port: u16,
    lines: u16,
    _dir: TempDir,
}

impl Haproxy {
    /// Starts it with a changed configuration.
    fn start(http: SocketAddr, tcp: SocketAddr, change: impl Fn(&str) -> String) -> Self {
        let (dir, port, lines) = (TempDir::new().unwrap(), free_port(), free_port());
        let config = adapted(
            "proxies/haproxy.cfg",
            &[
                ("log /dev/log local0", "log stdout format raw local0"),
                ("bind :80\n", &format!("bind 127.0.0.1:{port}\n")),
                ("bind :5567\n", &format!("bind 127.0.0.1:{lines}\n")),
                ("server node1 127.0.0.1:8000", &format!("server node1 {http}")),
                (
                    "server node1 127.0.0.1:5567 port 8000",
                    &format!("server node1 {tcp} port {}", http.port()),
                ),
            ],
        );
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, change(&config)).unwrap();
        let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        let mut process = Process::start(command, dir.path());
        process.wait_for(local(port));
        process.wait_for(local(lines));
        Self { process, port, lines, _dir: dir }
    }
}

#[test]
fn nginx_passes_everything_on() {
    let server = server();
    for base in ["", "/live"] {
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let at = dir.path().display().to_string();
        let mut site = adapted(
            "proxies/nginx.conf",
            &[
                ("server 127.0.0.1:8000;", &format!("server {};", server.http())),
                ("listen 80;", &format!("listen 127.0.0.1:{port};")),
                ("/var/log/nginx/tidings.log", &format!("{at}/access.log")),
            ],
        );
        if !base.is_empty() {
            // As the comment of the location describes.
            site = site.replace(
                "    location / {",
                "    location = /live { return 301 $scheme://$http_host/live/; }\n    location /live/ {",
            );
            site = site.replace("proxy_pass http://tidings;", "proxy_pass http://tidings/;");
        }
        let mut nginx = start_nginx(&dir, &format!("http {{ {} {site} }}", temporary_paths(&at)));
        nginx.wait_for(local(port));
        check_proxy(port, base);
    }
}

#[test]
fn the_line_port_works_behind_nginx() {
    let server = server();
    let (_nginx, port) = start_nginx_stream(server.tcp(), str::to_owned);
    check_lines(port);
}

/// nginx with the shipped configuration for the line port, with changes.
fn start_nginx_stream(tcp: SocketAddr, change: impl Fn(&str) -> String) -> ((Process, TempDir), u16) {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let (dir, port) = (TempDir::new().unwrap(), free_port());
    let site = adapted(
        "proxies/nginx-stream.conf",
        &[
            ("server 127.0.0.1:5567;", &format!("server {tcp};")),
            ("listen 5567", &format!("listen 127.0.0.1:{port}")),
        ],
    );
    // Other builds of nginx contain the module.
    let load = if Path::new(module).exists() { format!("load_module {module};") } else { String::new() };
    let mut nginx = start_nginx_with(&dir, &load, &change(&site));
    nginx.wait_for(local(port));
    ((nginx, dir), port)
}

fn temporary_paths(at: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path {at}/{kind};")).concat()
}

fn start_nginx(dir: &TempDir, blocks: &str) -> Process {
    start_nginx_with(dir, "", blocks)
}

fn start_nginx_with(dir: &TempDir, head: &str, blocks: &str) -> Process {
    let at = dir.path().display();
    let file = dir.path().join("nginx.conf");
    let all = format!(
        "{head} daemon off; master_process off; pid {at}/pid; error_log stderr;\n\
         events {{ worker_connections 256; }}\n{blocks}\n"
    );
    fs::write(&file, all).unwrap();
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.unwrap_or("nginx"));
    command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(&file);
    Process::start(command, dir.path())
}

/// Plain lines through a proxy.
fn check_lines(port: u16) {
    let mut client = LineClient::connect(local(port));
    client.send("SUBSCRIBE lines");
    assert_eq!(client.line(), "CONFIRMED");
    let published = run(&["publish", "lines", "hello", "--server", &format!("127.0.0.1:{port}")]);
    assert_eq!(published.status.code(), Some(0), "{}", text(&published.stderr));
    assert_eq!(client.line(), "MESSAGE lines hello");
}

#[test]
fn the_unit_is_valid_and_hardened() {
    let dir = TempDir::new().unwrap();
    for unit in ["tidings.service", "tidings-http.socket", "tidings-tcp.socket"] {
        let text = adapted(&format!("systemd/{unit}"), &[]).replace("/usr/bin/tidings", TIDINGS);
        fs::write(dir.path().join(unit), text).unwrap();
    }
    let analyze = |args: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(args).current_dir(dir.path());
        command.output().expect("systemd-analyze, which `make test-tools` installs")
    };
    let units = ["./tidings.service", "./tidings-http.socket", "./tidings-tcp.socket"];
    let verified = analyze(&[&["verify", "--man=no"], &units[..]].concat());
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    assert!(!text(&verified.stderr).contains("tidings"), "{}", text(&verified.stderr));
    // Exposure in tenths: 2.0 of 10 is "OK".
    let security = analyze(&["security", "--offline=true", "--threshold=20", "./tidings.service"]);
    assert!(security.status.success(), "{}{}", text(&security.stdout), text(&security.stderr));
}

#[test]
fn the_configuration_of_the_packages_is_valid() {
    let file = shipped("package/tidings.toml").display().to_string();
    let checked = run(&["config", "check", &file]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn systemd_is_notified_of_readiness_reloads_life_and_the_stop() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).expect("a notification in time");
        text(&bytes[..length])
    };
    let after_watchdog = || loop {
        let state = next();
        if state != "WATCHDOG=1" {
            return state;
        }
    };
    let mut server = Tidings::builder(TIDINGS)
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "200000")
        .start();
    let ready = format!("READY=1\nSTATUS=tcp {}, http {}", server.tcp(), server.http_url());
    assert_eq!(next(), ready);
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    // The first comes at once, the others at half of the interval.
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    server.signal(Signal::HUP);
    assert!(after_watchdog().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(after_watchdog(), ready);
    assert_eq!(server.terminate(), 0);
    assert_eq!(after_watchdog(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000");
}

/// Starts a server by socket activation; it starts with the first connection.
fn activated(dir: &TempDir, listen: &[&str], names: &str, flags: &[&str]) -> Process {
    let mut command = clean(Command::new("systemd-socket-activate"));
    for address in listen {
        command.args(["-l", address]);
    }
    // The program gets the environment that it is given by name alone.
    let data = format!("XDG_DATA_HOME={}", dir.path().join("data").display());
    command.args(["-E", &data, "--fdname", names, TIDINGS, "serve"]).args(flags);
    Process::start(command, dir.path())
}

#[test]
fn sockets_of_systemd_replace_the_configured_addresses() {
    let (dir, port) = (TempDir::new().unwrap(), free_port());
    let path = dir.path().join("lines.sock");
    // The configured addresses are in use: binding them would fail.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let listen = [&*format!("127.0.0.1:{port}"), path.to_str().unwrap()];
    let mut server = activated(&dir, &listen, "http:tcp", &["--tcp", &taken, "--http", &taken]);
    wait_until(PATIENCE, "the sockets", || path.exists() && TcpStream::connect(local(port)).is_ok());
    assert_eq!(get_http(local(port), "/health").status, 200);
    let published = run(&["publish", "c", "m", "--server", &format!("unix:{}", path.display())]);
    assert_eq!(published.status.code(), Some(0), "{}", text(&published.stderr));
    let announced = server.output();
    for line in [
        format!("http http://127.0.0.1:{port}/\n"),
        format!("tcp unix:{}\n", path.display()),
        "ready\n".to_owned(),
    ] {
        assert!(announced.contains(&line), "{line:?} is missing: {announced}");
    }
    assert_eq!(server.terminate(), Some(0));
    assert!(path.exists(), "the file of a passed socket belongs to systemd");
}

#[test]
fn a_socket_without_a_usable_name_and_a_public_one_without_a_key_are_refused() {
    for (address, name, words) in [
        ("127.0.0.1", "web", "FileDescriptorName=tcp or FileDescriptorName=http"),
        ("0.0.0.0", "http", "no key is configured"),
    ] {
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let mut server = activated(&dir, &[&format!("{address}:{port}")], name, &["--tcp", "off"]);
        let mut code = None;
        wait_until(PATIENCE, "the end of the program", || {
            let _ = TcpStream::connect(local(port));
            code = server.child.try_wait().expect("a child").map(|status| status.code());
            code.is_some()
        });
        assert_eq!(code, Some(Some(2)), "{}", server.output());
        assert!(server.output().contains(words), "{}", server.output());
    }
}

#[test]
fn health_is_an_exit_code_over_tcp_and_unix_sockets() {
    let dir = TempDir::new().unwrap();
    let path = format!("unix:{}", dir.path().join("http.sock").display());
    let mut server = Tidings::builder(TIDINGS).args(["--http", "127.0.0.1:0", "--http", &path]).start();
    for url in [&*server.http_url(), &path, &server.http().to_string()] {
        for flags in [&["health", url][..], &["health", url, "--ready"]] {
            wait_until(PATIENCE, "readiness", || run(flags).status.success());
            let done = run(flags);
            assert_eq!((text(&done.stdout), text(&done.stderr)), (String::new(), String::new()));
        }
    }
    let url = server.http_url();
    assert_eq!(server.terminate(), 0);
    for url in [&url, &path] {
        let done = run(&["health", url]);
        assert_eq!((done.status.code(), text(&done.stderr).lines().count()), (Some(1), 1), "{done:?}");
        assert!(text(&done.stderr).contains("cannot reach"), "{done:?}");
    }
    assert_eq!(run(&["health", "tcp://127.0.0.1:1"]).status.code(), Some(2));
}

#[test]
fn health_uses_the_port_for_probes_of_its_environment() {
    let server = Tidings::start(TIDINGS, &["--set", "internal.listen=127.0.0.1:0"]);
    let internal = server.listeners("internal").pop().expect("a listener");
    let internal = internal.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let health = |internal: &str| {
        let mut command = clean(Command::new(TIDINGS));
        command
            .env("TIDINGS_HTTP_LISTEN", server.http().to_string())
            .env("TIDINGS_INTERNAL_LISTEN", internal);
        command.args(["health", "--ready"]).stdin(Stdio::null()).output().expect("the program starts")
    };
    wait_until(PATIENCE, "readiness", || health(&internal).status.success());
    // On the port for clients these paths do not exist.
    let done = health("");
    assert!(done.status.code() == Some(1) && text(&done.stderr).contains("status 404"), "{done:?}");
}

#[test]
fn readiness_fails_with_its_reason_while_health_passes_and_silence_ends_in_time() {
    let mut redis = RedisServer::start();
    let server = Tidings::start(TIDINGS, &["--broker", &redis.url(), "--set", "ready.canary_limit=200ms"]);
    let url = server.http_url();
    wait_until(PATIENCE, "readiness", || run(&["health", &url, "--ready"]).status.success());
    redis.kill();
    let mut reason = String::new();
    wait_until(PATIENCE, "no readiness", || {
        let done = run(&["health", &url, "--ready"]);
        reason = text(&done.stderr);
        done.status.code() == Some(1)
    });
    assert!(reason.contains("/ready of http://") && reason.contains(": not ready: "), "{reason}");
    assert!(run(&["health", &url]).status.success());

    // A port whose process accepts and never answers.
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("silent");
    let _silent = UnixListener::bind(&path).unwrap();
    let at = format!("unix:{}", path.display());
    let began = Instant::now();
    let done = run(&["health", &at, "--timeout", "300ms"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("no answer within 300ms"), "{done:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
}
