"""A client of MQTT 3.1.1 and 5.0 that sends any bytes, and shows each packet that it gets."""
import socket
import struct
import time

# How long anything may take that happens at once on an idle machine, in seconds.
PATIENCE = 30

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14

# The types of properties by their numbers (5.0 §2.2.2.2): byte, two and four byte integer, variable byte integer, text or
# binary data, and pair of texts.
TYPES = dict.fromkeys((1, 23, 25, 36, 37, 40, 41, 42), "B") | dict.fromkeys((19, 33, 34, 35), "H")
TYPES |= dict.fromkeys((2, 17, 24, 39), "I") | {11: "v", 38: "pair"}
TYPES |= dict.fromkeys((3, 8, 9, 18, 21, 22, 26, 28, 31), "text")

PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION = 1, 2, 3, 8, 9
IDENTIFIER, SESSION_EXPIRY, ASSIGNED_ID, SERVER_KEEP_ALIVE, WILL_DELAY = 11, 17, 18, 19, 24
PROBLEM_INFORMATION, REASON, RECEIVE_MAXIMUM, ALIAS_MAXIMUM, ALIAS, USER, MAX_PACKET = 23, 31, 33, 34, 35, 38, 39


class Closed(Exception):
    """The server has closed the connection."""


def varint(number):
    out = b""
    while True:
        number, digit = divmod(number, 128)
        out += bytes([digit | (128 if number else 0)])
        if not number:
            return out


def read_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return number, at


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(value)) + value


def read_text(data, at):
    (length,) = struct.unpack_from(">H", data, at)
    return data[at + 2 : at + 2 + length], at + 2 + length


def properties(pairs):
    out = b""
    for number, value in pairs:
        kind = TYPES[number]
        encoded = {
            "v": lambda: varint(value),
            "text": lambda: text(value),
            "pair": lambda: text(value[0]) + text(value[1]),
        }.get(kind, lambda: struct.pack(">" + kind, value))
        out += varint(number) + encoded()
    return varint(len(out)) + out


def read_properties(data, at):
    length, at = read_varint(data, at)
    end, found = at + length, []
    while at < end:
        number, at = read_varint(data, at)
        kind = TYPES[number]
        if kind == "v":
            value, at = read_varint(data, at)
        elif kind == "text":
            value, at = read_text(data, at)
        elif kind == "pair":
            first, at = read_text(data, at)
            second, at = read_text(data, at)
            value = (first.decode(), second.decode())
        else:
            (value,) = struct.unpack_from(">" + kind, data, at)
            at += struct.calcsize(">" + kind)
        found.append((number, value))
    return found, end


def packet(first, body=b""):
    """A packet with this first byte."""
    return bytes([first]) + varint(len(body)) + body


def connect_packet(version, client_id, clean=True, keep_alive=0, props=(), will=None, name="MQTT"):
    """`will` is the topic, the payload, the flags of the first byte of a PUBLISH, and the properties."""
    flags = (2 if clean else 0) | (4 | will[2] << 2 | (will[2] & 1) << 5 if will else 0)
    body = text(name) + bytes([version, flags]) + struct.pack(">H", keep_alive)
    body += properties(props) if version == 5 else b""
    body += text(client_id)
    if will:
        body += properties(will[3]) if version == 5 else b""
        body += text(will[0]) + text(will[1])
    return packet(0x10, body)


class Message:
    def __init__(self, flags, body, version):
        self.qos, self.retain, self.dup = flags >> 1 & 3, bool(flags & 1), bool(flags & 8)
        topic, at = read_text(body, 0)
        self.topic, self.id, self.props = topic.decode(), None, []
        if self.qos:
            (self.id,) = struct.unpack_from(">H", body, at)
            at += 2
        if version == 5:
            self.props, at = read_properties(body, at)
        self.payload = body[at:].decode()

    def __repr__(self):
        return f"{self.topic}={self.payload} qos {self.qos} retain {self.retain} {self.props}"

    def all(self, number):
        """The values of a property."""
        return [value for known, value in self.props if known == number]


class Client:
    """A connection. Messages are acknowledged as they are read, unless `acknowledges` is set to False."""

    def __init__(self, address, version, client_id="", **options):
        self.version, self.buffer, self.last_id = version, b"", 0
        self.messages, self.others, self.received, self.acknowledges = [], [], {}, True
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(connect_packet(version, client_id, **options))
        kind, _, body = self.next(PATIENCE)
        assert kind == CONNACK, kind
        self.present, self.code = body[0] == 1, body[1]
        self.props = dict(read_properties(body, 2)[0]) if version == 5 else {}

    def send(self, data):
        self.socket.sendall(data)

    def next(self, seconds):
        """The type, flags and body of the next packet; `None` if there is none in this time."""
        end = time.monotonic() + seconds
        while True:
            whole = self.take()
            if whole:
                return whole
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return None
            except ConnectionError as error:
                raise Closed from error
            if not data:
                raise Closed
            self.buffer += data

    def take(self):
        try:
            length, at = read_varint(self.buffer, 1)
        except IndexError:
            return None
        if len(self.buffer) < at + length:
            return None
        first, body = self.buffer[0], self.buffer[at : at + length]
        self.buffer = self.buffer[at + length :]
        return first >> 4, first & 15, body

    def handle(self, kind, flags, body):
        if kind == PUBLISH:
            message = Message(flags, body, self.version)
            if not self.acknowledges or message.qos == 0:
                self.messages.append(message)
            elif message.qos == 1:
                self.messages.append(message)
                self.send(packet(0x40, struct.pack(">H", message.id)))
            else:
                self.received[message.id] = message
                self.send(packet(0x50, struct.pack(">H", message.id)))
        elif kind == PUBREL:
            (number,) = struct.unpack_from(">H", body)
            if number in self.received:
                self.messages.append(self.received.pop(number))
            self.send(packet(0x70, struct.pack(">H", number)))
        else:
            self.others.append((kind, body))

    def wait(self, kind):
        """The body of the next packet of this type."""
        end = time.monotonic() + PATIENCE
        while True:
            found = next((one for one in self.others if one[0] == kind), None)
            if found:
                self.others.remove(found)
                return found[1]
            got = self.next(end - time.monotonic())
            assert got, f"no packet of type {kind}"
            self.handle(*got)

    def ping(self):
        """Everything that the server has sent before is handled afterwards."""
        self.send(packet(0xC0))
        self.wait(PINGRESP)

    def get(self, count):
        """Waits for so many messages, and returns them."""
        end = time.monotonic() + PATIENCE
        while len(self.messages) < count:
            got = self.next(end - time.monotonic())
            assert got, f"{self.messages}, not {count} messages"
            self.handle(*got)
        messages, self.messages = self.messages, []
        return messages

    def own_id(self):
        self.last_id += 1
        return struct.pack(">H", self.last_id)

    def subscribe(self, *filters, props=()):
        """Subscribes to filters with their options; returns the codes."""
        number = self.own_id()
        body = number + (properties(props) if self.version == 5 else b"")
        self.send(packet(0x82, body + b"".join(text(name) + bytes([options]) for name, options in filters)))
        body = self.wait(SUBACK)
        assert body[:2] == number, body
        return list(body[read_properties(body, 2)[1] if self.version == 5 else 2 :])

    def unsubscribe(self, name):
        self.send(packet(0xA2, self.own_id() + (b"\0" if self.version == 5 else b"") + text(name)))
        self.wait(UNSUBACK)

    def publish(self, topic, payload="", qos=0, retain=False, props=(), waits=True):
        """Publishes, waits until it is acknowledged, and returns the reason code."""
        number = self.own_id() if qos else b""
        body = text(topic) + number + (properties(props) if self.version == 5 else b"") + payload.encode()
        self.send(packet(0x30 | qos << 1 | retain, body))
        if not waits or qos == 0:
            return None
        body = self.wait(PUBACK if qos == 1 else PUBREC)
        code = body[2] if len(body) > 2 else 0
        if qos == 2 and code < 0x80:
            self.send(packet(0x62, number))
            self.wait(PUBCOMP)
        return code

    def disconnect(self, props=()):
        self.send(packet(0xE0, b"\0" + properties(props) if props else b""))
        self.closes()

    def cut(self):
        """Ends the connection without DISCONNECT."""
        self.socket.close()

    def closes(self):
        """Waits until the server closes the connection; returns the code of its DISCONNECT, if it sends one."""
        end, code = time.monotonic() + PATIENCE, None
        try:
            while True:
                got = self.next(end - time.monotonic())
                assert got, "the connection is open"
                if got[0] == DISCONNECT:
                    code = got[2][0] if got[2] else 0
        except Closed:
            self.socket.close()
            return code
