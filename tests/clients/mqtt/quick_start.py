"""paho-mqtt as the beginning of its documentation uses it, with a server without options: quick_start.py HOST PORT."""
import queue
import sys
import threading

import paho.mqtt.client as mqtt
import paho.mqtt.publish as publish
import paho.mqtt.subscribe as subscribe

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 60

host, port = sys.argv[1], int(sys.argv[2])


def the_topics_of_the_server_arrive(version):
    """`$SYS/#`, in a loop that blocks until the client disconnects."""
    messages = []

    def on_connect(client, userdata, flags, reason_code, properties):
        assert not reason_code.is_failure, reason_code
        client.subscribe("$SYS/#")

    def on_message(client, userdata, msg):
        messages.append((msg.topic, msg.payload))
        if msg.topic == "$SYS/broker/uptime":
            client.disconnect()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=version)
    client.on_connect, client.on_message = on_connect, on_message
    client.connect(host, port, 60)
    watchdog = threading.Timer(PATIENCE, client.disconnect)
    watchdog.start()
    client.loop_forever()
    watchdog.cancel()
    assert any(topic == "$SYS/broker/uptime" for topic, _ in messages), messages


def the_helpers_publish_and_subscribe(version):
    """The functions for one message, and for a callback without a client of one's own.

    Each message is confirmed before its connection ends, so that those of the next connection come later.
    """
    address = {"hostname": host, "port": port, "protocol": version}
    # 5.0 has no clean sessions.
    subscriber = address | ({"clean_session": None} if version == mqtt.MQTTv5 else {})
    received, subscribed = queue.Queue(), threading.Event()

    def on_message(client, userdata, message):
        if message.topic == "paho/test/ready":
            subscribed.set()
        else:
            received.put(message.payload)

    def run():
        subscribe.callback(on_message, "paho/test/#", qos=1, **subscriber)

    threading.Thread(target=run, daemon=True).start()
    # Until the subscription exists.
    publish.single("paho/test/ready", "yes", qos=1, retain=True, **address)
    assert subscribed.wait(PATIENCE)
    publish.single("paho/test/topic", "payload", qos=1, **address)
    publish.multiple([{"topic": "paho/test/topic", "payload": "1", "qos": 2}, ("paho/test/topic", "2", 0, False)], **address)
    got = [received.get(timeout=PATIENCE) for _ in range(3)]
    assert got == [b"payload", b"1", b"2"], got
    # A retained message answers a subscription for one message.
    message = subscribe.simple("paho/test/ready", **subscriber)
    assert (message.topic, message.payload, message.retain) == ("paho/test/ready", b"yes", True)
    publish.single("paho/test/ready", None, qos=1, retain=True, **address)


def publications_are_confirmed(version):
    """`publish` in a thread of the client, and the wait for its confirmation."""
    unacked = set()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=version)
    client.on_publish = lambda client, userdata, mid, reason_code, properties: userdata.discard(mid)
    client.user_data_set(unacked)
    client.connect(host, port)
    client.loop_start()
    infos = [client.publish("paho/test/topic", text, qos=1) for text in ("my message", "my message2")]
    unacked.update(info.mid for info in infos if not info.is_published())
    for info in infos:
        info.wait_for_publish(PATIENCE)
        assert info.is_published()
    client.disconnect()
    client.loop_stop()


for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    for scenario in (the_topics_of_the_server_arrive, the_helpers_publish_and_subscribe, publications_are_confirmed):
        scenario(version)
        print(f"{scenario.__name__} {version}: well")
