"""The everyday life of centrifuge-python, unchanged, against this server: a scenario is a promise, in a function's name.

life.py PLACE ENCODING [WORDS]: PLACE is JSON that says where the servers are and what signs tokens, ENCODING is json or
protobuf, and WORDS chooses the scenarios whose names contain them. The namespaces that they use are those of
crates/cli/tests/sdk/keyed.toml. Orders to the test that started it go out as lines `>ORDER`, each answered by a line.
"""
import asyncio
import sys

from centrifuge import CentrifugeError, DeltaType, Filter, StreamPosition, UnauthorizedError

from kit import api, control, cut, data, equal, error, main, publish, scenario, soon, token, value


@scenario
async def an_open_server_needs_no_token(t):
    client, other = await t.connected("open"), await t.connected("open")
    channel = t.name()
    heard = (await t.subscribed(other, channel)).heard
    own = await t.subscribed(client, channel)
    await own.publish(data({"text": "hello"}))
    await client.publish(channel, data({"text": "again"}))
    await heard.publications([{"text": "hello"}, {"text": "again"}])
    await own.heard.publications([{"text": "hello"}, {"text": "again"}])
    info = heard.of("publication")[0].pub.info
    equal((info.client, info.user), (client.context.client, ""), "who published")


@scenario
async def data_arrives_as_it_was_sent(t):
    subscription = await t.subscribed(await t.connected("open"), t.name())
    everything = [{"a": [1, {"b": None}], "ü": "😀\n\u2028"}, "text", -1.5, True, [], {}, "x" * 40_000]
    for one in everything:
        await subscription.publish(data(one))
    await subscription.heard.publications(everything)


@scenario
async def several_commands_at_once_are_answered_one_by_one(t):
    client = await t.connected("open")
    subscription = await t.subscribed(client, t.name())
    commands = [subscription.publish(data(n)) for n in range(20)]
    codes = await asyncio.gather(*commands, error(client.rpc("nothing", data({}))))
    equal(codes[-1], 108, "error of rpc")
    await subscription.heard.until(lambda: len(subscription.heard.of("publication")) == 20, "20 publications")
    equal(sorted(subscription.heard.published()), list(range(20)), "what was published")


@scenario
async def a_token_names_the_user(t):
    client = await t.connected("keyed", token=token(sub="ann", info={"name": "Ann"}))
    subscription = await t.subscribed(client, t.name("chat:"))
    clients = (await subscription.presence()).clients
    equal(list(clients), [client.context.client], "clients present")
    info = clients[client.context.client]
    equal((info.user, value(info.conn_info)), ("ann", {"name": "Ann"}), "who is present")


@scenario
async def a_server_with_keys_refuses_a_client_without_a_token_for_good(t):
    client = t.client("keyed")
    await client.connect()
    equal((await client.heard.nth("disconnected")).code, 101, "code")


@scenario
async def a_token_of_another_key_is_refused_for_good(t):
    client = t.client("keyed", token=token(key="another", sub="ann"))
    await client.connect()
    assert (await client.heard.nth("disconnected")).code in (101, 3500)


@scenario
async def an_expired_token_is_replaced_by_asking_for_another(t):
    asked = []

    async def get_token():
        asked.append(1)
        return token(sub="ann", exp=soon(600))

    client = await t.connected("keyed", token=token(sub="ann", exp=soon(-60)), get_token=get_token)
    equal((len(asked), client.heard.of("disconnected")), (1, []), "tokens asked for, ends")


@scenario
async def a_token_is_renewed_before_it_expires_and_the_connection_stays(t):
    asked = []

    async def get_token():
        asked.append(1)
        client.heard.say("asked", len(asked))
        return token(sub="ann", exp=soon(3 if len(asked) < 2 else 600))

    client = t.client("keyed", token=token(sub="ann", exp=soon(3)), get_token=get_token)
    await client.connect()
    await client.heard.nth("asked", 2)
    subscription = await t.subscribed(client, t.name("chat:"))
    await subscription.publish(data("still here"))
    await subscription.heard.publications(["still here"])
    equal(len(client.heard.of("connecting")), 1, "times connecting")


@scenario
async def a_client_without_another_token_is_refused(t):
    async def get_token():
        raise UnauthorizedError()

    client = t.client("keyed", token=token(sub="ann", exp=soon(-60)), get_token=get_token)
    await client.connect()
    equal((await client.heard.nth("disconnected")).code, 1, "code")


@scenario
async def a_connection_that_brings_no_new_token_is_closed_with_3005_and_comes_back_with_one(t):
    asked = []

    async def get_token():
        asked.append(1)
        if len(asked) == 1:
            raise CentrifugeError("later")
        return token(sub="ann")

    client = await t.connected("keyed", token=token(sub="ann", exp=soon(3)), get_token=get_token)
    await client.heard.nth("connected", 2)
    equal(client.heard.of("connecting")[1].code, 3005, "why it connects again")


@scenario
async def each_refusal_has_its_own_error(t):
    client = await t.user("ann")
    equal(await t.refused(client, "closed:room"), 103, "not allowed")
    equal(await t.refused(client, "nowhere:room"), 102, "unknown")
    live = await t.subscribed(client, t.name("live:"))
    equal(await error(live.publish(data(1))), 103, "publish")
    equal(await error(live.history(limit=1)), 108, "history")
    equal(await error(live.presence()), 108, "presence")
    equal(await error(live.presence_stats()), 108, "presence stats")
    equal(await error(client.rpc("method", data({}))), 108, "rpc")
    equal(await error(client.publish("nowhere:room", data(1))), 102, "publish")
    equal(await error(client.history("chat:elsewhere")), 103, "history of others")
    equal(client.heard.of("disconnected"), [], "ends")


@scenario
async def deltas_are_applied_by_the_client(t):
    channel, client = t.name("delta:"), await t.user("ann")
    subscription = await t.subscribed(client, channel, delta=DeltaType.FOSSIL)
    everything = [{"same": 'é"中' * 60, "n": n} for n in range(30)]
    await api("batch", commands=[{"publish": {"channel": channel, "data": one}} for one in everything])
    await subscription.heard.publications(everything)


@scenario
async def without_permission_publications_are_sent_in_full_and_a_filter_by_tags_is_refused(t):
    client = await t.user("ann")
    subscription = await t.subscribed(client, t.name("chat:"), delta=DeltaType.FOSSIL)
    everything = [{"same": "x" * 200, "n": n} for n in range(3)]
    for one in everything:
        await subscription.publish(data(one))
    await subscription.heard.publications(everything)
    refused = await t.refused(client, t.name("chat:"), tags_filter=Filter.eq("kind", "a"))
    equal(refused, 107, "with a filter where filters are not allowed")


@scenario
async def a_filter_by_tags_selects_publications(t):
    channel, client = t.name("tagged:"), await t.user("ann")
    tags_filter = Filter.any(Filter.eq("team", "red"), Filter.gte("score", "9.5"))
    subscription = await t.subscribed(client, channel, tags_filter=tags_filter)
    for number, team, score in [(1, "red", "3"), (2, "blue", "9"), (3, "blue", "10"), (4, "red", "11")]:
        tags = {"team": team, "score": score}
        await api("publish", channel=channel, data=number, tags=tags)
    await subscription.heard.publications([1, 3, 4])


@scenario
async def presence_lists_and_counts_the_clients(t):
    channel = t.name("chat:")
    ann, bob, again = await t.user("ann"), await t.user("bob"), await t.user("bob")
    subscription = await t.subscribed(ann, channel)
    await t.subscribed(bob, channel)
    last = await t.subscribed(again, channel)
    users = {info.client: info.user for info in (await subscription.presence()).clients.values()}
    equal(users, {c.context.client: u for c, u in [(ann, "ann"), (bob, "bob"), (again, "bob")]}, "who is there")
    stats = await subscription.presence_stats()
    equal((stats.num_clients, stats.num_users), (3, 2), "clients and users")
    await last.unsubscribe()
    leaves = subscription.heard
    await leaves.until(lambda: [x for x in leaves.of("leave") if x.info.client == again.context.client], "leave")
    stats = await subscription.presence_stats()
    equal((stats.num_clients, stats.num_users), (2, 2), "clients and users after one has left")


@scenario
async def joins_and_leaves_are_announced(t):
    channel = t.name("chat:")
    heard = (await t.subscribed(await t.user("ann"), channel, join_leave=True)).heard
    bob = await t.user("bob")
    await t.subscribed(bob, channel, join_leave=True)

    def of_bob(event):
        return lambda: [x.info.user for x in heard.of(event) if x.info.client == bob.context.client]

    equal(await heard.until(of_bob("join"), "join"), ["bob"], "who joined")
    await bob.disconnect()
    equal(await heard.until(of_bob("leave"), "leave"), ["bob"], "who left")


@scenario
async def history_is_read_forwards_backwards_and_from_a_position(t):
    subscription = await t.subscribed(await t.user("ann"), t.name("chat:"))
    start = subscription.context.stream_position
    assert start.offset == 0 and start.epoch, start
    for n in range(1, 6):
        await subscription.publish(data(n))

    async def read(**options):
        page = await subscription.history(**options)
        equal((page.offset, page.epoch), (5, start.epoch), "where history stands")
        return [(publication.offset, value(publication.data)) for publication in page.publications]

    equal(await read(), [], "history without a limit is the position alone")
    equal(await read(limit=10), [(n, n) for n in range(1, 6)], "all of it")
    equal(await read(limit=2, reverse=True), [(5, 5), (4, 4)], "the last two")
    equal(await read(limit=2, since=StreamPosition(2, start.epoch)), [(3, 3), (4, 4)], "two after the second")
    equal(await error(subscription.history(limit=1, since=StreamPosition(2, "another"))), 112, "another epoch")


@scenario
async def a_user_has_a_channel_of_their_own(t):
    user = t.name("user")
    clients = [await t.user(user), await t.user(user)]
    await api("publish", channel=f"#{user}", data={"for": user})
    for client in clients:
        await client.heard.publications([{"for": user}])
        equal([x.channel for x in client.heard.of("subscribed")], [f"#{user}"], "channels")
    equal(await t.refused(await t.user("stranger"), f"#{user}"), 103, "somebody else's")


@scenario
async def a_channel_for_certain_users_is_closed_to_others(t):
    channel = t.name("limited:") + "#ann,bob"
    await t.subscribed(await t.user("bob"), channel)
    equal(await t.refused(await t.user("eve"), channel), 103, "code")


@scenario
async def a_private_channel_needs_its_token(t):
    channel = t.name("$chat:")
    client = await t.user("ann")
    equal(await t.refused(client, t.name("$chat:")), 103, "without a token")
    other = await t.refused(client, t.name("$chat:"), token=token(sub="ann", channel=channel))
    assert other in (101, 103), f"with another channel's token: code {other}"
    asked = []

    async def get_token(of):
        asked.append(of)
        return token(sub="ann", channel=channel, info={"seat": 3})

    subscription = await t.subscribed(client, channel, get_token=get_token)
    equal(asked, [channel], "channels for which a token was asked")
    info = (await subscription.presence()).clients[client.context.client]
    equal(value(info.chan_info), {"seat": 3}, "info of the token")


@scenario
async def a_subscription_token_is_renewed_before_it_expires(t):
    channel = t.name("$chat:")
    asked = []

    async def get_token(_):
        asked.append(1)
        client.heard.say("asked", len(asked))
        return token(sub="ann", channel=channel, exp=soon(3 if len(asked) < 2 else 600))

    client = await t.user("ann")
    expired = token(sub="ann", channel=channel, exp=soon(-60))
    subscription = await t.subscribed(client, channel, token=expired, get_token=get_token)
    # One for the expired one, one to stay.
    await client.heard.nth("asked", 2)
    await subscription.publish(data("still here"))
    await subscription.heard.publications(["still here"])
    equal((len(subscription.heard.of("subscribed")), subscription.heard.of("unsubscribed")), (1, []), "times")


@scenario
async def the_server_ends_a_subscription_for_good(t):
    user = t.name("user")
    subscription = await t.subscribed(await t.user(user), t.name("chat:"))
    await api("unsubscribe", user=user, channel=subscription.channel)
    equal((await subscription.heard.nth("unsubscribed")).code, 2000, "code")
    await subscription.subscribe()
    await subscription.heard.nth("subscribed", 2)
    await publish(subscription.channel, [1])
    await subscription.heard.publications([1])


@scenario
async def the_server_ends_a_connection_for_good_or_to_come_back(t):
    user, other = t.name("user"), t.name("user")
    gone, back = await t.user(user), await t.user(other)
    await api("disconnect", user=user)
    equal((await gone.heard.nth("disconnected")).code, 3503, "code")
    await api("disconnect", user=other, disconnect={"code": 4000, "reason": "moved"})
    await back.heard.nth("connected", 2)
    again = back.heard.of("connecting")[1]
    equal((again.code, again.reason), (4000, "moved"), "why it connects again")


@scenario
async def the_server_subscribes_a_connection_to_a_channel(t):
    user, channel = t.name("user"), t.name("chat:")
    heard = (await t.user(user)).heard
    await api("subscribe", user=user, channel=channel)
    await heard.until(lambda: [x for x in heard.of("subscribed") if x.channel == channel], channel)
    await publish(channel, [1])
    await heard.publications([1])
    await api("unsubscribe", user=user, channel=channel)
    await heard.until(lambda: [x for x in heard.of("unsubscribed") if x.channel == channel], "unsubscribed")


@scenario
async def server_pings_keep_a_quiet_connection_alive(t):
    client = await t.user("ann", max_server_ping_delay=3)
    # Three intervals of the server's, and more than a client would wait without any.
    await asyncio.sleep(6.5)
    subscription = await t.subscribed(client, t.name("chat:"))
    await subscription.publish(data(1))
    equal(len(client.heard.of("connecting")), 1, "times connecting")


@cut
async def after_a_cut_nothing_is_lost_and_nothing_comes_twice(t):
    channel = t.name("chat:")
    subscription = await t.subscribed(await t.user("ann", where="cut"), channel)
    assert subscription.context.recoverable
    await publish(channel, range(3))
    await subscription.heard.publications(list(range(3)))
    wanted = list(range(3))
    for again in (2, 3, 4):
        await control("cut")
        await publish(channel, range(again * 10, again * 10 + 10))
        context = await subscription.heard.nth("subscribed", again)
        equal((context.was_recovering, context.recovered), (True, True), "was recovering, recovered")
        await publish(channel, range(again * 100, again * 100 + 3))
        wanted += [*range(again * 10, again * 10 + 10), *range(again * 100, again * 100 + 3)]
    await subscription.heard.publications(wanted)
    offsets = [context.pub.offset for context in subscription.heard.of("publication")]
    equal(offsets, list(range(1, len(wanted) + 1)), "offsets")


@cut
async def a_gap_in_the_history_is_reported(t):
    channel = t.name("short:")
    subscription = await t.subscribed(await t.user("ann", where="cut"), channel)
    await control("silence")
    await control("cut")
    await publish(channel, range(10))
    await control("resume")
    context = await subscription.heard.nth("subscribed", 2)
    equal((context.was_recovering, context.recovered), (True, False), "was recovering, recovered")


@cut
async def a_client_with_its_own_state_reads_it_again_after_a_gap_in_the_history(t):
    channel = t.name("short:")
    states = []

    async def get_state(_):
        position = await api("history", channel=channel, limit=0)
        states.append(position.get("offset", 0))
        return StreamPosition(position.get("offset", 0), position["epoch"])

    subscription = await t.subscribed(await t.user("ann", where="cut"), channel, get_state=get_state)
    await control("silence")
    await control("cut")
    await publish(channel, range(10))
    await control("resume")
    await subscription.heard.nth("subscribed", 2)
    equal(states, [0, 10], "where the fetched states stood")
    await publish(channel, [11])
    await subscription.heard.publications([11])


@cut
async def a_silent_link_is_detected_and_the_missed_publications_are_recovered(t):
    channel = t.name("chat:")
    client = await t.user("ann", where="cut", max_server_ping_delay=1)
    subscription = await t.subscribed(client, channel)
    await control("silence")
    await publish(channel, range(3))
    await client.heard.until(lambda: [x for x in client.heard.of("connecting") if x.code == 2], "no ping noticed")
    await control("cut")
    await control("resume")
    await subscription.heard.publications(list(range(3)))


@cut
async def channels_of_the_token_are_subscribed_to_by_the_server_and_recover(t):
    channel = t.name("chat:")
    client = await t.connected("cut", token=token(sub=t.name("user"), channels=[channel]))

    def mine():
        return [x for x in client.heard.of("subscribed") if x.channel == channel]

    await client.heard.until(mine, channel)
    await publish(channel, [1, 2])
    await client.heard.publications([1, 2])
    await control("cut")
    await publish(channel, [3, 4, 5])
    await client.heard.nth("connected", 2)
    await publish(channel, [6])
    await client.heard.publications([1, 2, 3, 4, 5, 6])
    again = (await client.heard.until(lambda: mine()[1:], "subscribed again"))[0]
    equal((again.was_recovering, again.recovered), (True, True), "was recovering, recovered")


sys.exit(asyncio.run(main()))
