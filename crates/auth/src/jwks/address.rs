//! The address of a key set, which may depend on the issuer or the audience of a token.

use std::sync::Arc;

use http::Uri;
use tidings_pattern::Pattern;

/// The address of a key set (RFC 7517): a URL, in which `{{name}}` stands for a group of the pattern of issuers or audiences. Clones
/// share the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl(Arc<str>);

/// Longest value of a variable in bytes.
const MAX_VALUE: usize = 128;

/// A part of an address.
enum Part<'a> {
    Text(&'a str),
    Variable(&'a str),
}

impl JwksUrl {
    /// Checks the braces of an address. A variable may stand in the path and in the query: a token must not choose the host.
    /// The caller checks [`JwksUrl::example`] as a URL.
    ///
    /// # Errors
    /// What the text is instead of an address.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let url = Self(text.into());
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let is_valid = url.parts().all(|part| match part {
            Part::Text(text) => !text.contains(['{', '}']),
            Part::Variable(name) => is_name(name),
        });
        if !is_valid {
            return Err("one with braces that are no variable such as {{realm}}");
        }
        let path = text.find("://").and_then(|at| Some(at + 3 + text[at + 3..].find('/')?));
        if text.find("{{").is_some_and(|first| path.is_none_or(|path| first < path)) {
            return Err("one with a variable before its path");
        }
        Ok(url)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An address with a value in place of each variable.
    pub fn example(&self) -> String {
        self.with(|_| Some("1".to_owned())).unwrap_or_default()
    }

    /// The names of its variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts().filter_map(|part| match part {
            Part::Variable(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// Whether one pattern has each variable as a group, and can be compared with whole texts.
    ///
    /// # Errors
    /// The reason, as a sentence.
    pub fn check(&self, issuer: Option<&Pattern>, audience: Option<&Pattern>) -> Result<(), String> {
        for name in self.variables() {
            let has_group = |pattern: &&Pattern| pattern.groups().any(|group| group == name);
            let with_group: Vec<_> = [issuer, audience].into_iter().flatten().filter(has_group).collect();
            let [pattern] = with_group[..] else {
                return Err(format!(
                    "{{{{{name}}}}} needs a group (?P<{name}>…) in either issuer_regex or audience_regex, and not in both"
                ));
            };
            if let Err(error) = pattern.whole() {
                return Err(format!(
                    "the pattern with the group (?P<{name}>…) cannot match whole texts: {error}"
                ));
            }
        }
        Ok(())
    }

    /// The address with the values of its variables; `None` if one is missing, or could change the meaning of the address.
    pub(super) fn resolve(&self, value: impl Fn(&str) -> Option<String>) -> Option<Uri> {
        let is_safe = |text: &String| {
            let is_part =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
            (1..=MAX_VALUE).contains(&text.len())
                && text.bytes().all(is_part)
                && !matches!(&**text, "." | "..")
        };
        self.with(|name| value(name).filter(is_safe))?.parse().ok()
    }

    fn with(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        self.parts().try_fold(String::new(), |address, part| match part {
            Part::Text(text) => Some(address + text),
            Part::Variable(name) => Some(address + &value(name)?),
        })
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        // The text before the first `{{`, and then texts that begin with a name.
        self.0
            .split("{{")
            .enumerate()
            .flat_map(|(index, text)| match (index, text.split_once("}}")) {
                (0, _) => [Some(Part::Text(text)), None],
                (_, Some((name, rest))) => [Some(Part::Variable(name)), Some(Part::Text(rest))],
                // Not closed: the braces of the name are an error.
                (_, None) => [Some(Part::Variable("")), None],
            })
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> JwksUrl {
        JwksUrl::new(text).expect(text)
    }

    #[test]
    fn an_address_has_variables_in_double_braces() {
        let address = url("https://id.example.com/{{realm}}/certs?v={{version}}");
        assert_eq!(address.variables().collect::<Vec<_>>(), ["realm", "version"]);
        assert_eq!(address.example(), "https://id.example.com/1/certs?v=1");
        for wrong in
            ["https://a/{{realm", "https://a/{realm}", "https://a/{{}}", "https://a/{{a b}}", "https://a/}}"]
        {
            assert!(JwksUrl::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variable_is_never_a_part_of_the_host() {
        for wrong in [
            "https://{{tenant}}/certs",
            "https://id{{x}}.example.com/certs",
            "https://id.example.com:{{port}}/certs",
            "https://id.example.com{{x}}",
            "https://id.example.com?{{x}}/",
            "{{scheme}}://id.example.com/",
        ] {
            assert!(JwksUrl::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_cannot_change_the_meaning_of_the_address() {
        let address = url("https://id.example.com/{{realm}}/certs");
        let resolve = |value: &str| address.resolve(|_| Some(value.to_owned())).map(|uri| uri.to_string());
        assert_eq!(resolve("a-1.b_c~").as_deref(), Some("https://id.example.com/a-1.b_c~/certs"));
        for wrong in ["", ".", "..", "a/b", "a?b", "a#b", "a@b", "a%2fb", "ä", &"a".repeat(129)] {
            assert_eq!(resolve(wrong), None, "{wrong}");
        }
        assert_eq!(address.resolve(|_| None), None);
    }

    #[test]
    fn each_variable_is_a_group_of_one_pattern() {
        let pattern = |text: &str| Pattern::new(text).expect(text);
        let address = url("https://id.example.com/{{realm}}/certs");
        let good = pattern("^https://id.example.com/(?P<realm>[a-z]+)$");
        assert_eq!(address.check(Some(&good), None), Ok(()));
        assert_eq!(address.check(None, Some(&good)), Ok(()));
        assert!(address.check(Some(&good), Some(&good)).is_err(), "in both");
        assert!(address.check(None, None).is_err());
        for wrong in ["(?x)(?P<realm>[a-z]+) # realm", "^([a-z]+)$"] {
            assert!(address.check(Some(&pattern(wrong)), None).is_err(), "{wrong}");
        }
        assert_eq!(url("https://id.example.com/certs").check(None, None), Ok(()));
    }
}
