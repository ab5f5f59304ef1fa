// The server API through a library for Node: node_cent.mjs URL KEY CLIENT
//
// CLIENT is the id of a connection of user 42 that is subscribed to `lobby`, in a server with history and presence.
// Prints "ok" or fails. Modules are found in the folder that TIDINGS_NODE_MODULES names.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const { CentClient, CentException } = require('cent.js');

const [url, apiKey, client] = process.argv.slice(2);
const api = new CentClient({ url, apiKey });

const first = await api.publish({ channel: 'news', data: { n: 1 } });
assert.equal(first.offset, 1);
const sent = await api.broadcast({ channels: ['news', 'none:a'], data: { n: 2 } });
assert.equal(sent.responses[0].result.offset, 2);
assert.equal(sent.responses[1].error.code, 102);
await assert.rejects(api.publish({ channel: 'none:a', data: 1 }), CentException);

const page = await api.getHistory({ channel: 'news', limit: -1 });
assert.deepEqual(page.publications, [{ data: { n: 1 }, offset: 1 }, { data: { n: 2 }, offset: 2 }]);
await api.removeHistory({ channel: 'news' });
assert.deepEqual((await api.getHistory({ channel: 'news', limit: 5 })).publications, []);

assert.deepEqual(await api.getPresence({ channel: 'lobby' }), { presence: { [client]: { client, user: '42' } } });
assert.deepEqual(await api.getPresenceStats({ channel: 'lobby' }), { num_clients: 1, num_users: 1 });
assert.deepEqual(await api.getChannels(), { channels: { lobby: { num_clients: 1 } } });
assert.equal((await api.getInfo()).nodes.length, 1);

await api.subscribe({ user: '42', channel: 'vip', data: [1] });
// An order is answered when it is on its way; presence tells when it has been carried out.
const deadline = Date.now() + 20_000;
while ((await api.getPresenceStats({ channel: 'vip' })).num_clients === 0) {
  assert.ok(Date.now() < deadline, 'the client is not subscribed');
}
await api.publish({ channel: 'vip', data: { welcome: true } });
await api.unsubscribe({ user: '42', channel: 'vip' });
await api.refresh({ user: '42', expire_at: 4102444800 });

const results = await api.pipeline([
  { method: 'publish', params: { channel: 'news', data: 3 } },
  { method: 'publish', params: { channel: 'news', data: 4 } },
]);
assert.deepEqual(results.map((result) => result.offset), [3, 4]);

await api.disconnect({ user: '42', disconnect: { code: 4500, reason: 'go' } });
console.log('ok');
