// socket.io with its Redis adapter: socketio.mjs HOST:PORT. Two servers share rooms whose names have spaces and characters
// beyond ASCII. Prints "ok" or fails. Modules are found in the folder that TIDINGS_NODE_MODULES names.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [host, port] = process.argv[2].split(':');
const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');
const { createClient } = require('redis');
const deadline = setTimeout(() => { console.error('no end in time'); process.exit(1); }, 30_000);
process.on('unhandledRejection', (error) => { console.error(error); process.exit(1); });

const open = async () => {
  const client = createClient({ socket: { host, port: Number(port) } });
  client.on('error', (error) => { console.error(error); process.exit(1); });
  await client.connect();
  return client;
};

const clients = [];
const server = async () => {
  const [publisher, subscriber] = [await open(), await open()];
  clients.push(publisher, subscriber);
  const io = new Server();
  io.adapter(createAdapter(publisher, subscriber));
  return io;
};

/** Calls `probe` until its result is what is waited for. */
const until = async (what, probe) => {
  for (;;) {
    if (await probe().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

const [one, other] = [await server(), await server()];
await until('both servers to know of each other', async () => (await one.of('/').adapter.serverCount()) === 2);

// What a server sends to a room reaches the other server, whatever the name of the room.
for (const room of ['my room', 'my room ☕', 'naïve', 'plain']) {
  const heard = new Promise((resolve) => {
    const adapter = other.of('/').adapter;
    const broadcast = adapter.constructor.prototype.onmessage;
    adapter.onmessage = function (pattern, channel, message) {
      resolve(Buffer.from(channel).toString());
      return broadcast.call(this, pattern, channel, message);
    };
  });
  one.to(room).emit('hi', { room });
  assert.ok((await heard).includes(room), room);
}
const answered = new Promise((resolve) => other.once('greeting', (words, answer) => { answer('from the other'); resolve(words); }));
const answers = await one.serverSideEmitWithAck('greeting', 'hello');
assert.equal(await answered, 'hello');
assert.deepEqual(answers, ['from the other']);

clients.forEach((client) => client.destroy());
clearTimeout(deadline);
console.log('ok');
process.exit(0);
