"""The server library `pusher` of Python, unchanged: server.py PLACE. PLACE is JSON with the address of a node and the apps."""

import json
import sys
from urllib.parse import urlsplit

import pusher
from pusher.errors import PusherBadAuth, PusherBadRequest

place = json.loads(sys.argv[1])
node = urlsplit(place["nodes"][0])
app = place["apps"][0]


def client(**more):
    options = {"app_id": app["id"], "key": app["key"], "secret": app["secret"], **more}
    return pusher.Pusher(host=node.hostname, port=node.port, ssl=False, **options)


backend = client()
assert backend.trigger("my-channel", "my-event", {"message": "hello world"}) == {}
assert backend.trigger(["a", "b"], "event", "text", socket_id="1.2") == {}
assert backend.trigger_batch([{"channel": "a", "name": "event", "data": {"n": 1}}]) == {}
assert backend.send_to_user("u-1", "event", {}) == {}
assert "channels" in backend.channels_info()
assert backend.channels_info("presence-none-", ["user_count"]) == {"channels": {}}
assert backend.channel_info("python", ["subscription_count"]) == {"occupied": False, "subscription_count": 0}
assert backend.users_info("presence-none") == {"users": []}
for attempt, error in [
    (lambda: client(secret="wrong").trigger("a", "b", {}), PusherBadAuth),
    (lambda: backend.channels_info("a-", ["user_count"]), PusherBadRequest),
    (lambda: backend.users_info("a"), PusherBadRequest),
]:
    try:
        attempt()
    except error:
        continue
    sys.exit(f"no {error.__name__}")
print("all well")
