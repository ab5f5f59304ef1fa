#!/usr/bin/env python3
"""A meter: device.py HOST PORT NAME TOKEN. Publishes a value at an interval, and receives commands. Plain lines over TCP."""

import random, select, socket, sys, time

host, port, name, token = sys.argv[1:]


def talk(peer):
    """Measures and obeys until the connection ends."""
    interval, received = 1.0, b""
    peer.sendall(f"AUTH {token}\r\nSUBSCRIBE commands:#{name}\r\n".encode())
    while True:
        readable, _, _ = select.select([peer], [], [], interval)
        if not readable:
            peer.sendall(f"PUBLISH meters:{name} {random.uniform(17, 19):.2f}\r\n".encode())
            continue
        chunk = peer.recv(4096)
        if not chunk:
            return
        *lines, received = (received + chunk).split(b"\r\n")
        for line in lines:
            match line.decode().split(" "):
                case ["MESSAGE", _, "interval", seconds]:
                    interval = max(0.05, float(seconds))
                case ["ERROR", *reason]:
                    print(name, "error:", *reason, file=sys.stderr, flush=True)


wait = 0.5
while True:
    try:
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            wait = 0.5
            talk(peer)
    except OSError:
        pass
    # A random wait: many devices must not return in the same second.
    time.sleep(random.uniform(0, wait))
    wait = min(2 * wait, 30)
