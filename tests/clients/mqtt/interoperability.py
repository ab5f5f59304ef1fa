"""Exchanges of packets that suites of interoperability make: interoperability.py HOST PORT FEATURE…

The features are `sessions` and `shared`: what the server has of sessions that outlive their connection and of shared
subscriptions.
"""
import concurrent.futures
import itertools
import sys
import time
import traceback

from packets import *

address, features = (sys.argv[1], int(sys.argv[2])), sys.argv[3:]
NO_LOCAL, AS_PUBLISHED, IF_NEW, NO_RETAINED = 4, 8, 16, 32
numbers = itertools.count()
exchanges = []


def exchange(*versions, needs=None):
    """Runs a function with each version, and topics and client ids of its own."""

    def add(function):
        if needs is None or needs in features:
            exchanges.extend((function, version) for version in versions)
        return function

    return add


class Place:
    """The clients and topics of one exchange."""

    def __init__(self, version):
        self.version, self.name = version, f"i{next(numbers)}"

    def client(self, client_id, code=0, **options):
        name = f"{self.name}-{client_id}" if client_id else ""
        client = Client(address, self.version, name, **options)
        equal(client.code, code)
        return client

    def kept(self, client_id):
        """A client whose session outlives the connection."""
        return self.client(client_id, clean=False, props=[(SESSION_EXPIRY, 3600)])

    def topic(self, name):
        return f"{self.name}/{name}"


def equal(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


def qualities(messages):
    return sorted((message.payload, message.qos) for message in messages)


@exchange(4, 5)
def messages_with_each_quality_arrive(place):
    place.client("a").disconnect()
    client = place.client("a")
    equal(client.present, False)
    equal(client.subscribe((place.topic("t"), 2)), [2])
    for qos in range(3):
        client.publish(place.topic("t"), str(qos), qos)
    equal([(message.payload, message.qos) for message in client.get(3)], [("0", 0), ("1", 1), ("2", 2)])


@exchange(4, 5)
def retained_messages_keep_their_quality_and_properties_until_they_are_removed(place):
    client, props = place.client("a"), [(USER, ("a", "2")), (USER, ("c", "3"))]
    for qos in range(3):
        client.publish(place.topic(f"r{qos}"), "x", qos, retain=True, props=props)
    client.ping()
    client.subscribe((place.topic("+"), 2))
    messages = client.get(3)
    equal(sorted(message.qos for message in messages), [0, 1, 2])
    for message in messages:
        equal((message.retain, message.all(USER)), (True, [("a", "2"), ("c", "3")] if place.version == 5 else []))
    client.unsubscribe(place.topic("+"))
    for qos in range(3):
        client.publish(place.topic(f"r{qos}"), "", qos, retain=True)
    client.ping()
    client.subscribe((place.topic("+"), 2))
    client.ping()
    equal(client.messages, [])


@exchange(4, 5)
def the_will_of_a_silent_client_and_of_one_that_is_cut_is_published(place):
    will = (place.topic("w"), "gone", 4, [(USER, ("a", "2")), (USER, ("c", "3"))])
    watcher = place.client("b")
    watcher.subscribe((place.topic("w"), 2))
    silent = place.client("a", keep_alive=1, will=will)
    (message,) = watcher.get(1)
    equal((message.payload, message.all(USER)), ("gone", [("a", "2"), ("c", "3")] if place.version == 5 else []))
    silent.closes()
    place.client("c", will=will).cut()
    equal(watcher.get(1)[0].payload, "gone")
    place.client("d", will=will).disconnect()
    watcher.publish(place.topic("w"), "last")
    equal(watcher.get(1)[0].payload, "last")


@exchange(4, 5)
def a_will_with_the_retain_flag_is_retained_and_without_a_will_nothing_is_published(place):
    watcher = place.client("b")
    watcher.subscribe((place.topic("w"), 1))
    place.client("a").cut()
    place.client("c", will=(place.topic("w"), "gone", 3, [])).cut()
    equal([(message.payload, message.retain) for message in watcher.get(1)], [("gone", False)])
    later = place.client("d")
    later.subscribe((place.topic("w"), 1))
    equal([(message.payload, message.retain) for message in later.get(1)], [("gone", True)])


@exchange(4, 5)
def a_message_without_the_retain_flag_changes_no_retained_message(place):
    client = place.client("a")
    client.publish(place.topic("t"), "kept", 1, retain=True)
    for payload in ("live", ""):
        client.publish(place.topic("t"), payload, 1)
    client.subscribe((place.topic("t"), 1))
    equal([(message.payload, message.retain) for message in client.get(1)], [("kept", True)])


@exchange(4, 5)
def a_client_id_that_is_too_long_is_refused(place):
    client = place.client("x" * 1024, code=0x85 if place.version == 5 else 2)
    client.closes()


@exchange(5)
def a_client_that_wants_no_explanations_gets_them_in_no_acknowledgement(place):
    for wants in (0, 1):
        client = place.client("a", props=[(PROBLEM_INFORMATION, wants)])
        client.send(packet(0x32, text("tidings.t") + b"\0\1\0"))
        body = client.wait(PUBACK)
        assert body[2] >= 0x80, body
        found = read_properties(body, 3)[0] if len(body) > 3 else []
        equal([number for number, _ in found], [REASON] if wants else [])


@exchange(4, 5)
def a_client_without_an_id_is_accepted_if_its_session_can_end(place):
    client = place.client("", clean=True)
    equal(ASSIGNED_ID in client.props, place.version == 5)
    place.client("", clean=False, code=2 if place.version == 4 else 0)


@exchange(4, 5, needs="sessions")
def messages_for_an_absent_client_arrive_when_it_returns(place):
    client = place.kept("a")
    client.subscribe((place.topic("+"), 2))
    client.disconnect()
    publisher = place.client("b")
    for qos in range(3):
        publisher.publish(place.topic("t"), str(qos), qos)
    publisher.ping()
    client = place.client("a", clean=False)
    equal(client.present, True)
    equal([message.payload for message in client.get(3)], ["0", "1", "2"])


@exchange(4, 5, needs="sessions")
def overlapping_filters_of_an_absent_client_give_one_message_with_all_identifiers(place):
    client = place.kept("a")
    client.subscribe((place.topic("#"), 1), props=[(IDENTIFIER, 2)])
    client.subscribe((place.topic("t"), 2), props=[(IDENTIFIER, 200)])
    client.disconnect()
    publisher = place.client("b")
    publisher.publish(place.topic("t"), "x", 2)
    client = place.client("a", clean=False)
    (message,) = client.get(1)
    equal((message.qos, message.all(IDENTIFIER)), (2, [2, 200] if place.version == 5 else []))
    client.ping()
    equal(client.messages, [])


@exchange(4, 5)
def overlapping_filters_give_one_message_with_the_highest_quality_and_all_identifiers(place):
    client = place.client("a")
    client.subscribe((place.topic("#"), 0), props=[(IDENTIFIER, 2)])
    client.subscribe((place.topic("t"), 2), props=[(IDENTIFIER, 456789)])
    client.publish(place.topic("t"), "x", 2)
    (message,) = client.get(1)
    equal((message.qos, message.all(IDENTIFIER)), (2, [2, 456789] if place.version == 5 else []))
    client.ping()
    equal(client.messages, [])


@exchange(4, 5, needs="sessions")
def unacknowledged_messages_are_sent_again_after_a_reconnect(place):
    client = place.kept("a")
    client.subscribe((place.topic("#"), 2))
    client.acknowledges = False
    client.publish(place.topic("t"), "one", 1)
    client.publish(place.topic("t"), "two", 2)
    client.get(2)
    client.disconnect()
    client = place.kept("a")
    equal([(message.payload, message.dup) for message in client.get(2)], [("one", True), ("two", True)])


@exchange(4, 5)
def a_refused_filter_has_a_code_and_leaves_the_others(place):
    codes = place.client("a").subscribe((place.topic("t"), 1), ("tidings.t", 2))
    equal((codes[0], codes[1] >= 0x80), (1, True))


@exchange(4, 5)
def a_topic_with_a_dollar_is_accepted_and_no_wildcard_at_its_beginning_matches_it(place):
    client = place.client("a")
    client.subscribe(("+/" + place.topic("#"), 2), ("$x/" + place.topic("#"), 1))
    client.publish("$x/" + place.topic("t"), "dollar", 1)
    client.publish("x/" + place.topic("t"), "plain", 1)
    equal(qualities(client.get(2)), [("dollar", 1), ("plain", 1)])
    client.unsubscribe("$x/" + place.topic("#"))
    client.publish("$x/" + place.topic("t"), "dollar", 1)
    client.ping()
    equal(client.messages, [])


@exchange(4, 5)
def nothing_arrives_for_a_filter_after_unsubscribe(place):
    client, publisher = place.client("a"), place.client("b")
    for name in "012":
        client.subscribe((place.topic(name), 2))
    client.unsubscribe(place.topic("0"))
    for name in "012":
        publisher.publish(place.topic(name), name, 1)
    equal(qualities(client.get(2)), [("1", 1), ("2", 1)])


@exchange(4, 5)
def a_delivery_that_has_begun_is_completed_after_unsubscribe(place):
    client = place.client("a")
    client.subscribe((place.topic("t"), 2))
    client.acknowledges = False
    client.publish(place.topic("t"), "x", 2)
    (message,) = client.get(1)
    client.unsubscribe(place.topic("t"))
    number = struct.pack(">H", message.id)
    client.send(packet(0x50, number))
    kind, _, body = client.next(PATIENCE)
    equal((kind, body[:2]), (PUBREL, number))
    client.send(packet(0x70, number))
    client.ping()


@exchange(5, needs="sessions")
def a_message_that_was_sent_does_not_expire(place):
    client = place.kept("a")
    client.subscribe((place.topic("t"), 2))
    client.acknowledges = False
    for qos in (1, 2):
        client.publish(place.topic("t"), str(qos), qos, props=[(MESSAGE_EXPIRY, 1)])
    client.get(2)
    client.disconnect()
    time.sleep(3)
    client = place.kept("a")
    equal([(message.payload, message.dup) for message in client.get(2)], [("1", True), ("2", True)])


@exchange(5, needs="sessions")
def a_session_ends_with_its_expiry(place):
    def returns(present, expiry, clean=False):
        client = place.client("a", clean=clean, props=[(SESSION_EXPIRY, expiry)])
        equal(client.present, present)
        return client

    returns(False, 0, clean=True).disconnect()
    returns(False, 0).disconnect()
    returns(False, 2, clean=True).disconnect()
    returns(True, 2).disconnect()
    time.sleep(4)
    returns(False, 1).disconnect([(SESSION_EXPIRY, 999999999)])
    time.sleep(2)
    returns(True, 1).disconnect([(SESSION_EXPIRY, 0)])
    returns(False, 0).disconnect()


@exchange(5)
def properties_of_a_message_arrive_with_each_quality(place):
    client = place.client("a")
    client.subscribe((place.topic("t"), 2))
    props = [(PAYLOAD_FORMAT, 1), (CONTENT_TYPE, b"text/plain"), (USER, ("a", "2")), (USER, ("c", "3"))]
    props += [(RESPONSE_TOPIC, place.topic("r").encode()), (CORRELATION, b"334")]
    for qos in range(3):
        client.publish(place.topic("t"), "", qos, props=props)
    for message in client.get(3):
        equal(sorted(message.props, key=repr), sorted(props, key=repr))


@exchange(5, needs="sessions")
def an_expired_message_does_not_arrive_and_another_has_the_rest_of_its_lifetime(place):
    client = place.kept("a")
    client.subscribe((place.topic("t"), 2))
    client.disconnect()
    publisher = place.client("b")
    for expiry, qos in ((1, 1), (1, 2), (60, 1), (60, 2)):
        publisher.publish(place.topic("t"), str(expiry), qos, props=[(MESSAGE_EXPIRY, expiry)])
    time.sleep(3)
    client = place.client("a", clean=False)
    messages = client.get(2)
    equal([message.payload for message in messages], ["60", "60"])
    for message in messages:
        assert message.all(MESSAGE_EXPIRY)[0] < 60, message


@exchange(5)
def options_of_a_subscription_decide_about_own_and_retained_messages(place):
    client, other = place.client("a"), place.client("b")
    client.subscribe((place.topic("l"), 2 | NO_LOCAL))
    other.subscribe((place.topic("l"), 2 | NO_LOCAL))
    client.publish(place.topic("l"), "x", 1)
    other.get(1)
    client.subscribe((place.topic("p"), 2 | AS_PUBLISHED))
    for retain in (False, True):
        client.publish(place.topic("p"), "x", 1, retain=retain)
    equal([message.retain for message in client.get(2)], [False, True])
    for options, counts in ((2 | IF_NEW, (1, 0)), (2 | NO_RETAINED, (0, 0)), (2, (1, 1))):
        reader = place.client("c")
        for count in counts:
            reader.subscribe((place.topic("+"), options))
            reader.get(count)
            reader.ping()
            equal(reader.messages, [])


@exchange(5)
def a_topic_alias_of_a_client_ends_with_its_connection(place):
    client = place.client("a")
    client.publish(place.topic("t"), "x", 1, props=[(ALIAS, 0)], waits=False)
    equal(client.closes(), 0x94)
    client = place.client("a")
    client.subscribe((place.topic("t"), 2))
    client.publish(place.topic("t"), "1", 1, props=[(ALIAS, 1)])
    client.publish("", "2", 1, props=[(ALIAS, 1)])
    equal(qualities(client.get(2)), [("1", 1), ("2", 1)])
    client.disconnect()
    client = place.client("a")
    client.publish("", "3", 1, props=[(ALIAS, 1)], waits=False)
    assert client.closes() in (0x82, 0x94)


@exchange(5)
def the_server_uses_topic_aliases_for_each_quality_if_the_client_accepts_them(place):
    for maximum in (1, 0, None):
        client = place.client("a", props=[] if maximum is None else [(ALIAS_MAXIMUM, maximum)])
        client.subscribe((place.topic("t"), 2))
        for qos in range(3):
            client.publish(place.topic("t"), "x", qos)
        got = [(message.topic, message.all(ALIAS)) for message in client.get(3)]
        name = place.topic("t")
        equal(got, [(name, [1]), ("", [1]), ("", [1])] if maximum else [(name, [])] * 3)


@exchange(5)
def a_message_larger_than_a_client_accepts_is_acknowledged_and_not_sent_to_it(place):
    client, size = place.client("a", props=[(MAX_PACKET, 64)]), 64
    for options in (0, 2):
        client.subscribe((place.topic("t"), options))
        client.publish(place.topic("t"), "." * (size // 2))
        client.publish(place.topic("t"), "." * size, 1)
        client.publish(place.topic("t"), "." * (size // 2))
        client.ping()
        equal([len(message.payload) for message in client.get(2)], [32, 32])
        equal(client.messages, [])


@exchange(5)
def a_client_gets_as_many_unacknowledged_messages_as_it_accepts(place):
    client = place.client("a", props=[(RECEIVE_MAXIMUM, 2)])
    client.subscribe((place.topic("t"), 2))
    client.acknowledges = False
    for number in range(3):
        client.publish(place.topic("t"), str(number), 1)
    first, second = client.get(2)
    client.ping()
    equal(client.messages, [])
    client.send(packet(0x40, struct.pack(">H", first.id)))
    equal(client.get(1)[0].payload, "2")


@exchange(5)
def a_client_reads_why_it_is_disconnected_though_it_sends_on(place):
    client = place.client("a")
    maximum = client.props[RECEIVE_MAXIMUM]
    for number in range(1, maximum + 2):
        client.publish(place.topic("t"), "x", 2, waits=False)
    # Each PUBREC is answered, as those of a client are that does not know of the DISCONNECT behind them yet.
    while True:
        kind, _, body = client.next(PATIENCE)
        if kind == DISCONNECT:
            return equal(body[0], 0x93)
        equal(kind, PUBREC)
        client.send(packet(0x62, body[:2]))


@exchange(5, needs="sessions")
def a_will_waits_for_its_delay_or_for_the_end_of_the_session(place):
    for delay, expiry, least in ((3, 5, 3), (5, 0, 0), (5, 2, 2)):
        watcher = place.client("b")
        watcher.subscribe((place.topic("w"), 2))
        will = (place.topic("w"), "gone", 4, [(WILL_DELAY, delay)])
        place.client("a", props=[(SESSION_EXPIRY, expiry)], will=will).cut()
        start = time.monotonic()
        watcher.get(1)
        waited = time.monotonic() - start
        assert least <= waited < least + 2, f"{waited} s with delay {delay} and expiry {expiry}"


@exchange(4, 5, needs="shared")
def one_member_of_a_shared_subscription_gets_each_message(place):
    members = [place.client(name) for name in "ab"]
    for member in members:
        member.subscribe(("$share/group/" + place.topic("x"), 2), (place.topic("y"), 2))
    for number in range(10):
        members[0].publish(place.topic("x"), str(number), 1)
    members[0].publish(place.topic("y"), "all", 1)
    got = []
    while len(got) < 12:
        for member in members:
            member.ping()
            got += [message.payload for message in member.messages]
            member.messages.clear()
    equal(sorted(got), sorted([str(number) for number in range(10)] + ["all", "all"]))


@exchange(4, 5)
def a_packet_that_breaks_a_rule_ends_its_connection_alone(place):
    none = b"\0" if place.version == 5 else b""
    # The packet, and the reason code of 5.0.
    cases = {
        "a second CONNECT": (connect_packet(place.version, place.name), 0x82),
        "type 0": (b"\0\0", 0x81),
        "a CONNACK": (packet(0x20, b"\0\0" + none), 0x82),
        "QoS 3": (packet(0x36, text("t") + b"\0\1" + none), 0x81),
        "DUP with QoS 0": (packet(0x38, text("t") + none), 0x81),
        "the identifier 0": (packet(0x32, text("t") + b"\0\0" + none), 0x82),
        "no topic": (packet(0x30, text("") + none), 0x82),
        "+ in a topic": (packet(0x30, text("a/+") + none), 0x90),
        "# in a topic": (packet(0x30, text("#") + none), 0x90),
        "a topic that is longer than its packet": (packet(0x30, b"\xff\xfft"), 0x81),
        "a topic that is not UTF-8": (packet(0x30, text(b"\xff") + none), 0x81),
        "a topic with U+0000": (packet(0x30, text(b"a\0") + none), 0x81),
        "a length of five bytes": (b"\x30\xff\xff\xff\xff\x01", 0x81),
        "a length above the limit": (b"\x30\xff\xff\xff\x7f", 0x95),
        "reserved flags of SUBSCRIBE": (packet(0x80, b"\0\1" + none + text("t") + b"\0"), 0x81),
        "SUBSCRIBE without filters": (packet(0x82, b"\0\1" + none), 0x82),
        "a filter with QoS 3": (packet(0x82, b"\0\1" + none + text("t") + b"\3"), 0x82),
        "reserved bits of the options": (packet(0x82, b"\0\1" + none + text("t") + b"\xc0"), 0x81),
        "reserved flags of UNSUBSCRIBE": (packet(0xA0, b"\0\1" + none + text("t")), 0x81),
        "UNSUBSCRIBE without filters": (packet(0xA2, b"\0\1" + none), 0x82),
        "reserved flags of PUBREL": (packet(0x60, b"\0\1"), 0x81),
        "reserved flags of PINGREQ": (packet(0xC1), 0x81),
        "PINGREQ with a body": (packet(0xC0, b"x"), 0x81),
        "reserved flags of DISCONNECT": (packet(0xE1), 0x81),
    }
    if place.version == 5:
        twice = properties([(CONTENT_TYPE, "a"), (CONTENT_TYPE, "b")])
        cases |= {
            "a property twice": (packet(0x30, text("t") + twice), 0x82),
            "a property of another packet": (packet(0x30, text("t") + properties([(SESSION_EXPIRY, 1)])), 0x81),
            "an unknown property": (packet(0x30, text("t") + b"\2\x7f\0"), 0x81),
            "an identifier in PUBLISH": (packet(0x30, text("t") + properties([(IDENTIFIER, 1)])), 0x82),
            "the subscription identifier 0": (packet(0x82, b"\0\1\2\x0b\0" + text("t") + b"\0"), 0x82),
            "an alias above the maximum": (packet(0x30, text("t") + properties([(ALIAS, 65535)])), 0x94),
            "an expiry that was 0": (packet(0xE0, b"\0" + properties([(SESSION_EXPIRY, 9)])), 0x82),
            "AUTH": (packet(0xF0, b"\x18\0"), 0x82),
        }
    bystander = place.client("bystander")
    bystander.subscribe((place.topic("t"), 1))
    wrong = []
    for name, (data, code) in cases.items():
        client = place.client("bad")
        client.send(data)
        got = client.closes()
        wanted = code if place.version == 5 else None
        if got != wanted:
            wrong.append(f"{name}: {got and hex(got)}, not {wanted and hex(wanted)}")
        bystander.publish(place.topic("t"), name, 1)
        equal(bystander.get(1)[0].payload, name)
    equal(wrong, [])


@exchange(4, 5)
def a_connect_that_breaks_a_rule_is_refused_or_closed(place):
    whole = connect_packet(place.version, place.name)
    cases = {
        "another protocol name": connect_packet(place.version, place.name, name="hj"),
        "a reserved flag": whole[:9] + bytes([whole[9] | 1]) + whole[10:],
        "a will QoS without a will": whole[:9] + bytes([whole[9] | 8]) + whole[10:],
        "a will with QoS 3": connect_packet(place.version, place.name, will=("w", "x", 6, [])),
        "more than its fields": packet(0x10, whole[2:] + b"x"),
    }
    for name, data in cases.items():
        raw = socket.create_connection(address)
        raw.settimeout(PATIENCE)
        raw.sendall(data)
        answer = b""
        try:
            while got := raw.recv(4096):
                answer += got
        except ConnectionError:
            pass
        except TimeoutError as error:
            raise AssertionError(f"{name}: the connection is open") from error
        assert answer[:1] != b"\x20" or answer[3] != 0, f"{name}: {answer!r}"


@exchange(4, 5)
def an_identifier_in_use_with_qos_2_is_a_repetition(place):
    client, reader = place.client("a"), place.client("b")
    reader.subscribe((place.topic("t"), 0))
    body = text(place.topic("t")) + b"\0\x09" + (b"\0" if place.version == 5 else b"")
    client.send(packet(0x34, body + b"first") + packet(0x3C, body + b"first"))
    for _ in range(2):
        equal(client.wait(PUBREC)[:2], b"\0\x09")
    client.send(packet(0x62, b"\0\x09"))
    client.wait(PUBCOMP)
    client.send(packet(0x34, body + b"second"))
    client.wait(PUBREC)
    equal([message.payload for message in reader.get(2)], ["first", "second"])


@exchange(4, 5)
def half_packets_delay_no_other_client_and_end_with_the_keep_alive_time(place):
    body = text(place.topic("t")) + b"x" * 1000
    halves = [place.client(f"h{number}", keep_alive=1) for number in range(20)]
    for client in halves:
        client.send(packet(0x30, body)[:-1])
    other = place.client("a")
    other.subscribe((place.topic("t"), 1))
    start = time.monotonic()
    for number in range(100):
        other.publish(place.topic("t"), str(number), 1)
    equal([message.payload for message in other.get(100)], [str(number) for number in range(100)])
    assert time.monotonic() - start < PATIENCE / 2
    for client in halves:
        client.closes()


@exchange(5)
def half_a_connect_ends_though_its_bytes_go_on(place):
    data = connect_packet(5, place.name * 100)
    raw = socket.create_connection(address)
    raw.settimeout(0.5)
    raw.sendall(data[:100])
    # The default of client.stale_close_delay is 10 s.
    for at in range(100, 100 + 4 * PATIENCE):
        try:
            raw.sendall(data[at : at + 1])
            if raw.recv(100) == b"":
                return
        except TimeoutError:
            pass
        except ConnectionError:
            return
    raise AssertionError("the connection is open")


def run(one):
    function, version = one
    try:
        function(Place(version))
        return None
    except BaseException:
        return f"{function.__name__}, version {version}:\n{traceback.format_exc()}"


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    failed = [words for words in pool.map(run, exchanges) if words]
print(*failed, f"{len(exchanges) - len(failed)} of {len(exchanges)} exchanges", sep="\n")
print("all well" if not failed else "failed")
sys.exit(bool(failed))
