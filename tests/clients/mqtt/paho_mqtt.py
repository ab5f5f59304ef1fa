"""paho-mqtt, unchanged: paho_mqtt.py PLACE, where PLACE is JSON that contains the addresses of the servers."""
import json
import queue
import sys
import urllib.parse
import urllib.request

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 30

place = json.loads(sys.argv[1])


class Client:
    """A connected client whose events wait in queues."""

    def __init__(self, version, transport, client_id="", password=place["apiKey"], will=None):
        self.events = {name: queue.Queue() for name in ("connect", "disconnect", "message", "subscribe", "publish")}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, transport=transport, protocol=version
        )
        self.client.on_connect = lambda _, __, flags, reason, ___: self.put("connect", (flags, reason))
        self.client.on_disconnect = lambda _, __, ___, reason, ____: self.put("disconnect", reason)
        self.client.on_message = lambda _, __, message: self.put("message", message)
        self.client.on_subscribe = lambda _, __, mid, reasons, ___: self.put("subscribe", reasons)
        self.client.on_publish = lambda _, __, mid, reason, ___: self.put("publish", reason)
        self.client.username_pw_set("any", password)
        if will:
            self.client.will_set(*will)
        if transport == "websockets":
            url = urllib.parse.urlparse(place["servers"]["keyed"])
            host, port = url.hostname, url.port
            self.client.ws_set_options(path="/mqtt")
        else:
            host, port = place["lines"]["keyed"].rsplit(":", 1)
        self.client.connect(host, int(port), keepalive=60)
        self.client.loop_start()
        self.reason = self.next("connect")[1]

    def put(self, name, event):
        self.events[name].put(event)

    def next(self, name):
        return self.events[name].get(timeout=PATIENCE)

    def subscribe(self, topic, **options):
        self.client.subscribe(topic, **options)
        return [int(reason.value) for reason in self.next("subscribe")]

    def publish(self, topic, payload, qos=0, properties=None):
        self.client.publish(topic, payload, qos, properties=properties).wait_for_publish(PATIENCE)

    def message(self):
        message = self.next("message")
        return message.topic, message.payload.decode(), message.qos

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


def api(method, params):
    request = urllib.request.Request(
        f"{place['servers']['keyed']}api/{method}",
        data=json.dumps(params).encode(),
        headers={"X-API-Key": place["apiKey"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def equal(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    for transport in ("tcp", "websockets"):
        where = f"{version}-{transport}"
        subscriber = Client(version, transport, f"s-{where}")
        publisher = Client(version, transport, f"p-{where}")
        topic = f"home/{where}/temperature"
        equal(subscriber.subscribe(topic, qos=2), [2])
        equal(subscriber.subscribe(f"home/{where}/+/state", qos=1), [1])
        for qos in range(3):
            publisher.publish(topic, f"{qos}", qos)
            equal(subscriber.message(), (topic, f"{qos}", qos))
        publisher.publish(f"home/{where}/lamp/state", "on", 2)
        equal(subscriber.message(), (f"home/{where}/lamp/state", "on", 1))
        # From another protocol.
        api("publish", {"channel": topic, "data": {"c": 21.5}, "tags": {"unit": "C"}})
        equal(subscriber.message(), (topic, '{"c": 21.5}', 1))
        # Many messages, in order.
        for number in range(500):
            publisher.client.publish(topic, str(number), qos=number % 3)
        got = [subscriber.message()[1] for _ in range(500)]
        by_qos = [[n for n in got if int(n) % 3 == qos] for qos in range(3)]
        for qos in range(3):
            equal(by_qos[qos], [str(n) for n in range(500) if n % 3 == qos])
        # A second connection with the same id takes over, and the will of the first is published.
        will = Client(version, transport, f"w-{where}", will=(topic, "gone", 1))
        again = Client(version, transport, f"w-{where}")
        will.next("disconnect")
        will.client.loop_stop()
        equal(subscriber.message(), (topic, "gone", 1))
        for client in (subscriber, publisher, again):
            client.end()
        wrong = Client(version, transport, f"x-{where}", password="wrong")
        assert wrong.reason.is_failure, wrong.reason
        wrong.client.loop_stop()

# Properties of 5.0: request and response.
requester, responder = Client(mqtt.MQTTv5, "tcp", "requester"), Client(mqtt.MQTTv5, "tcp", "responder")
responder.subscribe("service/add", options=SubscribeOptions(qos=1))
requester.subscribe("answers/1", options=SubscribeOptions(qos=1, noLocal=True))
properties = Properties(PacketTypes.PUBLISH)
properties.ResponseTopic = "answers/1"
properties.CorrelationData = b"42"
properties.ContentType = "text/plain"
properties.UserProperty = [("a", "1"), ("a", "2")]
requester.publish("service/add", "1 2", 1, properties)
request = responder.next("message")
equal(request.properties.ContentType, "text/plain")
equal(request.properties.UserProperty, [("a", "1"), ("a", "2")])
properties = Properties(PacketTypes.PUBLISH)
properties.CorrelationData = request.properties.CorrelationData
responder.publish(request.properties.ResponseTopic, "3", 1, properties)
answer = requester.next("message")
equal((answer.payload, answer.properties.CorrelationData), (b"3", b"42"))
requester.end()
responder.end()
print("all well")
