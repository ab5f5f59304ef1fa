//! The frames of clients.

use bytes::Bytes;
use tidings_hub::{
    AuthorizationRequest, CloseReason, Connected, Progress, SubscribeOptions, SubscribeRequest,
};
use tidings_stomp::{self as stomp, Frame, HeartBeat, VERSION};
use tidings_wire::code::{self, Code};
use tidings_wire::{Channel, Topic};

use super::state::{HeartBeats, MAX_ID, Progress as Subscribing, Subscription};
use crate::context::Context;
use crate::messages::Request;

/// The value of `server` in `CONNECTED`.
const SERVER: &str = concat!("tidings/", env!("CARGO_PKG_VERSION"));

/// Headers of `SEND` that are about the frame. The others are tags of the publication.
const FRAME_HEADERS: [&str; 4] = ["destination", "receipt", "transaction", "content-length"];

/// An error for the client, and its code.
type Rejected = (Code, String);

impl Context<'_> {
    /// `CONNECT` and `STOMP`.
    pub(super) fn stomp_connect(&mut self, frame: &Frame<'_>, is_connected: bool) {
        if is_connected {
            return self.stomp_reject(code::BAD_REQUEST, "connected already", None);
        }
        let versions = frame.header("accept-version").unwrap_or("1.0");
        if !versions.split(',').any(|version| version.trim() == VERSION) {
            return self.stomp_wrong_version(versions);
        }
        let heart_beat = match frame.header("heart-beat").map(HeartBeat::parse) {
            None => HeartBeat::default(),
            Some(Some(heart_beat)) => heart_beat,
            Some(None) => {
                let words = "heart-beat must be two numbers of milliseconds, as in 10000,10000";
                return self.stomp_reject(code::BAD_REQUEST, words, None);
            }
        };
        let interval = self.stomp_ping_interval();
        self.stomp().heart_beats = HeartBeats::new(heart_beat.expects > 0, heart_beat.sends, interval);
        self.stomp_authenticate(frame.header("passcode").unwrap_or_default());
    }

    /// The passcode is a connection token or the API key. It is ignored where neither is configured.
    fn stomp_authenticate(&mut self, passcode: &str) {
        let settings = std::sync::Arc::clone(self.hub.settings());
        let access = &settings.access;
        let has_secrets = access.tokens || !access.keys.is_empty();
        if !passcode.is_empty() && has_secrets && !self.hub.authenticate(self.slot, passcode.as_bytes()) {
            return self.hub.authenticate_token(self.slot, passcode.as_bytes(), self.fx);
        }
        let is_backend = !passcode.is_empty() && has_secrets;
        if (settings.connect_proxy || self.hub.has_proxied_user(self.slot)) && !is_backend {
            let decision = AuthorizationRequest::connect(self.hub.requester(self.slot), "");
            return self.hub.request(self.slot, 0, Request::Authorize(Box::new(decision)), self.fx);
        }
        if !(is_backend || access.open || access.anonymous_connect) {
            return self.stomp_reject(code::UNAUTHORIZED, code::UNAUTHORIZED.text, None);
        }
        self.operations().accept(0, Connected::default(), true);
    }

    /// STOMP 1.2, "Protocol Negotiation": the error names the versions of the server.
    fn stomp_wrong_version(&mut self, versions: &str) {
        self.hub.count_error();
        let words = format!("supported protocol version is {VERSION}, not {versions}");
        let number = code::BAD_REQUEST.number.to_string();
        let headers = [("code", number.as_str()), ("version", VERSION)];
        self.stomp_write(|out| stomp::error(&words, &headers, &words, out));
        self.end(&CloseReason::Done);
    }

    /// The connection is accepted.
    pub(super) fn stomp_connected(&mut self) {
        let session = self.hub.client_id(self.hub.session_id(self.slot));
        let interval = u32::try_from(self.stomp_ping_interval()).unwrap_or(u32::MAX);
        let heart_beat = HeartBeat { sends: interval, expects: interval };
        self.stomp_write(|out| stomp::connected(&session, SERVER, heart_beat, out));
    }

    /// The time between pings, in milliseconds; 0 without pings.
    fn stomp_ping_interval(&self) -> u64 {
        u64::try_from(self.hub.settings().ping_interval.as_millis()).unwrap_or(u64::MAX)
    }

    /// `SUBSCRIBE`.
    pub(super) fn stomp_subscribe(&mut self, frame: &Frame<'_>) -> Progress {
        if !self.session().can_subscribe() {
            return Progress::Hold;
        }
        let (id, channel) = match self.stomp_checked_subscribe(frame) {
            Ok(checked) => checked,
            Err(rejected) => return self.stomp_rejection(frame, rejected),
        };
        let others = self.stomp().subscriptions.iter().filter(|other| other.channel == channel);
        let progress = others.map(|other| other.progress).next();
        match progress {
            Some(Subscribing::Subscribing(_)) => Progress::Hold,
            Some(made) => self.in_turn(|cx| {
                cx.stomp().subscriptions.push(Subscription { id, channel, progress: made });
                cx.stomp_confirm(frame.header("receipt"));
            }),
            None => {
                let stomp = self.stomp();
                let command = stomp.begin(frame.header("receipt"));
                let progress = Subscribing::Subscribing(command);
                stomp.subscriptions.push(Subscription { id, channel: channel.clone(), progress });
                let request = SubscribeRequest {
                    id: command,
                    channel,
                    sub_options: SubscribeOptions { by_client: true, ..SubscribeOptions::default() },
                    token: frame.header("token").unwrap_or_default().to_owned(),
                    data: None,
                };
                if let Err(refusal) = self.operations().subscribe(request) {
                    self.stomp().take_receipt(command);
                    self.stomp().subscriptions.pop();
                    return self.stomp_rejection(frame, (refusal.0, refusal.1));
                }
                if self.is_closing() { Progress::End } else { Progress::Next }
            }
        }
    }

    fn stomp_checked_subscribe(&mut self, frame: &Frame<'_>) -> Result<(Box<str>, Channel), Rejected> {
        check_receipt(frame)?;
        let id = frame.header("id").ok_or_else(|| bad("SUBSCRIBE needs the header id"))?;
        if id.len() > MAX_ID {
            return Err(bad(&format!("id is longer than {MAX_ID} bytes")));
        }
        let mode = frame.header("ack").unwrap_or("auto");
        if mode != "auto" {
            return Err((code::NOT_AVAILABLE, format!("ack:{mode} is not available, only ack:auto")));
        }
        let channel = destination(frame)?;
        let limit = self.hub.settings().channel_limit;
        let stomp = self.stomp();
        if stomp.find(id).is_some() {
            return Err((code::ALREADY_SUBSCRIBED, format!("already subscribed: id {id} is in use")));
        }
        if stomp.subscriptions.len() >= limit {
            let words = format!("limit exceeded: {limit} subscriptions a connection");
            return Err((code::LIMIT_EXCEEDED, words));
        }
        Ok((id.into(), channel))
    }

    /// `UNSUBSCRIBE`.
    pub(super) fn stomp_unsubscribe(&mut self, frame: &Frame<'_>) {
        let receipt = frame.header("receipt");
        let Some(id) = frame.header("id") else {
            return self.stomp_reject(code::BAD_REQUEST, "UNSUBSCRIBE needs the header id", receipt);
        };
        let Some(at) = self.stomp().find(id) else {
            let words = format!("no subscription has the id {id}");
            return self.stomp_reject(code::BAD_REQUEST, &words, receipt);
        };
        let stomp = self.stomp();
        let ended = stomp.subscriptions.remove(at);
        if stomp.subscriptions.iter().all(|other| other.channel != ended.channel) {
            self.hub.unsubscribe(self.slot, &Topic::Channel(ended.channel), self.fx);
        }
        self.stomp_confirm(receipt);
    }

    /// `SEND`.
    pub(super) fn stomp_send(&mut self, frame: &Frame<'_>) -> Progress {
        if !self.session().can_publish() {
            return Progress::Hold;
        }
        let request = check_receipt(frame).and_then(|()| {
            if frame.header("transaction").is_some() {
                return Err((code::NOT_AVAILABLE, "transactions are not available".to_owned()));
            }
            let is_tag = |(name, _): &(&str, &str)| !FRAME_HEADERS.contains(name);
            let tags = frame.headers.iter().filter(is_tag).map(|(name, value)| (name.into(), value.into()));
            let body = Bytes::copy_from_slice(frame.body);
            let request = self.hub.publish_request(self.slot, destination(frame)?, body, tags.collect());
            request.map_err(|code| (code, code.text.to_owned()))
        });
        match request {
            Err(rejected) => self.stomp_rejection(frame, rejected),
            Ok(request) => {
                let id = self.stomp().begin(frame.header("receipt"));
                self.hub.request(self.slot, id, request, self.fx);
                Progress::Next
            }
        }
    }

    /// A frame for which there is nothing here.
    pub(super) fn stomp_unavailable(&mut self, frame: &Frame<'_>, words: &str) -> Progress {
        self.stomp_rejection(frame, (code::NOT_AVAILABLE, words.to_owned()))
    }

    /// Answers a frame with an error once every frame before it is answered.
    fn stomp_rejection(&mut self, frame: &Frame<'_>, (code, words): Rejected) -> Progress {
        self.in_turn(|cx| cx.stomp_reject(code, &words, frame.header("receipt")))
    }
}

fn bad(words: &str) -> Rejected {
    (code::BAD_REQUEST, format!("bad request: {words}"))
}

fn check_receipt(frame: &Frame<'_>) -> Result<(), Rejected> {
    match frame.header("receipt") {
        Some(receipt) if receipt.len() > MAX_ID => {
            Err(bad(&format!("receipt is longer than {MAX_ID} bytes")))
        }
        _ => Ok(()),
    }
}

/// The channel of a frame.
fn destination(frame: &Frame<'_>) -> Result<Channel, Rejected> {
    let name = frame.header("destination");
    let name =
        name.ok_or_else(|| bad(&format!("{} needs the header destination", frame.command.as_str())))?;
    Channel::new(name).map_err(|error| bad(&error.to_string()))
}
