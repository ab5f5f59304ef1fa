"""What the scenarios of life.py share: the arguments, requests to the API, orders to the test, and a client with its events."""
import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
import traceback
import urllib.request

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler

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

