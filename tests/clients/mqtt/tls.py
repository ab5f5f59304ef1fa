"""paho-mqtt over TLS with and without a client certificate: tls.py FOLDER ADDRESS….

The folder has the authority of the server and of the clients (`ca.pem`), a client's certificate (`client.pem`,
`client.key`) and one of another authority (`other.pem`, `other.key`).
"""
import queue
import ssl
import sys

import paho.mqtt.client as mqtt

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 30

folder, addresses = sys.argv[1], sys.argv[2:]


def connect(address, version, certificate):
    """A client with this certificate, and its queue of messages; `None` if the server refuses it."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=version)
    own = {}
    if certificate:
        own = {"certfile": f"{folder}/{certificate}.pem", "keyfile": f"{folder}/{certificate}.key"}
    client.tls_set(ca_certs=f"{folder}/ca.pem", **own)
    events, messages = queue.Queue(), queue.Queue()
    client.on_connect = lambda _, __, ___, reason, ____: events.put(reason)
    client.on_disconnect = lambda _, __, ___, reason, ____: events.put(reason)
    client.on_message = lambda _, __, message: messages.put(message.payload)
    host, port = address.rsplit(":", 1)
    try:
        client.connect(host, int(port))
    except (ssl.SSLError, ConnectionError):
        # A server that refuses a certificate of TLS 1.3 does so after the client's handshake: see below.
        return None
    client.loop_start()
    reason = events.get(timeout=PATIENCE)
    if reason.is_failure:
        client.loop_stop()
        return None
    return client, messages


for address in addresses:
    for version in (mqtt.MQTTv311, mqtt.MQTTv5):
        client, messages = connect(address, version, "client")
        subscribed = queue.Queue()
        client.on_subscribe = lambda *_: subscribed.put(True)
        client.subscribe("t", qos=1)
        subscribed.get(timeout=PATIENCE)
        client.publish("t", "encrypted", qos=1).wait_for_publish(PATIENCE)
        assert messages.get(timeout=PATIENCE) == b"encrypted"
        client.disconnect()
        client.loop_stop()
        for wrong in (None, "other"):
            assert connect(address, version, wrong) is None, f"{address} accepts the certificate {wrong}"
print("all well")
