//! An S3 server for one test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::{GLANCE, PATIENCE, free_port, test_tool};

/// The name of its bucket.
const BUCKET: &str = "tables";

/// moto's server on a free port of the loopback address, with a bucket named `tables` in its memory; killed on drop. It
/// accepts any credentials.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    dir: TempDir,
    child: Child,
}

impl S3Server {
    /// Starts a server, and waits until its bucket exists.
    ///
    /// # Panics
    /// When `make test-tools` has not installed it, or it does not start.
    pub fn start() -> Self {
        let (port, dir) = (free_port(), TempDir::with_prefix("tidings-s3-").expect("a temporary directory"));
        let log = File::create(dir.path().join("log")).expect("a log file");
        let child = Command::new(test_tool("s3").join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("moto_server: {error}; run `make test-tools` once"));
        let mut server = Self { port, dir, child };
        let end = Instant::now() + PATIENCE;
        while server.try_ask("PUT", &format!("/{BUCKET}")).is_none_or(|(status, _)| status != 200) {
            let ended = server.child.try_wait().ok().flatten();
            assert!(
                ended.is_none() && Instant::now() < end,
                "moto_server did not start on port {port}:\n{}",
                std::fs::read_to_string(server.dir.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(GLANCE);
        }
        server
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The keys of all objects in its bucket, sorted.
    ///
    /// # Panics
    /// When it does not respond.
    pub fn keys(&self) -> Vec<String> {
        self.tags(&format!("/{BUCKET}?list-type=2"), "Key")
    }

    /// The multipart uploads that were neither completed nor aborted.
    ///
    /// # Panics
    /// When it does not respond.
    pub fn unfinished(&self) -> Vec<String> {
        self.tags(&format!("/{BUCKET}?uploads"), "UploadId")
    }

    /// The content of an object.
    ///
    /// # Panics
    /// When it does not respond, or the object does not exist.
    pub fn object(&self, key: &str) -> Vec<u8> {
        let (status, body) = self.ask("GET", &format!("/{BUCKET}/{key}"));
        assert_eq!(status, 200, "{key}");
        body
    }

    /// Removes an object.
    ///
    /// # Panics
    /// When it does not respond.
    pub fn remove(&self, key: &str) {
        self.ask("DELETE", &format!("/{BUCKET}/{key}"));
    }

    /// The content of the elements with this name in a response.
    fn tags(&self, path: &str, name: &str) -> Vec<String> {
        let (status, body) = self.ask("GET", path);
        assert_eq!(status, 200, "{path}");
        let body = String::from_utf8_lossy(&body).into_owned();
        let tag = format!("<{name}>");
        let pieces = body.split(&tag).skip(1);
        let mut found: Vec<_> =
            pieces.filter_map(|piece| Some(piece.split_once("</")?.0.to_owned())).collect();
        found.sort();
        found
    }

    fn ask(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        self.try_ask(method, path).expect("an answer of the S3 server")
    }

    fn try_ask(&self, method: &str, path: &str) -> Option<(u16, Vec<u8>)> {
        let mut peer = TcpStream::connect(self.addr()).ok()?;
        peer.set_read_timeout(Some(PATIENCE)).ok()?;
        // The credentials only select the service.
        let credentials = "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
                           SignedHeaders=host, Signature=0";
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\n{credentials}\r\nContent-Length: 0\r\n\r\n",
            self.addr()
        );
        peer.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
        Some((status, answer.split_off(end)))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
