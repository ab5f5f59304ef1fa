#!/usr/bin/env python3
"""Relays TCP connections for h2spec: scripts/h2spec-relay.py PORT. Prints the port on which it listens.

h2spec sends some frames one after the other and expects that the server reads the second one before it has completed its response to
the first. The relay collects what the client sends for 20 ms, so that such frames arrive together.
"""
import socket
import sys
import threading
import time

BATCH = 0.02


def forward(source, target, delay):
    """Passes bytes on until the end; with a delay, those that have arrived within it together."""
    try:
        while data := source.recv(1 << 16):
            time.sleep(delay)
            if delay:
                try:
                    while more := source.recv(1 << 16, socket.MSG_DONTWAIT):
                        data += more
                except BlockingIOError:
                    pass
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            one.close()


def serve(client, port):
    server = socket.create_connection(("127.0.0.1", port))
    for one in (client, server):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=forward, args=(server, client, 0), daemon=True).start()
    forward(client, server, BATCH)


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection, int(sys.argv[1])), daemon=True).start()
