//! Publishing over the server API (`POST /api/publish`, `POST /api/batch`).
//!
//! Bodies are sent in base64 (`b64data`), which preserves every byte. Each publication has an idempotency key: the
//! server publishes it once, however often it is sent, so a request without a response can be repeated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::http::{HttpClient, HttpRequest, HttpResponse};
use crate::{Error, ServerError, Web};

/// A publication with its idempotency key.
#[derive(Clone, Debug)]
pub struct PendingPublication {
    channel: String,
    body: Vec<u8>,
    /// The idempotency key.
    key: String,
}

impl PendingPublication {
    /// Bytes of the body.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether the body is empty.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

/// Assigns idempotency keys to publications.
#[derive(Clone, Debug)]
pub struct IdempotencyKeys {
    /// Random, so that the keys of two programs differ.
    name: String,
    count: u64,
}

impl Default for IdempotencyKeys {
    fn default() -> Self {
        Self { name: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)), count: 0 }
    }
}

impl IdempotencyKeys {
    /// Makes a publication. It may be sent any number of times and is published once.
    pub fn prepare(&mut self, channel: &str, body: Vec<u8>) -> PendingPublication {
        self.count += 1;
        PendingPublication { channel: channel.to_owned(), body, key: format!("{}-{}", self.name, self.count) }
    }
}

/// A client of the server API's publish methods.
pub struct Api {
    http: HttpClient,
    key: Option<String>,
}

impl Api {
    /// Sends requests to `web`, with the API key if the server has one.
    pub fn new(web: Web, key: Option<String>) -> Self {
        Self { http: HttpClient::new(web), key }
    }

    /// Publishes all of them in their order. Returns one result for each.
    ///
    /// # Errors
    /// As [`HttpClient::call`]; [`Error::Refused`] when the API rejects the key.
    pub async fn publish(
        &mut self,
        all: &[PendingPublication],
    ) -> Result<Vec<Result<(), ServerError>>, Error> {
        let command = |one: &PendingPublication| json!({"channel": one.channel, "b64data": STANDARD.encode(&one.body), "idempotency_key": one.key});
        if let [one] = all {
            let answer = self.post("/api/publish", &command(one)).await?;
            return Ok(vec![outcome(&answer)]);
        }
        let commands: Vec<Value> = all.iter().map(|one| json!({"publish": command(one)})).collect();
        let answer = self.post("/api/batch", &json!({"commands": commands})).await?;
        let replies = answer["replies"].as_array().map(Vec::as_slice).unwrap_or_default();
        if replies.len() != all.len() {
            if let Err(refusal) = outcome(&answer) {
                return Err(Error::refused("the publications", &refusal));
            }
            let why = format!("{} replies to {} commands", replies.len(), all.len());
            return Err(Error::Protocol { what: "the API", why });
        }
        Ok(replies.iter().map(outcome).collect())
    }

    async fn post(&mut self, path: &str, body: &Value) -> Result<Value, Error> {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(self.key.as_deref().map(|key| ("X-API-Key", key)));
        let body = Bytes::from(body.to_string());
        let call = HttpRequest { method: Method::POST, path, headers: &headers, body };
        let reply = match self.http.call(call.clone()).await {
            // The server may have closed the kept connection meanwhile. The idempotency keys prevent a second
            // publication.
            Err(Error::Lost(_)) => self.http.call(call).await?,
            reply => reply?,
        };
        match reply.status {
            200 => serde_json::from_slice(&reply.body)
                .map_err(|e| Error::Protocol { what: "the API", why: e.to_string() }),
            _ => Err(self.denied(&reply)),
        }
    }

    fn denied(&self, reply: &HttpResponse) -> Error {
        let advice = match reply.status {
            401 | 403 if self.key.is_none() => "; the API needs its key (--key)",
            401 | 403 => "; is it the right key?",
            404 => "; is it the HTTP port of a tidings server?",
            413 => "; the server, or a proxy in front of it, accepts no bodies of that size",
            _ => "",
        };
        let text = reply.text();
        let text = if text.is_empty() { String::new() } else { format!(", {text}") };
        Error::Refused {
            what: format!("the API call at {}", self.http.web()),
            text: format!("{}{text}{advice}", reply.status),
            temporary: matches!(reply.status, 429 | 500 | 502..=504),
        }
    }
}

/// The result in one reply of the API.
fn outcome(reply: &Value) -> Result<(), ServerError> {
    let error = &reply["error"];
    if error.is_null() {
        return Ok(());
    }
    Err(ServerError {
        code: error["code"].as_u64().and_then(|code| u32::try_from(code).ok()).unwrap_or(0),
        message: error["message"].as_str().unwrap_or("no reason given").to_owned(),
        temporary: false,
    })
}
