// pusher-js, laravel-echo and the server library `pusher`, unchanged: pusher.mjs PLACE [NAME]. PLACE is JSON with the addresses
// of two nodes of one deployment (`nodes`), of its line port (`line`), its apps (`apps`), and the process of the second node
// (`victim`), which is killed in the end. NAME restricts the run to the scenarios whose names contain it. Modules are found in the folder that TIDINGS_NODE_MODULES names.
import { createRequire } from 'node:module';
import { connect as connectSocket } from 'node:net';

import { check, equal, until, within } from '../centrifuge/kit.mjs';

const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const PusherClient = require('pusher-js');
const Pusher = PusherClient.Pusher ?? PusherClient;
const Server = require('pusher');
// Its CommonJS file does not load in Node.
const { default: Echo } = await import(`${process.env.TIDINGS_NODE_MODULES}/node_modules/laravel-echo/dist/echo.js`);

const place = JSON.parse(process.argv[2]);
const say = (text) => process.stdout.write(`${text}\n`);
const [first, second] = place.nodes.map((url) => new URL(url));
const [app, shop] = place.apps;
const encryptionMasterKeyBase64 = Buffer.alloc(32, 7).toString('base64');

/** The server library for an app, which talks to the first node. */
const server = ({ id, key, secret } = app, more = {}) =>
  new Server({ appId: id, key, secret, host: first.hostname, port: first.port, useTLS: false, ...more });

const clients = [];

/** A connected client of a node; `user` is the user of its presence channels and of its sign-in, which watches `watchlist`. */
async function client(node = first, { of = app, user = 'nobody', watchlist, backend = server(of), ...more } = {}) {
  const pusher = new Pusher(of.key, {
    cluster: 'none',
    wsHost: node.hostname,
    wsPort: node.port,
    forceTLS: false,
    enabledTransports: ['ws'],
    disableStats: true,
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, done) => {
        const data = { user_id: user, user_info: { name: user } };
        const isPresence = channelName.startsWith('presence-');
        done(null, backend.authorizeChannel(socketId, channelName, isPresence ? data : undefined));
      },
    },
    userAuthentication: {
      customHandler: ({ socketId }, done) => done(null, backend.authenticateUser(socketId, { id: user, watchlist })),
    },
    ...more,
  });
  clients.push(pusher);
  await state(pusher, 'connected');
  return pusher;
}

const state = (pusher, name) => until(() => pusher.connection.state === name, `the state ${name}`);

/** Subscribes; resolves with the channel and its events once the subscription is confirmed. */
async function subscribe(pusher, name) {
  const channel = pusher.subscribe(name);
  const events = [];
  channel.bind_global((event, data) => {
    if (!event.startsWith('pusher:')) events.push([event, data]);
  });
  await within(
    new Promise((resolve, reject) => {
      channel.bind('pusher:subscription_succeeded', resolve);
      channel.bind('pusher:subscription_error', (error) => reject(new Error(JSON.stringify(error))));
    }),
    `the subscription to ${name}`,
  );
  return { channel, events };
}

const members = (channel) => {
  const all = [];
  channel.members.each((member) => all.push(member.id));
  return all.sort();
};

/** A subscriber of the line port with RESP; resolves with the messages once it is subscribed. */
function resp(channel) {
  const [host, port] = place.line.split(':');
  const socket = connectSocket(Number(port), host);
  const messages = [];
  let text = '';
  const subscribed = new Promise((resolve) => {
    socket.on('data', (bytes) => {
      text += bytes;
      if (text.includes(':1\r\n')) resolve();
      for (const [, body] of text.matchAll(/message\r\n\$\d+\r\n[^\r]+\r\n\$\d+\r\n([^\r]*)\r\n/g)) messages.push(body);
    });
  });
  socket.write(`*3\r\n$4\r\nAUTH\r\n$1\r\nx\r\n$${place.apiKey.length}\r\n${place.apiKey}\r\n`);
  socket.write(`*2\r\n$9\r\nSUBSCRIBE\r\n$${channel.length}\r\n${channel}\r\n`);
  return within(subscribed, `the RESP subscription to ${channel}`).then(() => ({ socket, messages }));
}

const scenarios = {
  async 'an event of the server library reaches the clients of both nodes'() {
    const [a, b] = [await client(first), await client(second)];
    const [one, two] = [await subscribe(a, 'my-channel'), await subscribe(b, 'my-channel')];
    const response = await server().trigger('my-channel', 'my-event', { message: 'hello world' });
    equal(response.status, 200, 'the status');
    await until(() => one.events.length === 1 && two.events.length === 1, 'both events');
    equal(one.events, [['my-event', { message: 'hello world' }]], 'the event');
    equal(two.events, one.events, 'the event of the other node');
  },
  async 'an event does not reach the connection of its socket id, on any node'() {
    const [a, b] = [await client(second), await client(second)];
    const [one, two] = [await subscribe(a, 'rooms'), await subscribe(b, 'rooms')];
    await server().trigger('rooms', 'first', {}, { socket_id: a.connection.socket_id });
    await server().trigger('rooms', 'second', {});
    await until(() => one.events.length === 1 && two.events.length === 2, 'the events');
    equal(one.events[0][0], 'second', 'the event of the excluded connection');
  },
  async 'many channels and batches are published'() {
    const a = await client(second);
    const all = [await subscribe(a, 'many-1'), await subscribe(a, 'many-2')];
    await server().trigger(['many-1', 'many-2'], 'both', 'text');
    await server().triggerBatch([
      { channel: 'many-1', name: 'one', data: { n: 1 } },
      { channel: 'many-2', name: 'two', data: { n: 2 } },
    ]);
    await until(() => all.every(({ events }) => events.length === 2), 'the events');
    equal(all.map(({ events }) => events), [
      [['both', 'text'], ['one', { n: 1 }]],
      [['both', 'text'], ['two', { n: 2 }]],
    ], 'the events');
  },
  async 'a private channel needs the signature of the app'() {
    const a = await client(second);
    const { events } = await subscribe(a, 'private-a');
    await server().trigger('private-a', 'secret', {});
    await until(() => events.length === 1, 'the event');
    const forged = await client(first, { backend: server({ ...app, secret: 'wrong' }) });
    const error = await subscribe(forged, 'private-a').catch((error) => JSON.parse(error.message));
    equal([error.type, error.status], ['AuthError', 401], 'the error');
  },
  async 'presence counts users and not connections, on two nodes'() {
    const [ann1, ann2, bob] = [
      await client(first, { user: 'ann' }),
      await client(second, { user: 'ann' }),
      await client(second, { user: 'bob' }),
    ];
    const room = await subscribe(ann1, 'presence-room');
    equal(members(room.channel), ['ann'], 'the members');
    const changes = [];
    room.channel.bind('pusher:member_added', ({ id, info }) => changes.push(['added', id, info.name]));
    room.channel.bind('pusher:member_removed', ({ id }) => changes.push(['removed', id]));
    const second_room = await subscribe(ann2, 'presence-room');
    equal(members(second_room.channel), ['ann'], 'the members of the second node');
    const bobs = await subscribe(bob, 'presence-room');
    equal(members(bobs.channel), ['ann', 'bob'], "bob's members");
    equal(bobs.channel.members.me, { id: 'bob', info: { name: 'bob' } }, 'me');
    await until(() => changes.length === 1, 'the new member');
    const left = [];
    bobs.channel.bind('pusher:member_removed', ({ id }) => left.push(id));
    ann2.disconnect();
    const users = await (await server().get({ path: '/channels/presence-room/users' })).json();
    equal(users.users.map(({ id }) => id).sort(), ['ann', 'bob'], 'the users in the HTTP API');
    ann1.unsubscribe('presence-room');
    await until(() => left.length === 1, 'the member that has left');
    equal(left, ['ann'], 'who has left');
    equal(changes, [['added', 'bob', 'bob']], 'the changes that ann got');
  },
  async 'client events reach the other members with the id of the sender'() {
    const [ann, bob] = [await client(first, { user: 'ann' }), await client(second, { user: 'bob' })];
    const [one, two] = [await subscribe(ann, 'presence-typing'), await subscribe(bob, 'presence-typing')];
    const { socket, messages } = await resp('presence-typing');
    const senders = [];
    two.channel.bind('client-typing', (_, { user_id }) => senders.push(user_id));
    one.channel.trigger('client-typing', { text: 'hé' });
    await until(() => two.events.length === 1 && messages.length >= 1, 'the event');
    equal([two.events, senders], [[['client-typing', { text: 'hé' }]], ['ann']], 'the event and its sender');
    equal(JSON.parse(messages[0]), { text: 'hé' }, 'the body of the RESP subscriber');
    socket.destroy();
    two.channel.trigger('client-typing', {});
    await until(() => one.events.length === 1, 'the answer');
    const errors = [];
    ann.connection.bind('error', ({ data, error }) => errors.push((data ?? error?.data).code));
    for (let n = 0; n < 30; n++) one.channel.trigger('client-typing', { n });
    await until(() => errors.length > 0, 'the limit on the rate');
    equal(errors[0], 4301, 'the code');
    equal(ann.connection.state, 'connected', 'the state');
  },
  async 'an encrypted channel passes through'() {
    const backend = server(app, { encryptionMasterKeyBase64 });
    const a = await client(second, { backend });
    const { events } = await subscribe(a, 'private-encrypted-a');
    await backend.trigger('private-encrypted-a', 'secret', { n: 1 });
    await until(() => events.length === 1, 'the event');
    equal(events, [['secret', { n: 1 }]], 'the event');
  },
  async 'a cache channel has its last event, or a miss'() {
    const misses = [];
    const a = await client(first);
    a.bind_global((event, data) => event === 'pusher:cache_miss' && misses.push(event));
    const name = `cache-${process.pid}`;
    const one = a.subscribe(name);
    one.bind('pusher:cache_miss', () => misses.push(name));
    await until(() => misses.length > 0, 'the miss');
    await server().trigger(name, 'state', { n: 1 });
    await server().trigger(name, 'state', { n: 2 });
    const b = await client(second);
    const { events } = await subscribe(b, name);
    await until(() => events.length === 1, 'the last event');
    equal(events, [['state', { n: 2 }]], 'the last event');
    const about = await (await server().get({ path: `/channels/${name}`, params: { info: 'cache,subscription_count' } })).json();
    equal(about, { cache: { data: '{"n":2}' }, occupied: true, subscription_count: 2 }, 'the channel');
  },
  async 'users of a watchlist come online and go offline, on two nodes'() {
    const signIn = async (pusher) => {
      pusher.signin();
      await within(pusher.user.signinDonePromise, 'the sign-in');
      return pusher;
    };
    const zoe = await signIn(await client(second, { user: 'w-zoe' }));
    const ann = await client(first, { user: 'w-ann', watchlist: ['w-zoe', 'w-bob'] });
    const events = [];
    for (const name of ['online', 'offline']) {
      ann.user.watchlist.bind(name, (event) => events.push([event.name, ...event.user_ids]));
    }
    await signIn(ann);
    await until(() => events.length === 1, 'the user that is online');
    equal(events.splice(0), [['online', 'w-zoe']], 'the first event');
    const bob1 = await signIn(await client(second, { user: 'w-bob' }));
    // It is online when it gets its first event, because it comes online before it watches others.
    const bob2 = await client(second, { user: 'w-bob', watchlist: ['w-zoe'] });
    let isOnline = false;
    bob2.user.watchlist.bind('online', () => { isOnline = true; });
    await signIn(bob2);
    await until(() => isOnline, 'the state of zoe');
    await until(() => events.length === 1, 'the user that comes');
    equal(events.splice(0), [['online', 'w-bob']], 'the second event');
    bob1.disconnect();
    zoe.disconnect();
    await until(() => events.length === 1, 'the user that goes');
    equal(events.splice(0), [['offline', 'w-zoe']], 'bob has another connection');
    bob2.disconnect();
    await until(() => events.length === 1, 'the last connection of bob');
    equal(events, [['offline', 'w-bob']], 'the last event');
  },
  async 'a user signs in, gets its own events, and is disconnected on all nodes'() {
    const [one, two] = [await client(first, { user: 'u-1' }), await client(second, { user: 'u-1' })];
    const got = [];
    for (const pusher of [one, two]) {
      pusher.user.bind('greeting', (data) => got.push(data));
      pusher.signin();
      await within(pusher.user.signinDonePromise, 'the sign-in');
    }
    equal(one.user.user_data, { id: 'u-1' }, 'the user');
    await server().sendToUser('u-1', 'greeting', { n: 1 });
    await until(() => got.length === 2, 'the event on both nodes');
    const closed = [];
    for (const pusher of [one, two]) pusher.connection.bind('disconnected', () => closed.push(pusher));
    await server().terminateUserConnections('u-1');
    await until(() => closed.length === 2, 'the end of both connections');
  },
  async 'the HTTP API lists channels with their information'() {
    const a = await client(second, { user: 'cat' });
    await subscribe(a, 'presence-list-1');
    await subscribe(a, 'list-1');
    const get = async (path, params) => (await server().get({ path, params })).json();
    const listed = await get('/channels', { filter_by_prefix: 'presence-list-', info: 'user_count' });
    equal(listed, { channels: { 'presence-list-1': { user_count: 1 } } }, 'the channels');
    const all = await get('/channels', {});
    check('list-1' in all.channels && 'presence-list-1' in all.channels, 'all channels');
    equal(await get('/channels/list-1', {}), { occupied: true }, 'an occupied channel');
    equal(await get('/channels/vacant', {}), { occupied: false }, 'a vacant channel');
    const wrong = await server().get({ path: '/channels', params: { info: 'user_count' } }).catch((error) => error);
    equal(wrong.status, 400, 'the status without a filter');
    const forged = await server({ ...app, secret: 'wrong' }).trigger('a', 'b', {}).catch((error) => error);
    equal(forged.status, 401, 'the status of a forged request');
    const large = await server().trigger('a', 'b', 'x'.repeat(10241)).catch((error) => error);
    equal(large.status, 413, 'the status of large data');
  },
  async 'apps have their own channels'() {
    const [a, b] = [await client(first), await client(second, { of: shop })];
    const [one, two] = [await subscribe(a, 'both'), await subscribe(b, 'both')];
    await server(shop).trigger('both', 'of-shop', {});
    await server(app).trigger('both', 'of-app', {});
    await until(() => one.events.length === 1 && two.events.length === 1, 'the events');
    equal([one.events[0][0], two.events[0][0]], ['of-app', 'of-shop'], 'the events');
    const { socket, messages } = await resp('shop:both');
    await server(shop).trigger('both', 'again', { n: 1 });
    await until(() => messages.length > 0, 'the RESP message');
    equal(messages[0], '{"n":1}', 'the body');
    socket.destroy();
  },
  async 'subscribers get the number of subscriptions on all nodes'() {
    const [a, b] = [await client(first, { of: shop }), await client(second, { of: shop })];
    const counts = [];
    const { channel } = await subscribe(a, 'counted');
    channel.bind('pusher:subscription_count', ({ subscription_count }) => counts.push(subscription_count));
    await until(() => counts.at(-1) === 1, 'the number of one subscription');
    await subscribe(b, 'counted');
    await until(() => counts.at(-1) === 2, 'the number of both subscriptions');
    b.disconnect();
    await until(() => counts.at(-1) === 1, 'the number after the end of one');
    equal(channel.subscriptionCount, 1, 'the number of the channel');
  },
  async 'a publication of the server API arrives as the event of its tag, or as message'() {
    const a = await client(second);
    const { events } = await subscribe(a, 'mixed');
    const publish = async (body) => {
      const response = await fetch(new URL('/api/publish', first), {
        method: 'POST',
        headers: { 'X-API-Key': place.apiKey, 'Content-Type': 'application/json' },
        body: JSON.stringify({ channel: 'mixed', ...body }),
      });
      check(response.ok, `the status ${response.status}`);
    };
    await publish({ data: { n: 1 } });
    await publish({ data: 'text', tags: { event: 'named' } });
    await until(() => events.length === 2, 'both events');
    equal(events, [['message', { n: 1 }], ['named', 'text']], 'the events');
  },
  async 'a wrong key is an error after which the client does not connect again'() {
    const pusher = new Pusher('unknown', { cluster: 'none', wsHost: first.hostname, wsPort: first.port, forceTLS: false, enabledTransports: ['ws'] });
    clients.push(pusher);
    const codes = [];
    pusher.connection.bind('error', ({ error, data }) => codes.push((data ?? error?.data)?.code));
    await until(() => codes.length > 0, 'the error');
    equal(codes[0], 4001, 'the code');
    await state(pusher, 'disconnected');
  },
  async 'laravel-echo listens, whispers and joins'() {
    const echo = (node, user) => {
      const backend = server();
      const echo = new Echo({
        broadcaster: 'pusher',
        key: app.key,
        cluster: 'none',
        Pusher,
        wsHost: node.hostname,
        wsPort: node.port,
        forceTLS: false,
        enabledTransports: ['ws'],
        authorizer: ({ name }) => ({
          authorize: (socketId, done) =>
            done(null, backend.authorizeChannel(socketId, name, name.startsWith('presence-') ? { user_id: user, user_info: { name: user } } : undefined)),
        }),
      });
      clients.push(echo.connector.pusher);
      return echo;
    };
    const [ann, bob] = [echo(first, 'ann'), echo(second, 'bob')];
    const got = [];
    const subscribed = (channel, what) => within(new Promise((resolve) => channel.subscribed(resolve)), what);
    const orders = ann.channel('orders').listen('OrderShipped', (data) => got.push(['orders', data]));
    await subscribed(orders, 'orders');
    const chats = [ann.private('chat.1'), bob.private('chat.1')];
    chats[0].listenForWhisper('typing', (data) => got.push(['whisper', data]));
    await Promise.all(chats.map((channel) => subscribed(channel, 'the chat')));
    await server().trigger('orders', 'App\\Events\\OrderShipped', { id: 7 });
    chats[1].whisper('typing', { by: 'bob' });
    await until(() => got.length === 2, 'the event and the whisper');
    equal(got.sort(), [['orders', { id: 7 }], ['whisper', { by: 'bob' }]], 'what arrived');
    const here = [];
    ann.join('room.1').here((users) => here.push(...users.map(({ name }) => name))).joining(({ name }) => here.push(`+${name}`)).leaving(({ name }) => here.push(`-${name}`));
    await until(() => here.length === 1, 'who is here');
    bob.join('room.1');
    await until(() => here.length === 2, 'who joins');
    bob.leave('room.1');
    await until(() => here.length === 3, 'who leaves');
    equal(here, ['ann', '+bob', '-bob'], 'the room');
  },
};

if (place.victim) {
  // The last scenario: the second node is gone after it.
  scenarios['the members of a node that is killed leave'] = async () => {
    const [ann, bob] = [await client(first, { user: 'ann' }), await client(second, { user: 'bob' })];
    const { channel } = await subscribe(ann, 'presence-killed');
    await subscribe(bob, 'presence-killed');
    await until(() => channel.members.count === 2, 'the member of the second node');
    process.kill(place.victim, 'SIGKILL');
    await until(() => channel.members.count === 1, 'the leave of the member');
    equal(members(channel), ['ann'], 'the members');
  };
}

const failed = [];
for (const [name, run] of Object.entries(scenarios)) {
  if (!name.includes(process.argv[3] ?? '')) continue;
  try {
    await run();
    say(`ok: ${name}`);
  } catch (error) {
    say(`FAILED: ${name}: ${error?.stack ?? JSON.stringify(error)}`);
    failed.push(name);
  }
  clients.splice(0).forEach((pusher) => pusher.disconnect());
}
say(failed.length ? `failed: ${failed.join('; ')}` : 'all well');
process.exit(failed.length ? 1 : 0);
