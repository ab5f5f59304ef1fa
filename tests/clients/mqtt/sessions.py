"""Sessions that outlive their connection, with paho-mqtt: sessions.py HOST PORT."""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 30

host, port = sys.argv[1], int(sys.argv[2])


class Client:
    """A client whose session is kept for a minute, or not."""

    def __init__(self, version, client_id, is_kept, acknowledges=True):
        self.messages, self.connects, self.subscribes = queue.Queue(), queue.Queue(), queue.Queue()
        own = {} if version == mqtt.MQTTv5 else {"clean_session": not is_kept}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            manual_ack=not acknowledges,
            **own,
        )
        self.client.on_connect = lambda _, __, flags, reason, ___: self.connects.put((flags.session_present, reason))
        self.client.on_message = lambda _, __, message: self.messages.put(message)
        self.client.on_subscribe = lambda _, __, mid, reasons, ___: self.subscribes.put(reasons)
        own = {}
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 60 if is_kept else 0
            own = {"clean_start": not is_kept, "properties": properties}
        self.client.connect(host, port, **own)
        self.client.loop_start()
        self.session_present, reason = self.connects.get(timeout=PATIENCE)
        assert not reason.is_failure, reason

    def subscribe(self, *topics):
        self.client.subscribe(list(topics))
        self.subscribes.get(timeout=PATIENCE)

    def message(self):
        message = self.messages.get(timeout=PATIENCE)
        return message.topic, message.payload.decode(), message.qos, message.dup

    def publish(self, topic, payload, qos):
        self.client.publish(topic, payload, qos).wait_for_publish(PATIENCE)

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()

    def cut(self):
        """Ends the connection without DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()


def equal(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    name, topic = f"kept-{version}", f"session/{version}"
    publisher = Client(version, f"publisher-{version}", False)
    client = Client(version, name, True, acknowledges=False)
    equal(client.session_present, False)
    client.subscribe((f"{topic}/a", 1), (f"{topic}/+/b", 2))
    # Two messages that are not acknowledged, then the connection breaks.
    publisher.publish(f"{topic}/a", "first", 1)
    publisher.publish(f"{topic}/x/b", "second", 2)
    equal([client.message()[:3] for _ in range(2)], [(f"{topic}/a", "first", 1), (f"{topic}/x/b", "second", 2)])
    client.cut()
    for number in range(200):
        publisher.publish(f"{topic}/a", str(number), 1)
    client = Client(version, name, True)
    equal(client.session_present, True)
    equal(client.message(), (f"{topic}/a", "first", 1, True))
    # The second one has arrived completely: only PUBREL is sent again.
    equal([client.message()[1] for _ in range(200)], [str(number) for number in range(200)])
    # A take-over in the middle of messages loses none of them: each arrives at one of both, or again at the second one.
    taken = set()
    for number in range(100):
        publisher.client.publish(f"{topic}/a", f"t{number}", 1)
        if number == 50:
            second = Client(version, name, True)
    while len(taken) < 100:
        both = [client.messages, second.messages]
        source = next((one for one in both if not one.empty()), second.messages)
        taken.add(source.get(timeout=PATIENCE).payload.decode())
    client.client.loop_stop()
    second.end()
    # A clean session discards it.
    clean = Client(version, name, False)
    equal(clean.session_present, False)
    clean.end()
    client = Client(version, name, True)
    equal(client.session_present, False)
    client.end()
    publisher.end()
print("all well")
