//! A server with TLS in this process, certificates made for it, and a client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tidings_testkit::{HttpResponse, PATIENCE, parse_metric, wait_until};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use crate::support::TestServer;

/// A certificate authority for the tests.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL treats a certificate with equal issuer and subject as self-signed.
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this machine, and its key, in PEM.
    pub(crate) fn certificate(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// A running server, and the folder with its certificate.
pub(crate) struct TlsServer {
    server: TestServer,
    pub(crate) authority: Authority,
    dir: TempDir,
}

impl TlsServer {
    /// Starts a server on free ports of 127.0.0.1 with TLS on and these options, each `KEY=VALUE`.
    pub(crate) fn with(options: &[&str]) -> Self {
        let (authority, dir) = (Authority::new(), TempDir::new().expect("a folder"));
        let (certificate, key) = authority.certificate();
        std::fs::write(dir.path().join("cert.pem"), certificate).expect("a file");
        std::fs::write(dir.path().join("key.pem"), key).expect("a file");
        std::fs::write(dir.path().join("ca.pem"), &authority.pem).expect("a file");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let own = [
            format!("http.listen=127.0.0.1:0,unix:{}", path("http")),
            "tcp.auto_subscribe=".to_owned(),
            "tls.enabled=true".to_owned(),
            format!("tls.cert_pem_file={}", path("cert.pem")),
            format!("tls.key_pem_file={}", path("key.pem")),
        ];
        let options = options.iter().map(|option| option.replace("CA", &path("ca.pem")));
        let all: Vec<String> = own.into_iter().chain(options).collect();
        let server = TestServer::start(&all.iter().map(String::as_str).collect::<Vec<_>>());
        Self { server, authority, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A connection to the line port over TLS.
    pub(crate) fn line(&self) -> Client {
        Client::connect(self.tcp(), self.trusting(&version::TLS13))
    }

    /// A connection to the HTTP port over TLS.
    pub(crate) fn web(&self) -> Client {
        Client::connect(self.http(), self.trusting(&version::TLS13))
    }

    /// A client's configuration that trusts the authority.
    pub(crate) fn trusting(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        Arc::new(self.client(version, None))
    }

    /// The same, with a client certificate if one is given.
    pub(crate) fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        own: Option<(&str, &str)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).expect("a certificate");
        roots.add(authority).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate =
                    CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![certificate], key).expect("a key that fits")
            }
        }
    }

    /// The value of a metric, by its name with labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        // Over a listener without TLS, so that the scrape does not change the metrics.
        let mut client = UnixStream::connect(self.path("http")).expect("a connection");
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).expect("sent");
        parse_metric(&HttpResponse::read(&mut client).body, name)
    }

    /// Waits until a metric is at least this.
    pub(crate) fn wait_for_metric(&self, name: &str, least: u64) {
        wait_until(PATIENCE, &format!("{name} to be {least}"), || self.metric(name) >= least);
    }
}

impl Deref for TlsServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl DerefMut for TlsServer {
    fn deref_mut(&mut self) -> &mut TestServer {
        &mut self.server
    }
}

/// A blocking connection over TLS.
pub(crate) struct Client {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl Client {
    /// Connects. The first write or read performs the handshake.
    pub(crate) fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self::over(TcpStream::connect(address).expect("a connection"), config)
    }

    /// Continues a connection. The first write or read performs the handshake.
    pub(crate) fn over(stream: TcpStream, config: Arc<ClientConfig>) -> Self {
        let connection =
            ClientConnection::new(config, "localhost".try_into().expect("a name")).expect("a configuration");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        Self { stream: StreamOwned::new(connection, stream), received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("bytes sent");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.received.drain(..=searched + at).collect();
                return String::from_utf8(line).expect("UTF-8").trim_end_matches(['\r', '\n']).to_owned();
            }
            searched = self.received.len();
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer).expect("more") {
                0 => panic!("the connection ended after {:?}", String::from_utf8_lossy(&self.received)),
                n => self.received.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Fills the buffer.
    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) {
        let known = buffer.len().min(self.received.len());
        for (to, from) in buffer.iter_mut().zip(self.received.drain(..known)) {
            *to = from;
        }
        self.stream.read_exact(&mut buffer[known..]).expect("more");
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// Everything up to the end, which the server must announce with `close_notify`.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.received);
        self.stream.read_to_end(&mut rest).expect("an announced end");
        String::from_utf8(rest).expect("UTF-8")
    }

    /// Subscribes to a channel.
    pub(crate) fn subscribe(&mut self, channel: &str) {
        self.send(format!("SUBSCRIBE {channel}\r\n").as_bytes());
        self.expect("CONFIRMED");
    }
}

/// Reads until the peer closes the connection in any way.
pub(crate) fn drain(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => all,
        Err(e) => panic!("still open: {e}"),
    }
}

/// The time in which an event must not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

/// Overwrites the certificate and its key.
pub(crate) fn renew(dir: &Path, (certificate, key): &(String, String)) {
    std::fs::write(dir.join("cert.pem"), certificate).expect("a file");
    std::fs::write(dir.join("key.pem"), key).expect("a file");
}
