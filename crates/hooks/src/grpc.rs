//! Hooks over gRPC: calls of the service `centrifugal.centrifugo.proxy.CentrifugoProxy` (`proto/proxy.proto`).
//!
//! `request` writes the messages of requests, `response` converts those of responses; this file has the paths of the methods and
//! the TLS of the connections.
//!
//! Invariant: both transports have the same rules, because a response over gRPC is converted to the JSON of the same response over
//! HTTP, and [`crate::response`] and [`crate::values`] read that.

mod request;
mod response;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tidings_config::ProxyTlsOptions;
use tidings_outbound::TlsError;

use crate::HookKind;

pub(crate) use response::to_json;

/// Most bytes of a file with certificates.
const MAX_FILE: u64 = 1 << 20;
/// The beginning of a PEM block (RFC 7468 §2).
const BEGIN: &str = "-----BEGIN ";

/// The path of the method of a hook.
pub(crate) fn path(kind: HookKind) -> &'static str {
    match kind {
        HookKind::Connect => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Connect",
        HookKind::Subscribe => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Subscribe",
        HookKind::Publish => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Publish",
        HookKind::Rpc => "/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC",
        HookKind::Refresh => "/centrifugal.centrifugo.proxy.CentrifugoProxy/Refresh",
        HookKind::SubRefresh => "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubRefresh",
        // Its hook is no call: `crate::stream` has the paths.
        HookKind::SubscribeStream => "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeUnidirectional",
        HookKind::SharedPollRefresh => "/centrifugal.centrifugo.proxy.CentrifugoProxy/SharedPollRefresh",
    }
}

/// The TLS of connections to the application; `None` if it is off. `option` is that of the endpoint, for messages.
///
/// # Errors
/// [`TlsError`] for authorities that cannot be read, and when TLS cannot be set up.
pub(crate) fn tls(options: &ProxyTlsOptions, option: &str) -> Result<Option<ClientConfig>, TlsError> {
    if !options.enabled {
        return Ok(None);
    }
    let text = options.server_ca_pem.text();
    let inline = || match STANDARD.decode(text.trim()) {
        _ if text.contains(BEGIN) => Some(text.as_bytes().to_vec()),
        Ok(decoded) if decoded.windows(BEGIN.len()).any(|part| part == BEGIN.as_bytes()) => Some(decoded),
        _ => None,
    };
    let file = options.server_ca_pem_file.clone().or_else(|| {
        let is_path = !text.is_empty() && inline().is_none();
        is_path.then(|| text.into())
    });
    let pem = match file {
        Some(path) => Some(read_file(&path).map_err(|error| TlsError::Setup {
            option: option.to_owned(),
            reason: format!("{} cannot be read: {error}", path.display()),
        })?),
        None => inline(),
    };
    match pem {
        Some(pem) => tidings_outbound::tls_with_authorities(&pem, option).map(Some),
        None => tidings_outbound::tls(true, option).map(Some),
    }
}

fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
