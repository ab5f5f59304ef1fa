//! Checks that idle connections stay open.

use std::time::{Duration, Instant};

use tidings_client::http::Stream;
use tidings_client::{Connection, Error};
use tokio::time::timeout;

use crate::Doctor;
use crate::advice::Problem;
use crate::live::OpenConnections;
use crate::report::{Report, Verdict};

/// The result of an idle connection: how long it stayed open, and why it ended, if it did.
struct IdleOutcome {
    how_long: Duration,
    why: Option<Error>,
}

impl Doctor {
    /// Watches idle connections for the requested time.
    pub(crate) async fn idle<R: Report>(
        &self,
        report: &mut R,
        connections: OpenConnections,
    ) -> Result<(), R::Error> {
        let limit = format!("{:?}", self.idle);
        if self.idle.is_zero() {
            return report.add(Verdict::Skipped, "idle", "--idle 0");
        }
        let OpenConnections { websocket, stream, ping, .. } = connections;
        if websocket.is_none() && stream.is_none() {
            return report.add(Verdict::Skipped, "idle", "no connection could be opened");
        }
        let begun = Instant::now();
        let watched =
            async { tokio::join!(watch_websocket(websocket, self.idle), watch_stream(stream, self.idle)) };
        tokio::pin!(watched);
        let (websocket, stream) = loop {
            tokio::select! {
                ended = &mut watched => break ended,
                () = tokio::time::sleep(Duration::from_millis(500)) => {
                    report.progress(&format!("watching idle connections: {} s of {limit}", begun.elapsed().as_secs()));
                }
            }
        };
        let pings = if ping > 0 { format!("; the server pings every {ping} s") } else { String::new() };
        for (name, stood, problem) in [
            ("a WebSocket", websocket, Problem::IdleWebSocket),
            ("an event stream", stream, Problem::IdleStream),
        ] {
            match stood {
                None => {}
                Some(IdleOutcome { why: None, .. }) => {
                    report.add(Verdict::Good, "idle", &format!("{name} stayed open for {limit}{pings}"))?;
                }
                Some(IdleOutcome { how_long, why: Some(why) }) => {
                    let saw = format!("{name} ended after {:.1} s: {why}{pings}", how_long.as_secs_f64());
                    report.advise(Verdict::Bad, "idle", &saw, &problem.advice(self.proxy))?;
                }
            }
        }
        Ok(())
    }
}

async fn watch_websocket(connection: Option<Connection>, limit: Duration) -> Option<IdleOutcome> {
    let mut connection = connection?;
    let begun = Instant::now();
    // Pings are answered meanwhile.
    let ended = timeout(limit, async {
        loop {
            if let Err(error) = connection.next().await {
                return error;
            }
        }
    });
    let why = ended.await.ok();
    let how_long = begun.elapsed();
    if why.is_none() {
        connection.close().await;
    }
    Some(IdleOutcome { how_long, why })
}

async fn watch_stream(stream: Option<Stream>, limit: Duration) -> Option<IdleOutcome> {
    let mut stream = stream?;
    let begun = Instant::now();
    let ended = timeout(limit, async {
        loop {
            match stream.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Error::Lost("it was closed".to_owned()),
                Err(error) => return error,
            }
        }
    });
    Some(IdleOutcome { why: ended.await.ok(), how_long: begun.elapsed() })
}
