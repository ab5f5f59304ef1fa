//! Lists: arrays of a file, or their text form.

use super::{Setting, expected};
use crate::raw::Raw;

/// Items with a text form: a list in a file, or text in any source (see [`items`]). Empty text is an empty list.
impl<T: Setting<Rule = ()>> Setting for Vec<T> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        match raw {
            Raw::List(nodes) => nodes.iter().map(|node| T::read(&node.raw, &())).collect(),
            Raw::Text(text) | Raw::Word(text) => {
                items(text)?.into_iter().map(|item| T::read(&Raw::Word(item), &())).collect()
            }
            _ => Err(expected("a list", raw)),
        }
    }

    fn kind((): &()) -> String {
        format!("list of {}s", T::kind(&()))
    }

    fn toml(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().filter_map(T::toml).collect::<Vec<_>>().join(", ")))
    }
}

/// The items of a list that is written as text: separated by commas, or otherwise by spaces, or a JSON list of texts;
/// no items if it is empty. Quotes around the text or an item are removed: `docker run --env-file` keeps them.
///
/// # Errors
/// Text in brackets that is not a JSON list of texts.
pub(crate) fn items(text: &str) -> Result<Vec<String>, String> {
    let text = unquoted(text.trim()).trim();
    if text.starts_with('[') && text.ends_with(']') {
        return serde_json::from_str(text).map_err(|_| {
            "expected a list: items separated by commas or spaces, or a JSON list of texts".into()
        });
    }
    let items: Vec<&str> =
        if text.contains(',') { text.split(',').collect() } else { text.split_whitespace().collect() };
    Ok(items.into_iter().map(|item| unquoted(item.trim()).to_owned()).collect())
}

/// Text without surrounding quotes; text with more of the same quotes inside is unchanged.
fn unquoted(text: &str) -> &str {
    let inner = |quote| {
        text.strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
            .filter(|rest| !rest.contains(quote))
    };
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use tidings_wire::Channel;

    use super::*;

    fn word(text: &str) -> Raw {
        Raw::Word(text.into())
    }

    #[test]
    fn a_list_is_an_array_or_has_commas_and_empty_text_is_an_empty_list() {
        let names = |raw: &Raw| -> Vec<String> {
            Vec::<Channel>::read(raw, &()).unwrap().iter().map(|c| c.as_str().to_owned()).collect()
        };
        assert_eq!(names(&word("a, b")), ["a", "b"]);
        assert_eq!(names(&Raw::Text("a".into())), ["a"]);
        assert!(names(&word("")).is_empty());
        assert!(names(&Raw::List(vec![])).is_empty());
        assert!(Vec::<Channel>::read(&word("a,,b"), &()).is_err());
        assert!(Vec::<Channel>::read(&Raw::Switch(true), &()).is_err());
    }

    #[test]
    fn a_list_in_text_has_commas_or_spaces_or_is_json_and_quotes_are_not_part_of_it() {
        for text in [
            "a,b",
            "a, b",
            "a b",
            " a  b ",
            "[\"a\", \"b\"]",
            "'[\"a\", \"b\"]'",
            "\"a,b\"",
            "'a b'",
            "\"a\",\"b\"",
            "\"a\" \"b\"",
        ] {
            assert_eq!(items(text), Ok(vec!["a".to_owned(), "b".to_owned()]), "{text}");
        }
        for text in ["", " ", "\"\"", "[]"] {
            assert_eq!(items(text), Ok(vec![]), "{text:?}");
        }
        assert_eq!(items("[\"a b\"]"), Ok(vec!["a b".to_owned()]));
        assert_eq!(items("[::1]:80"), Ok(vec!["[::1]:80".to_owned()]));
        for text in ["[a, b]", "[1]", "[\"a\"", "[[\"a\"]]"] {
            let wrong = text.ends_with(']');
            assert_eq!(items(text).is_err(), wrong, "{text}");
        }
    }
}
