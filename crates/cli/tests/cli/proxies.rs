//! A real HAProxy or Caddy in front of a server.

use std::fs;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidings_testkit::{PATIENCE, Tidings, free_port, wait_until};

/// A running proxy; killed on drop.
pub(crate) struct Proxy {
    child: Child,
    port: u16,
    _dir: TempDir,
}

/// Sections of a configuration of HAProxy.
pub(crate) struct Haproxy<'a> {
    /// Timeouts and options of all sections.
    pub(crate) defaults: &'a str,
    /// Rules for requests.
    pub(crate) frontend: &'a str,
    /// Options of the line of the server.
    pub(crate) server: &'a str,
}

/// The documented timeouts and options.
pub(crate) const DEFAULTS: &str =
    "timeout client 75s\n timeout server 75s\n timeout tunnel 75s\n option http-no-delay";

impl Default for Haproxy<'_> {
    fn default() -> Self {
        Self { defaults: DEFAULTS, frontend: "", server: "" }
    }
}

impl Proxy {
    /// Starts HAProxy.
    pub(crate) fn haproxy(server: &Tidings, config: &Haproxy<'_>) -> Self {
        let Haproxy { defaults, frontend, server: options } = config;
        let (port, address) = (free_port(), server.http());
        let text = format!(
            "global\n log stderr format raw local0\ndefaults\n mode http\n timeout connect 5s\n {defaults}\n\
             frontend f\n bind 127.0.0.1:{port}\n {frontend}\n default_backend b\n\
             backend b\n server s {address} {options}\n"
        );
        let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        let program = program.into_iter().find(|path| fs::exists(path).unwrap_or(false)).unwrap_or("haproxy");
        Self::start(Command::new(program).args(["-db", "-f"]), "haproxy.cfg", &text, port)
    }

    /// Starts Caddy with these lines in its site, and in its `reverse_proxy`.
    pub(crate) fn caddy(server: &Tidings, site: &str, proxy: &str) -> Self {
        let (port, address) = (free_port(), server.http());
        let text = format!(
            "{{\n admin off\n auto_https off\n}}\nhttp://:{port} {{\n bind 127.0.0.1\n {site}\n\
             reverse_proxy {address} {{\n {proxy}\n}}\n}}\n"
        );
        let mut caddy = Command::new("caddy");
        Self::start(caddy.args(["run", "--adapter", "caddyfile", "--config"]), "Caddyfile", &text, port)
    }

    /// Starts a program with the path of its configuration as the last argument.
    fn start(command: &mut Command, file: &str, text: &str, port: u16) -> Self {
        let dir = TempDir::with_prefix("tidings-proxy-").unwrap();
        let path = dir.path().join(file);
        fs::write(&path, text).unwrap();
        let child = command
            .arg(&path)
            .env("XDG_DATA_HOME", dir.path())
            .env("XDG_CONFIG_HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}, which `make test-tools` installs: {e}"));
        let proxy = Self { child, port, _dir: dir };
        wait_until(PATIENCE, file, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        proxy
    }

    /// The address for clients.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
