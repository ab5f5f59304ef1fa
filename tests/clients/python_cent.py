"""The server API through Centrifugo's own library for Python: python_cent.py URL KEY CLIENT

CLIENT is the id of a connection of user 42 that is subscribed to `lobby`, in a server with history and presence.
"""

import sys
import time

import cent

url, key, client_id = sys.argv[1:]
api = cent.Client(url, api_key=key, timeout=20)


def expect(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def refused(code, request, *args):
    try:
        request(*args)
    except cent.CentApiResponseError as error:
        expect(error.code, code)
        assert error.message
        return
    raise AssertionError(f"{args} was not refused")


first = api.publish(cent.PublishRequest(channel="news", data={"n": 1}, tags={"lang": "de"}))
expect(first.offset, 1)
assert first.epoch
once = cent.PublishRequest(channel="news", data={"n": 2}, idempotency_key="k")
expect([api.publish(once).offset, api.publish(once).offset], [2, 2])
expect(api.publish(cent.PublishRequest(channel="news", data=0, skip_history=True)).offset, 0)
binary = cent.PublishRequest(channel="news", data=None, b64data="aGVsbG8=")
expect(api.publish(binary).offset, 3)
refused(102, api.publish, cent.PublishRequest(channel="none:a", data=1))
refused(107, api.publish, cent.PublishRequest(channel="", data=1))

sent = api.broadcast(cent.BroadcastRequest(channels=["news", "none:a"], data={"n": 4}))
expect(sent.responses[0].result.offset, 4)
expect(sent.responses[1].error.code, 102)

page = api.history(cent.HistoryRequest(channel="news", limit=10))
expect([p.data for p in page.publications], [{"n": 1}, {"n": 2}, "hello", {"n": 4}])
expect([p.offset for p in page.publications], [1, 2, 3, 4])
expect((page.publications[0].tags, page.offset, page.epoch), ({"lang": "de"}, 4, first.epoch))
since = cent.StreamPosition(offset=3, epoch=page.epoch)
page = api.history(cent.HistoryRequest(channel="news", limit=10, since=since))
expect([p.offset for p in page.publications], [4])
lost = cent.StreamPosition(offset=3, epoch="other")
refused(112, api.history, cent.HistoryRequest(channel="news", limit=10, since=lost))
api.history_remove(cent.HistoryRemoveRequest(channel="news"))
expect(api.history(cent.HistoryRequest(channel="news", limit=10)).publications, [])

presence = api.presence(cent.PresenceRequest(channel="lobby")).presence
expect({id: info.user for id, info in presence.items()}, {client_id: "42"})
stats = api.presence_stats(cent.PresenceStatsRequest(channel="lobby"))
expect((stats.num_clients, stats.num_users), (1, 1))
channels = api.channels(cent.ChannelsRequest(pattern="lob*")).channels
expect({name: info.num_clients for name, info in channels.items()}, {"lobby": 1})
nodes = api.info(cent.InfoRequest()).nodes
expect([(n.num_clients, n.num_users, n.num_subs) for n in nodes], [(1, 1, 1)])

override = cent.ChannelOptionsOverride(presence=cent.BoolValue(value=True))
api.subscribe(
    cent.SubscribeRequest(user="42", channel="vip", client=client_id, info={"vip": True}, data=[1], override=override)
)
# An order is answered when it is on its way; presence tells when it has been carried out.
deadline = time.monotonic() + 20
while api.presence_stats(cent.PresenceStatsRequest(channel="vip")).num_clients == 0:
    assert time.monotonic() < deadline, "the client is not subscribed"
api.publish(cent.PublishRequest(channel="vip", data={"welcome": True}))
api.unsubscribe(cent.UnsubscribeRequest(user="42", channel="vip"))
api.refresh(cent.RefreshRequest(user="42", expire_at=4102444800))

publications = [cent.PublishRequest(channel="many", data=n) for n in range(1000)]
replies = api.batch(cent.BatchRequest(requests=publications)).replies
expect([reply.offset for reply in replies], list(range(1, 1001)))
mixed = [cent.PublishRequest(channel="many", data=0), cent.PresenceStatsRequest(channel="lobby"), cent.InfoRequest()]
replies = api.batch(cent.BatchRequest(requests=mixed, parallel=True)).replies
expect((replies[0].offset, replies[1].num_clients, len(replies[2].nodes)), (1001, 1, 1))

api.disconnect(cent.DisconnectRequest(user="42", disconnect=cent.Disconnect(code=4500, reason="go")))
try:
    cent.Client(url, api_key="wrong", timeout=20).info(cent.InfoRequest())
    raise AssertionError("a wrong key is accepted")
except cent.CentUnauthorizedError:
    pass
print("ok")
