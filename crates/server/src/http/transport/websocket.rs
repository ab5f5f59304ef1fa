//! WebSocket: `/connection/websocket` and `/connection/uni_websocket`.

use axum::extract::{Request, State};
use axum::response::Response;
use tidings_hub::Dialect;
use tidings_shard::Arrival;

use super::Transports;
use super::asking::parameters;
use crate::http::upgrade::{self, Upgraded};

/// The sub-protocol by which a client says that it speaks Protobuf.
const PROTOBUF: &str = "centrifuge-protobuf";

/// The parameters by which it says the same: in Centrifugo's documentation, and in its SDKs.
const FORMATS: [&str; 2] = ["format", "cf_protocol"];

/// The client protocol, in both directions.
pub(super) async fn two_way(State(transports): State<Transports>, request: Request) -> Response {
    let asked =
        parameters(request.uri()).any(|(name, value)| FORMATS.contains(&&*name) && value == "protobuf");
    serve(transports, request, "websocket", &[PROTOBUF], move |protocol| {
        let protobuf = asked || protocol == Some(PROTOBUF);
        if protobuf { Dialect::WsProtobuf } else { Dialect::WsJson }
    })
}

/// Pushes alone.
pub(super) async fn one_way(State(transports): State<Transports>, request: Request) -> Response {
    serve(transports, request, "uni_websocket", &[], |_| Dialect::UniWs)
}

fn serve(
    transports: Transports,
    request: Request,
    transport: &'static str,
    protocols: &[&'static str],
    dialect: impl FnOnce(Option<&str>) -> Dialect + Send + 'static,
) -> Response {
    let about = transports.about(transport, request.headers());
    match upgrade::accept(request, &transports.node, protocols) {
        Err(refusal) => refusal,
        Ok((answer, upgraded)) => {
            tokio::spawn(async move {
                let handed = upgraded.await.and_then(|upgraded| {
                    let Upgraded { stream, received, protocol, seat } = upgraded;
                    let socket = stream.into_socket()?;
                    // The shard counts it from here on.
                    drop(seat);
                    let (dialect, received) = (dialect(protocol), received.into());
                    transports.hand_over(Arrival { socket, dialect, received, about });
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
