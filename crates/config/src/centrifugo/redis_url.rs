//! The broker's URL from Centrifugo's options of Redis.

use super::super::raw::Raw;
use super::{is_true, list};

/// Converts Centrifugo's Redis options to a URL of tidings.
///
/// `option` returns an option of the table by name. Credentials are escaped.
///
/// # Errors
/// The unsupported feature, as the end of a sentence.
pub(crate) fn broker<'a>(option: impl Fn(&str) -> Option<&'a Raw>) -> Result<String, &'static str> {
    let text = |name: &str| match option(name) {
        Some(Raw::Text(text) | Raw::Word(text) | Raw::Number(text)) => text.clone(),
        _ => String::new(),
    };
    let addresses = |name: &str| option(name).map(list).unwrap_or_default();
    let credentials = match (text("user"), text("password")) {
        (user, password) if user.is_empty() && password.is_empty() => String::new(),
        (user, password) => format!("{}:{}@", escaped(&user), escaped(&password)),
    };
    let is_tls = option("tls.enabled").is_some_and(is_true);
    let scheme = if is_tls { "rediss" } else { "redis" };
    let db = text("db");

    let cluster = addresses("cluster_address");
    if !cluster.is_empty() {
        return Ok(format!("{scheme}+cluster://{credentials}{}", hosts(&cluster)?));
    }
    let sentinels = addresses("sentinel_address");
    if !sentinels.is_empty() {
        if is_tls || option("sentinel_tls.enabled").is_some_and(is_true) {
            return Err("tidings has no TLS with Sentinels");
        }
        let mut url =
            format!("redis+sentinel://{credentials}{}/{}", hosts(&sentinels)?, text("sentinel_master_name"));
        if !db.is_empty() && db != "0" {
            url += &format!("/{db}");
        }
        for (at, name) in
            ["sentinel_user", "sentinel_password"].into_iter().filter(|n| !text(n).is_empty()).enumerate()
        {
            url += &format!("{}{name}={}", if at == 0 { '?' } else { '&' }, escaped(&text(name)));
        }
        return Ok(url);
    }
    let mut servers = addresses("address");
    if servers.is_empty() {
        servers.push("127.0.0.1:6379".to_owned());
    }
    let [server] = &servers[..] else {
        return Err("tidings does not spread channels over several Redis servers");
    };
    if let Some((named, _)) = server.split_once("://").filter(|(scheme, _)| *scheme != "tcp") {
        return match named {
            // A URL is complete.
            "redis" | "rediss" if server.contains(['@', '?']) => Ok(server.clone()),
            "redis" | "rediss" => {
                let scheme = if named == "rediss" { named } else { scheme };
                let rest = &server[named.len() + 3..];
                let has_db = rest.split_once('/').is_some_and(|(_, db)| !db.is_empty());
                let db = if has_db || db.is_empty() || db == "0" { String::new() } else { format!("/{db}") };
                Ok(format!("{scheme}://{credentials}{}{db}", rest.trim_end_matches('/')))
            }
            _ => Err("tidings does not support this form of address"),
        };
    }
    let db = if db.is_empty() || db == "0" { String::new() } else { format!("/{db}") };
    Ok(format!("{scheme}://{credentials}{}{db}", hosts(&servers)?))
}

/// Several addresses in the form of a URL.
fn hosts(addresses: &[String]) -> Result<String, &'static str> {
    let strip = |address: &String| -> Result<String, &'static str> {
        let host = address.strip_prefix("tcp://").unwrap_or(address);
        if host.contains(['/', '@', '?']) {
            Err("tidings does not support this form of address")
        } else {
            Ok(host.to_owned())
        }
    };
    Ok(addresses.iter().map(strip).collect::<Result<Vec<_>, _>>()?.join(","))
}

/// Text as a part of a URL (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(options: &[(&str, &str)]) -> Result<String, &'static str> {
        let options: Vec<(String, Raw)> =
            options.iter().map(|(k, v)| ((*k).into(), Raw::Text((*v).into()))).collect();
        broker(|name| options.iter().find(|(key, _)| key == name).map(|(_, raw)| raw))
    }

    #[test]
    fn every_way_to_name_a_redis_becomes_a_url() {
        for (options, expected) in [
            (&[][..], "redis://127.0.0.1:6379"),
            (&[("address", "redis:6379")], "redis://redis:6379"),
            (&[("address", "tcp://redis:6379"), ("db", "2")], "redis://redis:6379/2"),
            (&[("address", "redis://u:p@h:1/2"), ("password", "x")], "redis://u:p@h:1/2"),
            (&[("address", "redis://h:1"), ("user", "u"), ("password", "p@/")], "redis://u:p%40%2F@h:1"),
            (&[("address", "h:1"), ("tls.enabled", "true")], "rediss://h:1"),
            (&[("cluster_address", "a:1 b:2"), ("password", "p")], "redis+cluster://:p@a:1,b:2"),
            (
                &[("sentinel_address", "a:1,b:2"), ("sentinel_master_name", "m"), ("sentinel_password", "s")],
                "redis+sentinel://a:1,b:2/m?sentinel_password=s",
            ),
        ] {
            assert_eq!(url(options).as_deref(), Ok(expected), "{options:?}");
        }
        assert!(url(&[("address", "a:1 b:2")]).is_err());
        assert!(url(&[("address", "unix:///x")]).is_err());
    }
}
