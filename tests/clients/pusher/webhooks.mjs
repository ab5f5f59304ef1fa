// Webhooks of an app with the server library `pusher`, which verifies them: webhooks.mjs PLACE. PLACE is JSON with the addresses of
// two nodes of one deployment (`nodes`), the app (`app`), the port of its receiver (`port`), and the process of one of the
// nodes (`victim`, with the number of the node as `victimAt`), which is killed in the end. Modules are found in the folder that
// TIDINGS_NODE_MODULES names.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

import { equal, pause, until, within } from '../centrifuge/kit.mjs';

const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const PusherClient = require('pusher-js');
const Pusher = PusherClient.Pusher ?? PusherClient;
const Server = require('pusher');

const { nodes, app, port, victim, victimAt } = JSON.parse(process.argv[2]);
const [first, second] = nodes.map((url) => new URL(url));
const backend = new Server({ appId: app.id, key: app.key, secret: app.secret, host: first.hostname, port: first.port, useTLS: false });

const events = [];
let refused = 1;
const receiver = createServer(async (request, response) => {
  let rawBody = '';
  for await (const piece of request) rawBody += piece;
  if (refused > 0) {
    refused -= 1;
    response.statusCode = 500;
    return response.end();
  }
  const webhook = backend.webhook({ headers: request.headers, rawBody });
  if (!webhook.isValid()) throw new Error(`the signature of ${rawBody} is not valid`);
  events.push(...webhook.getEvents());
  response.end('ok');
});
await new Promise((resolve) => receiver.listen(port, '127.0.0.1', resolve));

async function client(node, user = 'nobody') {
  const pusher = new Pusher(app.key, {
    cluster: 'none',
    wsHost: node.hostname,
    wsPort: node.port,
    forceTLS: false,
    enabledTransports: ['ws'],
    disableStats: true,
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, done) => {
        const data = { user_id: user, user_info: {} };
        done(null, backend.authorizeChannel(socketId, channelName, channelName.startsWith('presence-') ? data : undefined));
      },
    },
  });
  await until(() => pusher.connection.state === 'connected', 'a connection');
  return pusher;
}

const subscribe = (pusher, name) =>
  within(
    new Promise((resolve, reject) => {
      const channel = pusher.subscribe(name);
      channel.bind('pusher:subscription_succeeded', () => resolve(channel));
      channel.bind('pusher:subscription_error', (error) => reject(new Error(JSON.stringify(error))));
    }),
    `the subscription to ${name}`,
  );

const of = (channel, ...names) => events.filter((event) => event.channel === channel && names.includes(event.name));
const names = (channel) => of(channel, 'channel_occupied', 'channel_vacated').map((event) => event.name);
const members = (channel) => of(channel, 'member_added', 'member_removed').map((event) => `${event.name} ${event.user_id}`);
/** Waits until an event that is caused now has arrived, so that all earlier ones have. */
let marks = 0;
async function mark(node = first) {
  const name = `mark-${(marks += 1)}`;
  const pusher = await client(node);
  await subscribe(pusher, name);
  await until(() => names(name).length > 0, `the event of ${name}`);
  pusher.disconnect();
}

// One event for a channel with subscribers on two nodes, also if the first request is refused.
const [a, b] = [await client(first), await client(second)];
await subscribe(a, 'news');
await until(() => names('news').length === 1, 'the channel is occupied');
await subscribe(b, 'news');
await until(() => of('news', 'subscription_count').some((event) => event.subscription_count === 2), 'both subscriptions');
// A client that moves to another node within the grace time causes no event.
a.disconnect();
b.disconnect();
const moved = await client(second);
await subscribe(moved, 'news');
await pause(1500);
await mark();
equal(names('news'), ['channel_occupied'], 'the events of a channel whose clients move');
moved.disconnect();
await until(() => names('news').length === 2, 'the channel is vacated');
equal(names('news'), ['channel_occupied', 'channel_vacated'], 'the events of a channel');

// A user with connections on two nodes is a member once.
const [ann, again, bob] = [await client(first, 'ann'), await client(second, 'ann'), await client(second, 'bob')];
await subscribe(ann, 'presence-room');
await subscribe(again, 'presence-room');
await subscribe(bob, 'presence-room');
await until(() => members('presence-room').length === 2, 'two members');
equal(members('presence-room').sort(), ['member_added ann', 'member_added bob'], 'the members');
ann.disconnect();
await pause(1500);
await mark();
equal(members('presence-room').length, 2, 'the events while a connection of ann remains');
again.disconnect();
await until(() => members('presence-room').length === 3, 'ann has left');
equal(members('presence-room')[2], 'member_removed ann', 'the last event');

// Events of clients, and cache misses, from the node of the client.
const chat = await client(second, 'eve');
const channel = await subscribe(chat, 'private-chat');
channel.trigger('client-typing', { who: 'eve' });
await until(() => of('private-chat', 'client_event').length === 1, 'the event of a client');
const [sent] = of('private-chat', 'client_event');
equal([sent.event, sent.data, sent.socket_id], ['client-typing', '{"who":"eve"}', chat.connection.socket_id], 'the event');
await subscribe(chat, 'cache-prices');
await until(() => of('cache-prices', 'cache_miss').length === 1, 'the cache miss');

// A node that is killed: its channels are vacated once, and those of the other node stay as they are.
const [here, there] = victimAt === 0 ? [second, first] : [first, second];
const [staying, leaving] = [await client(here, 'sam'), await client(there, 'lea')];
for (const [pusher, name] of [[staying, 'stays'], [leaving, 'goes'], [staying, 'presence-last'], [leaving, 'presence-last']]) {
  await subscribe(pusher, name);
}
await until(() => names('stays').length === 1 && names('goes').length === 1 && members('presence-last').length === 2, 'all events');
leaving.disconnect = () => {};
process.kill(victim, 'SIGKILL');
leaving.connection.bind('state_change', () => {});
await until(() => names('goes').length === 2, 'the channel of the killed node is vacated');
await until(() => members('presence-last').length === 3, 'the member on the killed node has left');
await mark(here);
equal(names('goes'), ['channel_occupied', 'channel_vacated'], 'the events of its channel');
equal(names('stays'), ['channel_occupied'], 'the events of the channel of the other node');
equal(members('presence-last')[2], 'member_removed lea', 'the last event');
process.exit(0);
