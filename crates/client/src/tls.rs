//! TLS of a client: trusted certificates, and the configuration of the handshake.
//!
//! The trusted certificates are a setting of the whole process. A program that trusts other certificates than the
//! system calls [`trust`] once, before the first connection.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::error::reason;

/// The certificates that the client trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of the system, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    #[default]
    System,
    /// The certificates in this file (PEM), and those signed by an authority in it.
    File(PathBuf),
    /// Every certificate. An attacker on the network can read and change everything.
    Insecure,
}

/// The connectors for the HTTP port and the line port.
struct Connectors {
    web: TlsConnector,
    line: TlsConnector,
}

static LOADED: OnceLock<Result<Connectors, String>> = OnceLock::new();

/// Sets the trusted certificates of the process. Only the first call has an effect. The first connection over TLS
/// counts as a call with [`Trust::System`].
///
/// # Errors
/// The problem with the file.
pub fn trust(trust: &Trust) -> Result<(), String> {
    LOADED.get_or_init(|| load(trust)).as_ref().map(|_| ()).map_err(Clone::clone)
}

/// The connector for handshakes; `web`: with HTTP inside.
pub(crate) fn connector(web: bool) -> Result<TlsConnector, String> {
    let loaded = LOADED.get_or_init(|| load(&Trust::System)).as_ref().map_err(Clone::clone)?;
    Ok(if web { loaded.web.clone() } else { loaded.line.clone() })
}

fn load(trust: &Trust) -> Result<Connectors, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::System => verifier(machine()?, &provider)?,
        Trust::File(path) => {
            let certificates = certificates(path)?;
            let mut roots = RootCertStore::empty();
            for certificate in &certificates {
                roots
                    .add(certificate.clone())
                    .map_err(|e| format!("{}: a certificate in it cannot be used: {e}", path.display()))?;
            }
            Arc::new(FileVerifier { certificates, verifier: verifier(roots, &provider)? })
        }
        Trust::Insecure => Arc::new(AcceptAny(Arc::clone(&provider))),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let line = TlsConnector::from(Arc::new(config.clone()));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Connectors { web: TlsConnector::from(Arc::new(config)), line })
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
        .build()
        .map_err(|e| e.to_string())
}

fn machine() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old systems have malformed certificates; the other ones are still valid.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!("this machine has no certificates to trust{why}"));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = fs::read(path).map_err(|e| format!("cannot read {}: {}", path.display(), reason(&e)))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => {
            Err(format!("{} contains no certificate in PEM (-----BEGIN CERTIFICATE-----)", path.display()))
        }
        Err(e) => Err(format!("{} is not PEM: {e}", path.display())),
    }
}

/// A verifier that also accepts a certificate that is listed in the file although it is marked as an authority:
/// `openssl req -x509` makes such certificates, and webpki alone rejects them.
#[derive(Debug)]
struct FileVerifier {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl FileVerifier {
    /// Whether the standard verification failed only for that reason.
    fn is_authority(error: &Error) -> bool {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                other.to_string().contains("CaUsedAsEndEntity")
            }
            _ => false,
        }
    }
}

impl ServerCertVerifier for FileVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if Self::is_authority(&error) && self.certificates.iter().any(|c| c == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Accepts any certificate if the peer has its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
