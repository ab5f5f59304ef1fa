//! WebSocket: `/connection/websocket`, `/connection/uni_websocket`, `/stomp`, `/mqtt` and `/app/{key}`.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tidings_config::AllowedOrigin;
use tidings_session::{Direction, Link, Protocol, PusherOpening};
use tidings_shard::Arrival;
use tidings_wire::Framing;
use tidings_wire::client::Encoding;

use super::Transports;
use super::request::parameters;
use tidings_http::{HandshakeOptions, Upgraded, accept_from};

/// The sub-protocol that selects Protobuf.
const PROTOBUF: &str = "centrifuge-protobuf";

/// The query parameters that select Protobuf: of Centrifugo's documentation, and of its SDKs.
const FORMATS: [&str; 2] = ["format", "cf_protocol"];

/// `/connection/websocket`: the client protocol in both directions.
pub(super) async fn two_way(State(transports): State<Transports>, request: Request) -> Response {
    let has_parameter =
        parameters(request.uri()).any(|(name, value)| FORMATS.contains(&&*name) && value == "protobuf");
    let options =
        HandshakeOptions { protocols: &[PROTOBUF], deflate: transports.config.load().websocket.compression };
    serve(transports, request, "websocket", options, move |protocol, deflate| {
        let is_protobuf = has_parameter || protocol == Some(PROTOBUF);
        let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
        Link::new(Framing::WebSocket { deflate }, Protocol::Client { encoding }, Direction::TwoWay)
    })
}

/// `/connection/uni_websocket`: pushes only.
pub(super) async fn one_way(State(transports): State<Transports>, request: Request) -> Response {
    let options = HandshakeOptions { protocols: &[], deflate: false };
    serve(transports, request, "uni_websocket", options, |_, deflate| {
        let protocol = Protocol::Client { encoding: Encoding::Json };
        Link::new(Framing::WebSocket { deflate }, protocol, Direction::OneWay)
    })
}

/// `/stomp`: STOMP 1.2.
pub(super) async fn stomp(State(transports): State<Transports>, request: Request) -> Response {
    let options = HandshakeOptions { protocols: &[tidings_stomp::SUBPROTOCOL], deflate: false };
    serve(transports, request, "stomp", options, |_, deflate| {
        Link::new(Framing::WebSocket { deflate }, Protocol::Stomp, Direction::TwoWay)
    })
}

/// `/app/{key}`: the Pusher protocol. A request with a wrong key or version is accepted, because the protocol reports the error
/// over the WebSocket.
pub(super) async fn pusher(
    State(transports): State<Transports>,
    Path(key): Path<String>,
    request: Request,
) -> Response {
    let apps = transports.pusher.load();
    if apps.is_empty() {
        return (StatusCode::NOT_FOUND, "not found; no app is configured (pusher.apps)\n").into_response();
    }
    let app = apps.find(&key).filter(|_| apps.is_open(&transports.config.load()));
    let version = parameters(request.uri()).find(|(name, _)| name == "protocol").map(|(_, value)| value);
    let opening = match (app, version.as_deref().map(str::parse::<u32>)) {
        (None, _) => PusherOpening::UnknownApp,
        (_, None) => PusherOpening::NoVersion,
        (_, Some(Err(_))) => PusherOpening::InvalidVersion,
        (_, Some(Ok(version))) if !tidings_pusher::VERSIONS.contains(&version) => {
            PusherOpening::UnsupportedVersion
        }
        (Some((app, _)), Some(Ok(_))) => PusherOpening::App(app),
    };
    let origins = app.map(|(_, origins)| origins).unwrap_or_default();
    let options = HandshakeOptions { protocols: &[], deflate: false };
    serve_from(transports, request, "pusher", (options, origins), opening.parameter(), |_, deflate| {
        Link::new(Framing::WebSocket { deflate }, Protocol::Pusher, Direction::TwoWay)
    })
}

/// `/mqtt`: MQTT (5.0 §6).
pub(super) async fn mqtt(State(transports): State<Transports>, request: Request) -> Response {
    let options = HandshakeOptions { protocols: &[tidings_mqtt::SUBPROTOCOL], deflate: false };
    serve(transports, request, "mqtt", options, |_, deflate| Link::mqtt(Framing::WebSocket { deflate }))
}

fn serve(
    transports: Transports,
    request: Request,
    transport: &'static str,
    options: HandshakeOptions<'static>,
    link: impl FnOnce(Option<&str>, bool) -> Link + Send + 'static,
) -> Response {
    serve_from(transports, request, transport, (options, &[]), 0, link)
}

/// Serves a WebSocket with a parameter of its protocol, for pages of these origins (see [`accept_from`]).
fn serve_from(
    transports: Transports,
    request: Request,
    transport: &'static str,
    (options, origins): (HandshakeOptions<'static>, &[AllowedOrigin]),
    parameter: u8,
    link: impl FnOnce(Option<&str>, bool) -> Link + Send + 'static,
) -> Response {
    let about = transports.connection_info(transport, request.headers(), request.extensions());
    let path = transports.client_path(request.headers(), request.extensions());
    match accept_from(request, &transports.policy, &options, origins) {
        Err(rejection) => rejection,
        Ok((response, upgraded)) => {
            tokio::spawn(async move {
                let result = upgraded.await.and_then(|upgraded| {
                    let Upgraded { stream, received, protocol, deflate, permit } = upgraded;
                    let socket = stream.into_socket()?;
                    // The shard counts the connection from here on.
                    drop(permit);
                    let (link, received) = (link(protocol, deflate), received.into());
                    transports.hand_over(Arrival {
                        socket,
                        link,
                        parameter,
                        received,
                        connection_info: about,
                        path,
                        is_backend: false,
                    });
                    Ok(())
                });
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection failed during its WebSocket handshake");
                }
            });
            response
        }
    }
}
