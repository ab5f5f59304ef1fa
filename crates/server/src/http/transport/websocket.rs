//! WebSocket: `/connection/websocket` and `/connection/uni_websocket`.

use axum::extract::{Request, State};
use axum::response::Response;
use tidings_hub::Dialect;
use tidings_shard::Arrival;

use super::Transports;
use super::asking::parameters;
use crate::http::upgrade::{self, Terms, Upgraded};

/// The sub-protocol by which a client says that it speaks Protobuf.
const PROTOBUF: &str = "centrifuge-protobuf";

/// The parameters by which it says the same: in Centrifugo's documentation, and in its SDKs.
const FORMATS: [&str; 2] = ["format", "cf_protocol"];

/// The client protocol, in both directions.
pub(super) async fn two_way(State(transports): State<Transports>, request: Request) -> Response {
    let asked =
        parameters(request.uri()).any(|(name, value)| FORMATS.contains(&&*name) && value == "protobuf");
    let terms = Terms { protocols: &[PROTOBUF], deflate: transports.node.config.websocket.compression };
    serve(transports, request, "websocket", terms, move |protocol, deflate| {
        match (asked || protocol == Some(PROTOBUF), deflate) {
            (false, false) => Dialect::WsJson,
            (true, false) => Dialect::WsProtobuf,
            (false, true) => Dialect::WsJsonDeflate,
            (true, true) => Dialect::WsProtobufDeflate,
        }
    })
}

/// Pushes alone.
pub(super) async fn one_way(State(transports): State<Transports>, request: Request) -> Response {
    let terms = Terms { protocols: &[], deflate: false };
    serve(transports, request, "uni_websocket", terms, |_, _| Dialect::UniWs)
}

fn serve(
    transports: Transports,
    request: Request,
    transport: &'static str,
    terms: Terms<'static>,
    dialect: impl FnOnce(Option<&str>, bool) -> Dialect + Send + 'static,
) -> Response {
    let about = transports.about(transport, request.headers());
    let forwarded = transports.forwarded(request.headers());
    match upgrade::accept(request, &transports.node, &terms) {
        Err(refusal) => refusal,
        Ok((answer, upgraded)) => {
            tokio::spawn(async move {
                let handed = upgraded.await.and_then(|upgraded| {
                    let Upgraded { stream, received, protocol, deflate, seat } = upgraded;
                    let socket = stream.into_socket()?;
                    // The shard counts it from here on.
                    drop(seat);
                    let (dialect, received) = (dialect(protocol, deflate), received.into());
                    transports.hand_over(Arrival { socket, dialect, received, about, forwarded });
                    Ok(())
                });
                if let Err(error) = handed {
                    tracing::debug!(%error, "a WebSocket broke during its handshake");
                }
            });
            answer
        }
    }
}
