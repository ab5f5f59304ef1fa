"""The one-way transport over gRPC, with grpcio: uni.py PLACE PROTO, where PLACE is JSON with the addresses, the key and a token of a
server, and PROTO the folder with unistream.proto."""
import json
import sys
import threading
import time
import urllib.request
from pathlib import Path

import grpc

PLACE = json.loads(sys.argv[1])
sys.path.insert(0, sys.argv[2])
messages, services = grpc.protos_and_services("unistream.proto")


def channel():
    if PLACE.get("certificate"):
        certificate = Path(PLACE["certificate"]).read_bytes()
        return grpc.secure_channel(PLACE["grpc"], grpc.ssl_channel_credentials(certificate))
    return grpc.insecure_channel(PLACE["grpc"])


def api(method, command):
    request = urllib.request.Request(f"{PLACE['http']}api/{method}", json.dumps(command).encode())
    request.add_header("X-API-Key", PLACE["key"])
    with urllib.request.urlopen(request, timeout=10) as response:
        reply = json.loads(response.read())
    assert "error" not in reply, reply
    return reply["result"]


class Stream:
    """A connection, and its pushes without pings."""

    def __init__(self, connection, **fields):
        fields.setdefault("token", PLACE["token"])
        stub = services.CentrifugoUniStreamStub(connection)
        self.call = stub.Consume(messages.ConnectRequest(**fields), timeout=60)
        self.pings = 0

    def next(self):
        for push in self.call:
            if push != messages.Push():
                return push
            self.pings += 1
        return None

    def data(self):
        return json.loads(self.next().pub.data)


def kind(push):
    return [field.name for field, _ in push.ListFields() if field.name != "channel"]


connection = channel()
news = "chat:" + str(time.time())

# The reply to the connection comes first, then what its channels receive, in order.
stream = Stream(connection, name="py", data=b'{"a":1}', subs={news: {}})
push = stream.next()
assert kind(push) == ["connect"], push
first = push.connect
assert first.client and first.ping == 1 and news in first.subs and "#7" in first.subs, first
position = first.subs[news]
assert position.recoverable and position.epoch, first
for number in range(300):
    api("publish", {"channel": news, "data": {"n": number, "text": "ü" * number}, "tags": {"k": "v"}})
for number in range(300):
    push = stream.next()
    assert push.channel == news and kind(push) == ["pub"], push
    assert json.loads(push.pub.data) == {"n": number, "text": "ü" * number}, push
    assert push.pub.offset == position.offset + number + 1 and push.pub.tags == {"k": "v"}, push
api("publish", {"channel": "#7", "data": "personal"})
assert stream.data() == "personal"
api("subscribe", {"user": "7", "channel": "chat:later"})
push = stream.next()
assert push.channel == "chat:later" and kind(push) == ["subscribe"], push
api("unsubscribe", {"user": "7", "channel": "chat:later"})
push = stream.next()
assert kind(push) == ["unsubscribe"] and push.unsubscribe.code == 2000, push

# Pings are empty messages.
def publish_later():
    time.sleep(2.5)
    api("publish", {"channel": news, "data": "after pings"})
threading.Thread(target=publish_later).start()
assert stream.data() == "after pings" and stream.pings >= 2, stream.pings

# A client that was away recovers.
stream.call.cancel()
for number in range(3):
    api("publish", {"channel": news, "data": {"missed": number}})
since = {news: messages.SubscribeRequest(recover=True, epoch=position.epoch, offset=position.offset + 301)}
stream = Stream(connection, subs=since)
connected = stream.next().connect.subs[news]
assert connected.recovered and connected.was_recovering, connected
assert [json.loads(one.data) for one in connected.publications] == [{"missed": n} for n in range(3)], connected

# The server ends a connection with a push, and the call with OK.
api("disconnect", {"user": "7"})
push = stream.next()
assert kind(push) == ["disconnect"] and push.disconnect.code == 3503, push
assert stream.next() is None and stream.call.code() == grpc.StatusCode.OK, stream.call.code()

# A wrong token is a disconnect, as over other one-way transports.
wrong = Stream(connection, token="wrong")
push = wrong.next()
assert push.disconnect.code == 3500, push
assert wrong.next() is None

# A call that is cancelled ends its session.
stream = Stream(connection, subs={news: {}})
stream.next()
assert api("info", {})["nodes"][0]["num_clients"] == 1
stream.call.cancel()
for _ in range(200):
    if api("info", {})["nodes"][0]["num_clients"] == 0:
        break
    time.sleep(0.05)
else:
    raise AssertionError("the session has not ended")

# Requests that are not the message of the method.
raw = connection.unary_stream("/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume")
for message, status in [(b"\xff", "INVALID_ARGUMENT"), (b"\x12\xff\xff\x7f" + b"x" * 70_000, "RESOURCE_EXHAUSTED")]:
    try:
        next(raw(message, timeout=10))
        raise AssertionError("accepted")
    except grpc.RpcError as error:
        assert error.code().name == status, error
try:
    connection.unary_unary("/centrifugal.centrifugo.unistream.CentrifugoUniStream/Other")(b"", timeout=10)
    raise AssertionError("accepted")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

# A reader that does not read is cut and told so; another one on the same connection gets everything.
slow, fast = Stream(connection, subs={"bulk": {}}), Stream(connection, subs={"bulk": {}})
slow.next(), fast.next()
text = "x" * 60_000
for number in range(400):
    api("publish", {"channel": "bulk", "data": {"n": number, "text": text}})
    assert fast.data()["n"] == number
got = 0
while (push := slow.next()) and kind(push) == ["pub"]:
    got += 1
assert push and push.disconnect.code == 3008 and got < 400, (got, push)

fast.call.cancel()

# The end of the server requests the client to connect elsewhere.
if PLACE.get("drain"):
    stream = Stream(connection)
    stream.next()
    print("ready", flush=True)
    push = stream.next()
    assert push.disconnect.code == 3001, push
    assert stream.next() is None and stream.call.code() == grpc.StatusCode.OK
