#!/usr/bin/env python3
"""Counts the instructions of the program per operation, and compares them with the committed counts.

usage: scripts/bench-guard.py [--update] [--binary PATH]

`tidings serve` runs under callgrind with an embedded broker. This script connects over real sockets and repeats an
operation in a closed loop: the next one begins when every client has received the result of the one before, so the
amount of work does not depend on the speed of the machine. For each scenario it counts the instructions in user space
of the whole process (all threads) and divides them by the number of operations. The kernel is not counted.

The committed counts are in scripts/bench-guard.json, for each compiler and processor on which they were measured: another
compiler generates other code, and the C library selects its functions by processor. A count more than 3 % above the
committed one fails; one more than 3 % below it is reported, so that it can be committed with --update. Without committed
counts of this compiler and processor, the counts are printed beside the first committed ones, and nothing fails.

Needs valgrind (Debian's package) and target/release/tidings.
"""

import argparse
import base64
import json
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "scripts" / "bench-guard.json"
# Largest accepted increase of a count, and the decrease from which --update is suggested.
TOLERANCE = 0.03
# Runs of each scenario; the median counts. Timers of the server add some instructions at random.
ROUNDS = 3
# Operations that are counted in a run, and operations before them.
ROUND = 500
WARM_UP = 20
SUBSCRIBERS = 50
# Seconds until a reply counts as missing. The program is about 50 times slower under callgrind.
TIMEOUT = 60
# The server gets one core, hence one shard and one worker thread, on every machine.
CORE = str(min(os.sched_getaffinity(0)))
BODY = b'{"table":7,"seat":"north","text":"follow the white rabbit","at":1732000000}'


class Lines:
    """A client of the line port."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def send(self, line):
        self.socket.sendall(line + b"\n")

    def wait(self, line):
        """Reads up to and including this line."""
        while True:
            head, found, rest = self.received.partition(b"\n")
            if not found:
                data = self.socket.recv(1 << 16)
                if not data:
                    sys.exit(f"the server closed a connection that waits for {line!r}")
                self.received += data
                continue
            self.received = rest
            if head.rstrip(b"\r") == line:
                return


class WebSocket:
    """A client of /connection/websocket that speaks the client protocol in JSON."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        key = base64.b64encode(bytes(range(16))).decode()
        self.socket.sendall(
            f"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = self.until(lambda data: data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0)
        if not head.startswith(b"HTTP/1.1 101"):
            sys.exit(f"no WebSocket: {head!r}")

    def until(self, length_of):
        while not (length := length_of(self.received)):
            data = self.socket.recv(1 << 16)
            if not data:
                sys.exit("the server closed a WebSocket")
            self.received += data
        taken, self.received = self.received[:length], self.received[length:]
        return taken

    def send(self, message):
        data = message.encode()
        mask = b"\x01\x02\x03\x04"
        head = struct.pack("!BB", 0x81, 0x80 | len(data)) if len(data) < 126 else struct.pack("!BBH", 0x81, 0xFE, len(data))
        self.socket.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))

    def message(self):
        def length_of(data):
            if len(data) < 4:
                return 0
            length, head = data[1] & 127, 2
            if length == 126:
                length, head = struct.unpack("!H", data[2:4])[0], 4
            return head + length if len(data) >= head + length else 0

        frame = self.until(length_of)
        return frame[4:] if frame[1] & 127 == 126 else frame[2:]

    def wait(self, part):
        """Reads up to and including the message that contains `part`."""
        while part not in self.message():
            pass

    def connect(self):
        self.send('{"id":1,"connect":{}}')
        self.wait(b'"connect"')

    def close(self):
        self.socket.sendall(b"\x88\x80\x01\x02\x03\x04")
        # The server answers with its Close frame and closes.
        while self.socket.recv(1 << 16):
            pass
        self.socket.close()


class Server:
    """`tidings serve` under callgrind, on free ports."""

    def __init__(self, binary, folder):
        self.counts = Path(folder) / "callgrind"
        log = Path(folder) / "log"
        # Without the admin page no rates are sampled: they would be counted, and their clock (rustix reads the vDSO) does not
        # work under valgrind.
        self.process = subprocess.Popen(
            ["taskset", "-c", CORE, "valgrind", "--tool=callgrind", f"--callgrind-out-file={self.counts}", "--", binary, "serve",
             "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", "off", "--set", "tcp.echo=false",
             "--set", "client.ping_interval=1h", "--set", "admin.enabled=false", "--log-level", "warn"],
            stdout=subprocess.PIPE, stderr=log.open("w"), text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")},
        )  # fmt: skip
        self.ports = {}
        for line in self.process.stdout:
            if line.startswith("ready"):
                return
            if found := re.match(r"(tcp|http)\s.*?:(\d+)", line):
                self.ports[found[1]] = int(found[2])
        sys.exit(f"the server did not start under valgrind:\n{log.read_text()}")

    def control(self, option):
        command = ["callgrind_control", option, str(self.process.pid)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            # callgrind_control reaches a sleeping process by ptrace, which some sandboxes forbid. This is no error of the program.
            print(f"NOT MEASURED: {' '.join(command)} failed: {error.stderr or error}")
            sys.exit(0)

    def counted(self, work):
        """Instructions of all threads for one of the operations that `work` repeats."""
        work(WARM_UP)
        before = set(self.counts.parent.iterdir())
        self.control("-z")
        work()
        self.control("-d")
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            for new in set(self.counts.parent.iterdir()) - before:
                totals = re.findall(r"^(?:summary|totals): (\d+)", new.read_text(errors="replace"), re.MULTILINE)
                if totals:
                    return int(totals[-1]) / ROUND
            time.sleep(0.05)
        sys.exit("callgrind wrote no counts")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def publish(server, clients, received):
    publisher = Lines(server.ports["tcp"])

    def work(rounds=ROUND):
        for _ in range(rounds):
            publisher.send(b"PUBLISH guard " + BODY)
            for client in clients:
                client.wait(received)

    return server.counted(work)


def publish_to_lines(server):
    clients = [Lines(server.ports["tcp"]) for _ in range(SUBSCRIBERS)]
    for client in clients:
        client.send(b"SUBSCRIBE guard")
        client.wait(b"CONFIRMED")
    return publish(server, clients, b"MESSAGE guard " + BODY)


def publish_to_websockets(server):
    clients = [WebSocket(server.ports["http"]) for _ in range(SUBSCRIBERS)]
    for client in clients:
        client.connect()
        client.send('{"id":2,"subscribe":{"channel":"guard"}}')
        client.wait(b'"subscribe"')
    return publish(server, clients, BODY)


def subscribe_lines(server):
    client = Lines(server.ports["tcp"])

    def work(rounds=ROUND):
        for _ in range(rounds):
            client.send(b"SUBSCRIBE guard")
            client.wait(b"CONFIRMED")
            # One write, so that the server reads both commands at once.
            client.send(b"UNSUBSCRIBE guard\nPING")
            client.wait(b"PONG")

    return server.counted(work)


def subscribe_websocket(server):
    client = WebSocket(server.ports["http"])
    client.connect()

    def work(rounds=ROUND):
        for _ in range(rounds):
            client.send('{"id":2,"subscribe":{"channel":"guard"}}')
            client.wait(b'"subscribe"')
            client.send('{"id":3,"unsubscribe":{"channel":"guard"}}')
            client.wait(b'"unsubscribe"')

    return server.counted(work)


def open_websocket(server):
    def work(rounds=ROUND):
        for _ in range(rounds):
            client = WebSocket(server.ports["http"])
            client.connect()
            client.close()

    return server.counted(work)


SCENARIOS = {
    "publish to 50 line subscribers": publish_to_lines,
    "publish to 50 WebSocket subscribers (JSON)": publish_to_websockets,
    "subscribe and unsubscribe, lines": subscribe_lines,
    "subscribe and unsubscribe, WebSocket (JSON)": subscribe_websocket,
    "open, connect and close a WebSocket": open_websocket,
}


def measure(binary):
    counts = {name: [] for name in SCENARIOS}
    for _ in range(ROUNDS):
        for name, scenario in SCENARIOS.items():
            with tempfile.TemporaryDirectory() as folder:
                server = Server(binary, folder)
                try:
                    counts[name].append(round(scenario(server)))
                finally:
                    server.stop()
    return counts


def environment():
    """The compiler and the processor, on which counts depend."""
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    fields = dict(re.findall(r"^(model name|cpu family|model|stepping)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    return {"compiler": compiler, "processor": ", ".join(f"{name} {value.strip()}" for name, value in sorted(fields.items()))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the counts to scripts/bench-guard.json")
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "tidings"))
    arguments = parser.parse_args()
    for tool in ("taskset", "valgrind", "callgrind_control"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: install Debian's packages valgrind and util-linux")
    here = environment()
    all_committed = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else []
    is_here = lambda entry: all(entry.get(name) == value for name, value in here.items())
    own = next(filter(is_here, all_committed), None)
    committed = own or next(iter(all_committed), {"counts": {}})
    measured = measure(arguments.binary)
    failed = []
    print(f"instructions per operation, median of {ROUNDS} (least to greatest)")
    for name, counts in measured.items():
        count, before = round(statistics.median(counts)), committed["counts"].get(name)
        line = f"{name:46} {count:>10,} ({min(counts):,} to {max(counts):,})"
        if before:
            change = count / before - 1
            line += f"  committed {before:,}  {change:+.1%}"
            if change > TOLERANCE:
                failed.append(name)
            elif change < -TOLERANCE:
                line += "  (fewer: commit with --update)"
        print(line)
    if arguments.update:
        counts = {name: round(statistics.median(counts)) for name, counts in measured.items()}
        entries = [entry for entry in all_committed if not is_here(entry)] + [{**here, "counts": counts}]
        COMMITTED.write_text(json.dumps(entries, indent=2) + "\n")
        return
    if not own:
        print(f"not compared: no counts are committed for {here['compiler']} on {here['processor']}")
    elif failed:
        sys.exit(f"more than {TOLERANCE:.0%} above the committed count: {', '.join(failed)}")


if __name__ == "__main__":
    main()
