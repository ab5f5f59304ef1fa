//! The proxies whose settings are known, and how to recognise them from outside.

use std::fmt;
use std::str::FromStr;

use tidings_client::Web;
use tidings_client::http::{HttpClient, HttpRequest, HttpResponse};

/// A proxy in front of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// nginx.
    Nginx,
    /// HAProxy.
    HaProxy,
    /// Caddy.
    Caddy,
    /// Traefik.
    Traefik,
}

impl Proxy {
    /// Every proxy.
    pub const ALL: [Self; 4] = [Self::Nginx, Self::HaProxy, Self::Caddy, Self::Traefik];
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::Caddy => "Caddy",
            Self::Traefik => "Traefik",
        })
    }
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|proxy| proxy.to_string().eq_ignore_ascii_case(name));
        found.ok_or_else(|| "expected nginx, haproxy, caddy or traefik".to_owned())
    }
}

/// Bytes of a header that is longer than HAProxy and nginx accept by default, which then answer themselves.
const LONG_HEADER: usize = 40 << 10;

/// A recognised proxy, and the evidence.
pub(crate) type Recognised = (Proxy, &'static str);

/// Recognises the proxy that sent or passed on `reply`, if necessary by a request that proxies reject.
pub(crate) async fn recognise(url: &Web, reply: &HttpResponse) -> Option<Recognised> {
    if let Some(found) = from_headers(reply).or_else(|| from_page(reply)) {
        return Some(found);
    }
    let long = "x".repeat(LONG_HEADER);
    let headers = [("X-Tidings-Doctor", long.as_str())];
    // Over a connection of its own, which the proxy may close.
    let mut http = HttpClient::new(url.clone());
    let rejected = http.call(HttpRequest { headers: &headers, ..HttpRequest::get("/health") }).await.ok()?;
    from_page(&rejected)
}

fn from_headers(reply: &HttpResponse) -> Option<Recognised> {
    for (name, evidence) in [("server", "by its Server header"), ("via", "by its Via header")] {
        let text = reply.header(name).unwrap_or_default().to_ascii_lowercase();
        let found =
            Proxy::ALL.into_iter().find(|proxy| text.contains(&proxy.to_string().to_ascii_lowercase()));
        if let Some(proxy) = found {
            return Some((proxy, evidence));
        }
    }
    None
}

/// Recognises the page of an error that a proxy has sent itself.
fn from_page(reply: &HttpResponse) -> Option<Recognised> {
    if reply.status < 400 {
        return None;
    }
    let page = String::from_utf8_lossy(&reply.body[..reply.body.len().min(4096)]);
    let is = |text: &str| page.contains(text);
    let proxy = if is("<center>nginx") {
        Proxy::Nginx
    } else if is("Your browser sent an invalid request.")
        || is("No server is available to handle this request.")
    {
        Proxy::HaProxy
    } else if reply.status == 404 && page.trim() == "404 page not found" {
        // No router of Traefik matches.
        Proxy::Traefik
    } else {
        return None;
    };
    Some((proxy, "by its error page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> HttpResponse {
        let mut reply = HttpResponse { status, headers: Default::default(), body: body.as_bytes().into() };
        for (name, value) in headers {
            reply.headers.insert(*name, value.parse().expect("a value"));
        }
        reply
    }

    #[test]
    fn a_proxy_is_recognised_by_its_headers_and_by_its_error_pages() {
        let by_header =
            |name, value| from_headers(&reply(200, &[(name, value)], "ok\n")).map(|found| found.0);
        assert_eq!(by_header("server", "nginx/1.22.1"), Some(Proxy::Nginx));
        assert_eq!(by_header("server", "Caddy"), Some(Proxy::Caddy));
        assert_eq!(by_header("via", "1.1 Caddy"), Some(Proxy::Caddy));
        assert_eq!(by_header("server", "cloudflare"), None);
        let by_page = |status, body| from_page(&reply(status, &[], body)).map(|found| found.0);
        let haproxy =
            "<html><body><h1>400 Bad request</h1>\nYour browser sent an invalid request.\n</body></html>";
        assert_eq!(by_page(400, haproxy), Some(Proxy::HaProxy));
        let nginx = "<hr><center>nginx</center>\r\n</body>\r\n</html>";
        assert_eq!(by_page(400, nginx), Some(Proxy::Nginx));
        assert_eq!(by_page(200, nginx), None, "a page about nginx");
        assert_eq!(by_page(404, "404 page not found\n"), Some(Proxy::Traefik));
        assert_eq!(by_page(431, ""), None, "the server itself");
    }

    #[test]
    fn a_proxy_has_a_name_in_any_case() {
        for proxy in Proxy::ALL {
            assert_eq!(proxy.to_string().to_lowercase().parse(), Ok(proxy));
        }
        assert!("apache".parse::<Proxy>().is_err());
    }
}
