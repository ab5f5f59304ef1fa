//! Checks with connections that stay: WebSockets, origins, event streams.

use std::time::{Duration, Instant};

use tidings_client::api::{Api, IdempotencyKeys};
use tidings_client::events::escaped;
use tidings_client::http::{HttpRequest, Stream};
use tidings_client::ws::HandshakeRejection;
use tidings_client::{ConnectOptions, Connection, Encoding, Server, Web, WebSocket};
use tidings_wire::client::request::{PresenceStats, Publish, Request};
use tokio::time::timeout;

use super::report::{Report, Verdict};
use super::{Doctor, advice};
use crate::failure::Failure;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a message may be on its way before it counts as held back.
const PROMPT: Duration = Duration::from_secs(1);
/// How many messages are measured.
const MESSAGES: usize = 3;
/// A message just below the server's usual limit of 64 KiB, in bytes.
const LARGE: usize = 60_000;
/// An origin that does not exist.
const STRANGER: &str = "https://tidings-doctor.invalid";

/// The ways that were found open, for the check of idle ones.
#[derive(Default)]
pub(super) struct Ways {
    pub(super) websocket: Option<Connection>,
    pub(super) stream: Option<Stream>,
    /// How often the server pings, in seconds, as it said.
    pub(super) ping: u32,
}

impl Doctor {
    /// Makes them, and gives what can be watched on.
    pub(super) async fn live(&self, report: &mut Report) -> Result<Ways, Failure> {
        let mut ways = Ways::default();
        if self.upgrade(report).await? {
            self.session(report, &mut ways).await?;
            self.origins(report).await?;
        }
        self.streaming(report, &mut ways).await?;
        Ok(ways)
    }

    async fn open(&self, headers: &[(&str, &str)]) -> Result<WebSocket, HandshakeRejection> {
        WebSocket::open(&self.url, "/connection/websocket", &[], headers).await
    }

    async fn upgrade(&self, report: &mut Report) -> Result<bool, Failure> {
        match self.open(&[]).await {
            Ok(socket) => {
                socket.close().await;
                report.add(Verdict::Good, "websocket", "the upgrade is passed on")?;
                return Ok(true);
            }
            Err(HandshakeRejection::Failed(error)) => {
                report.add(Verdict::Bad, "websocket", &error.to_string())?;
            }
            Err(HandshakeRejection::Answered { status, server, words }) => {
                let by = server.map(|server| format!(" by {server}")).unwrap_or_default();
                let saw = format!("answered {status}{by} instead of an upgrade {words}");
                match status {
                    401 | 403 | 429 => report.add(Verdict::Bad, "websocket", &saw)?,
                    502..=504 => report.advise(Verdict::Bad, "websocket", &saw, &advice::UPSTREAM)?,
                    _ => report.advise(Verdict::Bad, "websocket", &saw, &advice::UPGRADE)?,
                }
            }
        }
        Ok(false)
    }

    /// Speaks the client protocol: an answer, its time, and a large message.
    async fn session(&self, report: &mut Report, ways: &mut Ways) -> Result<(), Failure> {
        let server = Server::Web(Web { websocket: true, ..self.url.clone() });
        let hello = ConnectOptions { token: self.token.clone(), ..ConnectOptions::default() };
        let (mut connection, welcome) = match Connection::open(&server, Encoding::Json, &hello).await {
            Ok(opened) => opened,
            Err(error) if self.token.is_none() => {
                return report.add(Verdict::Skipped, "messages", &format!("{error}; give a --token"));
            }
            Err(error) => return report.add(Verdict::Bad, "messages", &error.to_string()),
        };
        ways.ping = welcome.ping;
        let begun = Instant::now();
        match ask(&mut connection, Request::Ping).await {
            Ok(()) => {
                let took = begun.elapsed().as_secs_f64() * 1e3;
                report.add(Verdict::Good, "messages", &format!("there and back in {took:.1} ms"))?;
            }
            Err(error) => return report.add(Verdict::Bad, "messages", &error),
        }
        // No channel can have such a name: the response is an error, and the check is that it arrives.
        let large = "x".repeat(LARGE);
        let question = PresenceStats { channel: large.as_str().into() };
        let size = format!("a message of {LARGE} bytes");
        match ask(&mut connection, Request::PresenceStats(question)).await {
            Ok(()) => {
                report.add(Verdict::Good, "message size", &format!("{size} came through"))?;
                ways.websocket = Some(connection);
                Ok(())
            }
            Err(error) => {
                report.advise(Verdict::Bad, "message size", &format!("{size}: {error}"), &advice::MESSAGE)
            }
        }
    }

    async fn origins(&self, report: &mut Report) -> Result<(), Failure> {
        let own = self.url.origin();
        match self.open(&[("Origin", &own)]).await {
            Ok(socket) => {
                socket.close().await;
                report.add(Verdict::Good, "own origin", &format!("pages from {own} may connect"))?;
            }
            Err(HandshakeRejection::Answered { status, words, .. }) => {
                let saw = format!("pages from {own} are answered {status} {words}");
                report.advise(Verdict::Bad, "own origin", &saw, &advice::ORIGIN)?;
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
                &format!("pages of other sites are refused ({status})"),
            ),
            Err(HandshakeRejection::Failed(error)) => {
                report.add(Verdict::Bad, "other origin", &error.to_string())
            }
        }
    }

    /// Whether an event stream streams.
    async fn streaming(&self, report: &mut Report, ways: &mut Ways) -> Result<(), Failure> {
        report.doing("waiting for an event stream");
        let channel = self.channel();
        let path = format!("/events?channel={}", escaped(&channel));
        let bearer = self.token.as_deref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Accept", "text/event-stream"), ("Accept-Encoding", "gzip")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let begun = Instant::now();
        let opened = timeout(
            PATIENCE,
            Stream::open(&self.url, HttpRequest { headers: &headers, ..HttpRequest::get(&path) }),
        );
        let mut stream = match opened.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return report.add(Verdict::Bad, "streaming", &error.to_string()),
            Err(_) => {
                let saw = format!("no answer within {} s", PATIENCE.as_secs());
                return report.advise(Verdict::Bad, "streaming", &saw, &advice::BUFFERING);
            }
        };
        if stream.status != 200 {
            let words = stream.words().await;
            let saw = format!("answered {} {words}", stream.status);
            let verdict = if self.token.is_none() && matches!(stream.status, 401 | 403) {
                Verdict::Skipped
            } else {
                Verdict::Bad
            };
            return report.add(verdict, "streaming", &saw);
        }
        if let Some(encoding) = stream.headers.get("content-encoding").and_then(|e| e.to_str().ok()) {
            let saw = format!("an event stream came compressed ({encoding})");
            return report.advise(Verdict::Bad, "streaming", &saw, &advice::COMPRESSED);
        }
        match timeout(PATIENCE, stream.next()).await {
            Ok(Ok(Some(_))) => {
                let took = begun.elapsed().as_secs_f64() * 1e3;
                report.add(
                    Verdict::Good,
                    "streaming",
                    &format!("the first event came after {took:.0} ms"),
                )?;
            }
            Ok(Ok(None)) => return report.add(Verdict::Bad, "streaming", "the event stream ended at once"),
            Ok(Err(error)) => return report.add(Verdict::Bad, "streaming", &error.to_string()),
            Err(_) => {
                let saw = format!("nothing of an event stream within {} s", PATIENCE.as_secs());
                return report.advise(Verdict::Bad, "streaming", &saw, &advice::BUFFERING);
            }
        }
        if self.latency(report, ways, &mut stream, &channel).await? {
            ways.stream = Some(stream);
        }
        Ok(())
    }

    /// Publishes, and measures the time until the event arrives; returns whether the stream is still open.
    async fn latency(
        &self,
        report: &mut Report,
        ways: &mut Ways,
        stream: &mut Stream,
        channel: &str,
    ) -> Result<bool, Failure> {
        let mut api = Api::new(self.url.clone(), self.key.clone());
        let mut names = IdempotencyKeys::default();
        let mut slowest = Duration::ZERO;
        for n in 0..MESSAGES {
            let body = format!("doctor {n}");
            let begun = Instant::now();
            let mut published = api.publish(&[names.prepare(channel, body.clone().into_bytes())]).await;
            // Without a key, a client may be allowed to.
            if published.is_err()
                && self.key.is_none()
                && let Some(connection) = &mut ways.websocket
            {
                let publish = Publish { channel: channel.into(), data: Some(body.as_str().into()) };
                if answer(connection, Request::Publish(publish)).await.is_ok_and(|answer| answer.is_ok()) {
                    published = Ok(vec![Ok(())]);
                }
            }
            match published.map(|mut answers| answers.pop()) {
                Ok(Some(Ok(()))) => {}
                Ok(refusal) => {
                    let words = refusal.and_then(Result::err).map_or_else(String::new, |r| r.to_string());
                    report.add(Verdict::Skipped, "latency", &format!("nothing can be published: {words}"))?;
                    return Ok(true);
                }
                Err(error) => {
                    report.add(Verdict::Skipped, "latency", &format!("nothing can be published: {error}"))?;
                    return Ok(true);
                }
            }
            match timeout(PATIENCE, until(stream, &body)).await {
                Ok(true) => slowest = slowest.max(begun.elapsed()),
                Ok(false) => {
                    report.add(Verdict::Bad, "latency", "the event stream ended")?;
                    return Ok(false);
                }
                Err(_) => {
                    let saw = format!("a message was not there {} s later", PATIENCE.as_secs());
                    report.advise(Verdict::Bad, "latency", &saw, &advice::BUFFERING)?;
                    return Ok(false);
                }
            }
        }
        let saw =
            format!("{MESSAGES} messages came within {:.0} ms each", (slowest.as_secs_f64() * 1e3).max(1.0));
        if slowest > PROMPT {
            report.advise(Verdict::Bad, "latency", &saw, &advice::BUFFERING)?;
        } else {
            report.add(Verdict::Good, "latency", &saw)?;
        }
        Ok(true)
    }
}

/// Asks, and waits for an answer, whatever it says.
async fn ask(connection: &mut Connection, request: Request<'_>) -> Result<(), String> {
    answer(connection, request).await.map(|_| ())
}

async fn answer(
    connection: &mut Connection,
    request: Request<'_>,
) -> Result<Result<tidings_client::message::Reply, tidings_client::ServerError>, String> {
    let id = connection.send(request).map_err(|e| e.to_string())?;
    connection.reply_to(id, PATIENCE, |_| {}).await.map_err(|e| e.to_string())
}

/// Reads until `text` has come; `false` when the stream ended.
async fn until(stream: &mut Stream, text: &str) -> bool {
    let mut seen = Vec::new();
    while let Ok(Some(bytes)) = stream.next().await {
        seen.extend_from_slice(&bytes);
        if memchr::memmem::find(&seen, text.as_bytes()).is_some() {
            return true;
        }
    }
    false
}
