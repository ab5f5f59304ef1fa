//! Origins of pages as option values.
//!
//! Invariant: an [`AllowedOrigin`] can match the `Origin` header of a browser (RFC 6454 §6.2): it is in lower case and
//! without the default port of its scheme.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::raw::Raw;
use super::setting::{Setting, expected, quoted};

/// An origin (RFC 6454) with pages that may connect: `scheme://host[:port]`, in which `*` matches any characters, or
/// `*` for every origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(String);

impl AllowedOrigin {
    /// The pattern, in the form of browsers.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for AllowedOrigin {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("an origin", raw))?;
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let wrong = |why: &str| {
            let form = "an origin such as \"https://example.com\" (no path) or \"*\"";
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            format!("{}{why}", expected(form, raw))
        };
        normal(&text.to_ascii_lowercase()).map(Self).map_err(wrong)
    }

    fn kind((): &()) -> String {
        "origin".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// An origin in the form of browsers.
///
/// # Errors
/// The reason why no browser sends it; empty if it is not an origin at all.
fn normal(text: &str) -> Result<String, &'static str> {
    let (scheme, authority) = text.split_once("://").ok_or("")?;
    if authority.is_empty() || authority.contains(['/', '?', '#']) {
        return Err("");
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '*');
    if scheme.is_empty() || !scheme.chars().all(letter) {
        return Err("its scheme is invalid");
    }
    if matches!(scheme, "ws" | "wss") {
        return Err("a page's origin begins with http:// or https://");
    }
    if authority.contains('@') {
        return Err("an origin has no user");
    }
    if !authority.is_ascii() {
        return Err("browsers write other letters than ASCII as xn--…");
    }
    let (host, port) = parts(authority)?;
    let host = normal_host(host)?;
    let usual = match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    };
    match port {
        None => Ok(format!("{scheme}://{host}")),
        Some(port) if Some(port) == usual => {
            // Without the port the pattern would match every port.
            if host.ends_with('*') {
                return Err("browsers leave out the usual port; write it without");
            }
            Ok(format!("{scheme}://{host}"))
        }
        Some(port) => Ok(format!("{scheme}://{host}:{port}")),
    }
}

/// Host and port. The host of an IPv6 address keeps its brackets.
fn parts(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    let end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']').ok_or("its bracket is not closed")? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end);
    if rest.is_empty() {
        return Ok((host, None));
    }
    let port = rest.strip_prefix(':').ok_or("its host is invalid")?;
    let is_number =
        port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0') && port.parse::<u16>().is_ok();
    let is_pattern = port.contains('*') && port.bytes().all(|b| b.is_ascii_digit() || b == b'*');
    if is_number || is_pattern { Ok((host, Some(port))) } else { Err("its port is invalid") }
}

fn normal_host(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        if address.contains('*') {
            return Ok(host.to_owned());
        }
        return address
            .parse::<Ipv6Addr>()
            .map(|ip| format!("[{ip}]"))
            .map_err(|_| "its IPv6 address is invalid");
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'*');
    if host.is_empty() || !host.bytes().all(letter) {
        return Err("its host is invalid");
    }
    if host.contains('*') {
        return Ok(host.to_owned());
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.split('.').any(str::is_empty) {
        return Err("its host is invalid");
    }
    // A last label of digits makes it an IPv4 address (URL Standard, "ends in a number").
    let is_number = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if is_number && labels.parse::<Ipv4Addr>().is_err() {
        return Err("its IPv4 address is invalid");
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        AllowedOrigin::read(&Raw::Text(text.into()), &()).map(|origin| origin.0)
    }

    #[test]
    fn origins_are_normalized_like_in_browsers() {
        for (text, kept) in [
            ("*", "*"),
            ("https://a.example", "https://a.example"),
            ("HTTPS://A.Example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("https://a.example:80", "https://a.example:80"),
            ("https://*.example.com:443", "https://*.example.com"),
            ("*://example.com", "*://example.com"),
            ("http://localhost:*", "http://localhost:*"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(kept), "{text}");
        }
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_rejected() {
        for text in [
            "",
            "null",
            "a.example",
            "https://",
            "https://a.example/",
            "wss://a.example",
            "https://u@a.example",
            "https://a.example:",
            "https://a.example:0443",
            "https://a.example:70000",
            "https://*:443",
            "https://a b",
            "[\"https://a.example\"]",
            "\"https://a.example\"",
            "https://a.example\"",
            "https://a..example",
            "https://bücher.example",
            "http://127.1",
            "http://[::g]",
            "http://[::1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
