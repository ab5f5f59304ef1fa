#!/usr/bin/env python3
"""Measures the memory of idle connections: how much the program's own memory (PSS) grows with each of them.

usage: scripts/bench-memory.py [--binary PATH] [--peer COMMAND]

Each kind of connection has one subscription to the same channel. The first 4,096 connections are not counted; the growth
is that of the next 8,192, which doubles the tables of the program as often for each kind. The program runs alone, with
`--data-dir off`, three times for each kind; the median counts. The timers of new connections are counted: a connection
that sends nothing ends after some seconds, and its timer is freed only then.

A peer that speaks MQTT is measured in the same way: --peer 'mosquitto -c FILE -p {port}'.
"""

import argparse
import base64
import os
import resource
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEFORE, AFTER, ROUNDS = 4_096, 12_288, 3
# Connections from one address: below the number of ports that the kernel gives to one pair of addresses.
PER_ADDRESS = 8_000


def exchange(connection, request, expected):
    connection.sendall(request)
    received = b""
    while expected not in received:
        part = connection.recv(4096)
        if not part:
            raise SystemExit(f"the connection was closed after {received!r}")
        received += part


def lines(connection, _):
    exchange(connection, b"SUBSCRIBE news\n", b"CONFIRMED")


def mqtt(level):
    def begin(connection, number):
        properties = b"\0" if level == 5 else b""
        client = b"client-%016d" % number
        head = b"\0\x04MQTT" + bytes([level, 2, 0, 60]) + properties
        body = head + len(client).to_bytes(2, "big") + client
        exchange(connection, bytes([0x10, len(body)]) + body, b"\x20")
        body = b"\0\x01" + properties + b"\0\x04news\0"
        exchange(connection, bytes([0x82, len(body)]) + body, b"\x90")

    return begin


def upgrade(connection, path):
    key = base64.b64encode(os.urandom(16))
    head = b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" % path
    exchange(connection, head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % key, b"\r\n\r\n")


def frame(text):
    # A mask of zeros leaves the text as it is.
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


def websocket(connection, _):
    upgrade(connection, b"/connection/websocket")
    exchange(connection, frame(b'{"id":1,"connect":{}}'), b'"id":1')
    exchange(connection, frame(b'{"id":2,"subscribe":{"channel":"news"}}'), b'"id":2')


def pusher(connection, _):
    upgrade(connection, b"/app/key?protocol=7&client=js&version=8.4.0")
    exchange(connection, frame(b'{"event":"pusher:subscribe","data":{"channel":"news"}}'), b"subscription_succeeded")


# name, port, and the function that subscribes
KINDS = [
    ("lines", "tcp", lines),
    ("WebSocket, client protocol", "http", websocket),
    ("Pusher", "http", pusher),
    ("MQTT 3.1.1", "tcp", mqtt(4)),
    ("MQTT 5.0", "tcp", mqtt(5)),
]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pss(process):
    with open(f"/proc/{process.pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def growth(command, port, begin):
    """Bytes of PSS for each connection."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        connections = []
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline:
                        raise SystemExit(f"no answer from {command[0]}") from None
                    time.sleep(0.1)
            before = 0
            for number in range(AFTER):
                if number == BEFORE:
                    before = pss(process)
                source = (f"127.0.0.{2 + number // PER_ADDRESS}", 0)
                connection = socket.create_connection(("127.0.0.1", port), source_address=source)
                connections.append(connection)
                begin(connection, number)
            return (pss(process) - before) / (AFTER - BEFORE)
        finally:
            for connection in connections:
                connection.close()
            process.send_signal(signal.SIGKILL)
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--binary", default=ROOT / "target" / "release" / "tidings")
    parser.add_argument("--peer", help="a command that serves MQTT at {port}")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < AFTER + 100:
        sys.exit(f"this needs {AFTER + 100} open files; the limit is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows = []
    for name, kind, begin in KINDS:
        figures = []
        for _ in range(ROUNDS):
            ports = {"tcp": free_port(), "http": free_port()}
            addresses = [f"--{each}=127.0.0.1:{port}" for each, port in ports.items()]
            command = [str(Path(options.binary).resolve()), "serve", *addresses, "--data-dir=off"]
            figures.append(growth(command, ports[kind], begin))
        rows.append((name, figures))
    for level in [4, 5] if options.peer else []:
        figures = []
        for _ in range(ROUNDS):
            port = free_port()
            figures.append(growth(shlex.split(options.peer.format(port=port)), port, mqtt(level)))
        rows.append((f"peer, MQTT {'3.1.1' if level == 4 else '5.0'}", figures))
    print("| connection with one subscription | bytes (min–max) |\n|---|---:|")
    for name, figures in rows:
        print(f"| {name} | {statistics.median(figures):.0f} ({min(figures):.0f}–{max(figures):.0f}) |")


if __name__ == "__main__":
    main()
