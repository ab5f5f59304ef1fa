//! Certificates and keys: from options and files to the configurations of rustls.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    Error as TlsError, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use super::Port;
use tidings_config::{TlsOptions, TlsVersion};

/// The largest file of certificates or keys, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The beginning of a PEM block (RFC 7468 §2).
const BEGIN: &str = "-----BEGIN ";

/// An unusable certificate or key. Displays as one line that names the option and the file.
#[derive(Debug, Error)]
#[error("{origin}: {problem}")]
pub struct MaterialError {
    /// The option, and the file that it names.
    origin: String,
    problem: String,
}

impl MaterialError {
    /// The error of an option in another group of options: `grpc_api` for `grpc_api.tls`.
    pub(super) fn in_group(self, group: &str) -> Self {
        Self { origin: format!("{group}.{}", self.origin), ..self }
    }
}

/// PEM with its origin.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    option: &'static str,
    file: Option<PathBuf>,
    bytes: Vec<u8>,
}

// Without the bytes, which may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").field("option", &self.option).field("file", &self.file).finish_non_exhaustive()
    }
}

/// The certificates and keys of one read, or the failure to read them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Material {
    certificate: Option<Pem>,
    key: Option<Pem>,
    clients: Option<Pem>,
    failure: Option<String>,
}

/// The configurations of rustls, one for each port because they differ in ALPN.
#[derive(Debug)]
pub(super) struct ServerConfigs {
    line: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

impl ServerConfigs {
    pub(super) fn for_port(&self, port: Port) -> Arc<ServerConfig> {
        Arc::clone(match port {
            Port::Line => &self.line,
            Port::Http => &self.http,
        })
    }
}

impl Material {
    /// Reads the certificates and keys that the options name.
    ///
    /// # Errors
    /// The error of the first file that cannot be read.
    pub(super) fn read(options: &TlsOptions) -> Result<Self, MaterialError> {
        let certificate =
            (&options.cert_pem_file, "tls.cert_pem_file", options.cert_pem.text(), "tls.cert_pem");
        let key = (&options.key_pem_file, "tls.key_pem_file", options.key_pem.expose(), "tls.key_pem");
        let clients = (
            &options.client_ca_pem_file,
            "tls.client_ca_pem_file",
            options.client_ca_pem.text(),
            "tls.client_ca_pem",
        );
        let read = |(file, file_option, inline, inline_option): (&Option<PathBuf>, _, &str, _)| match file {
            Some(path) => Pem::from_file(file_option, path).map(Some),
            None if inline.is_empty() => Ok(None),
            None => Pem::from_option(inline_option, inline).map(Some),
        };
        Ok(Self { certificate: read(certificate)?, key: read(key)?, clients: read(clients)?, failure: None })
    }

    /// The failure to read, with this reason.
    pub(super) fn failed(reason: String) -> Self {
        Self { certificate: None, key: None, clients: None, failure: Some(reason) }
    }

    /// Whether the read failed with this reason.
    pub(super) fn is_failed_with(&self, reason: &str) -> bool {
        self.failure.as_deref() == Some(reason)
    }

    /// Builds the configurations of rustls. The HTTP port offers `http_protocols` (ALPN), the preferred one first.
    ///
    /// # Errors
    /// [`MaterialError`] for a certificate or a key that is missing or cannot be used.
    pub(super) fn server_configs(
        &self,
        options: &TlsOptions,
        http_protocols: &[&[u8]],
    ) -> Result<ServerConfigs, MaterialError> {
        let missing =
            |option: &str| MaterialError { origin: option.to_owned(), problem: "is not given".to_owned() };
        let certificate = self.certificate.as_ref().ok_or_else(|| missing("tls.cert_pem_file"))?;
        let key = self.key.as_ref().ok_or_else(|| missing("tls.key_pem_file"))?;
        let provider = Arc::new(ring::default_provider());
        let certified = Arc::new(certified(certificate, key, &provider)?);
        let versions: &[&SupportedProtocolVersion] = match options.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let config = |protocols: &[&[u8]]| {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(versions)
                .map_err(|error| certificate.error(error.to_string()))?;
            let builder = match &self.clients {
                None => builder.with_no_client_auth(),
                Some(clients) => {
                    let verifier = WebPkiClientVerifier::builder_with_provider(
                        roots(clients)?.into(),
                        Arc::clone(&provider),
                    );
                    builder.with_client_cert_verifier(
                        verifier
                            .build()
                            .map_err(|error| clients.error(format!("cannot be used: {error}")))?,
                    )
                }
            };
            let mut config =
                builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&certified))));
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            // A reconnecting client presents a ticket, which saves the signature. The server stores nothing for it.
            config.ticketer = ring::Ticketer::new()
                .map_err(|error| certificate.error(format!("session tickets cannot be set up: {error}")))?;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 1;
            Ok(Arc::new(config))
        };
        Ok(ServerConfigs { line: config(&[])?, http: config(http_protocols)? })
    }
}

impl Pem {
    fn from_file(option: &'static str, path: &Path) -> Result<Self, MaterialError> {
        let mut pem = Self { option, file: Some(path.to_owned()), bytes: Vec::new() };
        let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut pem.bytes));
        match read {
            Err(error) => Err(pem.error(format!("cannot be read: {}", without_errno(&error)))),
            Ok(n) if n as u64 > MAX_FILE => Err(pem.error("is larger than 1 MiB".to_owned())),
            Ok(_) => Ok(pem),
        }
    }

    /// The value of an option: PEM, PEM in base64, or the path of a file.
    fn from_option(option: &'static str, text: &str) -> Result<Self, MaterialError> {
        if text.contains(BEGIN) {
            return Ok(Self { option, file: None, bytes: text.as_bytes().to_vec() });
        }
        match STANDARD.decode(text.trim()) {
            Ok(bytes) if memchr::memmem::find(&bytes, BEGIN.as_bytes()).is_some() => {
                Ok(Self { option, file: None, bytes })
            }
            _ => Self::from_file(option, Path::new(text)),
        }
    }

    fn has(&self, kind: &str) -> bool {
        memchr::memmem::find(&self.bytes, format!("{BEGIN}{kind}").as_bytes()).is_some()
    }

    fn error(&self, problem: impl Into<String>) -> MaterialError {
        let origin = match &self.file {
            Some(file) => format!("{} ({})", self.option, file.display()),
            None => self.option.to_owned(),
        };
        MaterialError { origin, problem: problem.into() }
    }

    /// The certificates, of which there is at least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let all = all.map_err(|error| self.error(format!("is not valid PEM: {error}")))?;
        if !all.is_empty() {
            return Ok(all);
        }
        let hint = if self.has("PRIVATE KEY") || self.has("RSA PRIVATE KEY") || self.has("EC PRIVATE KEY") {
            "; it holds a private key, which tls.key_pem_file is for"
        } else {
            ""
        };
        Err(self.error(format!("holds no certificate in PEM ({BEGIN}CERTIFICATE-----){hint}")))
    }

    /// The private key.
    fn key(&self) -> Result<PrivateKeyDer<'static>, MaterialError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| {
            let hint = if self.has("ENCRYPTED PRIVATE KEY") {
                "; the key in it is encrypted, and the server cannot ask for a passphrase (openssl pkey removes it)"
            } else if self.has("CERTIFICATE") {
                "; it holds a certificate, which tls.cert_pem_file is for"
            } else {
                ""
            };
            self.error(format!("holds no private key in PEM ({BEGIN}PRIVATE KEY-----){hint}"))
        })
    }
}

/// Combines the certificate with its key and checks that they belong together.
fn certified(certificate: &Pem, key: &Pem, provider: &CryptoProvider) -> Result<CertifiedKey, MaterialError> {
    let chain = certificate.certificates()?;
    let signer = provider
        .key_provider
        .load_private_key(key.key()?)
        .map_err(|error| key.error(format!("holds a key that cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(TlsError::InconsistentKeys(_)) => {
            let other = certificate.error("").origin;
            Err(key.error(format!("the key is not that of the certificate in {other}")))
        }
        Err(error) => Err(certificate.error(format!("its first certificate cannot be used: {error}"))),
    }
}

/// The authorities that sign the certificates of clients.
fn roots(clients: &Pem) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    for certificate in clients.certificates()? {
        roots
            .add(certificate)
            .map_err(|error| clients.error(format!("holds a certificate that cannot be used: {error}")))?;
    }
    Ok(roots)
}

/// The text of an operating system's error without its number.
fn without_errno(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}
