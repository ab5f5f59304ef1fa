//! The invariants of the Pusher codec for any input, as functions that panic on a violation.
//!
//! They run in two ways, like those of `lib.rs`: in cargo-fuzz (`fuzz_targets/pusher.rs`), and in the ordinary test
//! `crates/pusher/tests/pusher/fuzz_corpus.rs` over the committed inputs of `seeds/` and mutations of them.

use tidings_pusher::{
    Command, EventBatch, EventRequest, Key, Member, SocketId, check_body, check_channel, check_event,
    check_user_id, parse_command, publication, signed_in_user, user_id, visible_name,
};

/// The largest data of an event.
const MAX: usize = 100;

/// A message is read or refused; a name that is accepted is within its limits; what is written for a text is JSON with this
/// text; a signature is accepted for its own text alone.
pub fn messages(data: &[u8]) {
    if let Ok(Command::ClientEvent { event, channel, data }) = parse_command(data) {
        assert!(event.starts_with("client-"));
        written(&event, &channel, &data);
    }
    if let Ok(event) = EventRequest::parse(data, MAX) {
        assert!(event.data.len() <= MAX && check_event(&event.name).is_ok() && !event.channels.is_empty());
    }
    if let Ok(batch) = EventBatch::parse(data, MAX) {
        assert!(batch.len() <= 10);
    }
    let _ = user_id(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(member) = Member::parse(text) {
        assert!(check_user_id(&member.user_id).is_ok());
        assert_eq!(user_id(data), Some(member.user_id));
    }
    if let Ok(user) = signed_in_user(text) {
        assert!(check_user_id(&user).is_ok());
    }
    if check_channel(text).is_ok() {
        assert_eq!(visible_name(&format!("shop:{text}")), text);
    }
    if let Ok(socket) = text.parse::<SocketId>() {
        assert_eq!(SocketId::from_client(&socket.client()), Some(socket));
        assert_eq!(socket.to_string().parse(), Ok(socket));
    }
    written(text, text, text);
    let key = Key::new("secret");
    let auth = format!("key:{}", key.sign(format!("1.2:{text}").as_bytes()));
    assert!(key.verify_channel("key", &auth, "1.2", text, None).is_ok());
    assert!(key.verify_channel("key", &auth, "1.3", text, None).is_err());
    assert!(key.verify_channel("key", text, "1.2", "private-a", None).is_err());
    let query = key.sign_request("key", "POST", text, data, 7);
    assert!(key.verify_request("POST", text, &query, 7).and_then(|()| check_body(&query, data)).is_ok());
}

/// Writes an event, and reads it again.
fn written(event: &str, channel: &str, data: &str) {
    let mut out = Vec::new();
    publication(event, channel, data, Some(event), &mut out);
    let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    let expected = serde_json::json!({"event": event, "channel": channel, "data": data, "user_id": event});
    assert_eq!(value, expected);
}
