"""The everyday life of a redis-py client: python_redis.py HOST:PORT PROTOCOL; prints "ok" or fails."""
import sys

import redis

host, port = sys.argv[1].rsplit(":", 1)
protocol = int(sys.argv[2])


def client():
    return redis.Redis(host=host, port=int(port), protocol=protocol, socket_timeout=10)


def expect(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def message(kind, channel, data, pattern=None):
    return {"type": kind, "pattern": pattern, "channel": channel, "data": data}


def following(pubsub):
    """The next message, waited for with a deadline."""
    for _ in range(100):
        got = pubsub.get_message(timeout=0.2)
        if got is not None:
            return got
    raise AssertionError("no message in time")


publisher = client()
expect(publisher.ping(), True)
expect(publisher.echo("hello"), b"hello")
expect(publisher.client_setname("tester"), True)
assert isinstance(publisher.client_id(), int)
assert publisher.info("server")["redis_version"]

with client().pubsub() as pubsub:
    pubsub.subscribe("scores:nba", "news")
    expect(following(pubsub), message("subscribe", b"scores:nba", 1))
    expect(following(pubsub), message("subscribe", b"news", 2))
    pubsub.psubscribe("sc*:n?a")
    expect(following(pubsub), message("psubscribe", b"sc*:n?a", 3))

    expect(publisher.pubsub_numsub("news"), [(b"news", 1)])
    expect(sorted(publisher.pubsub_channels("*")), [b"news", b"scores:nba"])
    expect(publisher.pubsub_numpat(), 1)

    body = "LAL 101 - BOS 99\r\nOT \x00 ü".encode()
    publisher.publish("scores:nba", body)
    expect(
        sorted((following(pubsub) for _ in range(2)), key=lambda m: m["type"]),
        [message("message", b"scores:nba", body), message("pmessage", b"scores:nba", body, b"sc*:n?a")],
    )

    # A pipeline of publishes arrives whole and in order.
    pipeline = publisher.pipeline(transaction=False)
    for n in range(2000):
        pipeline.publish("news", str(n))
    assert len(pipeline.execute()) == 2000
    for n in range(2000):
        expect(following(pubsub), message("message", b"news", str(n).encode()))

    # A transaction is carried out on EXEC, and its results come together.
    pipeline = publisher.pipeline(transaction=True)
    pipeline.publish("news", "in a transaction").echo("x").publish("news", "as well")
    results = pipeline.execute()
    expect(results[1], b"x")
    expect(len(results), 3)
    expect(following(pubsub), message("message", b"news", b"in a transaction"))
    expect(following(pubsub), message("message", b"news", b"as well"))
    pipeline = publisher.pipeline(transaction=True)
    pipeline.publish("news", "never").get("key")
    try:
        pipeline.execute()
        raise AssertionError("a transaction with an unknown command must fail")
    except redis.ResponseError as error:
        assert "unknown command 'GET'" in str(error), error

    # A name may be any text without control characters.
    room = "my room ☕"
    pubsub.subscribe(room)
    expect(following(pubsub), message("subscribe", room.encode(), 4))
    publisher.publish(room, "a seat")
    expect(following(pubsub), message("message", room.encode(), b"a seat"))
    expect(publisher.pubsub_numsub(room), [(room.encode(), 1)])
    pubsub.unsubscribe(room)
    expect(following(pubsub), message("unsubscribe", room.encode(), 3))

    pubsub.ping("are you there")
    assert following(pubsub)["type"] == "pong"
    pubsub.unsubscribe("news")
    expect(following(pubsub), message("unsubscribe", b"news", 2))
    publisher.publish("news", "unseen")
    pubsub.punsubscribe()
    expect(following(pubsub), message("punsubscribe", b"sc*:n?a", 1))

try:
    publisher.get("key")
    raise AssertionError("GET must be unknown")
except redis.ResponseError as error:
    assert str(error).startswith("unknown command 'GET'"), error
print("ok")
