"""The server API over gRPC, with grpcio: server_api.py PLACE PROTO, where PLACE is JSON with the addresses and keys of a server,
and PROTO the folder with api.proto."""
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 30

place = json.loads(sys.argv[1])
proto = Path(sys.argv[2])
PACKAGE = "centrifugal.centrifugo.api"


def described():
    """The file of api.proto, as protoc reads it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        assert protoc.main(["", f"-I{proto}", f"--descriptor_set_out={out}", "api.proto"]) == 0
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


if place.get("certificate"):
    root = Path(place["certificate"]).read_bytes()
    channel = grpc.secure_channel(place["grpc"], grpc.ssl_channel_credentials(root))
else:
    channel = grpc.insecure_channel(place["grpc"])

database = ProtoReflectionDescriptorDatabase(channel)
assert set(database.get_services()) == {f"{PACKAGE}.CentrifugoApi", f"{PACKAGE}.TidingsApi"}
file = database.FindFileContainingSymbol(f"{PACKAGE}.CentrifugoApi")
assert file == described(), "the descriptors of reflection are not those of proto/api.proto: scripts/grpc-messages.sh"
pool = descriptor_pool.DescriptorPool()
pool.Add(file)


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def call(name, fields=None, key=place["key"], service="CentrifugoApi", timeout=PATIENCE, **options):
    """The response to a call; fields as keyword arguments of the message."""
    method = pool.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name[name]
    request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    stub = channel.unary_unary(
        f"/{PACKAGE}.{service}/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    metadata = [("authorization", f"apikey {key}")] if key else []
    sent = fields if hasattr(fields, "SerializeToString") else request(**(fields or {}))
    return stub(sent, metadata=metadata, timeout=timeout, **options)


def result(name, fields=None, **more):
    """The result of a call that succeeds."""
    response = call(name, fields, **more)
    assert not response.error.code, response.error
    return response.result


def status(name, fields=None, **more):
    """The status of a call that is refused."""
    try:
        response = call(name, fields, **more)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"{name} was not refused: {response}")


def http(method, params):
    request = urllib.request.Request(
        f"{place['http']}api/{method}", data=json.dumps(params).encode(), headers={"X-API-Key": place["key"]}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["result"]


# Keys: by the metadata of Centrifugo, and by that of the HTTP API; wrong, missing and limited ones.
code, why = status("Info", key=None)
assert code == grpc.StatusCode.UNAUTHENTICATED and "key" in why, (code, why)
code, _ = status("Info", key="another")
assert code == grpc.StatusCode.UNAUTHENTICATED, code
code, why = status("Publish", {"channel": "chat:a", "data": b"1"}, key=place["readKey"])
assert code == grpc.StatusCode.PERMISSION_DENIED and "scope publish" in why, (code, why)
assert result("Channels", {}, key=place["readKey"]) is not None
assert result("Info", key=place["grpcKey"]).nodes[0].uid
assert result("Info", key=place["grpcKey"]).nodes[0].uid == http("info", {})["nodes"][0]["uid"]

# Publications, histories: bytes stay bytes, and both APIs see the same.
for data in (b'{"text": "hello"}', b"\xff\x00 no JSON"):
    published = result("Publish", {"channel": "chat:a", "data": data, "tags": {"k": "v"}})
    assert published.offset and published.epoch
encoded = result("Publish", {"channel": "chat:a", "b64data": "e30="})
history = result("History", {"channel": "chat:a", "limit": -1})
assert [publication.data for publication in history.publications] == [b'{"text": "hello"}', b"\xff\x00 no JSON", b"{}"]
assert history.publications[0].tags == {"k": "v"} and history.offset == encoded.offset
since = {"offset": 1, "epoch": history.epoch}
page = result("History", {"channel": "chat:a", "limit": 1, "since": since})
assert [publication.offset for publication in page.publications] == [2]
seen = http("history", {"channel": "chat:a", "limit": 1})
assert seen["publications"][0]["data"] == {"text": "hello"} and seen["epoch"] == history.epoch
same = {"channel": "chat:a", "data": b"1", "idempotency_key": "once"}
assert result("Publish", same).offset == result("Publish", same).offset == 4
result("HistoryRemove", {"channel": "chat:a"})
assert not result("History", {"channel": "chat:a", "limit": -1}).publications

# Errors of commands are in the message.
error = call("Publish", {"channel": "nowhere:a", "data": b"1"}).error
assert error.code == 102, error
error = call("Publish", {"channel": "chat:a"}).error
assert error.code == 107 and "data" in error.message, error
broadcast = result("Broadcast", {"channels": ["chat:a", "nowhere:a", "chat:b"], "data": b"2"})
assert [response.error.code for response in broadcast.responses] == [0, 102, 0]
assert broadcast.responses[2].result.offset == 1

# Presence and control of clients.
presence = result("Presence", {"channel": "chat:live"}).presence
(client,) = presence.values()
assert client.user == "7" and list(presence) == [client.client], presence
stats = result("PresenceStats", {"channel": "chat:live"})
assert (stats.num_clients, stats.num_users) == (1, 1)
assert result("Channels", {"pattern": "chat:*"}).channels["chat:live"].num_clients == 1
found = result("Connections", {"user": "7"}).connections
assert found[client.client].user == "7" and found[client.client].num_subs == 1, found
assert call("Connections", {"expression": "x"}).error.code == 108
assert status("Connections", {"label_filter": "["})[0] == grpc.StatusCode.INVALID_ARGUMENT
result("Subscribe", {"user": "7", "channel": "chat:more", "info": b'{"n":1}', "override": {"presence": {"value": True}}})
end = time.monotonic() + PATIENCE
while not (there := result("Presence", {"channel": "chat:more"}).presence):
    assert time.monotonic() < end, "the client is not subscribed"
    time.sleep(0.02)
assert there[client.client].chan_info == b'{"n":1}', there
result("Unsubscribe", {"user": "7", "channel": "chat:more"})
assert call("Refresh", {"user": "7", "expire_at": 1}).error.code == 107
result("Refresh", {"user": "7", "expire_at": int(time.time()) + 600})
assert call("Disconnect", {"user": "7", "disconnect": {"code": 7, "reason": "no"}}).error.code == 107
result("Disconnect", {"user": "7", "disconnect": {"code": 4000, "reason": "bye"}})
while result("PresenceStats", {"channel": "chat:live"}).num_clients:
    assert time.monotonic() < end, "the client is not disconnected"
    time.sleep(0.02)
soon = int(time.time()) + 600
result("BlockUser", {"user": "8", "expire_at": soon})
result("UnblockUser", {"user": "8"})
result("RevokeToken", {"uid": "a-token", "expire_at": soon})
result("InvalidateUserTokens", {"user": "8", "expire_at": soon})

# Methods of tidings: maps, shared polls, reloads.
own = {"service": "TidingsApi"}
first = result("MapPublish", {"channel": "board:a", "key": "k", "data": b'{"v":1}', "tags": {"t": "1"}, "score": 5}, **own)
again = result("MapPublish", {"channel": "board:a", "key": "k", "data": b"2", "key_mode": "if_new"}, **own)
assert first.offset == 1 and again.suppressed and again.suppress_reason, again
assert status("MapPublish", {"channel": "board:a", "key": "k", "key_mode": "x"}, **own)[0] == grpc.StatusCode.INVALID_ARGUMENT
state = result("MapReadState", {"channel": "board:a", "limit": -1}, **own)
assert [(entry.key, entry.data, entry.tags) for entry in state.entries] == [("k", b'{"v":1}', {"t": "1"})], state
assert result("MapStats", {"channel": "board:a"}, **own).num_keys == 1
result("MapRemove", {"channel": "board:a", "key": "k"}, **own)
stream = result("MapReadStream", {"channel": "board:a", "limit": -1}, **own)
assert [entry.removed for entry in stream.entries] == [False, True], stream
result("MapClear", {"channel": "board:a"}, **own)
assert call("SharedPollPublish", {"channel": "chat:a", "key": "k", "data": b"1", "version": 1}, **own).error.code
assert result("Reload", **own).hash

# Batches: one reply for each command, in the field of its method.
commands = [
    {"publish": {"channel": "chat:c", "data": b"1"}},
    {"history": {"channel": "chat:c", "limit": -1}},
    {"broadcast": {"channels": ["chat:c"], "data": b"2"}},
    {"publish": {"channel": "nowhere:a", "data": b"1"}},
    {"map_stats": {"channel": "board:a"}},
    {},
    {"info": {}, "channels": {}},
]
for parallel in (False, True):
    replies = call("Batch", {"commands": commands, "parallel": parallel}).replies
    assert [reply.error.code for reply in replies] == [0, 0, 0, 102, 0, 104, 107], replies
    assert replies[0].publish.offset and replies[2].broadcast.responses[0].result.offset
    assert replies[4].HasField("map_stats")
assert replies[1].history.publications[0].data == b"1"
code, why = status("Batch", {"commands": [{"info": {}}, {"publish": {}}]}, key=place["readKey"])
assert code == grpc.StatusCode.PERMISSION_DENIED and "scope publish" in why, (code, why)

# Limits, deadlines, and what this server does not have.
code, why = status("Publish", {"channel": "chat:a", "data": b"x" * 100_000})
assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "max_receive_message_size" in why, (code, why)

# Compression in both directions, with the limit on messages when they are decompressed.
gzip = {"compression": grpc.Compression.Gzip}
long = b'"' + b"x" * 20_000 + b'"'
assert not call("Publish", {"channel": "chat:gzip", "data": long}, **gzip).error.code
history = call("History", {"channel": "chat:gzip", "limit": 1}, **gzip)
assert history.result.publications[0].data == long
code, why = status("Publish", {"channel": "chat:a", "data": b"x" * 100_000}, **gzip)
assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "max_receive_message_size" in why, (code, why)
code, why = status("Publish", {"channel": "chat:a", "data": b"x" * 10_000}, compression=grpc.Compression.Deflate)
assert code == grpc.StatusCode.UNIMPLEMENTED and "gzip" in why, (code, why)
for path in (f"/{PACKAGE}.CentrifugoApi/DeviceList", f"/{PACKAGE}.TidingsApi/Publish", "/nothing.Here/Publish"):
    try:
        channel.unary_unary(path)(b"", timeout=PATIENCE)
        raise AssertionError(f"{path} was answered")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, (path, error)
try:
    channel.unary_unary(f"/{PACKAGE}.CentrifugoApi/Info")(
        b"\xff", timeout=PATIENCE, metadata=[("x-api-key", place["key"])]
    )
    raise AssertionError("bytes that are no message were accepted")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error

# Health needs no key.
health = health_pb2_grpc.HealthStub(channel)
for service in ("", f"{PACKAGE}.CentrifugoApi"):
    checked = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
    assert checked.status == health_pb2.HealthCheckResponse.SERVING
try:
    health.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=PATIENCE)
    raise AssertionError("the health of a service that does not exist")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
print("passed")
