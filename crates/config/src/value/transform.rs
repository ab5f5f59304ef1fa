//! Responses of hooks with another status than 200, as errors and disconnects of clients.

use serde::Deserialize;

use crate::raw::Raw;
use crate::setting::{Setting, quoted};

/// Most transforms of one hook.
const MAX_TRANSFORMS: usize = 64;
/// Longest message of an error in bytes, and longest reason of a disconnect (RFC 6455 §5.5, without the code).
const MAX_TEXT: usize = 123;

/// What a client gets when its hook responds with a status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusTransform {
    /// The status of the response, from 100 to 599 and not 200.
    pub status_code: u16,
    to_error: Option<TransformedError>,
    to_disconnect: Option<TransformedDisconnect>,
}

/// What a status becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransformTarget<'a> {
    /// An error.
    Error(&'a TransformedError),
    /// The end of the connection.
    Disconnect(&'a TransformedDisconnect),
}

/// An error for a client.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformedError {
    /// From 400 to 1999.
    pub code: u16,
    /// At most 123 bytes.
    #[serde(default)]
    pub message: String,
    /// Whether the same command may succeed later.
    #[serde(default)]
    pub temporary: bool,
}

/// A disconnect for a client.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformedDisconnect {
    /// From 3000 to 4999.
    pub code: u16,
    /// At most 123 bytes.
    #[serde(default)]
    pub reason: String,
}

impl StatusTransform {
    /// What the status becomes.
    ///
    /// # Panics
    /// Never: a transform that was read has one of the two.
    pub fn target(&self) -> TransformTarget<'_> {
        match (&self.to_error, &self.to_disconnect) {
            (Some(error), _) => TransformTarget::Error(error),
            (None, Some(disconnect)) => TransformTarget::Disconnect(disconnect),
            (None, None) => unreachable!("it was checked"),
        }
    }

    fn check(&self) -> Result<(), String> {
        let status = self.status_code;
        if !(100..=599).contains(&status) || status == 200 {
            return Err(format!(
                "the status {status} is not from 100 to 599, or it is 200, which is the one of a result"
            ));
        }
        let (codes, code, text) = match (&self.to_error, &self.to_disconnect) {
            (Some(error), None) => (400..=1999, error.code, &error.message),
            (None, Some(disconnect)) => (3000..=4999, disconnect.code, &disconnect.reason),
            _ => {
                return Err(format!(
                    "the transform of the status {status} needs one of to_error and to_disconnect"
                ));
            }
        };
        if !codes.contains(&code) {
            let (from, to) = codes.into_inner();
            return Err(format!("the code {code} of the status {status} is not from {from} to {to}"));
        }
        if text.len() > MAX_TEXT {
            return Err(format!("the text of the status {status} has more than {MAX_TEXT} bytes"));
        }
        Ok(())
    }
}

/// The transforms of a hook, by the statuses of its responses; no status twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusTransforms(Vec<StatusTransform>);

impl StatusTransforms {
    /// All transforms.
    pub fn iter(&self) -> impl Iterator<Item = &StatusTransform> {
        self.0.iter()
    }
}

/// A list of tables in a file, or JSON text anywhere; empty text is none.
impl Setting for StatusTransforms {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        const EXAMPLE: &str = r#"[{"status_code": 404, "to_error": {"code": 404, "message": "not found"}}]"#;
        let list: Vec<StatusTransform> = raw.to_list_of_tables(EXAMPLE)?;
        if list.len() > MAX_TRANSFORMS {
            return Err(format!("expected at most {MAX_TRANSFORMS} transforms"));
        }
        for (at, transform) in list.iter().enumerate() {
            transform.check()?;
            if list[..at].iter().any(|other| other.status_code == transform.status_code) {
                return Err(format!("the status {} is given twice", transform.status_code));
            }
        }
        Ok(Self(list))
    }

    fn kind((): &()) -> String {
        "list of tables (elsewhere its JSON in text)".into()
    }

    fn toml(&self) -> Option<String> {
        let one = |transform: &StatusTransform| {
            let target = match transform.target() {
                TransformTarget::Error(TransformedError { code, message, temporary }) => {
                    let message = quoted(message);
                    format!("to_error = {{ code = {code}, message = {message}, temporary = {temporary} }}")
                }
                TransformTarget::Disconnect(TransformedDisconnect { code, reason }) => {
                    format!("to_disconnect = {{ code = {code}, reason = {} }}", quoted(reason))
                }
            };
            format!("{{ status_code = {}, {target} }}", transform.status_code)
        };
        Some(format!("[{}]", self.0.iter().map(one).collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StatusTransforms, String> {
        StatusTransforms::read(&Raw::Word(text.into()), &())
    }

    #[test]
    fn a_status_becomes_an_error_or_a_disconnect() {
        let text = r#"[{"status_code":404,"to_error":{"code":404,"message":"not found","temporary":true}},
            {"status_code":403,"to_disconnect":{"code":4903,"reason":"denied"}}]"#;
        let transforms = read(text).unwrap();
        let targets: Vec<_> = transforms.iter().map(StatusTransform::target).collect();
        let error = TransformedError { code: 404, message: "not found".into(), temporary: true };
        let disconnect = TransformedDisconnect { code: 4903, reason: "denied".into() };
        assert_eq!(targets, [TransformTarget::Error(&error), TransformTarget::Disconnect(&disconnect)]);
        assert_eq!(
            transforms.toml().unwrap(),
            "[{ status_code = 404, to_error = { code = 404, message = \"not found\", temporary = true } }, \
             { status_code = 403, to_disconnect = { code = 4903, reason = \"denied\" } }]"
        );
        assert_eq!(read(" "), Ok(StatusTransforms::default()));
    }

    #[test]
    fn an_invalid_transform_is_refused_with_the_reason() {
        for (text, reason) in [
            ("{}", "expected a list"),
            (r#"[{"status_code":404}]"#, "needs one of to_error and to_disconnect"),
            (r#"[{"status_code":200,"to_error":{"code":404}}]"#, "the status 200"),
            (r#"[{"status_code":404,"to_error":{"code":100}}]"#, "the code 100"),
            (r#"[{"status_code":404,"to_disconnect":{"code":1000}}]"#, "not from 3000 to 4999"),
            (r#"[{"status_code":404,"to":{"code":1000}}]"#, "unknown field `to`"),
            (
                r#"[{"status_code":404,"to_error":{"code":404}},{"status_code":404,"to_error":{"code":405}}]"#,
                "given twice",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
