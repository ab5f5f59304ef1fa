"""An application behind hooks over gRPC: application.py PROTO [CERTIFICATE KEY], where PROTO is the folder with proxy.proto. Listens on
the port PORT or on a free one, prints it, and serves until its standard input ends. With GZIP its responses are compressed."""
import json
import os
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc

sys.path.insert(0, sys.argv[1])
messages, services = grpc.protos_and_services("proxy.proto")


def metadata(context):
    return dict(context.invocation_metadata())


def about(request, context):
    """What the application has got, as the JSON that clients receive."""
    sent = metadata(context)
    seen = {"transport": request.transport, "protocol": request.protocol, "encoding": request.encoding}
    seen["key"] = sent.get("x-key")
    seen["agent"] = sent.get("x-agent")
    seen["deadline"] = 0 < context.time_remaining() <= 2
    return seen


class Streams:
    """The streams of subscriptions: how many are open and have ended, and how many publications they have sent."""

    def __init__(self):
        self.lock = threading.Lock()
        self.open, self.ended, self.sent = 0, 0, {}

    def count(self, request, context):
        """Counts a stream until its call ends."""
        def end():
            with self.lock:
                self.open, self.ended = self.open - 1, self.ended + 1
        with self.lock:
            self.open += 1
        if not context.add_callback(end):
            end()

    def send(self, channel, publication):
        with self.lock:
            self.sent[channel] = self.sent.get(channel, 0) + 1
        return messages.StreamSubscribeResponse(publication=publication)

    def state(self):
        with self.lock:
            return {"open": self.open, "ended": self.ended, "sent": dict(self.sent)}


streams = Streams()


class Application(services.CentrifugoProxyServicer):
    def Connect(self, request, context):
        asked = json.loads(request.data or b"{}")
        if "error" in asked:
            return messages.ConnectResponse(error=messages.Error(code=1000, message="not you", temporary=False))
        if "disconnect" in asked:
            return messages.ConnectResponse(disconnect=messages.Disconnect(code=4500, reason="go away"))
        if "nothing" in asked:
            return messages.ConnectResponse()
        if "status" in asked:
            context.abort(grpc.StatusCode.INTERNAL, "a secret of the application")
        if "slow" in asked:
            time.sleep(4)
        result = messages.ConnectResult(
            user="7",
            info=b'{"name":"Ann"}',
            data=json.dumps(about(request, context) | {"client": bool(request.client), "name": request.name}).encode(),
            meta=b'{"role":"admin"}',
            channels=["news"],
            subs={"chat:own": messages.SubscribeOptions(data=b'{"own":1}', override={"presence": {"value": True}})},
            caps=[messages.ChannelsCapability(channels=["caps:a"], allow=["sub"])],
            labels={"tier": "pro"},
            expire_at=int(time.time()) + asked.get("ttl", 600),
        )
        return messages.ConnectResponse(result=result)

    def Refresh(self, request, context):
        assert request.user == "7" and json.loads(request.meta) == {"role": "admin"}, request
        return messages.RefreshResponse(result=messages.RefreshResult(expire_at=int(time.time()) + 1000))

    def Subscribe(self, request, context):
        assert request.user == "7" and request.labels == {"tier": "pro"}, request
        if request.channel == "chat:no":
            return messages.SubscribeResponse(error=messages.Error(code=1001, message="closed", temporary=True))
        tags = messages.FilterNode(op="and", nodes=[{"key": "team", "cmp": "eq", "val": "a"}])
        result = messages.SubscribeResult(
            info=b'{"sub":1}',
            data=json.dumps({"channel": request.channel, "data": json.loads(request.data or b"null")}).encode(),
            server_tags_filter=tags if request.channel == "chat:filtered" else None,
            expire_at=int(time.time()) + 1 if request.channel == "chat:short" else 0,
        )
        return messages.SubscribeResponse(result=result)

    def SubRefresh(self, request, context):
        assert request.channel == "chat:short", request
        return messages.SubRefreshResponse(result=messages.SubRefreshResult(expired=True))

    def Publish(self, request, context):
        if request.data == b'"no"':
            return messages.PublishResponse(error=messages.Error(code=1002, message="not this"))
        changed = json.dumps({"changed": json.loads(request.data), "channel": request.channel}).encode()
        return messages.PublishResponse(result=messages.PublishResult(data=changed, tags={"by": "application"}))

    def SubscribeUnidirectional(self, request, context):
        streams.count(request, context)
        if request.channel.endswith(":refused"):
            error = messages.Error(code=1001, message="closed", temporary=True)
            yield messages.StreamSubscribeResponse(subscribe_response=messages.SubscribeResponse(error=error))
            return
        if request.channel.endswith(":late"):
            time.sleep(3)
        asked = json.loads(request.data or b"{}")
        response = messages.SubscribeResponse()
        if "empty" not in asked:
            seen = {"user": request.user, "data": asked, "key": metadata(context).get("x-key")}
            response.result.data = json.dumps(seen).encode()
        yield messages.StreamSubscribeResponse(subscribe_response=response)
        padding = "x" * asked.get("size", 0)
        for number in range(asked.get("count", 0)):
            if not context.is_active():
                return
            data = json.dumps({"n": number, "padding": padding}).encode()
            yield streams.send(request.channel, messages.Publication(data=data, tags={"by": "stream"}))
        if "fail" in asked:
            context.abort(grpc.StatusCode.INTERNAL, "a secret of the application")
        while "end" not in asked and context.is_active():
            time.sleep(0.02)

    def SubscribeBidirectional(self, requests, context):
        first = next(requests)
        request = first.subscribe_request
        streams.count(request, context)
        assert request.channel and not first.HasField("publication"), first
        yield messages.StreamSubscribeResponse(subscribe_response=messages.SubscribeResponse())
        if request.channel.endswith(":deaf"):
            while context.is_active():
                time.sleep(0.02)
            return
        for message in requests:
            assert not message.HasField("subscribe_request"), message
            if message.publication.data == b'"end"':
                return
            echo = {"echo": json.loads(message.publication.data)}
            yield streams.send(request.channel, messages.Publication(data=json.dumps(echo).encode()))

    def RPC(self, request, context):
        if request.method == "streams":
            return messages.RPCResponse(result=messages.RPCResult(data=json.dumps(streams.state()).encode()))
        seen = about(request, context) | {"method": request.method, "user": request.user}
        seen["meta"] = json.loads(request.meta or b"null")
        seen["data"] = json.loads(request.data or b"null")
        seen["b64data"] = request.b64data
        return messages.RPCResponse(result=messages.RPCResult(data=json.dumps(seen).encode()))

    def SharedPollRefresh(self, request, context):
        items = [
            messages.SharedPollRefreshResultItem(key=item.key, data=json.dumps({"of": item.key}).encode(), version=3)
            for item in request.items
        ]
        return messages.SharedPollRefreshResponse(result=messages.SharedPollRefreshResult(items=items, epoch="e"))


# The default of many servers. A stream occupies a thread here.
limit = [("grpc.max_concurrent_streams", 100)]
compression = grpc.Compression.Gzip if os.environ.get("GZIP") else None
server = grpc.server(futures.ThreadPoolExecutor(max_workers=256), options=limit, compression=compression)
services.add_CentrifugoProxyServicer_to_server(Application(), server)
address = f"localhost:{os.environ.get('PORT', 0)}"
if len(sys.argv) > 2:
    certificate, key = (Path(path).read_bytes() for path in sys.argv[2:])
    port = server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
else:
    port = server.add_insecure_port(address)
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(0)
