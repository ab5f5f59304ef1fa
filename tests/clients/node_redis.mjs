// The everyday life of Node's Redis clients: node_redis.mjs HOST:PORT CLIENT COUNTS, where CLIENT is redis2, redis3
// or ioredis, and COUNTS says whether PUBLISH counts this server's subscribers (`exact`) or a Redis' (`redis`).
// Prints "ok" or fails. Modules are found in the folder that TIDINGS_NODE_MODULES names.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [address, kind, counts] = process.argv.slice(2);
const [host, port] = address.split(':');
const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const deadline = setTimeout(() => { console.error('no end in time'); process.exit(1); }, 30_000);

/** What PUBLISH answered; a Redis behind also counts topics that linger and other nodes. */
const receivers = (got, wanted) => {
  if (counts === 'exact') assert.equal(got, wanted);
  else assert.ok(got >= wanted, `${got} receivers, not even ${wanted}`);
};

/** Resolves with the first `count` messages that `on` hears. */
const hear = (count) => {
  const heard = [];
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  const take = (...message) => { heard.push(message.map(String)); if (heard.length === count) done(heard); };
  return { take, all };
};

/** A channel whose name has a space, and a character beyond ASCII. */
const ROOM = 'my room ☕';

async function nodeRedis(RESP) {
  const { createClient } = require('redis');
  const open = async () => {
    const client = createClient({ socket: { host, port: Number(port) }, RESP });
    client.on('error', (error) => { console.error(error); process.exit(1); });
    await client.connect();
    return client;
  };
  const [publisher, subscriber] = [await open(), await open()];
  assert.equal(await publisher.ping(), 'PONG');
  const news = hear(1000);
  const matched = hear(1);
  await subscriber.subscribe('news', (message) => news.take(message));
  await subscriber.pSubscribe('sc*', (message, channel) => matched.take(message, channel));
  assert.deepEqual({ ...(await publisher.pubSubNumSub(['news'])) }, { news: 1 });
  await Promise.all(Array.from({ length: 1000 }, (_, n) => publisher.publish('news', String(n))));
  assert.deepEqual(await news.all, Array.from({ length: 1000 }, (_, n) => [String(n)]));
  receivers(await publisher.publish('scores:nba', 'LAL 101\r\nBOS 99'), 1);
  assert.deepEqual(await matched.all, [['LAL 101\r\nBOS 99', 'scores:nba']]);
  // The commands of a transaction are carried out together, and a name may be any text.
  const room = hear(2);
  const rooms = hear(2);
  await subscriber.subscribe(ROOM, (message, channel) => room.take(message, channel));
  await subscriber.pSubscribe('my room *', (message, channel) => rooms.take(message, channel));
  const counts = await publisher.multi().publish(ROOM, 'one').publish(ROOM, 'two').exec();
  assert.equal(counts.length, 2);
  counts.forEach((count) => receivers(count, 2));
  assert.deepEqual(await room.all, [['one', ROOM], ['two', ROOM]]);
  assert.deepEqual(await rooms.all, [['one', ROOM], ['two', ROOM]]);
  assert.deepEqual({ ...(await publisher.pubSubNumSub([ROOM])) }, { [ROOM]: 1 });
  await subscriber.unsubscribe(ROOM);
  await subscriber.unsubscribe('news');
  receivers(await publisher.publish('news', 'unseen'), 0);
  await subscriber.pUnsubscribe();
  await assert.rejects(publisher.get('key'), /unknown command 'GET'/i);
  publisher.destroy();
  subscriber.destroy();
}

async function ioRedis() {
  const { Redis } = require('ioredis');
  const open = () => new Redis({ host, port: Number(port), retryStrategy: null });
  const [publisher, subscriber] = [open(), open()];
  const news = hear(1000);
  const matched = hear(1);
  subscriber.on('message', (channel, message) => news.take(channel, message));
  subscriber.on('pmessage', (pattern, channel, message) => matched.take(pattern, channel, message));
  assert.equal(await subscriber.subscribe('news'), 1);
  assert.equal(await subscriber.psubscribe('sc*'), 2);
  const pipeline = publisher.pipeline();
  for (let n = 0; n < 1000; n++) pipeline.publish('news', String(n));
  await pipeline.exec();
  assert.deepEqual(await news.all, Array.from({ length: 1000 }, (_, n) => ['news', String(n)]));
  receivers(await publisher.publish('scores:nba', 'x'), 1);
  assert.deepEqual(await matched.all, [['sc*', 'scores:nba', 'x']]);
  const room = hear(2);
  subscriber.removeAllListeners('message');
  subscriber.on('message', (channel, message) => room.take(channel, message));
  assert.equal(await subscriber.subscribe(ROOM), 3);
  const results = await publisher.multi().publish(ROOM, 'one').publish(ROOM, 'two').exec();
  results.forEach(([error, count]) => { assert.equal(error, null); receivers(count, 1); });
  assert.deepEqual(await room.all, [[ROOM, 'one'], [ROOM, 'two']]);
  assert.equal(await subscriber.unsubscribe(ROOM), 2);
  assert.equal(await subscriber.unsubscribe('news'), 1);
  receivers(await publisher.publish('news', 'unseen'), 0);
  publisher.disconnect();
  subscriber.disconnect();
}

await { redis2: () => nodeRedis(2), redis3: () => nodeRedis(3), ioredis: ioRedis }[kind]();
clearTimeout(deadline);
console.log('ok');
