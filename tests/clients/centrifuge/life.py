"""The everyday life of centrifuge-python, unchanged, against this server: a scenario is a promise, in a function's name.

life.py PLACE ENCODING [WORDS]: PLACE is JSON that says where the servers are and what signs tokens, ENCODING is json or
protobuf, and WORDS chooses the scenarios whose names contain them. The namespaces that they use are those of
crates/cli/tests/sdk/keyed.toml. Orders to the test that started it go out as lines `>ORDER`, each answered by a line.
"""
import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
import traceback
import urllib.request

from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    DeltaType,
    Filter,
    ReplyError,
    StreamPosition,
    SubscriptionEventHandler,
    UnauthorizedError,
)

# How long anything may take that ought to happen at once; the machine may be busy.
PATIENCE = 30.0

place = json.loads(sys.argv[1])
protobuf = sys.argv[2] == "protobuf"
only = sys.argv[3] if len(sys.argv) > 3 else ""
SCENARIOS, CUTS = [], []


def scenario(function):
    """Marks one that may run beside others."""
    SCENARIOS.append(function)
    return function


def cut(function):
    """Marks one that cuts the link to the server; they run one at a time."""
    CUTS.append(function)
    return function


def equal(got, wanted, what=""):
    assert got == wanted, f"{what} is {got!r}, not {wanted!r}"


def soon(seconds):
    return int(time.time()) + seconds


def token(key=place["secret"], **claims):
    """A JSON Web Token, signed as the keyed server wants it, or with another key."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    body = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (body + b"." + part(hmac.digest(key.encode(), body, hashlib.sha256))).decode()


def call(method, params):
    headers = {"X-API-Key": place["apiKey"], "Content-Type": "application/json"}
    url = f"{place['servers']['keyed']}api/{method}"
    request = urllib.request.Request(url, json.dumps(params).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


async def api(method, **params):
    """A method of the keyed server's API."""
    answer = await asyncio.to_thread(call, method, params)
    for one in [answer, *answer.get("replies", [])]:
        assert "error" not in one, f"API {method}: {one['error']}"
    return answer.get("result")


async def publish(channel, numbers):
    """Publishes numbers through the server API, in one request."""
    await api("batch", commands=[{"publish": {"channel": channel, "data": n}} for n in numbers])


class Orders:
    """What the test is told to do to the link."""

    def __init__(self):
        self.lock = asyncio.Lock()

    async def __call__(self, order):
        async with self.lock:
            print(f">{order}", flush=True)
            answer = await asyncio.to_thread(sys.stdin.readline)
            equal(answer, "done\n", order)


control = Orders()


class Heard:
    """Everything that was said, in order, and waiting for it."""

    def __init__(self):
        self.all = []
        self.news = asyncio.Event()

    def say(self, event, context):
        self.all.append((event, context))
        self.news.set()

    def of(self, event):
        return [context for name, context in self.all if name == event]

    async def until(self, look, what):
        """What `look` gives once that is something."""
        end = time.monotonic() + PATIENCE
        while not (found := look()):
            self.news.clear()
            left = end - time.monotonic()
            try:
                await asyncio.wait_for(self.news.wait(), left)
            except (asyncio.TimeoutError, TimeoutError):
                raise AssertionError(f"not in time: {what}; heard {self.all}") from None
        return found

    async def nth(self, event, count=1):
        """What came with the event's `count`-th time."""
        return await self.until(lambda: (self.of(event) + [None] * count)[count - 1], f"{event}, {count} times")

    def published(self):
        return [value(context.pub.data) for context in self.of("publication")]

    async def publications(self, wanted):
        """Waits for these, in this order, and no others before them."""
        await self.until(lambda: len(self.of("publication")) >= len(wanted), f"{len(wanted)} publications")
        equal(self.published(), wanted, "what was published")


def listener(handler, heard):
    """Handlers of all events that note what they are told."""

    def note(event):
        async def noted(context):
            heard.say(event, context)

        return noted

    for name in dir(handler):
        if name.startswith("on_"):
            setattr(handler, name, note(name[3:]))
    return handler


def data(what):
    """Data as the SDK takes it in this encoding."""
    return json.dumps(what).encode() if protobuf else what


def value(what):
    """Data as the SDK gives it."""
    return json.loads(what) if protobuf and what else what


class Life:
    """One scenario's part of the world."""

    names = 0

    def __init__(self):
        self.clients = []

    def name(self, prefix=""):
        """A name that nobody else uses."""
        Life.names += 1
        return f"{prefix}python-{Life.names}"

    def client(self, where, **options):
        heard = Heard()
        url = place["servers"][where].replace("http", "ws", 1) + "connection/websocket"
        options = {"min_reconnect_delay": 0.05, "max_reconnect_delay": 0.5, "timeout": PATIENCE, **options}
        client = Client(url, events=listener(ClientEventHandler(), heard), use_protobuf=protobuf, **options)
        client.heard = heard
        self.clients.append(client)
        return client

    async def connected(self, where, **options):
        client = self.client(where, **options)
        await client.connect()
        client.context = await client.heard.nth("connected")
        return client

    async def user(self, user, where="keyed", **options):
        return await self.connected(where, token=token(sub=user), **options)

    async def subscription(self, client, channel, **options):
        """A subscription that is asked for."""
        heard = Heard()
        options = {"min_resubscribe_delay": 0.05, "max_resubscribe_delay": 0.5, **options}
        events = listener(SubscriptionEventHandler(), heard)
        subscription = client.new_subscription(channel, events=events, **options)
        subscription.heard = heard
        await subscription.subscribe()
        return subscription

    async def subscribed(self, client, channel, **options):
        """A subscription that stands."""
        subscription = await self.subscription(client, channel, **options)
        subscription.context = await subscription.heard.nth("subscribed")
        return subscription

    async def refused(self, client, channel, **options):
        """The code with which a subscription is refused."""
        subscription = await self.subscription(client, channel, **options)
        return (await subscription.heard.nth("unsubscribed")).code

    async def close(self):
        for client in self.clients:
            await client.disconnect()


async def error(awaitable):
    """The code with which a command fails."""
    try:
        await awaitable
    except ReplyError as failure:
        return failure.code
    raise AssertionError("it did not fail")


@scenario
async def without_a_token_on_an_open_server_subscribe_publish_be_heard(t):
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
async def data_comes_as_it_was_sent(t):
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
async def a_token_says_who_one_is(t):
    client = await t.connected("keyed", token=token(sub="ann", info={"name": "Ann"}))
    subscription = await t.subscribed(client, t.name("chat:"))
    clients = (await subscription.presence()).clients
    equal(list(clients), [client.context.client], "clients present")
    info = clients[client.context.client]
    equal((info.user, value(info.conn_info)), ("ann", {"name": "Ann"}), "who is present")


@scenario
async def without_a_token_on_a_server_with_keys_one_is_unauthorized_for_good(t):
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
async def who_is_given_no_other_token_is_not_let_in_again(t):
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
async def what_is_not_allowed_unknown_or_switched_off_has_its_own_error(t):
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
async def presence_tells_who_is_there_and_how_many(t):
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
async def those_who_come_and_go_are_announced(t):
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
async def what_history_no_longer_has_is_owned_up_to(t):
    channel = t.name("short:")
    subscription = await t.subscribed(await t.user("ann", where="cut"), channel)
    await control("silence")
    await control("cut")
    await publish(channel, range(10))
    await control("resume")
    context = await subscription.heard.nth("subscribed", 2)
    equal((context.was_recovering, context.recovered), (True, False), "was recovering, recovered")


@cut
async def who_keeps_state_elsewhere_fetches_it_anew_when_history_no_longer_reaches_back(t):
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
async def a_silent_link_is_noticed_and_what_was_missed_is_made_up_for(t):
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


async def live(function):
    """Runs a scenario and says how it went; gives whether it failed."""
    name, start, t = function.__name__.replace("_", " "), time.monotonic(), Life()
    try:
        await asyncio.wait_for(function(t), 4 * PATIENCE)
        print(f"ok      {name} ({time.monotonic() - start:.3f} s)", flush=True)
        return []
    except Exception:
        print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
        return [name]
    finally:
        await t.close()
        await control("resume")


async def main():
    chosen = [[one for one in group if only.replace(" ", "_") in one.__name__] for group in (SCENARIOS, CUTS)]
    failed = sum(await asyncio.gather(*map(live, chosen[0])), [])
    for one in chosen[1]:
        failed += await live(one)
    print(f"failed: {'; '.join(failed)}" if failed else "all well", flush=True)
    return bool(failed)


sys.exit(asyncio.run(main()))
