//! Properties of messages, names and signatures for generated input.

use proptest::prelude::*;
use tidings_pusher::{
    Command, EventRequest, Key, Member, SocketId, check_body, parse_command, publication, visible_name,
};

proptest! {
    #[test]
    fn a_client_event_keeps_its_text(event in "client-.{0,50}", channel in ".{0,50}", text in ".*") {
        let message = serde_json::json!({"event": event, "channel": channel, "data": text}).to_string();
        let parsed = parse_command(message.as_bytes()).expect("a client event");
        let expected = Command::ClientEvent {
            event: event.as_str().into(),
            channel: channel.as_str().into(),
            data: text.as_str().into(),
        };
        prop_assert_eq!(parsed, expected);
    }

    #[test]
    fn an_event_of_the_http_api_keeps_its_data(name in "[a-z.]{1,200}", channel in "[-a-zA-Z0-9_=@,.;]{1,164}", data in ".{0,100}") {
        let body = serde_json::json!({"name": name, "channel": channel, "data": data}).to_string();
        let event = EventRequest::parse(body.as_bytes(), 400).expect("an event");
        prop_assert_eq!((event.name, event.channels, event.data), (name, vec![channel], data));
    }

    #[test]
    fn an_event_is_written_as_json_with_its_texts(event in ".{1,50}", channel in ".*", data in ".*") {
        let mut out = Vec::new();
        publication(&event, &channel, &data, None, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        prop_assert_eq!(value, serde_json::json!({"event": event, "channel": channel, "data": data}));
    }

    #[test]
    fn channels_of_different_apps_are_different(a in "[-a-zA-Z0-9_=@,.;]{1,20}", b in "[-a-zA-Z0-9_=@,.;]{1,20}", prefix in "[a-z:]{0,5}") {
        let (first, second) = (format!("{prefix}:{a}"), b);
        prop_assert_ne!(&first, &second);
        prop_assert_eq!((visible_name(&first), visible_name(&second)), (a.as_str(), second.as_str()));
    }

    #[test]
    fn every_number_is_a_socket_id(bits in any::<u128>()) {
        let text = format!("{}.{}", bits >> 64, bits & u128::from(u64::MAX));
        let socket: SocketId = text.parse().expect("a socket id");
        prop_assert_eq!(SocketId::from_client(&socket.client()), Some(socket));
        prop_assert_eq!(socket.to_string(), text);
    }

    #[test]
    fn a_member_keeps_its_id(id in "[^\\p{Cc}]{1,32}", number in any::<u32>()) {
        let data = serde_json::json!({"user_id": id, "user_info": {"n": number}}).to_string();
        let member = Member::parse(&data).expect("a member");
        prop_assert_eq!(member.user_id, id);
        let data = format!("{{\"user_id\":{number}}}");
        prop_assert_eq!(Member::parse(&data).expect("a member").user_id, number.to_string());
    }

    #[test]
    fn a_signature_is_valid_for_its_request_alone(path in "/[a-z/]{1,30}", body in any::<Vec<u8>>(), at in 0..5_usize, now in 0..u64::from(u32::MAX)) {
        let key = Key::new("secret");
        let query = key.sign_request("key", "POST", &path, &body, now);
        prop_assert!(key.verify_request("POST", &path, &query, now).is_ok());
        prop_assert!(check_body(&query, &body).is_ok());
        prop_assert!(key.verify_request("PUT", &path, &query, now).is_err());
        prop_assert!(Key::new("other").verify_request("POST", &path, &query, now).is_err());
        let mut changed = query.clone();
        let at = at.min(changed.len() - 1);
        changed[at].1.push('1');
        prop_assert!(key.verify_request("POST", &path, &changed, now).is_err());
    }
}
