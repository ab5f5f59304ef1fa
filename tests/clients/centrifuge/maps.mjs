// Map subscriptions of centrifuge-js, unchanged: the scenarios run with those of life.mjs, over each transport and
// encoding. The namespaces are those of crates/cli/tests/sdk/keyed.toml: `board` (persistent), `cursors` (ephemeral, keys
// are the ids of clients), `lobby` (recoverable, keys end after two seconds), `ranks` (ordered), `room` with its presence in `clients`
// and `users`.
import { check, equal, failure, Heard, until } from './kit.mjs';

export const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
export const key = (n) => `k${String(n).padStart(4, '0')}`;

/** Sets keys to their numbers through the server API, in one request. */
export const set = (t, channel, all) =>
  t.api('batch', { commands: all.map((n) => ({ map_publish: { channel, key: key(n), data: { n } } })) });

/** A map subscription of a kind; `map` is the state that its events describe. */
export function follow(t, client, channel, options = {}, kind = 'newMapSubscription') {
  const subscription = client[kind](channel, {
    minResubscribeDelay: 50, maxResubscribeDelay: 500, ...options,
  });
  subscription.heard = new Heard(subscription, 'subscribing', 'subscribed', 'unsubscribed', 'sync', 'update', 'error');
  subscription.map = new Map();
  // A key of presence has no value.
  const value = (data) => (data.length === 0 ? null : t.value(data));
  subscription.on('sync', ({ entries }) => {
    subscription.map = new Map(entries.map((entry) => [entry.key, value(entry.data)]));
  });
  subscription.on('update', (entry) => {
    if (entry.removed) subscription.map.delete(entry.key);
    else subscription.map.set(entry.key, value(entry.data));
  });
  subscription.subscribe();
  return subscription;
}

const shown = (subscription) => Object.fromEntries([...subscription.map].sort());

/** Waits until the state of each subscription is `wanted`. */
export async function states(wanted, ...subscriptions) {
  const text = JSON.stringify(wanted);
  for (const subscription of subscriptions) {
    await until(() => JSON.stringify(shown(subscription)) === text, `the state ${text.slice(0, 200)}`)
      .catch((error) => { throw new Error(`${error.message}; it is ${JSON.stringify(shown(subscription)).slice(0, 400)}`); });
  }
}

/** The state with these numbers. */
export const values = (all) => Object.fromEntries(all.map((n) => [key(n), { n }]));

export const maps = {
  async 'a map arrives in pages, then its changes, at several clients'(t) {
    const channel = t.name('board:');
    await set(t, channel, numbers(1, 95));
    const ann = follow(t, await t.user('ann'), channel, { pageSize: 10 });
    const bob = follow(t, await t.user('bob'), channel);
    await states(values(numbers(1, 95)), ann, bob);
    equal([ann.heard.count('sync'), ann.heard.count('update')], [1, 0], 'sync, update');
    const before = await ann.heard.one('subscribed');
    equal([before.recoverable, before.recovered, before.wasRecovering], [true, false, false], 'how it began');
    await t.api('map_publish', { channel, key: key(1), data: { n: 100 }, tags: { by: 'backend' } });
    await t.api('map_remove', { channel, key: key(2) });
    await states({ ...values([...numbers(1, 1), ...numbers(3, 95)]), [key(1)]: { n: 100 } }, ann, bob);
    const [changed, removed] = ann.heard.all.filter((said) => said.event === 'update');
    equal([changed.key, changed.tags, !!changed.removed], [key(1), { by: 'backend' }, false], 'the change');
    equal([removed.key, removed.removed], [key(2), true], 'the removal');
    equal(changed.offset + 1, removed.offset, 'offsets follow each other');
  },

  async 'a map that changes while its pages are read ends in the right state'(t) {
    const channel = t.name('board:');
    await set(t, channel, numbers(1, 400));
    const client = await t.user('ann');
    const subscription = follow(t, client, channel, { pageSize: 10 });
    const moving = numbers(1, 20).map((round) => t.api('batch', {
      commands: [
        { map_publish: { channel, key: key(round * 19), data: { n: -round } } },
        { map_remove: { channel, key: key(round * 17) } },
        { map_publish: { channel, key: key(1000 + round), data: { n: round } } },
      ],
    }));
    await Promise.all(moving);
    const page = await t.api('map_read_state', { channel, limit: -1 });
    await states(Object.fromEntries(page.entries.map((entry) => [entry.key, entry.data])), subscription);
    equal((await t.api('map_stats', { channel })).num_keys, page.entries.length, 'number of keys');
  },

  async 'clients set and remove keys where that is permitted'(t) {
    const channel = t.name('cursors:');
    const [ann, bob] = [await t.user('ann'), await t.user('bob')];
    const [own, other] = [follow(t, ann, channel), follow(t, bob, channel)];
    await own.ready();
    await other.ready();
    await own.publish('ignored', t.data({ x: 1 }));
    const { client } = ann.context;
    await states({ [client]: { x: 1 } }, own, other);
    const { info } = other.heard.all.find((said) => said.event === 'update');
    equal([info.client, info.user], [client, 'ann'], 'the client that set it');
    await own.remove('ignored');
    await states({}, own, other);
    await own.publish('', t.data({ x: 2 }));
    await states({ [client]: { x: 2 } }, other);
    own.unsubscribe();
    await states({}, other);
    equal((await failure(ann.mapPublish(t.name('board:'), 'a', t.data({})), 'set without permission')).code, 103, 'error');
    equal((await failure(bob.publish(channel, t.data({})), 'publish into a map')).code, 108, 'error');
    equal((await failure(bob.mapPublish(t.name('chat:'), 'a', t.data({})), 'set in a stream')).code, 108, 'error');
  },

  async 'keys end after their time'(t) {
    const channel = t.name('lobby:');
    const subscription = follow(t, await t.user('ann'), channel);
    await subscription.ready();
    await t.api('map_publish', { channel, key: 'a', data: 1 });
    await subscription.heard.one((said) => said.event === 'update' && said.removed, 'the removal');
    const updates = subscription.heard.all.filter((said) => said.event === 'update');
    equal(updates.map(({ key: name, removed }) => [name, !!removed]), [['a', false], ['a', true]], 'updates');
    equal((await t.api('map_stats', { channel })).num_keys, 0, 'number of keys');
  },

  async 'an ordered map is read by score'(t) {
    const channel = t.name('ranks:');
    for (const [name, score] of [['a', 10], ['b', 30], ['c', 20], ['d', 30]]) {
      await t.api('map_publish', { channel, key: name, data: score, score });
    }
    const read = async (more) => {
      const page = await t.api('map_read_state', { channel, limit: 3, ...more });
      return [page.entries.map((entry) => entry.key).join(''), page.cursor];
    };
    const [first, cursor] = await read({});
    equal([first, (await read({ cursor }))[0]], ['bdc', 'a'], 'pages');
    equal((await read({ asc: true }))[0], 'acd', 'the lowest first');
    const subscription = follow(t, await t.user('ann'), channel, { pageSize: 2 });
    const sync = await subscription.heard.one('sync');
    equal(sync.entries.map((entry) => entry.key).join(''), 'bdca', 'the order of the first state');
  },

  async 'conditions, versions and idempotency keys suppress changes'(t) {
    const channel = t.name('board:');
    const put = (more) => t.api('map_publish', { channel, key: 'a', data: 1, ...more });
    const first = await put({ key_mode: 'if_new', version: 5, idempotency_key: 'once' });
    equal([first.offset, first.suppressed], [1, undefined], 'the first');
    const reasons = [];
    for (const more of [{ key_mode: 'if_new' }, { version: 5 }, { idempotency_key: 'once' }]) {
      const { offset, epoch, suppressed, suppress_reason: why } = await put(more);
      equal([offset, epoch, suppressed], [1, first.epoch, true], 'suppressed');
      reasons.push(why);
    }
    const missing = await t.api('map_publish', { channel, key: 'b', data: 1, key_mode: 'if_exists' });
    const gone = await t.api('map_remove', { channel, key: 'b' });
    reasons.push(missing.suppress_reason, gone.suppress_reason);
    equal(reasons, ['key_exists', 'version', 'idempotency', 'key_not_found', 'key_not_found'], 'reasons');
    await put({ version: 1, version_epoch: 'next', stream_data: { diff: 1 } });
    const stream = await t.api('map_read_stream', { channel, limit: -1, since_offset: 1, since_epoch: first.epoch });
    equal(stream.entries.map(({ key: name, data, offset }) => [name, data, offset]), [['a', { diff: 1 }, 2]], 'stream');
    equal((await t.api('map_read_state', { channel, key: 'a', limit: 1 })).entries[0].data, 1, 'state');
  },

  async 'a cleared map is empty for its subscribers'(t) {
    const channel = t.name('board:');
    await set(t, channel, [1, 2]);
    const subscription = follow(t, await t.user('ann'), channel);
    await states(values([1, 2]), subscription);
    await t.api('map_clear', { channel });
    await states({}, subscription);
    await set(t, channel, [3]);
    await states(values([3]), subscription);
  },

  async 'a map filtered by tags has the keys that pass'(t) {
    const channel = t.name('board:');
    const put = (name, team, n) => t.api('map_publish', { channel, key: name, data: n, tags: { team } });
    await put('a', 'red', 1);
    await put('b', 'blue', 2);
    const subscription = follow(t, await t.user('ann'), channel, { tagsFilter: { key: 'team', cmp: 'eq', val: 'red' } });
    await states({ a: 1 }, subscription);
    await put('c', 'blue', 3);
    await put('d', 'red', 4);
    await t.api('map_remove', { channel, key: 'b' });
    await t.api('map_remove', { channel, key: 'a' });
    await states({ d: 4 }, subscription);
    equal(subscription.heard.all.filter((said) => said.event === 'update').map((said) => said.key), ['d', 'a'], 'updates');
  },

  async 'the subscribers of a channel are maps of clients and of users'(t) {
    const channel = t.name('room:');
    const [ann, bob] = [await t.user('ann'), await t.user('bob')];
    const own = t.subscription(ann, channel);
    await own.ready();
    const clients = follow(t, bob, `clients:${channel}`, {}, 'newMapClientsSubscription');
    const users = follow(t, bob, `users:${channel}`, {}, 'newMapUsersSubscription');
    const keys = (subscription, ...wanted) => until(
      () => JSON.stringify([...subscription.map.keys()].sort()) === JSON.stringify(wanted.sort()), `the keys ${wanted}`);
    const [annId, bobId] = [ann.context.client, bob.context.client];
    await keys(clients, annId);
    await keys(users, 'ann');
    const { info } = (await clients.heard.one('sync')).entries[0];
    equal([info.client, info.user], [annId, 'ann'], 'the information about a client');
    const other = t.subscription(bob, channel);
    await other.ready();
    await keys(clients, annId, bobId);
    await keys(users, 'ann', 'bob');
    own.unsubscribe();
    await keys(clients, bobId);
    other.unsubscribe();
    await keys(clients);
    equal([...users.map.keys()].sort(), ['ann', 'bob'], 'users expire');
    const refused = await failure(bob.mapPublish(`clients:${channel}`, 'x', t.data({})), 'set a key of presence');
    equal(refused.code, 108, 'error');
    const { message } = await failure(
      t.api('map_publish', { channel: `clients:${channel}`, key: 'x', data: 1 }), 'set a key of presence by the API');
    check(message.includes('108'), message);
    equal((await follow(t, ann, `clients:${channel}`).heard.one('unsubscribed')).code, 108, 'another kind');
  },

  async 'a stream subscription to a map is refused'(t) {
    const client = await t.user('ann');
    const stream = t.subscription(client, t.name('board:'));
    equal((await stream.heard.one('unsubscribed')).code, 108, 'a stream of a map');
    const map = follow(t, client, t.name('chat:'));
    equal((await map.heard.one('unsubscribed')).code, 108, 'a map of a stream');
  },
};

export const mapCuts = {
  async 'after a cut a recoverable map continues with the missed changes'(t) {
    const channel = t.name('board:');
    await set(t, channel, numbers(1, 30));
    const subscription = follow(t, await t.user('ann', {}, 'cut'), channel, { pageSize: 10 });
    await states(values(numbers(1, 30)), subscription);
    for (const round of [1, 2, 3]) {
      const [before, updates] = [subscription.heard.count('subscribed'), subscription.heard.count('update')];
      await t.control('cut');
      await t.api('map_publish', { channel, key: key(round), data: { n: -round } });
      await t.api('map_remove', { channel, key: key(10 + round) });
      const back = await subscription.heard.until(
        () => subscription.heard.all.filter((said) => said.event === 'subscribed')[before],
        'subscribed again',
      );
      equal([back.wasRecovering, back.recovered], [true, true], 'was recovering, recovered');
      const gone = numbers(11, 10 + round);
      const wanted = values(numbers(1, 30).filter((n) => !gone.includes(n)));
      for (const n of numbers(1, round)) wanted[key(n)] = { n: -n };
      await states(wanted, subscription);
      equal([subscription.heard.count('sync'), subscription.heard.count('update') - updates], [1, 2], 'sync, updates');
    }
  },

  async 'after a cut with more changes than the stream has, the whole map arrives'(t) {
    const channel = t.name('brief:');
    await set(t, channel, numbers(1, 30));
    const subscription = follow(t, await t.user('ann', {}, 'cut'), channel);
    await states(values(numbers(1, 30)), subscription);
    await t.control('silence');
    await set(t, channel, numbers(31, 50));
    await t.control('cut');
    await t.control('resume');
    await states(values(numbers(1, 50)), subscription);
    equal(subscription.heard.count('sync'), 2, 'states');
  },

  async 'after a cut an ephemeral map is read again, and the key of a client that is gone is removed'(t) {
    const channel = t.name('cursors:');
    const bob = follow(t, await t.user('bob'), channel);
    await bob.ready();
    const client = await t.user('ann', {}, 'cut');
    const ann = follow(t, client, channel);
    await ann.ready();
    await ann.publish('', t.data(1));
    await states({ [client.context.client]: 1 }, bob, ann);
    await t.control('cut');
    await states({}, bob, ann);
    check(ann.heard.count('sync') >= 2, 'the state arrived again');
  },
};
