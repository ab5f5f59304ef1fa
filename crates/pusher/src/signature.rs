//! Signatures: HMAC-SHA256 with the secret of an app, in hexadecimal ("Authenticating users", "HTTP API reference").

use std::fmt;

use md5::{Digest as _, Md5};
use ring::hmac;
use thiserror::Error;

/// How far the time of a request of the HTTP API may differ from the server's, in seconds.
pub const TIMESTAMP_WINDOW: u64 = 600;

/// Why a signature was not accepted. The texts contain no signature.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// The text is not `key:signature`.
    #[error("auth must have the form key:signature")]
    Form,
    /// It has the key of another app.
    #[error("auth has the key of another app")]
    Key,
    /// It is the signature of another text, or was made with another secret.
    #[error(
        "the signature is not valid: it must be the HMAC-SHA256 of the documented text with the secret of the app, in hexadecimal"
    )]
    Signature,
    /// A parameter of a request is missing.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
    /// The version of the signature is unknown.
    #[error("auth_version must be 1.0")]
    Version,
    /// The time of a request is not a number.
    #[error("auth_timestamp must be a number of Unix seconds")]
    Timestamp,
    /// The time of a request is too far away.
    #[error(
        "auth_timestamp differs from the server's time by {0} s, more than {TIMESTAMP_WINDOW} s; check both clocks"
    )]
    Window(u64),
    /// The body has another digest than the request states.
    #[error("body_md5 is not the MD5 digest of the body in hexadecimal")]
    Body,
}

/// The secret of an app, as a key of signatures. `Debug` does not print it.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The parameters of a request, decoded.
pub type Query = [(String, String)];

impl Key {
    /// The key for this secret.
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// The signature of a text, in hexadecimal.
    pub fn sign(&self, text: &[u8]) -> String {
        hex(hmac::sign(&self.0, text).as_ref())
    }

    /// Whether `given` is the signature of a text. Compares in constant time.
    fn verifies(&self, text: &[u8], given: &str) -> bool {
        unhex(given).is_some_and(|tag| hmac::verify(&self.0, text, &tag).is_ok())
    }

    /// Verifies the `auth` of a subscription to a channel, for the app with this public key.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_channel(
        &self,
        app_key: &str,
        auth: &str,
        socket: &str,
        channel: &str,
        data: Option<&str>,
    ) -> Result<(), SignatureError> {
        let text = match data {
            Some(data) => format!("{socket}:{channel}:{data}"),
            None => format!("{socket}:{channel}"),
        };
        self.verify_auth(app_key, auth, &text)
    }

    /// Verifies the `auth` of a sign-in.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_user(
        &self,
        app_key: &str,
        auth: &str,
        socket: &str,
        user_data: &str,
    ) -> Result<(), SignatureError> {
        self.verify_auth(app_key, auth, &format!("{socket}::user::{user_data}"))
    }

    fn verify_auth(&self, app_key: &str, auth: &str, text: &str) -> Result<(), SignatureError> {
        let (key, signature) = auth.split_once(':').ok_or(SignatureError::Form)?;
        if key != app_key {
            return Err(SignatureError::Key);
        }
        if self.verifies(text.as_bytes(), signature) { Ok(()) } else { Err(SignatureError::Signature) }
    }

    /// Verifies the signature of a request of the HTTP API at the time `now` in Unix seconds. It covers the method, the path,
    /// the parameters in the order of their names, and through `body_md5` the body ([`check_body`]).
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_request(
        &self,
        method: &str,
        path: &str,
        query: &Query,
        now: u64,
    ) -> Result<(), SignatureError> {
        find(query, "auth_key")?;
        let timestamp: u64 = find(query, "auth_timestamp")?.parse().map_err(|_| SignatureError::Timestamp)?;
        if find(query, "auth_version")? != "1.0" {
            return Err(SignatureError::Version);
        }
        let signature = find(query, "auth_signature")?;
        let text = signed_text(method, path, query);
        if !self.verifies(text.as_bytes(), signature) {
            return Err(SignatureError::Signature);
        }
        let difference = now.abs_diff(timestamp);
        if difference > TIMESTAMP_WINDOW {
            return Err(SignatureError::Window(difference));
        }
        Ok(())
    }

    /// The parameters with which a client of the HTTP API signs a request.
    pub fn sign_request(
        &self,
        app_key: &str,
        method: &str,
        path: &str,
        body: &[u8],
        now: u64,
    ) -> Vec<(String, String)> {
        let mut query = vec![
            ("auth_key".to_owned(), app_key.to_owned()),
            ("auth_timestamp".to_owned(), now.to_string()),
            ("auth_version".to_owned(), "1.0".to_owned()),
        ];
        if !body.is_empty() {
            query.push(("body_md5".to_owned(), body_md5(body)));
        }
        let signature = self.sign(signed_text(method, path, &query).as_bytes());
        query.push(("auth_signature".to_owned(), signature));
        query
    }
}

/// Checks the body of a request whose signature was verified. An empty body needs no digest.
///
/// # Errors
/// [`SignatureError::Body`], or [`SignatureError::Missing`].
pub fn check_body(query: &Query, body: &[u8]) -> Result<(), SignatureError> {
    let is_same = body.is_empty() || find(query, "body_md5")?.eq_ignore_ascii_case(&body_md5(body));
    if is_same { Ok(()) } else { Err(SignatureError::Body) }
}

/// The value of a parameter.
fn find<'q>(query: &'q Query, name: &'static str) -> Result<&'q str, SignatureError> {
    let found = query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    found.ok_or(SignatureError::Missing(name))
}

/// The text that the signature of a request covers.
fn signed_text(method: &str, path: &str, query: &Query) -> String {
    let mut parameters: Vec<_> = query
        .iter()
        .filter(|(key, _)| key != "auth_signature")
        .map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()))
        .collect();
    parameters.sort();
    let parameters: Vec<_> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{method}\n{path}\n{}", parameters.join("&"))
}

/// The MD5 digest of a body, in hexadecimal. The protocol requires MD5; the security of a request rests on the HMAC over it.
fn body_md5(body: &[u8]) -> String {
    hex(&Md5::digest(body))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
        }
        text
    })
}

/// 32 bytes from their hexadecimal form.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of "Authenticating users" in the documentation of Pusher.
    const APP_KEY: &str = "278d425bdf160c739803";
    const SECRET: &str = "7ad3773142a6692b25b8";

    #[test]
    fn the_examples_of_the_specification_are_accepted() {
        let key = Key::new(SECRET);
        let private = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
        assert_eq!(key.verify_channel(APP_KEY, private, "1234.1234", "private-foobar", None), Ok(()));
        let presence =
            "278d425bdf160c739803:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80";
        let data = r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#;
        assert_eq!(key.verify_channel(APP_KEY, presence, "1234.1234", "presence-foobar", Some(data)), Ok(()));
        let user = "278d425bdf160c739803:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba";
        assert_eq!(key.verify_user(APP_KEY, user, "1234.1234", r#"{"id":"12345"}"#), Ok(()));
        let query = [
            ("auth_key", "278d425bdf160c739803"),
            ("auth_timestamp", "1353088179"),
            ("auth_version", "1.0"),
            ("body_md5", "ec365a775a4cd0599faeb73354201b6f"),
            ("auth_signature", "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let verify = |query: &Query, body: &[u8], now| {
            key.verify_request("POST", "/apps/3/events", query, now).and_then(|()| check_body(query, body))
        };
        assert_eq!(verify(&query, body, 1_353_088_179 + TIMESTAMP_WINDOW), Ok(()));
        assert_eq!(verify(&query, body, 1_353_088_179 - TIMESTAMP_WINDOW), Ok(()));
        assert_eq!(verify(&query, body, 1_353_088_780), Err(SignatureError::Window(601)));
        assert_eq!(verify(&query, b"{}", 1_353_088_179), Err(SignatureError::Body));
        for at in 0..query.len() {
            let mut changed = query.to_vec();
            changed.remove(at);
            assert!(verify(&changed, body, 1_353_088_179).is_err(), "{}", query[at].0);
            let mut changed = query.to_vec();
            let value = &mut changed[at].1;
            value.push('0');
            assert!(verify(&changed, body, 1_353_088_179).is_err(), "{}", query[at].0);
        }
        let mut more = query.to_vec();
        more.push(("info".into(), "user_count".into()));
        assert_eq!(verify(&more, body, 1_353_088_179), Err(SignatureError::Signature));
    }

    #[test]
    fn a_signature_is_bound_to_app_socket_channel_and_data() {
        let key = Key::new("s");
        let auth = |text: &str| format!("k:{}", key.sign(text.as_bytes()));
        let verify = |auth: &str, channel, data| key.verify_channel("k", auth, "1.2", channel, data);
        assert_eq!(verify(&auth("1.2:private-a"), "private-a", None), Ok(()));
        assert_eq!(verify(&auth("1.3:private-a"), "private-a", None), Err(SignatureError::Signature));
        assert_eq!(verify(&auth("1.2:private-b"), "private-a", None), Err(SignatureError::Signature));
        assert_eq!(verify(&auth("1.2:private-a"), "private-a", Some("{}")), Err(SignatureError::Signature));
        assert_eq!(verify("x", "private-a", None), Err(SignatureError::Form));
        assert_eq!(verify("other:00", "private-a", None), Err(SignatureError::Key));
        for signature in ["", "0", &"0".repeat(64), &"é".repeat(32)] {
            assert_eq!(verify(&format!("k:{signature}"), "private-a", None), Err(SignatureError::Signature));
        }
        assert_eq!(format!("{key:?}"), "***");
    }

    #[test]
    fn a_request_that_is_signed_here_is_accepted() {
        let key = Key::new("s");
        for body in [&b""[..], b"{}"] {
            let query = key.sign_request("k", "POST", "/apps/1/events", body, 5);
            assert_eq!(key.verify_request("POST", "/apps/1/events", &query, 5), Ok(()));
            assert_eq!(check_body(&query, body), Ok(()));
            assert!(key.verify_request("GET", "/apps/1/events", &query, 5).is_err());
            assert!(key.verify_request("POST", "/apps/2/events", &query, 5).is_err());
        }
    }
}
