//! Any command and any reply, for property tests.

use std::borrow::Cow;

use proptest::prelude::*;
use tidings_wire::client::push::{self, ClientInfo, Event, Publication, Push};
use tidings_wire::client::reply::{self, Outcome, Reply};
use tidings_wire::client::request::{self, Command, Request, StreamPosition};
use tidings_wire::client::{Data, Map};

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof![Just(String::new()), "[a-z]{1,4}", ".{0,12}"].prop_map(Cow::Owned)
}

/// Raw JSON, because JSON decodes data as such; never empty, because Protobuf cannot distinguish that from absent.
fn data() -> impl Strategy<Value = Data<'static>> {
    let json = prop_oneof![
        any::<i32>().prop_map(|number| number.to_string()),
        ".{0,8}".prop_map(|text| serde_json::Value::from(text).to_string()),
        Just("{\"a\":[1,{}]}".to_owned()),
        Just("null".to_owned()),
        "[a-z]{100,300}".prop_map(|long| format!("\"{long}\"")),
    ];
    json.prop_map(|json| Data::from(json.into_bytes()))
}

fn optional_data() -> impl Strategy<Value = Option<Data<'static>>> {
    prop::option::of(data())
}

/// Entries in the order of their keys and no key twice, so that prost returns them unchanged.
fn map<V: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = V> + 'static,
) -> BoxedStrategy<Map<'static, V>> {
    prop::collection::btree_map(text(), value, 0..4)
        .prop_map(|entries| entries.into_iter().collect::<Vec<_>>().into())
        .boxed()
}

fn number() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), 1..300_u64, any::<u64>()].boxed()
}

fn small() -> BoxedStrategy<u32> {
    prop_oneof![Just(0), 1..300_u32, any::<u32>()].boxed()
}

fn signed() -> BoxedStrategy<i64> {
    prop_oneof![Just(0), any::<i64>()].boxed()
}

fn subscribe() -> BoxedStrategy<request::Subscribe<'static>> {
    let flags = any::<[bool; 5]>();
    let map = (any::<[i32; 3]>(), text());
    (text(), text(), text(), text(), number(), optional_data(), signed(), flags, map)
        .prop_map(|(channel, token, epoch, delta, offset, data, flag, flags, map)| {
            let [recover, positioned, recoverable, join_leave, asc] = flags;
            let ([kind, phase, limit], cursor) = map;
            request::Subscribe {
                channel,
                token,
                recover,
                epoch,
                offset,
                data,
                positioned,
                recoverable,
                join_leave,
                delta,
                // It is passed on as it is encoded; `known_bytes` has a test of it.
                tf: None,
                flag,
                kind,
                phase,
                cursor,
                limit,
                asc,
            }
        })
        .boxed()
}

fn connect() -> BoxedStrategy<request::Connect<'static>> {
    (text(), optional_data(), map(subscribe()), text(), text(), map(text()), signed())
        .prop_map(|(token, data, subs, name, version, headers, flag)| request::Connect {
            token,
            data,
            subs,
            name,
            version,
            headers,
            flag,
        })
        .boxed()
}

fn history() -> BoxedStrategy<request::History<'static>> {
    let since = (number(), text()).prop_map(|(offset, epoch)| StreamPosition { offset, epoch });
    (text(), any::<i32>(), prop::option::of(since), any::<bool>())
        .prop_map(|(channel, limit, since, reverse)| request::History { channel, limit, since, reverse })
        .boxed()
}

fn sub_refresh() -> BoxedStrategy<request::SubRefresh<'static>> {
    let item = (text(), number()).prop_map(|(key, version)| request::KeyedItem { key, version });
    let batch = (text(), prop::collection::vec(item, 0..3))
        .prop_map(|(signature, items)| request::TrackBatch { signature, items: items.into() });
    let untrack = prop::collection::vec(text(), 0..3);
    (text(), text(), any::<i32>(), prop::collection::vec(batch, 0..3), untrack)
        .prop_map(|(channel, token, kind, track, untrack)| request::SubRefresh {
            channel,
            token,
            kind,
            track: track.into(),
            untrack: untrack.into(),
        })
        .boxed()
}

/// A command with any of the methods.
pub(crate) fn command() -> BoxedStrategy<Command<'static>> {
    let request = prop_oneof![
        connect().prop_map(Request::Connect),
        subscribe().prop_map(Request::Subscribe),
        text().prop_map(|channel| Request::Unsubscribe(request::Unsubscribe { channel })),
        (text(), optional_data(), any::<i32>(), text(), any::<bool>()).prop_map(
            |(channel, data, kind, key, removed)| {
                Request::Publish(request::Publish { channel, data, kind, key, removed })
            }
        ),
        text().prop_map(|channel| Request::Presence(request::Presence { channel })),
        text().prop_map(|channel| Request::PresenceStats(request::PresenceStats { channel })),
        history().prop_map(Request::History),
        Just(Request::Ping),
        optional_data().prop_map(|data| Request::Send(request::Send { data })),
        (optional_data(), text()).prop_map(|(data, method)| Request::Rpc(request::Rpc { data, method })),
        text().prop_map(|token| Request::Refresh(request::Refresh { token })),
        sub_refresh().prop_map(Request::SubRefresh),
    ];
    (small(), request).prop_map(|(id, request)| Command { id, request }).boxed()
}

fn info() -> BoxedStrategy<ClientInfo<'static>> {
    (text(), text(), optional_data(), optional_data())
        .prop_map(|(user, client, conn_info, chan_info)| ClientInfo { user, client, conn_info, chan_info })
        .boxed()
}

fn publication() -> BoxedStrategy<Publication<'static>> {
    let keyed = (text(), number());
    (data(), prop::option::of(info()), number(), map(text()), any::<[bool; 2]>(), signed(), text(), keyed)
        .prop_map(|(data, info, offset, tags, [delta, removed], time, channel, (key, version))| Publication {
            data,
            info,
            offset,
            tags,
            delta,
            time,
            channel,
            key,
            removed,
            version,
        })
        .boxed()
}

fn publications() -> BoxedStrategy<Vec<Publication<'static>>> {
    prop::collection::vec(publication(), 0..3).boxed()
}

fn subscribed() -> BoxedStrategy<reply::Subscribe<'static>> {
    let flags = any::<[bool; 6]>();
    let map = (any::<[i32; 2]>(), text(), publications());
    (small(), text(), publications(), number(), optional_data(), flags, map)
        .prop_map(|(ttl, epoch, publications, offset, data, flags, ([kind, phase], cursor, state))| {
            let [expires, recoverable, recovered, positioned, was_recovering, delta] = flags;
            reply::Subscribe {
                expires,
                ttl,
                recoverable,
                epoch,
                publications: publications.into(),
                recovered,
                offset,
                positioned,
                data,
                was_recovering,
                delta,
                kind,
                phase,
                cursor,
                state: state.into(),
            }
        })
        .boxed()
}

fn connected() -> BoxedStrategy<reply::Connect<'static>> {
    let texts = (text(), text(), text(), text());
    (texts, any::<[bool; 2]>(), small(), optional_data(), map(subscribed()), small(), signed())
        .prop_map(|((client, version, session, node), [expires, pong], ttl, data, subs, ping, time)| {
            reply::Connect { client, version, expires, ttl, data, subs, ping, pong, session, node, time }
        })
        .boxed()
}

fn push() -> BoxedStrategy<Push<'static>> {
    let event = prop_oneof![
        publication().prop_map(Event::Publication),
        prop::option::of(info()).prop_map(|info| Event::Join(push::Join { info })),
        prop::option::of(info()).prop_map(|info| Event::Leave(push::Leave { info })),
        (small(), text()).prop_map(|(code, reason)| Event::Unsubscribe(push::Unsubscribe { code, reason })),
        optional_data().prop_map(|data| Event::Message(push::Message { data })),
        (any::<[bool; 2]>(), text(), number(), optional_data()).prop_map(
            |([recoverable, positioned], epoch, offset, data)| {
                Event::Subscribe(push::Subscribe { recoverable, epoch, offset, positioned, data })
            }
        ),
        connected().prop_map(|connected| Event::Connect(connected.into())),
        (small(), text(), any::<bool>()).prop_map(|(code, reason, reconnect)| {
            Event::Disconnect(push::Disconnect { code, reason, reconnect })
        }),
        (any::<bool>(), small()).prop_map(|(expires, ttl)| Event::Refresh(push::Refresh { expires, ttl })),
    ];
    (text(), event).prop_map(|(channel, event)| Push { channel, event }).boxed()
}

/// A reply with any of the results.
pub(crate) fn reply() -> BoxedStrategy<Reply<'static>> {
    let outcome = prop_oneof![
        (small(), text(), any::<bool>()).prop_map(|(code, message, temporary)| {
            Outcome::Error(reply::Error { code, message, temporary })
        }),
        push().prop_map(Outcome::Push),
        connected().prop_map(Outcome::Connect),
        subscribed().prop_map(Outcome::Subscribe),
        Just(Outcome::Unsubscribe),
        Just(Outcome::Publish),
        map(info()).prop_map(|presence| Outcome::Presence(reply::Presence { presence })),
        (small(), small()).prop_map(|(num_clients, num_users)| {
            Outcome::PresenceStats(reply::PresenceStats { num_clients, num_users })
        }),
        (publications(), text(), number()).prop_map(|(publications, epoch, offset)| {
            Outcome::History(reply::History { publications: publications.into(), epoch, offset })
        }),
        Just(Outcome::Pong),
        optional_data().prop_map(|data| Outcome::Rpc(reply::Rpc { data })),
        (text(), text(), any::<bool>(), small()).prop_map(|(client, version, expires, ttl)| {
            Outcome::Refresh(reply::Refresh { client, version, expires, ttl })
        }),
        (any::<bool>(), small())
            .prop_map(|(expires, ttl)| Outcome::SubRefresh(reply::SubRefresh { expires, ttl })),
    ];
    (small(), outcome).prop_map(|(id, outcome)| Reply { id, outcome }).boxed()
}
