// The scenarios of maps with two nodes on one Redis: maps-on-two-nodes.mjs PLACE FLAVOUR [WORDS], as node.mjs. The clients of a
// scenario are on both nodes in turn, those with a link that can be cut on the second one; the API is that of the first one.
// At the end the second node is killed.
import { createRequire } from 'node:module';

import { end, place, world } from './control.mjs';
import { equal, run } from './kit.mjs';
import { follow, key, mapCuts, maps, numbers, set, states, values } from './maps.mjs';

const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const [name, only] = process.argv.slice(3);
const [transport, encoding] = name.split('-');
const protobuf = encoding === 'protobuf';
const { Centrifuge } = require(protobuf ? 'centrifuge/build/protobuf' : 'centrifuge');
const WebSocket = require('ws');
const options = { websocket: WebSocket };
const flavour = { name, Centrifuge, transport, protobuf, options };

let living = 1;
/** Connects as a load balancer in front of the nodes does: to the second one while it lives, then to the first one. */
class Balanced extends WebSocket {
  constructor(url, ...more) {
    super(new URL(new URL(url).pathname, place.servers.keyed[living].replace('http', 'ws')), ...more);
  }
}

const kill = {
  async 'a client of a killed node continues on the other one, where keys still end'(t) {
    const [channel, lobby] = [t.name('board:'), t.name('lobby:')];
    await set(t, channel, numbers(1, 30));
    const stays = await t.user('bob');
    const moves = await t.user('ann', { websocket: Balanced });
    const subscriptions = [follow(t, stays, channel), follow(t, moves, channel)];
    await states(values(numbers(1, 30)), ...subscriptions);
    const other = follow(t, stays, lobby);
    await other.ready();
    await t.api('map_publish', { channel: lobby, key: 'a', data: 1 });
    await states({ a: 1 }, other);
    const before = subscriptions[1].heard.count('subscribed');
    living = 0;
    await t.control('kill');
    await t.api('map_publish', { channel, key: key(1), data: { n: -1 } });
    await t.api('map_remove', { channel, key: key(2) });
    const back = await subscriptions[1].heard.until(
      () => subscriptions[1].heard.all.filter((said) => said.event === 'subscribed')[before], 'subscribed again');
    equal([back.wasRecovering, back.recovered], [true, true], 'was recovering, recovered');
    await states({ ...values(numbers(1, 30).filter((n) => n !== 2)), [key(1)]: { n: -1 } }, ...subscriptions);
    equal(subscriptions.map((subscription) => subscription.heard.count('sync')), [1, 1], 'states');
    await states({}, other);
    equal((await t.api('map_stats', { channel: lobby })).num_keys, 0, 'number of keys');
  },
};

const failed = await run(maps, world, flavour, { beside: 8, only });
failed.push(...(await run(mapCuts, world, flavour, { beside: 1, only })));
end([...failed, ...(await run(kill, world, flavour, { beside: 1, only }))]);
