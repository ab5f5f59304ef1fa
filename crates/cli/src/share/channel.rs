//! The publications of a channel as the input of a table: JSON objects, one a line.

use std::io;

use serde::de::IgnoredAny;
use tidings_client::{Client, Error, Event, Options, Server, Web};
use tokio::sync::mpsc;

use super::report_skipped;
use crate::subscribe;

/// The most queued objects; while the queue is full, the connection is not read.
const WAITING: usize = 1024;

/// Subscribes to `channel`, and returns its objects, each with a line break. A permanent error is the last item.
pub(super) fn objects(web: &Web, token: Option<&str>, channel: &str) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let server = Server::Web(Web { websocket: true, ..web.clone() });
    let mut client = Client::new(Options { token: token.map(str::to_owned), ..Options::new(server) });
    client.subscribe(channel, None);
    tokio::spawn(async move {
        let mut skipped = 0;
        loop {
            let item = match next(&mut client, &mut skipped).await {
                Ok(None) => continue,
                Ok(Some(line)) => Ok(line),
                Err(error) => Err(io::Error::other(error)),
            };
            let last = item.is_err();
            if sender.send(item).await.is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// The line of the next event; `None` for an event without one.
async fn next(client: &mut Client, skipped: &mut u64) -> Result<Option<Vec<u8>>, Error> {
    match client.next().await? {
        Event::Publication { publication, .. } => {
            let line = line(&publication.body.read());
            if line.is_none() {
                *skipped += 1;
                report_skipped("publication", "it is no JSON object", *skipped);
            }
            Ok(line)
        }
        other => subscribe::report(other).map(|()| None),
    }
}

/// A JSON object on one line, with a line break at its end; `None` for anything else.
fn line(body: &[u8]) -> Option<Vec<u8>> {
    let object = body.trim_ascii();
    if !object.starts_with(b"{") || serde_json::from_slice::<IgnoredAny>(object).is_err() {
        return None;
    }
    // Line breaks are escaped in strings; others are space.
    let space = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
    Some(object.iter().map(space).chain([b'\n']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_becomes_one_line_and_other_bodies_none() {
        assert_eq!(
            line(b" {\"a\":\r\n 1,\"b\":\"x\\ny\"}\n"),
            Some(b"{\"a\":   1,\"b\":\"x\\ny\"}\n".to_vec())
        );
        for body in ["", "1", "[{}]", "{", "{}{}", "text", "{\"a\":\"\n\"}"] {
            assert_eq!(line(body.as_bytes()), None, "{body}");
        }
    }
}
