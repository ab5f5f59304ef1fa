//! A real nginx in front of a server, under the path `/push/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tidings_testkit::{PATIENCE, Tidings, free_port, wait_until};

/// The documented location for tidings.
pub(crate) const GOOD: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                    proxy_set_header Connection $upgrade_or_close; proxy_set_header Host $http_host; \
                    client_max_body_size 16m;";

/// A running nginx with one location for a server; killed on drop.
pub(crate) struct Nginx {
    child: Child,
    port: u16,
    scheme: &'static str,
    dir: TempDir,
}

impl Nginx {
    /// Starts nginx with these lines in its location for all paths.
    pub(crate) fn start(server: &Tidings, location: &str) -> Self {
        Self::listening(server, location, false)
    }

    /// Starts nginx with TLS for the host `localhost`, with a certificate that only [`Self::authority`] verifies.
    pub(crate) fn start_tls(server: &Tidings, location: &str) -> Self {
        Self::listening(server, location, true)
    }

    fn listening(server: &Tidings, location: &str, tls: bool) -> Self {
        let dir = TempDir::with_prefix("tidings-nginx-").unwrap();
        let ssl = if tls { certificate(dir.path()) } else { String::new() };
        let listen = if tls { "ssl" } else { "" };
        let at = dir.path().display();
        let port = free_port();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log; worker_processes 1;
             events {{ worker_connections 64; }}
             http {{
               access_log off;
               client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
               uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
               map $http_upgrade $upgrade_or_close {{ default upgrade; '' close; }}
               server {{
                 listen 127.0.0.1:{port} {listen}; {ssl}
                 location /push/ {{ proxy_pass http://{}/; {location} }}
               }}
             }}",
            server.http()
        );
        let path = dir.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        // Debian installs it outside of some users' path.
        let program =
            ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|p| fs::exists(p).unwrap_or(false));
        let child = Command::new(program.unwrap_or("nginx"))
            .args(["-c", path.to_str().unwrap(), "-e", "stderr", "-p"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx, which `make test-tools` installs");
        let nginx = Self { child, port, scheme: if tls { "s" } else { "" }, dir };
        wait_until(PATIENCE, "nginx", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }

    /// The address with this scheme (`ws`, `http`; with TLS the secure one).
    pub(crate) fn url(&self, scheme: &str) -> String {
        let host = if self.scheme.is_empty() { "127.0.0.1" } else { "localhost" };
        format!("{scheme}{}://{host}:{}/push", self.scheme, self.port)
    }

    /// The file with the certificate authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates a certificate in this folder. Returns the lines of its configuration.
fn certificate(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, made.cert.pem()).expect("written");
    fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display())
}
