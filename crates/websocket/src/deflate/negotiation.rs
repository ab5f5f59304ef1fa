//! Negotiation of the extension (RFC 7692 §5 and §7.1, with the grammar of RFC 6455 §9.1).

use std::borrow::Cow;

use super::WINDOW_BITS;

/// The name of the extension.
pub const EXTENSION: &str = "permessage-deflate";

/// The response to an offer without a window size of the server.
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// The response to an offer with one, with [`WINDOW_BITS`].
const ANSWER_12: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12";

/// A server's `Sec-WebSocket-Extensions` for those of a client, of which there may be several: the answer to the first
/// acceptable offer of [`EXTENSION`]. `None` when there is none; then the connection has no compression.
///
/// An offer is not accepted if it requires a smaller window of the server than the one with which messages to all
/// clients are compressed once (`server_max_window_bits` below 12, §7.1.2.1), or has a parameter that is unknown,
/// repeated or invalid (§7.1). The client's own window does not matter: every window is supported. Text after a
/// violation of the header's grammar is ignored.
pub fn negotiate<'h>(headers: impl IntoIterator<Item = &'h str>) -> Option<&'static str> {
    headers.into_iter().find_map(|header| {
        let mut rest = HeaderScanner(header);
        loop {
            match rest.element()? {
                Element::None => {}
                Element::Other => {}
                Element::Offer(offer) => {
                    if let Some(answer) = offer.answer() {
                        return Some(answer);
                    }
                }
            }
            if !rest.take(',') {
                return None;
            }
        }
    })
}

/// One element of the header's list.
enum Element {
    /// An empty element, which lists may have (RFC 9110 §5.6.1.2).
    None,
    /// Another extension.
    Other,
    Offer(Offer),
}

/// The parameters of an offer, with repetitions.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: usize,
    client_no_context_takeover: usize,
    server_max_window_bits: Vec<u8>,
    client_max_window_bits: usize,
    /// Whether it has an unknown parameter.
    broken: bool,
}

impl Offer {
    fn add_parameter(&mut self, name: &str, value: Option<&str>) {
        match (name, value, value.and_then(window_bits)) {
            ("server_no_context_takeover", None, _) => self.server_no_context_takeover += 1,
            ("client_no_context_takeover", None, _) => self.client_no_context_takeover += 1,
            ("server_max_window_bits", _, Some(bits)) => self.server_max_window_bits.push(bits),
            ("client_max_window_bits", None, _) | ("client_max_window_bits", _, Some(_)) => {
                self.client_max_window_bits += 1;
            }
            _ => self.broken = true,
        }
    }

    fn answer(&self) -> Option<&'static str> {
        let once =
            [self.server_no_context_takeover, self.client_no_context_takeover, self.client_max_window_bits];
        if self.broken || once.iter().any(|times| *times > 1) {
            return None;
        }
        match self.server_max_window_bits[..] {
            [] => Some(ANSWER),
            [bits] if bits >= WINDOW_BITS => Some(ANSWER_12),
            _ => None,
        }
    }
}

/// From 8 to 15, in decimal without a zero in front (§7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    (8..=15).find(|bits| bits.to_string() == value)
}

/// The rest of a header.
struct HeaderScanner<'h>(&'h str);

impl<'h> HeaderScanner<'h> {
    /// One element with its parameters; `None` when it is not one.
    fn element(&mut self) -> Option<Element> {
        self.skip_space();
        if self.0.is_empty() || self.0.starts_with(',') {
            return Some(Element::None);
        }
        let ours = self.token()? == EXTENSION;
        let mut offer = Offer::default();
        self.skip_space();
        while self.take(';') {
            self.skip_space();
            let name = self.token()?;
            self.skip_space();
            let value = if self.take('=') {
                self.skip_space();
                Some(self.value()?)
            } else {
                None
            };
            offer.add_parameter(name, value.as_deref());
            self.skip_space();
        }
        if !self.0.is_empty() && !self.0.starts_with(',') {
            return None;
        }
        Some(if ours { Element::Offer(offer) } else { Element::Other })
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, what: char) -> bool {
        let rest = self.0.strip_prefix(what);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// RFC 9110 §5.6.2.
    fn token(&mut self) -> Option<&'h str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, as it is or between quotes.
    fn value(&mut self) -> Option<Cow<'h, str>> {
        if !self.take('"') {
            return self.token().map(Cow::from);
        }
        let mut value = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                other => value.push(other),
            }
        }
        self.0 = chars.as_str();
        let mut inner = HeaderScanner(&value);
        (inner.token().is_some() && inner.0.is_empty()).then_some(Cow::from(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offers_of_browsers_and_libraries_are_accepted_without_context() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=15",
            "permessage-deflate ; client_max_window_bits = \"10\" ; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "x-webkit-deflate-frame, , permessage-deflate; client_max_window_bits",
            "bbf-usp-protocol; eid=\"a, b; c\", permessage-deflate",
            "bbf-usp-protocol; eid=\"ab\", permessage-deflate",
        ] {
            let quoted_list = offer.contains("a, b");
            // A quoted value that is no token is not this header's grammar.
            assert_eq!(negotiate([offer]), (!quoted_list).then_some(ANSWER), "{offer}");
        }
        for bits in ["12", "13", "14", "15", "\"15\""] {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            assert_eq!(negotiate([&*offer]), Some(ANSWER_12), "{offer}");
        }
        // Python's websockets.
        let offer = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";
        assert_eq!(negotiate([offer]), Some(ANSWER_12));
        assert_eq!(negotiate(["x-other", EXTENSION]), Some(ANSWER));
    }

    #[test]
    fn an_unacceptable_offer_is_declined() {
        for offer in [
            "",
            ",",
            "x-webkit-deflate-frame",
            "permessage-deflate-2",
            "Permessage-Deflate",
            "permessage-deflate; server_max_window_bits=11",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; server_max_window_bits=+15",
            "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; something_new",
            "permessage-deflate; ",
            "permessage-deflate;",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate; client_max_window_bits=\"15",
            "\"permessage-deflate\"",
            "=, permessage-deflate",
        ] {
            assert_eq!(negotiate([offer]), None, "{offer}");
        }
    }

    #[test]
    fn the_first_acceptable_offer_is_answered() {
        let first =
            "permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits";
        assert_eq!(negotiate([first]), Some(ANSWER));
        let first = "permessage-deflate; server_max_window_bits=15, permessage-deflate";
        assert_eq!(negotiate([first]), Some(ANSWER_12));
        let in_two_headers = ["permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=15"];
        assert_eq!(negotiate(in_two_headers), Some(ANSWER_12));
    }

    proptest! {
        #[test]
        fn any_header_is_read_to_its_end(header in ".{0,60}", other in "[a-z;=, \"\\\\_-]{0,60}") {
            negotiate([&*header, &*other]);
            negotiate([&*format!("permessage-deflate; {other}")]);
        }
    }
}
