"""stomp.py, unchanged: stomp_py.py PLACE, where PLACE is JSON that contains the addresses of the servers."""
import json
import queue
import sys
import urllib.parse
import urllib.request

import stomp

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 30

place = json.loads(sys.argv[1])


class Events(stomp.ConnectionListener):
    """Puts every event into a queue."""

    def __init__(self):
        self.queue = queue.Queue()

    def on_connected(self, frame):
        self.queue.put(("connected", frame))

    def on_message(self, frame):
        self.queue.put(("message", frame))

    def on_receipt(self, frame):
        self.queue.put(("receipt", frame))

    def on_error(self, frame):
        self.queue.put(("error", frame))

    def next(self, kind):
        got, frame = self.queue.get(timeout=PATIENCE)
        assert got == kind, f"{got} ({frame.headers} {frame.body!r}), not {kind}"
        return frame


def connect(server, passcode):
    url = urllib.parse.urlparse(place["servers"][server])
    connection = stomp.WSStompConnection(
        [(url.hostname, url.port)], ws_path="/stomp", heartbeats=(0, 0)
    )
    events = Events()
    connection.set_listener("", events)
    connection.connect("user", passcode, wait=False)
    return connection, events


def api(method, params):
    request = urllib.request.Request(
        f"{place['servers']['keyed']}api/{method}",
        data=json.dumps(params).encode(),
        headers={"X-API-Key": place["apiKey"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


connection, events = connect("keyed", place["apiKey"])
connected = events.next("connected")
assert connected.headers["version"] == "1.2", connected.headers

connection.subscribe(destination="chat:py", id="1", ack="auto", headers={"receipt": "s"})
assert events.next("receipt").headers["receipt-id"] == "s"
api("publish", {"channel": "chat:py", "data": "from the API"})
message = events.next("message")
assert (json.loads(message.body), message.headers["subscription"]) == ("from the API", "1"), message

connection.send(destination="chat:py", body="line one\nline two: ü", headers={"kind": "a:b"})
message = events.next("message")
assert message.body == "line one\nline two: ü", message.body
assert message.headers["kind"] == "a:b", message.headers

connection.unsubscribe(id="1", headers={"receipt": "u"})
assert events.next("receipt").headers["receipt-id"] == "u"
connection.disconnect(receipt="bye")
assert events.next("receipt").headers["receipt-id"] == "bye"

connection, events = connect("keyed", "wrong")
assert events.next("error").headers["code"] == "101"
print("all well")
