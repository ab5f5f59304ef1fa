//! The fields of all messages, with their numbers: `proto/client.proto` in a form that compiles.
//!
//! Numbers and names are those of the Centrifugo client protocol (its public `client.proto`, protocol version 2). A
//! field that is not listed here is skipped, as Protobuf specifies.
//!
//! Invariant, kept by a test: these tables are equal to `proto/client.proto`.

use super::field::{Field, FieldReader, FieldWriter, Fields, Value, WireMessage, field};
use super::opaque::Opaque;
use super::push::{self, ClientInfo, Event, Publication, Push};
use super::reply::{self, Outcome, Reply};
use super::request::{self, Command, Request, StreamPosition};

/// Messages that consist of their fields: all fields of the type, in encoding order. `always` marks those that JSON
/// includes also when they are empty.
macro_rules! message {
    ($($type:ty { $($number:literal $name:ident $(: $wire:ident)? $($always:ident)?),* })*) => {$(
        impl<'a> WireMessage<'a> for $type {
            const FIELDS: &'static [Field] = &[$(field!($number $name $(: $wire)? $($always)?)),*];

            fn read<R: FieldReader<'a>>(&mut self, number: u32, value: R) -> Result<(), R::Error> {
                match number {
                    $($number => Value::read(&mut self.$name, value),)*
                    _ => value.skip(),
                }
            }
        }

        impl<'a> Fields for $type {
            fn write<W: FieldWriter>(&self, out: &mut W) {
                let Self { $($name),* } = self;
                $(Value::write($name, const { &field!($number $name $(: $wire)? $($always)?) }, out);)*
            }
        }
    )*};
}

/// Messages with some fields and one of several messages. `with` lists the variants that contain one, `bare` those for
/// an empty one, `none` those for none.
macro_rules! choice {
    (
        $type:ty { $($number:literal $name:ident),* }
        $choice:ident $enum:ident, $words:literal
        with { $($held:literal $held_name:ident $holder:ident),* }
        bare { $($bare:literal $bare_name:ident $unit:ident),* }
        none { $($none:ident),* }
    ) => {
        impl<'a> WireMessage<'a> for $type {
            const FIELDS: &'static [Field] = &[
                $(field!($number $name),)*
                $(field!($held $held_name),)*
                $(field!($bare $bare_name)),*
            ];

            fn read<R: FieldReader<'a>>(&mut self, number: u32, value: R) -> Result<(), R::Error> {
                let found = match number {
                    $($number => return Value::read(&mut self.$name, value),)*
                    $($held => value.message(Default::default())?.map($enum::$holder),)*
                    $($bare => value.message(Opaque)?.map(|Opaque| $enum::$unit),)*
                    _ => return value.skip(),
                };
                match (found, &self.$choice) {
                    (None, _) => Ok(()),
                    (Some(found), $enum::Unknown) => {
                        self.$choice = found;
                        Ok(())
                    }
                    (Some(found), before) => {
                        Err(R::fail(format_args!("{}, {} and {}", $words, before.name(), found.name())))
                    }
                }
            }
        }

        impl<'a> Fields for $type {
            fn write<W: FieldWriter>(&self, out: &mut W) {
                let Self { $($name,)* $choice } = self;
                $(Value::write($name, const { &field!($number $name) }, out);)*
                match $choice {
                    $($enum::$holder(held) => out.message(const { &field!($held $held_name) }, held),)*
                    $($enum::$unit => out.message(const { &field!($bare $bare_name) }, &Opaque),)*
                    $($enum::$none)|* => {}
                }
            }
        }
    };
}

choice! {
    Command<'a> { 1 id }
    request Request, "command with two methods"
    with {
        4 connect Connect,
        5 subscribe Subscribe,
        6 unsubscribe Unsubscribe,
        7 publish Publish,
        8 presence Presence,
        9 presence_stats PresenceStats,
        10 history History,
        12 send Send,
        13 rpc Rpc,
        14 refresh Refresh,
        15 sub_refresh SubRefresh
    }
    bare { 11 ping Ping }
    none { Pong, Unknown }
}

choice! {
    Reply<'a> { 1 id }
    outcome Outcome, "reply with two results"
    with {
        2 error Error,
        4 push Push,
        5 connect Connect,
        6 subscribe Subscribe,
        9 presence Presence,
        10 presence_stats PresenceStats,
        11 history History,
        13 rpc Rpc,
        14 refresh Refresh,
        15 sub_refresh SubRefresh
    }
    bare { 7 unsubscribe Unsubscribe, 8 publish Publish, 12 ping Pong }
    none { Ping, Unknown }
}

choice! {
    Push<'a> { 2 channel }
    event Event, "push of two events"
    with {
        4 pub Publication,
        5 join Join,
        6 leave Leave,
        7 unsubscribe Unsubscribe,
        8 message Message,
        9 subscribe Subscribe,
        10 connect Connect,
        11 disconnect Disconnect,
        12 refresh Refresh
    }
    bare {}
    none { Unknown }
}

message! {
    request::Connect<'a> { 1 token, 2 data, 3 subs, 4 name, 5 version, 6 headers, 7 flag }
    request::Subscribe<'a> {
        1 channel, 2 token, 3 recover, 6 epoch, 7 offset, 8 data, 9 positioned, 10 recoverable, 11 join_leave,
        12 delta, 13 tf, 14 flag, 15 kind: type, 16 phase, 17 cursor, 18 limit, 19 asc
    }
    request::Unsubscribe<'a> { 1 channel }
    request::Publish<'a> { 1 channel, 2 data, 3 kind: type, 4 key, 5 removed }
    request::Presence<'a> { 1 channel }
    request::PresenceStats<'a> { 1 channel }
    request::History<'a> { 1 channel, 7 limit, 8 since, 9 reverse }
    StreamPosition<'a> { 1 offset, 2 epoch }
    request::Send<'a> { 1 data }
    request::Rpc<'a> { 1 data, 2 method }
    request::Refresh<'a> { 1 token }
    request::SubRefresh<'a> { 1 channel, 2 token, 3 kind: type, 4 track, 5 untrack }
    request::TrackBatch<'a> { 1 signature, 2 items }
    request::KeyedItem<'a> { 1 key, 2 version }
    request::Emulation<'a> { 1 node, 2 session, 3 data }

    reply::Error<'a> { 1 code, 2 message, 3 temporary }
    reply::Connect<'a> {
        1 client, 2 version, 3 expires, 4 ttl, 5 data, 6 subs, 7 ping, 8 pong, 9 session, 10 node, 11 time
    }
    reply::Subscribe<'a> {
        1 expires, 2 ttl, 3 recoverable, 6 epoch, 7 publications, 8 recovered, 9 offset, 10 positioned, 11 data,
        12 was_recovering, 13 delta, 15 kind: type, 16 phase, 17 cursor, 18 state
    }
    reply::Presence<'a> { 1 presence always }
    reply::PresenceStats { 1 num_clients always, 2 num_users always }
    reply::History<'a> { 1 publications always, 2 epoch always, 3 offset always }
    reply::Rpc<'a> { 1 data }
    reply::Refresh<'a> { 1 client, 2 version, 3 expires, 4 ttl }
    reply::SubRefresh { 1 expires, 2 ttl }

    Publication<'a> {
        4 data always, 5 info, 6 offset, 7 tags, 8 delta, 9 time, 10 channel, 11 key, 12 removed, 16 version
    }
    ClientInfo<'a> { 1 user always, 2 client always, 3 conn_info, 4 chan_info }
    push::Join<'a> { 1 info }
    push::Leave<'a> { 1 info }
    push::Unsubscribe<'a> { 2 code, 3 reason }
    push::Subscribe<'a> { 1 recoverable, 4 epoch, 5 offset, 6 positioned, 7 data }
    push::Message<'a> { 1 data }
    push::Connect<'a> {
        1 client, 2 version, 3 data, 4 subs, 5 expires, 6 ttl, 7 ping, 8 pong, 9 session, 10 node, 11 time
    }
    push::Disconnect<'a> { 1 code, 2 reason, 3 reconnect }
    push::Refresh { 1 expires, 2 ttl }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names and numbers that `proto/client.proto` gives a message.
    fn written(message: &str) -> Vec<(u32, &'static str)> {
        let text = include_str!("../../proto/client.proto");
        let (_, body) = text.split_once(&format!("message {message} {{")).expect(message);
        let (body, _) = body.split_once('}').expect("an end");
        let mut fields: Vec<_> = body
            .split_inclusive('\n')
            .filter_map(|line| {
                let (declared, _) = line.split_once(';')?;
                let (name, number) = declared.split_once(" = ")?;
                Some((number.parse().expect("a number"), name.rsplit(' ').next()?))
            })
            .collect();
        fields.sort_unstable();
        fields
    }

    fn check<'a, M: WireMessage<'a>>(name: &str) {
        let mut fields: Vec<_> = M::FIELDS.iter().map(|field| (field.number, field.name)).collect();
        fields.sort_unstable();
        assert_eq!(fields, written(name), "{name}");
        for field in M::FIELDS {
            assert_eq!(field.key, format!("\"{}\":", field.name));
            assert!(field.number < 32, "one bit each");
        }
    }

    #[test]
    fn the_tables_equal_the_proto_file() {
        check::<Command<'_>>("Command");
        check::<Reply<'_>>("Reply");
        check::<Push<'_>>("Push");
        check::<request::Connect<'_>>("ConnectRequest");
        check::<request::Subscribe<'_>>("SubscribeRequest");
        check::<request::Unsubscribe<'_>>("UnsubscribeRequest");
        check::<request::Publish<'_>>("PublishRequest");
        check::<request::Presence<'_>>("PresenceRequest");
        check::<request::PresenceStats<'_>>("PresenceStatsRequest");
        check::<request::History<'_>>("HistoryRequest");
        check::<StreamPosition<'_>>("StreamPosition");
        check::<request::Send<'_>>("SendRequest");
        check::<request::Rpc<'_>>("RPCRequest");
        check::<request::Refresh<'_>>("RefreshRequest");
        check::<request::SubRefresh<'_>>("SubRefreshRequest");
        check::<request::TrackBatch<'_>>("TrackBatch");
        check::<request::KeyedItem<'_>>("KeyedItem");
        check::<request::Emulation<'_>>("EmulationRequest");
        check::<reply::Error<'_>>("Error");
        check::<reply::Connect<'_>>("ConnectResult");
        check::<reply::Subscribe<'_>>("SubscribeResult");
        check::<reply::Presence<'_>>("PresenceResult");
        check::<reply::PresenceStats>("PresenceStatsResult");
        check::<reply::History<'_>>("HistoryResult");
        check::<reply::Rpc<'_>>("RPCResult");
        check::<reply::Refresh<'_>>("RefreshResult");
        check::<reply::SubRefresh>("SubRefreshResult");
        check::<Publication<'_>>("Publication");
        check::<ClientInfo<'_>>("ClientInfo");
        check::<push::Join<'_>>("Join");
        check::<push::Leave<'_>>("Leave");
        check::<push::Unsubscribe<'_>>("Unsubscribe");
        check::<push::Subscribe<'_>>("Subscribe");
        check::<push::Message<'_>>("Message");
        check::<push::Connect<'_>>("Connect");
        check::<push::Disconnect<'_>>("Disconnect");
        check::<push::Refresh>("Refresh");
    }
}
