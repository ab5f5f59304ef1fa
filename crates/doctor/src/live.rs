//! Checks with persistent connections: WebSockets, origins, event streams.

use std::time::{Duration, Instant};

use tidings_client::api::{Api, IdempotencyKeys};
use tidings_client::events::percent_encode;
use tidings_client::http::{HttpRequest, Stream};
use tidings_client::ws::HandshakeRejection;
use tidings_client::{ConnectOptions, Connection, Encoding, Error, Server, Web, WebSocket};
use tidings_wire::client::request::{PresenceStats, Publish, Request};
use tokio::time::timeout;

use crate::advice::Problem;
use crate::report::{Report, Verdict};
use crate::{Doctor, advice};

/// The timeout of a response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The delivery time after which a message counts as delayed.
const PROMPT: Duration = Duration::from_secs(1);
/// The time beyond a round trip after which a part of a stream counts as held back. HAProxy waits for 200 ms, Traefik for
/// 100 ms.
const HELD_BACK: Duration = Duration::from_millis(90);
/// The number of measured messages.
const MESSAGES: usize = 3;
/// A message just below the server's default limit of 64 KiB, in bytes.
const LARGE: usize = 60_000;
/// An origin that does not exist.
const STRANGER: &str = "https://tidings-doctor.invalid";

/// The connections that could be opened, for the check of idle ones.
#[derive(Default)]
pub(crate) struct OpenConnections {
    pub(crate) websocket: Option<Connection>,
    pub(crate) stream: Option<Stream>,
    /// The interval of the server's pings in seconds, as announced.
    pub(crate) ping: u32,
    /// The time from a request over the WebSocket to its response.
    pub(crate) round_trip: Option<Duration>,
}

impl Doctor {
    /// Runs these checks. Returns the connections that can be watched further.
    pub(crate) async fn live<R: Report>(&self, report: &mut R) -> Result<OpenConnections, R::Error> {
        let mut connections = OpenConnections::default();
        if self.upgrade(report).await? {
            self.session(report, &mut connections).await?;
            self.origins(report).await?;
        }
        self.streaming(report, &mut connections).await?;
        Ok(connections)
    }

    async fn open(&self, headers: &[(&str, &str)]) -> Result<WebSocket, HandshakeRejection> {
        WebSocket::open(&self.url, "/connection/websocket", &[], headers).await
    }

    async fn upgrade<R: Report>(&self, report: &mut R) -> Result<bool, R::Error> {
        match self.open(&[]).await {
            Ok(socket) => {
                socket.close().await;
                report.add(Verdict::Good, "websocket", "the upgrade is passed")?;
                return Ok(true);
            }
            // A proxy that collects responses waits for the end of the connection.
            Err(HandshakeRejection::Failed(error @ Error::Timeout(_))) => {
                let advice = Problem::Buffering.advice(self.proxy);
                report.advise(Verdict::Bad, "websocket", &error.to_string(), &advice)?;
            }
            Err(HandshakeRejection::Failed(error)) => {
                report.add(Verdict::Bad, "websocket", &error.to_string())?;
            }
            Err(HandshakeRejection::Answered { status, server, text }) => {
                let by = server.map(|server| format!(" by {server}")).unwrap_or_default();
                let saw = format!("answered {status}{by} instead of an upgrade: {text}");
                match status {
                    401 | 403 | 429 => report.add(Verdict::Bad, "websocket", &saw)?,
                    502..=504 => report.advise(
                        Verdict::Bad,
                        "websocket",
                        &saw,
                        &Problem::Upstream.advice(self.proxy),
                    )?,
                    _ => report.advise(
                        Verdict::Bad,
                        "websocket",
                        &saw,
                        &Problem::Upgrade.advice(self.proxy),
                    )?,
                }
            }
        }
        Ok(false)
    }

    /// Checks the client protocol: a response, its time, and a large message.
    async fn session<R: Report>(
        &self,
        report: &mut R,
        connections: &mut OpenConnections,
    ) -> Result<(), R::Error> {
        let server = Server::Web(Web { websocket: true, ..self.url.clone() });
        let hello = ConnectOptions { token: self.token.clone(), ..ConnectOptions::default() };
        let (mut connection, welcome) = match Connection::open(&server, Encoding::Json, &hello).await {
            Ok(opened) => opened,
            Err(error) if self.token.is_none() => {
                return report.add(Verdict::Skipped, "messages", &format!("{error}; give a --token"));
            }
            Err(error) => return report.add(Verdict::Bad, "messages", &error.to_string()),
        };
        connections.ping = welcome.ping;
        let begun = Instant::now();
        match ask(&mut connection, Request::Ping).await {
            Ok(()) => {
                connections.round_trip = Some(begun.elapsed());
                let took = begun.elapsed().as_secs_f64() * 1e3;
                report.add(Verdict::Good, "messages", &format!("round trip in {took:.1} ms"))?;
            }
            Err(error) => return report.add(Verdict::Bad, "messages", &error),
        }
        // A channel cannot have this name: the response is an error, and the check is that it arrives.
        let large = "x".repeat(LARGE);
        let question = PresenceStats { channel: large.as_str().into() };
        let size = format!("a message of {LARGE} bytes");
        match ask(&mut connection, Request::PresenceStats(question)).await {
            Ok(()) => {
                report.add(Verdict::Good, "message size", &format!("{size} passed"))?;
                connections.websocket = Some(connection);
                Ok(())
            }
            Err(error) => {
                report.advise(Verdict::Bad, "message size", &format!("{size}: {error}"), &advice::MESSAGE)
            }
        }
    }

    async fn origins<R: Report>(&self, report: &mut R) -> Result<(), R::Error> {
        let own = self.url.origin();
        match self.open(&[("Origin", &own)]).await {
            Ok(socket) => {
                socket.close().await;
                report.add(Verdict::Good, "own origin", &format!("pages from {own} may connect"))?;
            }
            Err(HandshakeRejection::Answered { status, text, .. }) => {
                let saw = format!("pages from {own} get status {status} {text}");
                report.advise(Verdict::Bad, "own origin", &saw, &Problem::Host.advice(self.proxy))?;
            }
            Err(HandshakeRejection::Failed(error)) => {
                report.add(Verdict::Bad, "own origin", &error.to_string())?;
            }
        }
        match self.open(&[("Origin", STRANGER)]).await {
            Ok(socket) => {
                socket.close().await;
                let saw = format!("pages from {STRANGER} may connect");
                report.advise(Verdict::Note, "other origin", &saw, &advice::ANY_ORIGIN)
            }
            Err(HandshakeRejection::Answered { status, .. }) => report.add(
                Verdict::Good,
                "other origin",
                &format!("pages of other sites are rejected ({status})"),
            ),
            Err(HandshakeRejection::Failed(error)) => {
                report.add(Verdict::Bad, "other origin", &error.to_string())
            }
        }
    }

    /// Checks that an event stream is not buffered.
    async fn streaming<R: Report>(
        &self,
        report: &mut R,
        connections: &mut OpenConnections,
    ) -> Result<(), R::Error> {
        report.progress("waiting for an event stream");
        let channel = self.channel();
        let path = format!("/events?channel={}", percent_encode(&channel));
        let bearer = self.token.as_deref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Accept", "text/event-stream"), ("Accept-Encoding", "gzip")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let begun = Instant::now();
        let opened = timeout(
            TIMEOUT,
            Stream::open(&self.url, HttpRequest { headers: &headers, ..HttpRequest::get(&path) }),
        );
        let mut stream = match opened.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return report.add(Verdict::Bad, "streaming", &error.to_string()),
            Err(_) => {
                let saw = format!("no answer within {} s", TIMEOUT.as_secs());
                let advice = Problem::Buffering.advice(self.proxy);
                return report.advise(Verdict::Bad, "streaming", &saw, &advice);
            }
        };
        if stream.status != 200 {
            let text = stream.text().await;
            let saw = format!("answered {}: {}", stream.status, text.trim());
            let missing = match stream.status {
                401 | 403 if self.token.is_none() => Some("give a --token"),
                // Namespaces decide on a channel, and the default name belongs to none of the application's.
                403 if self.channel.is_none() => Some("give a --channel to which the token may subscribe"),
                _ => None,
            };
            return match missing {
                Some(option) => report.add(Verdict::Skipped, "streaming", &format!("{saw}; {option}")),
                None => report.add(Verdict::Bad, "streaming", &saw),
            };
        }
        if let Some(encoding) = stream.headers.get("content-encoding").and_then(|e| e.to_str().ok()) {
            let saw = format!("an event stream is compressed ({encoding})");
            return report.advise(Verdict::Bad, "streaming", &saw, &Problem::Compression.advice(self.proxy));
        }
        match timeout(TIMEOUT, stream.next()).await {
            Ok(Ok(Some(_))) => {
                let took = begun.elapsed().as_secs_f64() * 1e3;
                report.add(
                    Verdict::Good,
                    "streaming",
                    &format!("the first event arrived after {took:.0} ms"),
                )?;
            }
            Ok(Ok(None)) => return report.add(Verdict::Bad, "streaming", "the event stream ended at once"),
            Ok(Err(error)) => return report.add(Verdict::Bad, "streaming", &error.to_string()),
            Err(_) => {
                let saw = format!("no event within {} s", TIMEOUT.as_secs());
                return report.advise(
                    Verdict::Bad,
                    "streaming",
                    &saw,
                    &Problem::Buffering.advice(self.proxy),
                );
            }
        }
        if self.latency(report, connections, &mut stream, &channel).await? {
            connections.stream = Some(stream);
        }
        Ok(())
    }

    /// Publishes, and measures the delivery time. Returns whether the stream is still open.
    async fn latency<R: Report>(
        &self,
        report: &mut R,
        connections: &mut OpenConnections,
        stream: &mut Stream,
        channel: &str,
    ) -> Result<bool, R::Error> {
        let api = self.api.as_ref().unwrap_or(&self.url);
        let mut api = Api::new(api.clone(), self.key.clone());
        let mut names = IdempotencyKeys::default();
        let mut slowest = Duration::ZERO;
        for n in 0..MESSAGES {
            let body = format!("doctor {n}");
            let begun = Instant::now();
            let mut published = api.publish(&[names.prepare(channel, body.clone().into_bytes())]).await;
            // Without a key, a client may have the permission to publish.
            if published.is_err()
                && self.key.is_none()
                && let Some(connection) = &mut connections.websocket
            {
                let publish = Publish {
                    channel: channel.into(),
                    data: Some(body.as_str().into()),
                    ..Publish::default()
                };
                if answer(connection, Request::Publish(publish)).await.is_ok_and(|answer| answer.is_ok()) {
                    published = Ok(vec![Ok(())]);
                }
            }
            match published.map(|mut answers| answers.pop()) {
                Ok(Some(Ok(()))) => {}
                Ok(refusal) => {
                    let words = refusal.and_then(Result::err).map_or_else(String::new, |r| r.to_string());
                    return self.skip_latency(report, &words).map(|()| true);
                }
                Err(error) => return self.skip_latency(report, &error.to_string()).map(|()| true),
            }
            match timeout(TIMEOUT, wait_for_text(stream, &body)).await {
                Ok(true) => slowest = slowest.max(begun.elapsed()),
                Ok(false) => {
                    report.add(Verdict::Bad, "latency", "the event stream ended")?;
                    return Ok(false);
                }
                Err(_) => {
                    let saw = format!("a message did not arrive within {} s", TIMEOUT.as_secs());
                    let advice = Problem::Buffering.advice(self.proxy);
                    report.advise(Verdict::Bad, "latency", &saw, &advice)?;
                    return Ok(false);
                }
            }
        }
        let saw = format!(
            "{MESSAGES} messages arrived within {:.0} ms each",
            (slowest.as_secs_f64() * 1e3).max(1.0)
        );
        if slowest > PROMPT {
            report.advise(Verdict::Bad, "latency", &saw, &Problem::Buffering.advice(self.proxy))?;
        } else if connections.round_trip.is_some_and(|round_trip| slowest > round_trip + HELD_BACK) {
            report.advise(Verdict::Note, "latency", &saw, &Problem::Delay.advice(self.proxy))?;
        } else {
            report.add(Verdict::Good, "latency", &saw)?;
        }
        Ok(true)
    }
}

impl Doctor {
    fn skip_latency<R: Report>(&self, report: &mut R, reason: &str) -> Result<(), R::Error> {
        let option = match (&self.key, &self.api) {
            (None, _) => "; give a --key of the server API",
            (Some(_), None) => "; give --api if the server API is on another port (internal.listen)",
            (Some(_), Some(_)) => "",
        };
        report.add(Verdict::Skipped, "latency", &format!("nothing can be published: {reason}{option}"))
    }
}

/// Sends a request, and waits for any response.
async fn ask(connection: &mut Connection, request: Request<'_>) -> Result<(), String> {
    answer(connection, request).await.map(|_| ())
}

async fn answer(
    connection: &mut Connection,
    request: Request<'_>,
) -> Result<Result<tidings_client::message::Reply, tidings_client::ServerError>, String> {
    let id = connection.send(request).map_err(|e| e.to_string())?;
    connection.reply_to(id, TIMEOUT, |_| {}).await.map_err(|e| e.to_string())
}

/// Reads until `text` has arrived; `false` when the stream ended.
async fn wait_for_text(stream: &mut Stream, text: &str) -> bool {
    let mut seen = Vec::new();
    while let Ok(Some(bytes)) = stream.next().await {
        seen.extend_from_slice(&bytes);
        if memchr::memmem::find(&seen, text.as_bytes()).is_some() {
            return true;
        }
    }
    false
}
