//! WebSocket: `/connection/websocket`, `/connection/uni_websocket` and `/stomp`.

use axum::extract::{Request, State};
use axum::response::Response;
use tidings_session::{Direction, Link, Protocol};
use tidings_shard::Arrival;
use tidings_wire::client::Encoding;
use tidings_wire::{Framing, stomp};

use super::Transports;
use super::request::parameters;
use tidings_http::{Terms, Upgraded, accept};

/// The sub-protocol by which a client says that it speaks Protobuf.
const PROTOBUF: &str = "centrifuge-protobuf";

/// The parameters by which it says the same: in Centrifugo's documentation, and in its SDKs.
const FORMATS: [&str; 2] = ["format", "cf_protocol"];

/// The client protocol, in both directions.
pub(super) async fn two_way(State(transports): State<Transports>, request: Request) -> Response {
    let asked =
        parameters(request.uri()).any(|(name, value)| FORMATS.contains(&&*name) && value == "protobuf");
    let terms = Terms { protocols: &[PROTOBUF], deflate: transports.config.websocket.compression };
    serve(transports, request, "websocket", terms, move |protocol, deflate| {
        let is_protobuf = asked || protocol == Some(PROTOBUF);
        let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
        Link::new(Framing::WebSocket { deflate }, Protocol::Client { encoding }, Direction::TwoWay)
    })
}

/// Pushes alone.
pub(super) async fn one_way(State(transports): State<Transports>, request: Request) -> Response {
    let terms = Terms { protocols: &[], deflate: false };
    serve(transports, request, "uni_websocket", terms, |_, deflate| {
        let protocol = Protocol::Client { encoding: Encoding::Json };
        Link::new(Framing::WebSocket { deflate }, protocol, Direction::OneWay)
    })
}

/// STOMP 1.2.
pub(super) async fn stomp(State(transports): State<Transports>, request: Request) -> Response {
    let terms = Terms { protocols: &[stomp::SUBPROTOCOL], deflate: false };
    serve(transports, request, "stomp", terms, |_, deflate| {
        Link::new(Framing::WebSocket { deflate }, Protocol::Stomp, Direction::TwoWay)
    })
}

fn serve(
    transports: Transports,
    request: Request,
    transport: &'static str,
    terms: Terms<'static>,
    link: impl FnOnce(Option<&str>, bool) -> Link + Send + 'static,
) -> Response {
    let about = transports.about(transport, request.headers());
    let forwarded = transports.forwarded(request.headers());
    match accept(request, &transports.policy, &terms) {
        Err(refusal) => refusal,
        Ok((answer, upgraded)) => {
            tokio::spawn(async move {
                let handed = upgraded.await.and_then(|upgraded| {
                    let Upgraded { stream, received, protocol, deflate, permit } = upgraded;
                    let socket = stream.into_socket()?;
                    // The shard counts the connection from here on.
                    drop(permit);
                    let (link, received) = (link(protocol, deflate), received.into());
                    transports.hand_over(Arrival { socket, link, received, about, forwarded });
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
