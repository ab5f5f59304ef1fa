// Shared polls of centrifuge-js, unchanged: the scenarios run with those of life.mjs, over each transport and encoding. The
// namespaces are those of crates/cli/tests/sdk/keyed.toml: `votes` (the application numbers values), `prices` (the server does, and
// clients may have deltas). The application is that of crates/cli/tests/sdk/application.rs.
import { check, equal, failure, Heard, until } from './kit.mjs';

const SECRET = 'a secret for the keys of these tests';
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const bytes = (text) => new TextEncoder().encode(text);

/** The signature of keys, valid for `seconds`. */
async function sign(channel, keys, user, seconds = 3600) {
  const now = Math.floor(Date.now() / 1000);
  const hash = hex(await crypto.subtle.digest('SHA-256', bytes(keys.join('\0'))));
  const key = await crypto.subtle.importKey('raw', bytes(SECRET), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const message = [now, now + seconds, user, channel, hash].join('\0');
  return `${now}:${now + seconds}:${hex(await crypto.subtle.sign('HMAC', key, bytes(message)))}`;
}

/** A shared poll that is asked for; `map` is the state that its events describe. */
function poll(client, channel, user, options = {}) {
  const subscription = client.newSharedPollSubscription(channel, {
    minResubscribeDelay: 50, maxResubscribeDelay: 500,
    getSignature: async ({ keys }) => {
      subscription.signed += 1;
      return { keys, signature: await sign(channel, keys, user) };
    },
    ...options,
  });
  subscription.signed = 0;
  subscription.heard = new Heard(subscription, 'subscribing', 'subscribed', 'unsubscribed', 'update', 'error');
  subscription.subscribe();
  return subscription;
}

/** The last value of each key. */
function state(t, subscription) {
  const values = new Map();
  for (const said of subscription.heard.all) {
    if (said.event !== 'update') continue;
    if (said.removed) values.delete(said.key);
    else values.set(said.key, t.value(said.data));
  }
  return Object.fromEntries([...values].sort());
}

/** Waits until the state of each subscription is `wanted`. */
async function states(t, wanted, ...subscriptions) {
  const text = JSON.stringify(wanted);
  for (const subscription of subscriptions) {
    await until(() => JSON.stringify(state(t, subscription)) === text, `the state ${text.slice(0, 200)}`)
      .catch((error) => { throw new Error(`${error.message}; it is ${JSON.stringify(state(t, subscription)).slice(0, 400)}`); });
  }
}

/** Changes values of the application. */
const set = (t, ...values) => t.control(`values ${JSON.stringify(values)}`);

/** Names of keys that no other scenario uses. */
const keys = (t, ...names) => names.map((name) => t.name(`${name}-`));

export const polls = {
  async 'values of tracked keys arrive at all that track them, and at nobody else'(t) {
    const channel = t.name('votes:');
    const [a, b, c] = keys(t, 'a', 'b', 'c');
    await set(t, { key: a, data: { n: 1 }, version: 1 }, { key: b, data: { n: 2 }, version: 7 });
    const ann = poll(await t.user('ann'), channel, 'ann');
    const bob = poll(await t.user('bob'), channel, 'bob');
    await Promise.all([ann.ready(), bob.ready()]);
    ann.track([a, b]);
    bob.track([b]);
    await states(t, { [a]: { n: 1 }, [b]: { n: 2 } }, ann);
    await states(t, { [b]: { n: 2 } }, bob);
    await set(t, { key: a, data: { n: 3 }, version: 2 }, { key: b, data: { n: 4 }, version: 8 });
    await states(t, { [a]: { n: 3 }, [b]: { n: 4 } }, ann);
    await states(t, { [b]: { n: 4 } }, bob);
    const versions = ann.heard.all.filter((said) => said.key === b).map((said) => Number(said.version));
    equal(versions, [7, 8], 'each version once');
    // A third one gets the present value, and a key without a value as soon as there is one.
    const eve = poll(await t.user('eve'), channel, 'eve');
    eve.track([b, c]);
    await states(t, { [b]: { n: 4 } }, eve);
    await set(t, { key: c, data: [true], version: 1 });
    await states(t, { [b]: { n: 4 }, [c]: [true] }, eve);
  },

  async 'a key that is removed is removed, and one that is untracked is silent'(t) {
    const channel = t.name('votes:');
    const [a, b] = keys(t, 'a', 'b');
    await set(t, { key: a, data: 1, version: 1 }, { key: b, data: 1, version: 1 });
    const ann = poll(await t.user('ann'), channel, 'ann');
    const bob = poll(await t.user('bob'), channel, 'bob');
    ann.track([a, b]);
    bob.track([a, b]);
    await states(t, { [a]: 1, [b]: 1 }, ann, bob);
    bob.untrack([a]);
    await set(t, { key: a, data: 2, version: 2 });
    await states(t, { [a]: 2, [b]: 1 }, ann);
    await set(t, { key: b, data: null, version: 2, removed: true });
    await states(t, { [a]: 2 }, ann);
    await states(t, { [a]: 1 }, bob);
    equal([...ann.trackedKeys()], [a], 'what is tracked');
    // It can be tracked again.
    await set(t, { key: b, data: 3, version: 3 });
    ann.track([b]);
    await states(t, { [a]: 2, [b]: 3 }, ann);
  },

  async 'a signature is needed: of these keys, of this user, and not expired'(t) {
    const channel = t.name('votes:');
    const [a, b] = keys(t, 'a', 'b');
    await set(t, { key: a, data: 1, version: 1 });
    const ann = poll(await t.user('ann'), channel, 'ann');
    await ann.ready();
    const errors = () => ann.heard.all.filter((said) => said.event === 'error').map((said) => said.error.code);
    const item = { key: a, version: 0 };
    ann.track([item], 'nonsense');
    await until(() => errors().length === 1, 'an error');
    ann.track([item], await sign(channel, [a], 'bob'));
    await until(() => errors().length === 2, 'an error');
    ann.track([item], await sign(channel, [b], 'ann'));
    await until(() => errors().length === 3, 'an error');
    equal(errors(), [103, 103, 103], 'errors');
    // An expired one is replaced by a new one of the application.
    ann.track([item], await sign(channel, [a], 'ann', -60));
    await states(t, { [a]: 1 }, ann);
    equal([errors()[3], ann.signed], [109, 1], 'the error, and new signatures');
  },

  async 'a signature that expires is renewed before the keys end'(t) {
    const channel = t.name('votes:');
    const [a] = keys(t, 'a');
    await set(t, { key: a, data: 1, version: 1 });
    const ann = poll(await t.user('ann'), channel, 'ann', {
      getSignature: async ({ keys: all }) => {
        ann.signed += 1;
        return { keys: all, signature: await sign(channel, all, 'ann', ann.signed === 1 ? 2 : 3600) };
      },
    });
    ann.track([a]);
    await states(t, { [a]: 1 }, ann);
    await until(() => ann.signed === 2, 'a second signature');
    await set(t, { key: a, data: 2, version: 2 });
    await states(t, { [a]: 2 }, ann);
  },

  async 'without versions of the application, the server compares the values'(t) {
    const channel = t.name('prices:');
    const [a, b] = keys(t, 'a', 'b');
    await set(t, { key: a, data: { price: 1 } }, { key: b, data: 'x'.repeat(200) });
    const ann = poll(await t.user('ann'), channel, 'ann');
    const bob = poll(await t.user('bob'), channel, 'bob', { delta: 'fossil' });
    ann.track([a, b]);
    bob.track([a, b]);
    await states(t, { [a]: { price: 1 }, [b]: 'x'.repeat(200) }, ann, bob);
    await set(t, { key: b, data: `${'x'.repeat(200)}y` });
    await states(t, { [a]: { price: 1 }, [b]: `${'x'.repeat(200)}y` }, ann, bob);
    await set(t, { key: b, data: `z${'x'.repeat(200)}y` });
    await states(t, { [a]: { price: 1 }, [b]: `z${'x'.repeat(200)}y` }, ann, bob);
    const updates = ann.heard.all.filter((said) => said.event === 'update');
    equal(updates.filter((said) => said.key === a).length, 1, 'updates of a value that stays');
    check(updates.every((said) => Number(said.version) > 0), 'the server gives versions');
    const { numFullPayloads, numDeltaPayloads } = bob.deltaStats();
    equal([numFullPayloads, numDeltaPayloads], [2, 2], 'whole values, deltas');
  },

  async 'the application publishes a value before it is asked'(t) {
    const channel = t.name('slow:');
    const [a] = keys(t, 'a');
    await set(t, { key: a, data: 1, version: 1 });
    const ann = poll(await t.user('ann'), channel, 'ann');
    ann.track([a]);
    await states(t, { [a]: 1 }, ann);
    await t.api('shared_poll_publish', { channel, key: a, data: 2, version: 2 });
    await states(t, { [a]: 2 }, ann);
    await t.api('shared_poll_publish', { channel, key: a, data: 1, version: 1 });
    await t.api('shared_poll_publish', { channel, key: a, data: 3, version: 3, epoch: 'second life' });
    // The epoch is another one, so the client begins again, with the value that the application has.
    await until(() => ann.heard.count('subscribed') === 2, 'a second subscription');
    await t.api('shared_poll_publish', { channel, key: a, data: 4, version: 4, epoch: 'second life' });
    equal(ann.heard.all.filter((said) => said.event === 'update').map((said) => t.value(said.data)).slice(0, 2), [1, 2], 'updates');
  },

  async 'many keys are asked for in several requests'(t) {
    const channel = t.name('votes:');
    const many = Array.from({ length: 250 }, (_, n) => t.name(`many-${String(n).padStart(3, '0')}-`));
    await set(t, ...many.map((key, n) => ({ key, data: n, version: 1 })));
    const ann = poll(await t.user('ann'), channel, 'ann');
    ann.track(many);
    await states(t, Object.fromEntries(many.map((key, n) => [key, n]).sort()), ann);
  },

  async 'more keys than the limit are refused, and so are other kinds of subscriptions'(t) {
    const channel = t.name('votes:');
    const client = await t.user('ann');
    const ann = poll(client, channel, 'ann');
    await ann.ready();
    ann.track(Array.from({ length: 301 }, (_, n) => t.name(`k${n}-`)));
    const { error } = await ann.heard.one('error');
    equal([error.code, error.message.includes('max_keys_per_connection')], [106, true], 'the error');
    const stream = t.subscription(await t.user('bob'), t.name('votes:'));
    equal((await stream.heard.one('unsubscribed')).code, 108, 'a stream');
    const other = poll(await t.user('eve'), t.name('chat:'), 'eve');
    equal((await other.heard.one('unsubscribed')).code, 108, 'a shared poll elsewhere');
    equal((await failure(client.publish(t.name('votes:'), t.data(1)), 'a publication')).code, 108, 'a publication');
  },

  async 'an application that fails leaves the last values, and new keys get an error until it is back'(t) {
    const channel = t.name('votes:');
    const [a, bad] = keys(t, 'a', 'bad');
    await set(t, { key: a, data: 1, version: 1 });
    const ann = poll(await t.user('ann'), channel, 'ann');
    ann.track([a]);
    await states(t, { [a]: 1 }, ann);
    await set(t, { key: a, fails: true });
    const bob = poll(await t.user('bob'), channel, 'bob');
    // The present value is there for others too.
    bob.track([a]);
    await states(t, { [a]: 1 }, ann, bob);
    const eve = poll(await t.user('eve'), channel, 'eve');
    await eve.ready();
    const refused = async () => {
      while (eve.heard.count('error') === 0) {
        eve.track([bad]);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    await refused();
    const { error } = await eve.heard.one('error');
    equal([error.code, error.temporary], [100, true], 'the error');
    await set(t, { key: a, data: 2, version: 2 }, { key: bad, data: 3, version: 1 });
    await states(t, { [a]: 2 }, ann, bob);
    await states(t, { [bad]: 3 }, eve);
  },
};

/** Those that cut the link, one after the other. */
export const pollCuts = {
  async 'a client that was cut off gets only what has changed, with the signature it has'(t) {
    const channel = t.name('votes:');
    const [a, b] = keys(t, 'a', 'b');
    await set(t, { key: a, data: 1, version: 1 }, { key: b, data: 1, version: 1 });
    const ann = poll(await t.user('ann', {}, 'cut'), channel, 'ann');
    ann.track([a, b]);
    await states(t, { [a]: 1, [b]: 1 }, ann);
    await t.control('cut');
    await set(t, { key: a, data: 2, version: 2 });
    await t.control('resume');
    await states(t, { [a]: 2, [b]: 1 }, ann);
    equal(ann.heard.all.filter((said) => said.key === b).length, 1, 'updates of what has not changed');
    equal(ann.signed, 1, 'signatures');
  },
};
