//! Checks with plain requests: whether the server is reachable, and how proxies treat requests.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tidings_client::http::{HttpClient, HttpRequest, HttpResponse, Method};
use tidings_client::{Error, Server, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::advice::Problem;
use crate::proxy::{Proxy, recognise};
use crate::report::{Report, Verdict};
use crate::{Doctor, advice};

/// The size of a request above nginx' default limit, in bytes.
const LARGE: usize = 2 << 20;
/// The time in which the response to an incomplete request must begin.
const EARLY: Duration = Duration::from_secs(2);
/// The path of a table that does not exist.
const NOWHERE: &str = "/tables/00000000-0000-4000-8000-000000000000/rows";

impl Doctor {
    /// Runs these checks. Returns whether the server responds, so that further checks are useful.
    pub(crate) async fn plain<R: Report>(&mut self, report: &mut R) -> Result<bool, R::Error> {
        let mut http = HttpClient::new(self.url.clone());
        let begun = Instant::now();
        let health = match http.call(HttpRequest::get("/health")).await {
            Ok(reply) => reply,
            Err(error) => {
                report.add(Verdict::Bad, "reach", &error.to_string())?;
                return Ok(false);
            }
        };
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let tls = if self.url.secure { "over TLS, " } else { "" };
        let by = health.header("server").map(|server| format!(" by {server}")).unwrap_or_default();
        report.add(Verdict::Good, "reach", &format!("{tls}answered{by} in {took:.0} ms"))?;
        self.recognise(report, &health).await?;
        if !self.health_is_good(report, &health)? {
            return Ok(false);
        }
        self.ready(report, &mut http).await?;
        self.compression(report, &mut http).await?;
        self.large(report, &mut http).await?;
        self.request_buffering(report).await?;
        self.address(report, &mut http).await?;
        Ok(true)
    }

    /// Checks which address the server takes for the client's.
    async fn address<R: Report>(&self, report: &mut R, http: &mut HttpClient) -> Result<(), R::Error> {
        let reply = match http.call(HttpRequest::get("/connection/address")).await {
            Ok(reply) if reply.status == 200 => reply,
            Ok(reply) => {
                return report.add(Verdict::Skipped, "address", &format!("answered {}", reply.status));
            }
            Err(error) => return report.add(Verdict::Skipped, "address", &error.to_string()),
        };
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let sees = match answer["address"].as_str() {
            Some(address) => format!("the server sees the address {address}"),
            None => "the server sees no address of a client".to_owned(),
        };
        match answer["source"].as_str() {
            Some("untrusted") => {
                let saw = "the server does not use the address that the proxy states";
                report.advise(Verdict::Note, "address", saw, &advice::UNTRUSTED)
            }
            Some("peer") if self.proxy.is_some() => {
                let saw = "the server sees the address of the proxy alone";
                report.advise(Verdict::Note, "address", saw, &Problem::Address.advice(self.proxy))
            }
            Some("proxy_protocol") => {
                report.add(Verdict::Good, "address", &format!("{sees} (PROXY protocol)"))
            }
            _ => report.add(Verdict::Good, "address", &sees),
        }
    }

    /// Determines the proxy, unless it is given.
    async fn recognise<R: Report>(&mut self, report: &mut R, health: &HttpResponse) -> Result<(), R::Error> {
        if let Some(given) = self.proxy {
            return report.add(Verdict::Good, "proxy", &format!("{given} (--proxy)"));
        }
        match recognise(&self.url, health).await {
            Some((proxy, evidence)) => {
                self.proxy = Some(proxy);
                report.add(Verdict::Good, "proxy", &format!("{proxy}, recognised {evidence}"))
            }
            None => report.add(Verdict::Skipped, "proxy", "none was recognised; --proxy names it"),
        }
    }

    /// Checks whether the server gets a request before its body is complete. The proxies of Go do not pass on a response to
    /// an incomplete request, so they are not checked.
    async fn request_buffering<R: Report>(&self, report: &mut R) -> Result<(), R::Error> {
        if !matches!(self.proxy, Some(Proxy::Nginx | Proxy::HaProxy)) {
            return Ok(());
        }
        match timeout(EARLY, self.incomplete_request()).await {
            Ok(Ok(())) => {
                report.add(Verdict::Good, "upload", "a request arrives while its body is still sent")
            }
            Ok(Err(error)) => report.add(Verdict::Note, "upload", &error.to_string()),
            Err(_) => {
                let saw = "a request does not arrive before its body is complete";
                report.advise(Verdict::Note, "upload", saw, &Problem::RequestBuffering.advice(self.proxy))
            }
        }
    }

    /// Sends the beginning of a request that the server rejects at once, and waits for the response.
    async fn incomplete_request(&self) -> Result<(), Error> {
        let server = Server::Web(self.url.clone());
        let (mut incoming, mut outgoing) = stream::open(&server).await?;
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n...",
            self.url.path("/health"),
            self.url.authority()
        );
        let lost = |error: io::Error| Error::Lost(error.to_string());
        outgoing.write_all(request.as_bytes()).await.map_err(lost)?;
        outgoing.flush().await.map_err(lost)?;
        match incoming.read(&mut [0; 64]).await.map_err(lost)? {
            0 => Err(Error::Lost("the proxy closed the connection".to_owned())),
            _ => Ok(()),
        }
    }

    async fn ready<R: Report>(&self, report: &mut R, http: &mut HttpClient) -> Result<(), R::Error> {
        match http.call(HttpRequest::get("/ready")).await {
            Ok(reply) if reply.status == 200 => {
                report.add(Verdict::Good, "ready", "messages travel through the broker")
            }
            Ok(reply) if reply.status == 404 => {
                report.add(Verdict::Skipped, "ready", "served on another port (internal.listen)")
            }
            Ok(reply) => {
                let reason = serde_json::from_slice::<Value>(&reply.body)
                    .ok()
                    .and_then(|answer| Some(answer["reason"].as_str()?.to_owned()))
                    .unwrap_or_else(|| reply.text());
                report.add(Verdict::Bad, "ready", &format!("{}: {reason}", reply.status))
            }
            Err(error) => report.add(Verdict::Bad, "ready", &error.to_string()),
        }
    }

    async fn compression<R: Report>(&self, report: &mut R, http: &mut HttpClient) -> Result<(), R::Error> {
        let headers = [("Accept-Encoding", "gzip"), ("Accept", "text/html")];
        match http.call(HttpRequest { headers: &headers, ..HttpRequest::get("/") }).await {
            Ok(reply) if reply.status == 200 => {
                let how = reply.header("content-encoding").unwrap_or("not compressed");
                let saw = format!("the page comes in {} bytes, {how}", reply.body.len());
                report.add(Verdict::Good, "compression", &saw)
            }
            Ok(reply) => {
                report.add(Verdict::Note, "compression", &format!("the page / was answered {}", reply.status))
            }
            Err(error) => report.add(Verdict::Note, "compression", &error.to_string()),
        }
    }

    /// Checks a large request, to a path where it has no effect.
    async fn large<R: Report>(&self, report: &mut R, http: &mut HttpClient) -> Result<(), R::Error> {
        let headers = [("Content-Type", "text/plain"), ("Authorization", "Bearer doctor")];
        let body = Bytes::from(vec![b'\n'; LARGE]);
        let call = HttpRequest { method: Method::POST, path: NOWHERE, headers: &headers, body };
        let size = format!("a request of {} MiB", LARGE >> 20);
        match http.call(call).await {
            Ok(reply) if reply.status == 413 => self.bad_body(report, &format!("{size} was refused (413)")),
            // Caddy before 2.7 answers 502.
            Ok(reply) if reply.status == 502 && self.proxy == Some(Proxy::Caddy) => {
                self.bad_body(report, &format!("{size} was refused (502)"))
            }
            Ok(reply) if reply.status >= 500 => {
                report.add(Verdict::Note, "body size", &format!("{size} was answered {}", reply.status))
            }
            Ok(_) => report.add(Verdict::Good, "body size", &format!("{size} passed")),
            Err(error) => self.bad_body(report, &format!("{size} failed: {error}")),
        }
    }

    fn bad_body<R: Report>(&self, report: &mut R, saw: &str) -> Result<(), R::Error> {
        report.advise(Verdict::Bad, "body size", saw, &Problem::BodySize.advice(self.proxy))
    }

    fn health_is_good<R: Report>(&self, report: &mut R, reply: &HttpResponse) -> Result<bool, R::Error> {
        let text = reply.text();
        let saw = if text.is_empty() {
            format!("answered {}", reply.status)
        } else {
            format!("answered {}: {text}", reply.status)
        };
        let problem = match reply.status {
            200 if text.trim() == "ok" => {
                report.add(Verdict::Good, "health", "the server is running")?;
                return Ok(true);
            }
            // The paths of operators are served at internal.listen.
            404 if text.starts_with("not found; there ") => {
                report.add(Verdict::Skipped, "health", "served on another port (internal.listen)")?;
                return Ok(true);
            }
            421 => return report.advise(Verdict::Bad, "health", &saw, &advice::HOST).map(|()| false),
            502..=504 => Problem::Upstream,
            400 if text.contains("expects a PROXY protocol header") => Problem::HeaderMissing,
            // The server has rejected the input before it recognised a request. A proxy answers with a page.
            400 if reply.body.is_empty() => Problem::HeaderUnexpected,
            _ => Problem::Path,
        };
        report.advise(Verdict::Bad, "health", &saw, &problem.advice(self.proxy))?;
        Ok(false)
    }
}
