//! The claims of tokens: the registered claims (RFC 7519 §4.1) and Centrifugo's own.
//!
//! Claims are read one by one, so that an error names the claim without its value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidings_capabilities::{Allow, Capabilities};
use tidings_pattern::Pattern;
use tidings_tags_filter::Filter;
use tidings_wire::grant::{ChannelOverrides, TokenId};
use tidings_wire::{Channel, Labels};

use super::error::{Refusal, TokenError};

const NO_CHANNEL: &str =
    "made of something else than names of channels (1 to 255 bytes of UTF-8 without control characters)";

/// The claims of a connection token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The user (`sub`); empty, as without the claim, for an anonymous client.
    pub user: String,
    /// When the connection ends unless it is refreshed, in Unix seconds (`expire_at`, else `exp`); `None` is never.
    pub expires: Option<u64>,
    /// Information for other clients, in presence and join messages: JSON (`info`), or any bytes (`b64info`).
    pub info: Option<Bytes>,
    /// Data for the application, which clients never see: JSON (`meta`).
    pub meta: Option<Bytes>,
    /// The identity of the token, for its revocation (`jti`, `iat`).
    pub token: TokenId,
    /// Server-side subscriptions (`channels` and `subs`; the options in `subs` take precedence).
    pub subs: BTreeMap<Channel, SubscriptionOptions>,
    /// What the connection may do besides the options of channels (`caps`).
    pub capabilities: Option<Arc<Capabilities>>,
    /// Names with values by which the application selects connections (`labels`).
    pub labels: Option<Arc<Labels>>,
    /// Whether the user may upload tables (`tables.upload`); `None`: `tables.allow_upload` decides.
    pub upload: Option<bool>,
}

/// The right to subscribe to one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The user (`sub`), which must be that of the connection; empty for an anonymous one.
    pub user: String,
    /// The client id (`client`), if there is one, which must be that of the connection.
    pub client: Option<String>,
    /// The channel.
    pub channel: Channel,
    /// When the subscription ends unless it is refreshed, in Unix seconds (`expire_at`, else `exp`); `None` is never.
    pub expires: Option<u64>,
    /// The identity of the token, for its revocation (`jti`, `iat`).
    pub token: TokenId,
    /// Options of this subscription.
    pub options: SubscriptionOptions,
}

/// Options of one subscription that override those of the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Information for other subscribers of this channel: JSON (`info`), or any bytes (`b64info`).
    pub info: Option<Bytes>,
    /// Data for the client, in the subscribe reply: JSON (`data`), or any bytes (`b64data`).
    pub data: Option<Bytes>,
    /// Channel options for this subscription (`override`).
    pub overrides: ChannelOverrides,
    /// The subscription gets only the publications that pass this filter (`server_tags_filter`).
    pub filter: Option<Arc<Filter>>,
    /// What the client may do in the channel besides its options (`allow`).
    pub allow: Allow,
}

/// The required audience and issuer of a token, and the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// The required audience; empty for any.
    pub(super) audience: &'a str,
    /// The required issuer; empty for any.
    pub(super) issuer: &'a str,
    /// The pattern of an audience, if there is one.
    pub(super) audience_pattern: Option<&'a Pattern>,
    /// The pattern of the issuer, if there is one.
    pub(super) issuer_pattern: Option<&'a Pattern>,
    /// The time, in Unix seconds.
    pub(super) now: u64,
}

type Raw<'a> = Option<&'a RawValue>;

/// The claims of either kind of token. `null` is the same as an absent claim.
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    /// The user: `sub`, or the configured claim.
    #[serde(borrow)]
    sub: Raw<'a>,
    #[serde(skip)]
    has_user_claim: bool,
    #[serde(borrow)]
    exp: Raw<'a>,
    #[serde(borrow)]
    nbf: Raw<'a>,
    #[serde(borrow)]
    aud: Raw<'a>,
    #[serde(borrow)]
    iss: Raw<'a>,
    #[serde(borrow)]
    jti: Raw<'a>,
    #[serde(borrow)]
    iat: Raw<'a>,
    #[serde(borrow)]
    expire_at: Raw<'a>,
    #[serde(borrow)]
    info: Raw<'a>,
    #[serde(borrow)]
    b64info: Raw<'a>,
    #[serde(borrow)]
    meta: Raw<'a>,
    #[serde(borrow)]
    channels: Raw<'a>,
    #[serde(borrow)]
    subs: Raw<'a>,
    #[serde(borrow)]
    caps: Raw<'a>,
    #[serde(borrow)]
    labels: Raw<'a>,
    #[serde(borrow)]
    allow: Raw<'a>,
    #[serde(borrow)]
    tables: Raw<'a>,
    #[serde(borrow)]
    channel: Raw<'a>,
    #[serde(borrow)]
    client: Raw<'a>,
    #[serde(borrow)]
    data: Raw<'a>,
    #[serde(borrow)]
    b64data: Raw<'a>,
    #[serde(borrow, rename = "override")]
    overrides: Raw<'a>,
    #[serde(borrow)]
    server_tags_filter: Raw<'a>,
}

impl<'a> Claims<'a> {
    /// Reads the claims of a token after the verification of its signature. The user is in `user_claim`; empty for `sub`.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] if they are no JSON object.
    pub(super) fn read(json: &'a [u8], user_claim: &str) -> Result<Self, Refusal> {
        let malformed = |_| Refusal::Malformed("its claims are no JSON object, or name one twice");
        let mut claims: Self = serde_json::from_slice(json).map_err(malformed)?;
        if !user_claim.is_empty() {
            let mut deserializer = serde_json::Deserializer::from_slice(json);
            claims.has_user_claim = true;
            claims.sub = OneClaim(user_claim).deserialize(&mut deserializer).map_err(malformed)?;
        }
        Ok(claims)
    }

    /// Checks audience and issuer of the token.
    ///
    /// # Errors
    /// [`Refusal::Audience`], [`Refusal::Issuer`] and [`Refusal::Claim`].
    pub(super) fn check_origin(&self, expected: Expected<'_>) -> Result<(), Refusal> {
        let Expected { audience, issuer, audience_pattern, issuer_pattern, now: _ } = expected;
        if !audience.is_empty() && !self.audiences()?.iter().any(|meant| meant == audience) {
            return Err(Refusal::Audience);
        }
        if !issuer.is_empty() && text("iss", self.iss)?.as_deref() != Some(issuer) {
            return Err(Refusal::Issuer);
        }
        if let Some(pattern) = audience_pattern
            && !self.audiences()?.iter().any(|meant| pattern.is_match(meant))
        {
            return Err(Refusal::Audience);
        }
        if let Some(pattern) = issuer_pattern
            && !text("iss", self.iss)?.is_some_and(|issuer| pattern.is_match(&issuer))
        {
            return Err(Refusal::Issuer);
        }
        Ok(())
    }

    /// The issuer and the audiences.
    ///
    /// # Errors
    /// [`Refusal::Claim`].
    pub(super) fn origin(&self) -> Result<(Option<String>, Vec<String>), Refusal> {
        Ok((text("iss", self.iss)?, self.audiences()?))
    }

    /// Checks audience, issuer and times of the token.
    ///
    /// # Errors
    /// [`Refusal::Audience`], [`Refusal::Issuer`], [`TokenError::Expired`], [`TokenError::NotYetValid`], and
    /// [`Refusal::Claim`].
    pub(super) fn check(&self, expected: Expected<'_>) -> Result<(), TokenError> {
        self.check_origin(expected)?;
        let now = expected.now;
        // "The exp claim identifies the expiration time on or after which the JWT MUST NOT be accepted" (§4.1.4).
        if let Some(end) = seconds("exp", self.exp)?.map(f64::floor)
            && now as f64 >= end
        {
            return Err(TokenError::Expired { seconds: (now as f64 - end) as u64 });
        }
        if let Some(begin) = seconds("nbf", self.nbf)?.map(f64::ceil)
            && (now as f64) < begin
        {
            return Err(TokenError::NotYetValid { seconds: (begin - now as f64) as u64 });
        }
        Ok(())
    }

    /// The claims of a connection token.
    ///
    /// # Errors
    /// [`Refusal::Claim`] for a claim of the wrong type, and for a subscription token, which must not permit a
    /// connection.
    pub(super) fn connection(&self) -> Result<Connection, Refusal> {
        if text("channel", self.channel)?.is_some_and(|channel| !channel.is_empty()) {
            return Err(wrong("channel", "there, so it is a subscription token and no connection token"));
        }
        let mut subs: BTreeMap<Channel, SubscriptionOptions> = BTreeMap::new();
        if let Some(names) = parsed::<Vec<String>>("channels", "no list of channels", self.channels)? {
            for name in names {
                subs.insert(channel("channels", &name)?, SubscriptionOptions::default());
            }
        }
        let list = parsed::<BTreeMap<String, Option<Options<'_>>>>("subs", "no map of channels", self.subs)?;
        for (name, options) in list.into_iter().flatten() {
            let options = options.map(|options| options.read("subs")).transpose()?.unwrap_or_default();
            subs.insert(channel("subs", &name)?, options);
        }
        Ok(Connection {
            user: self.user()?,
            expires: self.expires()?,
            info: bytes("b64info", self.b64info, self.info)?,
            meta: self.meta.map(json),
            token: self.token()?,
            subs,
            capabilities: capabilities("caps", self.caps)?,
            labels: self.labels()?,
            upload: self.upload()?,
        })
    }

    /// The claims of a subscription token.
    ///
    /// # Errors
    /// [`Refusal::Missing`] without `channel`; [`Refusal::Claim`] for a claim of the wrong type.
    pub(super) fn subscription(&self) -> Result<Subscription, Refusal> {
        let name = text("channel", self.channel)?.ok_or(Refusal::Missing("channel"))?;
        Ok(Subscription {
            user: self.user()?,
            client: text("client", self.client)?.filter(|client| !client.is_empty()),
            channel: channel("channel", &name)?,
            expires: self.expires()?,
            token: self.token()?,
            options: SubscriptionOptions {
                info: bytes("b64info", self.b64info, self.info)?,
                data: bytes("b64data", self.b64data, self.data)?,
                overrides: overrides("override", self.overrides)?,
                filter: filter("server_tags_filter", self.server_tags_filter)?,
                allow: allow("allow", self.allow)?,
            },
        })
    }

    /// The user; empty without one.
    fn user(&self) -> Result<String, Refusal> {
        let problem = if self.has_user_claim {
            "replaced by that of user_id_claim, which is no text"
        } else {
            "no text"
        };
        Ok(parsed("sub", problem, self.sub)?.unwrap_or_default())
    }

    fn labels(&self) -> Result<Option<Arc<Labels>>, Refusal> {
        let problem =
            "no object of at most 16 texts, with names of 1 to 64 bytes and values of at most 255 bytes";
        let labels: Option<Labels> = parsed("labels", problem, self.labels)?;
        Ok(labels.filter(|labels| !labels.is_empty()).map(Arc::new))
    }

    /// `tables.upload`. A claim `tables` of another shape is ignored.
    fn upload(&self) -> Result<Option<bool>, Refusal> {
        let value: Option<serde_json::Value> = parsed("tables", "not JSON", self.tables)?;
        match value.as_ref().and_then(|tables| tables.get("upload")) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::Bool(upload)) => Ok(Some(*upload)),
            Some(_) => Err(wrong("tables", "an object whose upload is neither true nor false")),
        }
    }

    /// `aud`, which is one text or a list of them (§4.1.3).
    fn audiences(&self) -> Result<Vec<String>, Refusal> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            One(String),
            More(Vec<String>),
        }
        Ok(match parsed("aud", "neither text nor a list of texts", self.aud)? {
            Some(OneOrMore::One(audience)) => vec![audience],
            Some(OneOrMore::More(audiences)) => audiences,
            None => Vec::new(),
        })
    }

    /// The end of the connection or subscription: `expire_at`, where 0 is never, else `exp`.
    fn token(&self) -> Result<TokenId, Refusal> {
        let issued = seconds("iat", self.iat)?.map(|issued| issued.floor() as u64);
        let id = text("jti", self.jti)?.filter(|id| !id.is_empty());
        Ok(TokenId { id, issued })
    }

    fn expires(&self) -> Result<Option<u64>, Refusal> {
        let end = match seconds("expire_at", self.expire_at)? {
            Some(end) => Some(end).filter(|end| *end > 0.0),
            None => seconds("exp", self.exp)?,
        };
        Ok(end.map(|end| end.floor() as u64))
    }
}

/// Reads the claim with this name. A repeated one is an error.
struct OneClaim<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for OneClaim<'_> {
    type Value = Raw<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneClaim<'_> {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut claims: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = claims.next_key::<Cow<'de, str>>()? {
            let value: Raw<'de> = claims.next_value()?;
            if name == self.0 && found.replace(value).is_some() {
                return Err(serde::de::Error::custom("twice"));
            }
        }
        Ok(found.flatten())
    }
}

/// The options of one entry of `subs`.
#[derive(Deserialize)]
struct Options<'a> {
    #[serde(borrow)]
    info: Raw<'a>,
    #[serde(borrow)]
    b64info: Raw<'a>,
    #[serde(borrow)]
    data: Raw<'a>,
    #[serde(borrow)]
    b64data: Raw<'a>,
    #[serde(borrow, rename = "override")]
    overrides: Raw<'a>,
    #[serde(borrow)]
    server_tags_filter: Raw<'a>,
    #[serde(borrow)]
    allow: Raw<'a>,
}

impl Options<'_> {
    fn read(&self, claim: &'static str) -> Result<SubscriptionOptions, Refusal> {
        Ok(SubscriptionOptions {
            info: bytes(claim, self.b64info, self.info)?,
            data: bytes(claim, self.b64data, self.data)?,
            overrides: overrides(claim, self.overrides)?,
            filter: filter(claim, self.server_tags_filter)?,
            allow: allow(claim, self.allow)?,
        })
    }
}

fn wrong(claim: &'static str, problem: &'static str) -> Refusal {
    Refusal::Claim { claim, problem }
}

fn parsed<'a, T: Deserialize<'a>>(
    claim: &'static str,
    problem: &'static str,
    raw: Raw<'a>,
) -> Result<Option<T>, Refusal> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| wrong(claim, problem))).transpose()
}

fn text(claim: &'static str, raw: Raw<'_>) -> Result<Option<String>, Refusal> {
    parsed(claim, "no text", raw)
}

/// A NumericDate (§2): seconds since the epoch, with an optional fraction. Exact below 2^53.
fn seconds(claim: &'static str, raw: Raw<'_>) -> Result<Option<f64>, Refusal> {
    let problem = "no number of seconds since 1970";
    match parsed::<f64>(claim, problem, raw)? {
        Some(seconds) if seconds < 0.0 => Err(wrong(claim, problem)),
        seconds => Ok(seconds),
    }
}

fn channel(claim: &'static str, name: &str) -> Result<Channel, Refusal> {
    Channel::new(name).map_err(|_| wrong(claim, NO_CHANNEL))
}

/// The bytes of `encoded` (base64), else the JSON of `plain`.
fn bytes(claim: &'static str, encoded: Raw<'_>, plain: Raw<'_>) -> Result<Option<Bytes>, Refusal> {
    match text(claim, encoded)?.filter(|text| !text.is_empty()) {
        Some(text) => {
            let bytes = STANDARD.decode(text).map_err(|_| wrong(claim, "no base64"))?;
            Ok(Some(bytes.into()))
        }
        None => Ok(plain.map(json)),
    }
}

fn json(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

fn overrides(claim: &'static str, raw: Raw<'_>) -> Result<ChannelOverrides, Refusal> {
    Ok(parsed(claim, "no map of overrides", raw)?.unwrap_or_default())
}

fn capabilities(claim: &'static str, raw: Raw<'_>) -> Result<Option<Arc<Capabilities>>, Refusal> {
    let capabilities = raw.map(|raw| Capabilities::from_json(raw.get())).transpose();
    let capabilities = capabilities.map_err(|error| wrong(claim, error.problem()))?;
    Ok(capabilities.filter(|capabilities| !capabilities.is_empty()).map(Arc::new))
}

fn allow(claim: &'static str, raw: Raw<'_>) -> Result<Allow, Refusal> {
    let names: Vec<String> = parsed(claim, "no list of capabilities", raw)?.unwrap_or_default();
    Allow::from_names(names.iter().map(String::as_str)).map_err(|error| wrong(claim, error.problem()))
}

/// A filter that is refused is an error, because a subscription without it would get more than it may.
fn filter(claim: &'static str, raw: Raw<'_>) -> Result<Option<Arc<Filter>>, Refusal> {
    let filter = raw.map(|raw| Filter::from_json(raw.get().as_bytes()).map(Arc::new)).transpose();
    filter.map_err(|_| wrong(claim, "no valid filter by tags, or a longer one than is allowed"))
}
