//! The receivers of webhooks, and the events that they get.

use http::Uri;

use crate::proxy::HttpUrl;
use crate::raw::{Raw, shown};
use crate::setting::{Setting, expected, quoted};

/// An example of an address, for error messages.
const EXAMPLE: &str = "http://localhost:3000/webhooks";

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookEvent {
    /// A channel has its first subscription on any node.
    Occupied,
    /// The last subscription of a channel has ended.
    Vacated,
    /// A user is present in a channel, with the first connection.
    Joined,
    /// A user is not present in a channel any more, with any connection.
    Left,
    /// A client has published.
    Published,
    /// A subscriber of a channel that keeps its last publication has found none.
    CacheMiss,
    /// The number of subscriptions of a channel has changed.
    SubscriptionCount,
}

impl WebhookEvent {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Occupied,
        Self::Vacated,
        Self::Joined,
        Self::Left,
        Self::Published,
        Self::CacheMiss,
        Self::SubscriptionCount,
    ];

    /// The name in `webhooks.endpoints` and in the requests to these endpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Published => "published",
            Self::CacheMiss => "cache_miss",
            Self::SubscriptionCount => "subscription_count",
        }
    }

    /// The name in the Pusher protocol ("Webhooks").
    pub fn pusher_name(self) -> &'static str {
        match self {
            Self::Occupied => "channel_occupied",
            Self::Vacated => "channel_vacated",
            Self::Joined => "member_added",
            Self::Left => "member_removed",
            Self::Published => "client_event",
            Self::CacheMiss => "cache_miss",
            Self::SubscriptionCount => "subscription_count",
        }
    }

    /// The kind with this name in either form.
    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| text == kind.name() || text == kind.pusher_name());
        found.ok_or_else(|| {
            let names = Self::ALL.map(|kind| format!("`{}`", kind.name())).join(", ");
            format!(
                "\"{}\" is not an event of webhooks: expected {names}, or their Pusher names",
                shown(text)
            )
        })
    }
}

/// A receiver of webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its address.
    pub url: HttpUrl,
    /// The events that it gets; at least one.
    pub events: Vec<WebhookEvent>,
}

impl Webhook {
    /// The address.
    pub fn uri(&self) -> &Uri {
        self.url.uri()
    }
}

/// A table with `url` and `events`, or an address alone, which gets all events.
impl Setting for Webhook {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let url = |raw: &Raw| {
            let url = Option::<HttpUrl>::read(raw, &EXAMPLE)?;
            url.ok_or_else(|| format!("expected a URL such as {EXAMPLE}, got nothing"))
        };
        let Raw::Table(entries) = raw else {
            if raw.as_text().is_none() {
                return Err(expected("a table with `url` and `events`, or a URL", raw));
            }
            return Ok(Self { url: url(raw)?, events: WebhookEvent::ALL.to_vec() });
        };
        let (mut address, mut events) = (None, None);
        for (name, node) in entries {
            match name.as_str() {
                "url" => address = Some(url(&node.raw)?),
                "events" => events = Some(read_events(&node.raw)?),
                other => {
                    return Err(format!("a webhook has `url` and `events`, and no `{}`", shown(other)));
                }
            }
        }
        let url = address.ok_or("a webhook needs its `url`")?;
        Ok(Self { url, events: events.unwrap_or_else(|| WebhookEvent::ALL.to_vec()) })
    }

    fn kind((): &()) -> String {
        "webhook".into()
    }

    fn toml(&self) -> Option<String> {
        let events = self.events.iter().map(|event| quoted(event.name())).collect::<Vec<_>>().join(", ");
        Some(format!("{{ url = {}, events = [{events}] }}", quoted(&self.uri().to_string())))
    }
}

fn read_events(raw: &Raw) -> Result<Vec<WebhookEvent>, String> {
    let Raw::List(nodes) = raw else { return Err(expected("a list of events", raw)) };
    let mut events = Vec::new();
    for node in nodes {
        let text = node.raw.as_text().ok_or_else(|| expected("the name of an event", &node.raw))?;
        let event = WebhookEvent::parse(text)?;
        if !events.contains(&event) {
            events.push(event);
        }
    }
    if events.is_empty() {
        return Err("the list of events is empty; without `events`, a webhook gets all of them".into());
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Node;

    fn table(entries: &[(&str, Raw)]) -> Raw {
        let entry = |(name, raw): &(&str, Raw)| ((*name).to_owned(), Node { line: 1, raw: raw.clone() });
        Raw::Table(entries.iter().map(entry).collect())
    }

    fn list(texts: &[&str]) -> Raw {
        Raw::List(texts.iter().map(|text| Node { line: 1, raw: Raw::Text((*text).into()) }).collect())
    }

    #[test]
    fn a_webhook_is_a_table_or_an_address_which_gets_all_events() {
        let url = Raw::Text("https://example.com/hook".into());
        let all = Webhook::read(&url, &()).unwrap();
        assert_eq!(all.events, WebhookEvent::ALL);
        let some = table(&[("url", url.clone()), ("events", list(&["occupied", "member_added", "joined"]))]);
        let some = Webhook::read(&some, &()).unwrap();
        assert_eq!(some.events, [WebhookEvent::Occupied, WebhookEvent::Joined]);
        assert_eq!(
            some.toml().unwrap(),
            r#"{ url = "https://example.com/hook", events = ["occupied", "joined"] }"#
        );
    }

    #[test]
    fn a_webhook_that_is_not_complete_is_refused_with_what_it_needs() {
        let url = || ("url", Raw::Text("http://localhost/".into()));
        let cases = [
            (table(&[]), "needs its `url`"),
            (table(&[url(), ("events", list(&[]))]), "is empty"),
            (table(&[url(), ("events", list(&["opened"]))]), "\"opened\" is not an event"),
            (table(&[url(), ("secret", Raw::Text("x".into()))]), "no `secret`"),
            (Raw::Text(String::new()), "got nothing"),
            (Raw::Text("ftp://example.com".into()), "another scheme"),
            (Raw::Switch(true), "a table with `url`"),
        ];
        for (raw, expected) in cases {
            let error = Webhook::read(&raw, &()).unwrap_err();
            assert!(error.contains(expected), "{raw:?}: {error}");
        }
    }
}
