//! The ports of gRPC.

use std::path::PathBuf;

use tidings_auth::Secret;

use super::{GIB, KIB, MIB};
use crate::group::group;
use crate::options::TlsOptions;
use crate::setting::{MaxLength, bytes, count};
use crate::value::{ListenAddr, PemText};

group! {
    /// The server API over gRPC, on a port of its own. Its methods and scopes are those of the HTTP API.
    pub struct GrpcApiOptions {
        /// Whether there is a port for the server API over gRPC.
        enabled: bool = "false", ();
        /// Host of the port: an IP address or a name; `0.0.0.0` or `::` stand for every address. An address that other
        /// machines can reach requires a key (see `client.insecure`).
        address: String = "127.0.0.1", MaxLength(255);
        /// Number of the port; 0 picks a free one.
        port: usize = "10000", count(0, 65_535);
        /// Key of this port alone, with every scope. The keys of the HTTP API (`http_api.key`, `http_api.keys`) are accepted,
        /// too. A client sends it as the metadata `authorization: apikey KEY`, or as `x-api-key`.
        key: Secret = "", (), reload;
        /// Whether reflection is served, by which tools such as grpcurl find the methods. It needs no key.
        reflection: bool = "false", ();
        /// Longest message of a request in bytes.
        max_receive_message_size: usize = "4194304", bytes(KIB, GIB);
    }
    groups {
        /// TLS of this port.
        tls: GrpcTlsOptions;
    }
}

group! {
    /// The one-way transport over gRPC, on a port of its own: `Consume` of the service
    /// `centrifugal.centrifugo.unistream.CentrifugoUniStream`.
    pub struct UniGrpcOptions {
        /// Whether there is a port for the one-way transport over gRPC.
        enabled: bool = "false", ();
        /// Host of the port: an IP address or a name; `0.0.0.0` or `::` stand for every address. An address that other
        /// machines can reach requires a key (see `client.insecure`).
        address: String = "127.0.0.1", MaxLength(255);
        /// Number of the port; 0 picks a free one.
        port: usize = "11000", count(0, 65_535);
        /// Longest message of a request, the fields of `connect`, in bytes.
        max_receive_message_size: usize = "65536", bytes(64, 16 * MIB);
    }
    groups {
        /// TLS of this port.
        tls: GrpcTlsOptions;
    }
}

group! {
    /// TLS of a port of gRPC. The other options of TLS are those of `tls`. A renewed certificate is loaded without a restart.
    pub struct GrpcTlsOptions {
        /// Whether the port accepts TLS alone.
        enabled: bool = "false", ();
        /// File with the certificate in PEM, followed by the intermediate certificates.
        cert_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base64, or a path.
        cert_pem: PemText = "", ();
        /// File with the private key in PEM, without a passphrase.
        key_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base64, or a path.
        key_pem: Secret = "", ();
        /// File with certificates of authorities, in PEM, that verify client certificates. With it, a client without a
        /// valid certificate is refused.
        client_ca_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base64, or a path.
        client_ca_pem: PemText = "", ();
    }
}

impl GrpcApiOptions {
    /// The address of its port, whether it is enabled or not.
    pub fn listen(&self) -> ListenAddr {
        listen(&self.address, self.port)
    }
}

impl UniGrpcOptions {
    /// The address of its port, whether it is enabled or not.
    pub fn listen(&self) -> ListenAddr {
        listen(&self.address, self.port)
    }
}

impl GrpcTlsOptions {
    /// These options as those of TLS; the others are those of `common`.
    pub fn with(&self, common: &TlsOptions) -> TlsOptions {
        TlsOptions {
            enabled: self.enabled,
            cert_pem_file: self.cert_pem_file.clone(),
            cert_pem: self.cert_pem.clone(),
            key_pem_file: self.key_pem_file.clone(),
            key_pem: self.key_pem.clone(),
            client_ca_pem_file: self.client_ca_pem_file.clone(),
            client_ca_pem: self.client_ca_pem.clone(),
            ..common.clone()
        }
    }
}

/// A host and a port as an address.
fn listen(host: &str, port: usize) -> ListenAddr {
    if host.contains(':') && !host.starts_with('[') {
        ListenAddr::Tcp(format!("[{host}]:{port}"))
    } else {
        ListenAddr::Tcp(format!("{host}:{port}"))
    }
}
