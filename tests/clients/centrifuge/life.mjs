// The everyday life of centrifuge-js, unchanged, against this server: a scenario is a promise, named. They run in Node
// and in a browser alike (node.mjs, chromium.mjs), over each transport and encoding; the namespaces that they use are
// those of crates/cli/tests/sdk/keyed.toml.
import { check, equal, failure, pause, until, within } from './kit.mjs';
import { mapCuts, maps } from './maps.mjs';
import { pollCuts, polls } from './polls.mjs';

const soon = (seconds) => Math.floor(Date.now() / 1000) + seconds;
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

/** Publishes numbers through the server API, in one request. */
const publish = (t, channel, from, to) =>
  t.api('batch', { commands: numbers(from, to).map((n) => ({ publish: { channel, data: n } })) });

/** Publishes numbers with tags through the server API, in one request. */
const tagged = (t, channel, all) =>
  t.api('batch', { commands: all.map(([data, team, score]) => ({ publish: { channel, data, tags: { team, score } } })) });

/** Those that may run beside each other. */
export const scenarios = {
  async 'an open server needs no token'(t) {
    const client = await t.connected('open');
    check(client.context.client.length > 8, 'the server gives an id');
    equal(client.context.transport, t.flavour.transport, 'transport');
    const channel = t.name('');
    const other = await t.connected('open');
    const heard = (await t.subscribed(other, channel)).heard;
    const own = await t.subscribed(client, channel);
    await own.publish(t.data({ text: 'hello' }));
    await client.publish(channel, t.data({ text: 'again' }));
    await t.publications(heard, [{ text: 'hello' }, { text: 'again' }]);
    await t.publications(own.heard, [{ text: 'hello' }, { text: 'again' }]);
    const { info } = heard.all.find((said) => said.event === 'publication');
    equal([info.client, info.user], [client.context.client, ''], 'who published');
  },

  async 'data arrives as it was sent, of any kind'(t) {
    const client = await t.connected('open');
    const subscription = await t.subscribed(client, t.name(''));
    const all = [{ a: [1, { b: null }], ü: '😀\n\u2028' }, 'text', 0, -1.5e300, true, [], {}, 'x'.repeat(40_000)];
    for (const value of all) await subscription.publish(t.data(value));
    await t.publications(subscription.heard, all);
  },

  async 'several commands in one frame are answered one by one'(t) {
    const client = await t.connected('open');
    const channel = t.name('');
    const subscription = await t.subscribed(client, channel);
    client.startBatching();
    const sent = numbers(1, 20).map((n) => subscription.publish(t.data(n)));
    const denied = failure(client.rpc('nothing', t.data({})), 'rpc');
    client.stopBatching();
    await within(Promise.all(sent), 'twenty answers');
    equal((await denied).code, 108, 'error of rpc');
    await t.publications(subscription.heard, numbers(1, 20));
  },

  async 'a token names the user'(t) {
    const client = await t.connected('keyed', { token: await t.token({ sub: 'ann', info: { name: 'Ann' } }) });
    const subscription = await t.subscribed(client, t.name('chat:'));
    const { clients } = await subscription.presence();
    equal(Object.keys(clients), [client.context.client], 'clients present');
    const info = clients[client.context.client];
    equal([info.user, t.value(info.connInfo)], ['ann', { name: 'Ann' }], 'who is present');
  },

  async 'getToken is asked for the first token'(t) {
    let asked = 0;
    const client = await t.connected('keyed', { getToken: async () => { asked += 1; return t.token({ sub: 'ann' }); } });
    equal([asked, client.state], [1, 'connected'], 'asked');
  },

  async 'a server with keys refuses a client without a token for good'(t) {
    const client = t.client('keyed');
    client.connect();
    const { code } = await client.heard.one('disconnected');
    equal(code, 101, 'code');
    equal(client.state, 'disconnected', 'state');
  },

  async 'a token of another key is refused for good'(t) {
    const client = t.client('keyed', { token: await t.token({ sub: 'ann' }, { key: 'another' }) });
    client.connect();
    const { code } = await client.heard.one('disconnected');
    check([101, 3500].includes(code), `code ${code}`);
  },

  async 'an expired token is replaced by asking for another'(t) {
    let asked = 0;
    const client = await t.connected('keyed', {
      token: await t.token({ sub: 'ann', exp: soon(-60) }),
      getToken: async () => { asked += 1; return t.token({ sub: 'ann', exp: soon(600) }); },
    });
    equal(asked, 1, 'tokens asked for');
    equal(client.heard.count('disconnected'), 0, 'disconnected');
  },

  async 'a token is renewed before it expires, and the connection stays'(t) {
    let asked = 0;
    const client = await t.connected('keyed', {
      token: await t.token({ sub: 'ann', exp: soon(3) }),
      getToken: async () => { asked += 1; return t.token({ sub: 'ann', exp: soon(asked < 2 ? 3 : 600) }); },
    });
    const subscription = await t.subscribed(client, t.name('chat:'));
    await until(() => asked >= 2, 'two renewals');
    await subscription.publish(t.data('still here'));
    await t.publications(subscription.heard, ['still here']);
    equal([client.heard.count('connected'), client.heard.count('connecting')], [1, 1], 'connected, connecting');
  },

  async 'a client without another token is refused'(t) {
    const client = t.client('keyed', {
      token: await t.token({ sub: 'ann', exp: soon(-60) }),
      getToken: async () => { throw new t.flavour.Centrifuge.UnauthorizedError('no'); },
    });
    client.connect();
    equal((await client.heard.one('disconnected')).code, 1, 'code');
  },

  async 'a connection that brings no new token is closed with 3005 and comes back with one'(t) {
    let asked = 0;
    const client = await t.connected('keyed', {
      token: await t.token({ sub: 'ann', exp: soon(3) }),
      // The first two are refused for now: the SDK tries again later than the server waits.
      getToken: async () => { asked += 1; if (asked === 1) throw new Error('later'); return t.token({ sub: 'ann' }); },
    });
    await client.heard.until(() => client.heard.count('connected') === 2, 'connected again');
    equal(client.heard.all.filter((said) => said.event === 'connecting')[1].code, 3005, 'why it connects again');
  },

  async 'each refusal has its own error'(t) {
    const client = await t.user('ann');
    const codes = {};
    const refused = async (channel) => {
      const subscription = t.subscription(client, channel);
      codes[channel] = (await subscription.heard.one('unsubscribed')).code;
    };
    await refused('closed:room');
    await refused('nowhere:room');
    equal(codes, { 'closed:room': 103, 'nowhere:room': 102 }, 'codes of subscriptions');
    const live = await t.subscribed(client, t.name('live:'));
    equal((await failure(live.publish(t.data(1)), 'publish')).code, 103, 'publish');
    equal((await failure(live.history({ limit: 1 }), 'history')).code, 108, 'history');
    equal((await failure(live.presence(), 'presence')).code, 108, 'presence');
    equal((await failure(live.presenceStats(), 'presence stats')).code, 108, 'presence stats');
    equal((await failure(client.rpc('method', t.data({})), 'rpc')).code, 108, 'rpc');
    equal((await failure(client.publish('nowhere:room', t.data(1)), 'publish')).code, 102, 'publish');
    equal((await failure(client.history('chat:elsewhere', {}), 'history')).code, 103, 'history of others');
    equal(client.heard.count('disconnected'), 0, 'disconnected');
  },

  async 'a filter by tags selects publications, and the filter of a token cannot be widened'(t) {
    const channel = t.name('tagged:');
    const [ann, bob, eve] = [await t.user('ann'), await t.user('bob'), await t.user('eve')];
    const filter = { op: 'or', nodes: [{ key: 'team', cmp: 'eq', val: 'red' }, { key: 'score', cmp: 'gte', val: '9.5' }] };
    const all = await t.subscribed(ann, channel);
    const some = await t.subscribed(bob, channel, { tagsFilter: filter });
    const token = await t.token({ sub: 'eve', channel, server_tags_filter: { key: 'team', cmp: 'neq', val: 'red' } });
    const narrowed = await t.subscribed(eve, channel, { token, tagsFilter: filter });
    await tagged(t, channel, [[1, 'red', '3'], [2, 'blue', '9'], [3, 'blue', '10'], [4, 'red', '11']]);
    await t.publications(all.heard, [1, 2, 3, 4]);
    await t.publications(some.heard, [1, 3, 4]);
    await t.publications(narrowed.heard, [3]);
    some.unsubscribe();
    some.setTagsFilter({ op: 'not', nodes: [filter] });
    some.subscribe();
    await some.heard.until(() => some.heard.count('subscribed') === 2, 'subscribed again');
    await tagged(t, channel, [[5, 'red', '1'], [6, 'green', '1']]);
    await some.heard.one((said) => said.event === 'publication' && t.value(said.data) === 6, 'the last one');
    equal(t.published(some.heard).slice(3).filter((n) => n > 4), [6], 'with the other filter');
    const wrong = t.subscription(bob, t.name('tagged:'), { tagsFilter: { key: 'team', cmp: 'like', val: 'r' } });
    equal((await wrong.heard.one('unsubscribed')).code, 107, 'an unknown comparison');
  },

  async 'deltas are applied by the client, and publications that are not marked are sent in full'(t) {
    const client = await t.user('ann');
    const [channel, unmarked] = [t.name('delta:'), t.name('marked:')];
    const subscription = await t.subscribed(client, channel, { delta: 'fossil' });
    const plain = await t.subscribed(await t.user('bob'), channel);
    const value = (n) => ({ same: 'é"中'.repeat(60), n, list: numbers(1, n % 5) });
    const all = numbers(1, 40).map(value);
    await t.api('batch', { commands: all.map((data) => ({ publish: { channel, data } })) });
    await t.publications(subscription.heard, all);
    await t.publications(plain.heard, all);
    const stats = subscription.deltaStats();
    equal([stats.numFullPayloads, stats.numDeltaPayloads], [1, 39], 'publications in full and as deltas');
    check(stats.compressionRatio > 0.7, `saved ${stats.compressionRatio}`);
    const marked = await t.subscribed(client, unmarked, { delta: 'fossil' });
    const commands = all.slice(0, 4).map((data, n) => ({ publish: { channel: unmarked, data, delta: n === 2 } }));
    await t.api('batch', { commands });
    await t.publications(marked.heard, all.slice(0, 4));
    equal(marked.deltaStats().numDeltaPayloads, 1, 'marked publications');
  },

  async 'without permission publications are sent in full, and a filter by tags is refused'(t) {
    const client = await t.user('ann');
    const subscription = await t.subscribed(client, t.name('chat:'), { delta: 'fossil' });
    for (const n of numbers(1, 3)) await subscription.publish(t.data({ same: 'x'.repeat(200), n }));
    await t.publications(subscription.heard, numbers(1, 3).map((n) => ({ same: 'x'.repeat(200), n })));
    const filtered = t.subscription(client, t.name('chat:'), { tagsFilter: { key: 'kind', cmp: 'eq', val: 'a' } });
    equal((await filtered.heard.one('unsubscribed')).code, 107, 'with a filter where filters are not allowed');
  },

  async 'presence lists and counts the clients'(t) {
    const channel = t.name('chat:');
    const [ann, bob, again] = [await t.user('ann'), await t.user('bob'), await t.user('bob')];
    const subscription = await t.subscribed(ann, channel);
    await t.subscribed(bob, channel);
    const last = await t.subscribed(again, channel);
    const { clients } = await subscription.presence();
    const users = Object.fromEntries(Object.values(clients).map((info) => [info.client, info.user]));
    equal(Object.keys(users).length, 3, 'clients');
    equal([ann, bob, again].map((c) => users[c.context.client]), ['ann', 'bob', 'bob'], 'users');
    const stats = await subscription.presenceStats();
    equal([stats.numClients, stats.numUsers], [3, 2], 'clients and users');
    last.unsubscribe();
    await subscription.heard.one((said) => said.event === 'leave' && said.info.client === again.context.client, 'leave');
    const after = await subscription.presenceStats();
    equal([after.numClients, after.numUsers], [2, 2], 'clients and users after one has left');
  },

  async 'joins and leaves are announced'(t) {
    const channel = t.name('chat:');
    const subscription = await t.subscribed(await t.user('ann'), channel, { joinLeave: true });
    const bob = await t.user('bob');
    await t.subscribed(bob, channel, { joinLeave: true });
    const id = bob.context.client;
    const joined = await subscription.heard.one((said) => said.event === 'join' && said.info.client === id, 'join');
    equal(joined.info.user, 'bob', 'who joined');
    bob.disconnect();
    const left = await subscription.heard.one((said) => said.event === 'leave' && said.info.client === id, 'leave');
    equal(left.info.user, 'bob', 'who left');
  },

  async 'history is read forwards, backwards, and from a position'(t) {
    const channel = t.name('chat:');
    const client = await t.user('ann');
    const subscription = await t.subscribed(client, channel);
    const start = subscription.context.streamPosition;
    equal(start.offset, 0, 'offset of an empty channel');
    check(start.epoch.length > 0, 'an epoch of an empty channel');
    for (const n of numbers(1, 5)) await subscription.publish(t.data(n));
    const read = async (options) => {
      const page = await subscription.history(options);
      equal([page.offset, page.epoch], [5, start.epoch], 'where history stands');
      return page.publications.map((publication) => [publication.offset, t.value(publication.data)]);
    };
    equal(await read({}), [], 'history without a limit is the position alone');
    equal(await read({ limit: 10 }), [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]], 'all of it');
    equal(await read({ limit: 2 }), [[1, 1], [2, 2]], 'the first two');
    equal(await read({ limit: 2, reverse: true }), [[5, 5], [4, 4]], 'the last two');
    equal(await read({ limit: 2, since: { offset: 2, epoch: start.epoch } }), [[3, 3], [4, 4]], 'two after the second');
    const wrong = failure(subscription.history({ limit: 1, since: { offset: 2, epoch: 'another' } }), 'history');
    equal((await wrong).code, 112, 'a position of another epoch');
  },

  async 'server pings keep a quiet connection alive'(t) {
    const client = await t.user('ann', { maxServerPingDelay: 3000 });
    const other = await t.user('bob');
    const subscription = await t.subscribed(other, t.name('chat:'));
    // Three intervals of the server's, and more than a client would wait without any.
    await pause(6_500);
    await subscription.publish(t.data('x'));
    equal([client.heard.count('connecting'), other.heard.count('connecting')], [1, 1], 'times connecting');
  },

  async 'a user has a channel of their own'(t) {
    const user = t.name('user');
    const clients = [await t.user(user), await t.user(user)];
    const stranger = await t.user('stranger');
    await t.api('publish', { channel: `#${user}`, data: { for: user } });
    for (const client of clients) {
      await client.heard.one((said) => said.event === 'subscribed' && said.channel === `#${user}`, 'personal channel');
      await t.publications(client.heard, [{ for: user }]);
    }
    const refused = t.subscription(stranger, `#${user}`);
    equal((await refused.heard.one('unsubscribed')).code, 103, "somebody else's personal channel");
  },

  async 'a channel for certain users is closed to others'(t) {
    const channel = t.name('limited:') + '#ann,bob';
    await t.subscribed(await t.user('bob'), channel);
    const refused = t.subscription(await t.user('eve'), channel);
    equal((await refused.heard.one('unsubscribed')).code, 103, 'code');
  },

  async 'a private channel needs its token'(t) {
    const channel = t.name('$chat:');
    const client = await t.user('ann');
    const without = t.subscription(client, t.name('$chat:'));
    equal((await without.heard.one('unsubscribed')).code, 103, 'without a token');
    const others = t.subscription(client, t.name('$chat:'), { token: await t.token({ sub: 'ann', channel }) });
    const { code } = await others.heard.one('unsubscribed');
    check([101, 103].includes(code), `with another channel's token: code ${code}`);
    const asked = [];
    const subscription = await t.subscribed(client, channel, {
      getToken: async (context) => { asked.push(context.channel); return t.token({ sub: 'ann', channel, info: { seat: 3 } }); },
    });
    equal(asked, [channel], 'channels for which a token was asked');
    const { clients } = await subscription.presence();
    equal(t.value(clients[client.context.client].chanInfo), { seat: 3 }, 'info of the token');
  },

  async 'a subscription token is renewed before it expires'(t) {
    const channel = t.name('$chat:');
    const client = await t.user('ann');
    let asked = 0;
    const subscription = await t.subscribed(client, channel, {
      token: await t.token({ sub: 'ann', channel, exp: soon(-60) }),
      getToken: async () => { asked += 1; return t.token({ sub: 'ann', channel, exp: soon(asked < 2 ? 3 : 600) }); },
    });
    await until(() => asked >= 2, 'a token for the expired one, and one to stay');
    await subscription.publish(t.data('still here'));
    await t.publications(subscription.heard, ['still here']);
    equal([subscription.heard.count('subscribed'), subscription.heard.count('unsubscribed')], [1, 0], 'times');
  },

  async 'the server ends a subscription, for good or to begin anew'(t) {
    const user = t.name('user');
    const client = await t.user(user);
    const ended = await t.subscribed(client, t.name('chat:'));
    await t.api('unsubscribe', { user, channel: ended.channel });
    equal((await ended.heard.one('unsubscribed')).code, 2000, 'code');
    // Subscribing again is the client's own affair.
    ended.subscribe();
    await ended.heard.until(() => ended.heard.count('subscribed') === 2, 'subscribed again');
    await publish(t, ended.channel, 1, 1);
    await t.publications(ended.heard, [1]);
  },

  async 'the server ends a connection, for good or to come back'(t) {
    const user = t.name('user');
    const [gone, back] = [await t.user(user), await t.user(user + '2')];
    await t.api('disconnect', { user });
    equal((await gone.heard.one('disconnected')).code, 3503, 'code');
    await t.api('disconnect', { user: user + '2', disconnect: { code: 4000, reason: 'moved' } });
    const { code, reason } = await back.heard.one((said) => said.event === 'connecting' && said.code >= 3000, 'connecting');
    equal([code, reason], [4000, 'moved'], 'why it connects again');
    await back.heard.until(() => back.heard.count('connected') === 2, 'connected again');
  },

  async 'the server subscribes a connection to a channel'(t) {
    const [user, channel] = [t.name('user'), t.name('chat:')];
    const client = await t.user(user);
    await t.api('subscribe', { user, channel });
    await client.heard.one((said) => said.event === 'subscribed' && said.channel === channel, channel);
    await publish(t, channel, 1, 1);
    await t.publications(client.heard, [1]);
    await t.api('unsubscribe', { user, channel });
    await client.heard.one((said) => said.event === 'unsubscribed' && said.channel === channel, 'unsubscribed');
  },

  async 'a client can leave a channel and return, and a message without an answer changes nothing'(t) {
    const client = await t.user('ann');
    const subscription = await t.subscribed(client, t.name('chat:'));
    subscription.unsubscribe();
    await subscription.heard.one('unsubscribed');
    await publish(t, subscription.channel, 1, 1);
    await client.send(t.data({ nobody: 'listens' }));
    subscription.subscribe();
    await subscription.heard.until(() => subscription.heard.count('subscribed') === 2, 'subscribed again');
    await publish(t, subscription.channel, 2, 2);
    await subscription.heard.one((said) => said.event === 'publication' && t.value(said.data) === 2, 'the second');
    equal(client.heard.count('connected'), 1, 'times connected');
  },
};

/** Those that cut the link to the server, one at a time. */
export const cuts = {
  async 'after a cut nothing is lost and nothing comes twice'(t) {
    const channel = t.name('chat:');
    const client = await t.user('ann', {}, 'cut');
    const subscription = await t.subscribed(client, channel);
    check(subscription.context.recoverable, 'recoverable');
    await publish(t, channel, 1, 3);
    await t.publications(subscription.heard, numbers(1, 3));
    for (const round of [1, 2, 3]) {
      const before = subscription.heard.count('subscribed');
      await t.control('cut');
      await publish(t, channel, round * 10, round * 10 + 9);
      const back = await subscription.heard.until(
        () => subscription.heard.all.filter((said) => said.event === 'subscribed')[before],
        'subscribed again',
      );
      equal([back.wasRecovering, back.recovered], [true, true], 'was recovering, recovered');
      await publish(t, channel, round * 100, round * 100 + 2);
    }
    const wanted = [numbers(1, 3), [1, 2, 3].map((n) => [numbers(n * 10, n * 10 + 9), numbers(n * 100, n * 100 + 2)])].flat(3);
    await t.publications(subscription.heard, wanted);
    const offsets = subscription.heard.all.filter((said) => said.event === 'publication').map((said) => said.offset);
    equal(offsets, numbers(1, wanted.length), 'offsets');
  },

  async 'after a cut a filtered subscription recovers what passes its filter, and takes the others for received'(t) {
    const channel = t.name('tagged:');
    const client = await t.user('ann', {}, 'cut');
    const subscription = await t.subscribed(client, channel, { tagsFilter: { key: 'team', cmp: 'eq', val: 'red' } });
    await tagged(t, channel, [[1, 'red', '1'], [2, 'blue', '1']]);
    await t.publications(subscription.heard, [1]);
    const wanted = [1];
    for (const round of [1, 2, 3]) {
      const before = subscription.heard.count('subscribed');
      await t.control('cut');
      // In the second round nothing passes the filter.
      const all = numbers(round * 10, round * 10 + 5).map((n) => [n, n % 2 && round !== 2 ? 'red' : 'blue', '1']);
      await tagged(t, channel, all);
      wanted.push(...all.filter(([, team]) => team === 'red').map(([n]) => n));
      const back = await subscription.heard.until(
        () => subscription.heard.all.filter((said) => said.event === 'subscribed')[before],
        'subscribed again',
      );
      equal([back.wasRecovering, back.recovered], [true, true], 'was recovering, recovered');
      await tagged(t, channel, [[round * 100, 'blue', '1'], [round * 100 + 1, 'red', '1']]);
      wanted.push(round * 100 + 1);
      await t.publications(subscription.heard, wanted);
    }
  },

  async 'after a cut deltas continue, and nothing is lost'(t) {
    const channel = t.name('delta:');
    const client = await t.user('ann', {}, 'cut');
    const subscription = await t.subscribed(client, channel, { delta: 'fossil' });
    const value = (n) => ({ same: 'x'.repeat(300), n });
    const publish = (from, to) =>
      t.api('batch', { commands: numbers(from, to).map((n) => ({ publish: { channel, data: value(n) } })) });
    await publish(1, 3);
    await t.publications(subscription.heard, numbers(1, 3).map(value));
    let wanted = numbers(1, 3);
    for (const round of [1, 2, 3]) {
      const before = subscription.heard.count('subscribed');
      await t.control('cut');
      await publish(round * 10, round * 10 + 9);
      const back = await subscription.heard.until(
        () => subscription.heard.all.filter((said) => said.event === 'subscribed')[before],
        'subscribed again',
      );
      equal([back.wasRecovering, back.recovered], [true, true], 'was recovering, recovered');
      await publish(round * 100, round * 100 + 4);
      wanted = [...wanted, ...numbers(round * 10, round * 10 + 9), ...numbers(round * 100, round * 100 + 4)];
      await t.publications(subscription.heard, wanted.map(value));
    }
    check(subscription.deltaStats().numDeltaPayloads >= 12, 'deltas after each cut');
  },

  async 'the newest publication that passes the filter comes back with recovery of the newest alone'(t) {
    const channel = t.name('newest:');
    const client = await t.user('ann', {}, 'cut');
    const subscription = await t.subscribed(client, channel, { tagsFilter: { key: 'team', cmp: 'eq', val: 'red' } });
    await tagged(t, channel, [[1, 'red', '1']]);
    await t.publications(subscription.heard, [1]);
    await t.control('silence');
    await t.control('cut');
    await tagged(t, channel, [[2, 'red', '1'], [3, 'red', '1'], [4, 'blue', '1'], [5, 'blue', '1']]);
    await t.control('resume');
    const back = await subscription.heard.until(
      () => subscription.heard.all.filter((said) => said.event === 'subscribed')[1],
      'subscribed again',
    );
    equal([back.wasRecovering, back.recovered], [true, true], 'was recovering, recovered');
    await t.publications(subscription.heard, [1, 3]);
  },

  async 'a gap in the history is reported'(t) {
    const channel = t.name('short:');
    const client = await t.user('ann', {}, 'cut');
    const subscription = await t.subscribed(client, channel);
    await t.control('silence');
    await t.control('cut');
    await publish(t, channel, 1, 10);
    await t.control('resume');
    const back = await subscription.heard.until(
      () => subscription.heard.all.filter((said) => said.event === 'subscribed')[1],
      'subscribed again',
    );
    equal([back.wasRecovering, back.recovered], [true, false], 'was recovering, recovered');
    await publish(t, channel, 11, 11);
    await subscription.heard.one((said) => said.event === 'publication' && t.value(said.data) === 11, 'the newest');
  },

  async 'a client with its own state reads it again after a gap in the history'(t) {
    const channel = t.name('short:');
    const client = await t.user('ann', {}, 'cut');
    const states = [];
    const getState = async () => {
      const { offset, epoch } = await t.api('history', { channel, limit: 0 });
      states.push(offset);
      return { offset, epoch };
    };
    const subscription = await t.subscribed(client, channel, { getState });
    await t.control('silence');
    await t.control('cut');
    await publish(t, channel, 1, 10);
    await t.control('resume');
    await subscription.heard.until(() => subscription.heard.count('subscribed') === 2, 'subscribed again');
    equal(states, [0, 10], 'where the fetched states stood');
    await publish(t, channel, 11, 11);
    await t.publications(subscription.heard, [11]);
  },

  async 'a silent link is detected, and the missed publications are recovered'(t) {
    const channel = t.name('chat:');
    const client = await t.user('ann', { maxServerPingDelay: 1000 }, 'cut');
    const subscription = await t.subscribed(client, channel);
    await t.control('silence');
    await publish(t, channel, 1, 3);
    await client.heard.one((said) => said.event === 'connecting' && said.code === 2, 'no ping noticed');
    await t.control('cut');
    await t.control('resume');
    await t.publications(subscription.heard, numbers(1, 3));
  },

  async 'channels of the token are subscribed to by the server, and recover'(t) {
    const channel = t.name('chat:');
    const token = await t.token({ sub: 'ann', channels: [channel] });
    const client = await t.connected('cut', { token });
    const first = await client.heard.one((said) => said.event === 'subscribed' && said.channel === channel, channel);
    equal([first.recoverable, first.wasRecovering], [true, false], 'recoverable, was recovering');
    await publish(t, channel, 1, 2);
    await t.publications(client.heard, [1, 2]);
    await t.control('cut');
    await publish(t, channel, 3, 5);
    await client.heard.until(() => client.heard.count('connected') === 2, 'connected again');
    await publish(t, channel, 6, 6);
    await t.publications(client.heard, numbers(1, 6));
    const again = client.heard.all.filter((said) => said.event === 'subscribed' && said.channel === channel)[1];
    equal([again.wasRecovering, again.recovered], [true, true], 'was recovering, recovered');
    const offsets = client.heard.all.filter((said) => said.event === 'publication').map((said) => said.offset);
    equal(offsets, numbers(1, 6), 'offsets');
  },
};

Object.assign(scenarios, maps, polls);
Object.assign(cuts, mapCuts, pollCuts);
