//! Checks with plain requests: whether the server is reachable, and how proxies treat requests.

use std::time::Instant;

use bytes::Bytes;
use tidings_client::http::{HttpClient, HttpRequest, HttpResponse, Method};

use crate::report::{Report, Verdict};
use crate::{Doctor, advice};

/// The size of a request above nginx' default limit, in bytes.
const LARGE: usize = 2 << 20;
/// The path of a table that does not exist.
const NOWHERE: &str = "/tables/00000000-0000-4000-8000-000000000000/rows";

impl Doctor {
    /// Runs these checks. Returns whether the server responds, so that further checks are useful.
    pub(crate) async fn plain<R: Report>(&self, report: &mut R) -> Result<bool, R::Error> {
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
        if !health_is_good(report, &health)? {
            return Ok(false);
        }
        self.ready(report, &mut http).await?;
        self.compression(report, &mut http).await?;
        self.large(report, &mut http).await?;
        Ok(true)
    }

    async fn ready<R: Report>(&self, report: &mut R, http: &mut HttpClient) -> Result<(), R::Error> {
        match http.call(HttpRequest::get("/ready")).await {
            Ok(reply) if reply.status == 200 => {
                report.add(Verdict::Good, "ready", "messages travel through the broker")
            }
            Ok(reply) => {
                let reason = serde_json::from_slice::<serde_json::Value>(&reply.body)
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
            Ok(reply) if reply.status == 413 => {
                report.advise(Verdict::Bad, "body size", &format!("{size} was refused (413)"), &advice::BODY)
            }
            Ok(reply) if reply.status >= 500 => {
                report.add(Verdict::Note, "body size", &format!("{size} was answered {}", reply.status))
            }
            Ok(_) => report.add(Verdict::Good, "body size", &format!("{size} came through")),
            Err(error) => {
                report.advise(Verdict::Bad, "body size", &format!("{size} broke off: {error}"), &advice::BODY)
            }
        }
    }
}

fn health_is_good<R: Report>(report: &mut R, reply: &HttpResponse) -> Result<bool, R::Error> {
    let text = reply.text();
    let saw = if text.is_empty() {
        format!("answered {}", reply.status)
    } else {
        format!("answered {}: {text}", reply.status)
    };
    match reply.status {
        200 if text.trim() == "ok" => {
            report.add(Verdict::Good, "health", "the server serves")?;
            return Ok(true);
        }
        421 => report.advise(Verdict::Bad, "health", &saw, &advice::HOST)?,
        502..=504 => report.advise(Verdict::Bad, "health", &saw, &advice::UPSTREAM)?,
        _ => report.advise(Verdict::Bad, "health", &saw, &advice::PASS)?,
    }
    Ok(false)
}
