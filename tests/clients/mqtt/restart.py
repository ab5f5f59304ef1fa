"""Sessions and retained messages across kills of the server, with paho-mqtt: restart.py HOST PORT. Prints `kill` where the server
is to be killed and started again at the same address, and reads a line when that is done."""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 60

host, port = sys.argv[1], int(sys.argv[2])


class Client:
    """A client, with a session that is kept for ten minutes or without one. It connects again by itself."""

    def __init__(self, version, client_id, is_kept=True, acknowledges=True):
        self.messages, self.connects, self.subscribes = queue.Queue(), queue.Queue(), queue.Queue()
        self.acknowledged = set()
        own = {} if version == mqtt.MQTTv5 else {"clean_session": not is_kept}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            manual_ack=not acknowledges,
            **own,
        )
        self.client.reconnect_delay_set(1, 1)
        self.client.max_inflight_messages_set(50)
        self.client.on_connect = lambda _, __, flags, reason, ___: self.connects.put((flags.session_present, reason))
        self.client.on_message = lambda _, __, message: self.messages.put(message)
        self.client.on_subscribe = lambda _, __, mid, reasons, ___: self.subscribes.put(reasons)
        self.client.on_publish = lambda _, __, mid, reason, ___: self.acknowledged.add(mid)
        own = {}
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if is_kept else 0
            own = {"clean_start": False, "properties": properties}
        self.client.connect(host, port, **own)
        self.client.loop_start()
        self.connected()

    def connected(self):
        """Waits for CONNACK; returns whether the session continues."""
        session_present, reason = self.connects.get(timeout=PATIENCE)
        assert not reason.is_failure, reason
        return session_present

    def subscribe(self, *topics):
        self.client.subscribe(list(topics))
        self.subscribes.get(timeout=PATIENCE)

    def message(self):
        message = self.messages.get(timeout=PATIENCE)
        return message.payload.decode(), message.qos, message.dup

    def publish(self, topic, payload, qos, retain=False):
        self.client.publish(topic, payload, qos, retain).wait_for_publish(PATIENCE)

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


def equal(got, wanted):
    assert got == wanted, f"{got!r} instead of {wanted!r}"


def kill():
    print("kill", flush=True)
    assert sys.stdin.readline(), "the server was not started again"


def acknowledged_messages_survive(version, name):
    publisher = Client(version, f"{name}-publisher", is_kept=False)
    away = Client(version, f"{name}-away")
    away.subscribe((f"{name}/away/#", 2))
    away.end()
    slow = Client(version, f"{name}-slow", acknowledges=False)
    slow.subscribe((f"{name}/slow", 2))
    prompt = Client(version, f"{name}-prompt")
    prompt.subscribe((f"{name}/prompt", 2), (f"{name}/none", 2))
    prompt.client.unsubscribe(f"{name}/none")
    for number in range(20):
        publisher.publish(f"{name}/away/{number % 3}", f"{number}", 1 + number % 2)
    for qos in [1, 2]:
        for topic in ["slow", "prompt"]:
            publisher.publish(f"{name}/{topic}", f"{qos}", qos)
        equal(slow.message(), (f"{qos}", qos, False))
        equal(prompt.message(), (f"{qos}", qos, False))
    publisher.publish(f"{name}/state", "old", 1, retain=True)
    publisher.publish(f"{name}/state", "on", 1, retain=True)
    publisher.publish(f"{name}/gone", "x", 1, retain=True)
    publisher.publish(f"{name}/gone", "", 1, retain=True)
    # The acknowledgement of the last message for `prompt` has arrived before those of later ones.
    prompt.publish(f"{name}/other", "x", 2)

    kill()
    for client in [publisher, slow, prompt]:
        present = client.connected()
        equal(present, client is not publisher)
    # Of the message with QoS 2, paho has everything but the last acknowledgement.
    equal(slow.message(), ("1", 1, True))
    publisher.publish(f"{name}/slow", "later", 1)
    equal(slow.message(), ("later", 1, False))
    away = Client(version, f"{name}-away")
    got = [away.message() for _ in range(20)]
    # In their order for each QoS: paho passes a message with QoS 2 on after PUBREL.
    equal(sorted(got, key=lambda message: message[1]), [(f"{n}", qos, False) for qos in [1, 2] for n in range(qos - 1, 20, 2)])
    publisher.publish(f"{name}/none", "x", 1)
    publisher.publish(f"{name}/prompt", "later", 2)
    equal(prompt.message(), ("later", 2, False))
    prompt.subscribe((f"{name}/state", 1), (f"{name}/gone", 1))
    equal(prompt.message(), ("on", 1, False))

    # What was sent again and is acknowledged now does not come a third time.
    away.end()
    kill()
    for client in [publisher, slow, prompt]:
        client.connected()
    away = Client(version, f"{name}-away")
    publisher.publish(f"{name}/away/x", "last", 1)
    equal(away.message(), ("last", 1, False))
    for client in [publisher, away, slow, prompt]:
        client.end()


def a_kill_amid_traffic_loses_nothing_acknowledged(version, name):
    """The publisher's session is not kept: after the kill it does not repeat what was not acknowledged."""
    for qos in [1, 2]:
        publisher = Client(version, f"{name}-traffic-publisher{qos}", is_kept=False)
        publisher.client.reconnect_delay_set(600, 600)
        subscriber = Client(version, f"{name}-traffic{qos}")
        subscriber.subscribe((f"{name}/traffic/{qos}", qos))
        numbers = {}
        for number in range(3000):
            numbers[publisher.client.publish(f"{name}/traffic/{qos}", f"{number}", qos).mid] = f"{number}"
        got = [subscriber.message()[0] for _ in range(200)]
        kill()
        acknowledged = {numbers[mid] for mid in publisher.acknowledged}
        assert subscriber.connected(), "the session continues"
        other = Client(version, f"{name}-marker", is_kept=False)
        other.publish(f"{name}/traffic/{qos}", "end", qos)
        while got[-1] != "end":
            got.append(subscriber.message()[0])
        missing = acknowledged - set(got)
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged messages are missing: {sorted(missing)[:9]}"
        if qos == 2:
            repeated = len(got) - len(set(got))
            equal(repeated, 0)
        print(f"{name} QoS {qos}: {len(acknowledged)} acknowledged, {len(got)} received", file=sys.stderr)
        for client in [other, subscriber]:
            client.end()
        publisher.client.loop_stop()


for version, name in [(mqtt.MQTTv311, "v3"), (mqtt.MQTTv5, "v5")]:
    acknowledged_messages_survive(version, name)
    a_kill_amid_traffic_loses_nothing_acknowledged(version, name)
