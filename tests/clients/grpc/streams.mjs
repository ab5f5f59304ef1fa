// Streams of subscriptions with centrifuge-js, unchanged: streams.mjs URL, where the server has the namespaces `one` and `both`. The
// application is application.py.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const modules = createRequire(join(process.env.TIDINGS_NODE_MODULES, 'package.json'));
const { Centrifuge } = modules('centrifuge');
const WebSocket = modules('ws');

const wait = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function until(condition, what) {
  const end = Date.now() + 20_000;
  while (!await condition()) {
    if (Date.now() > end) throw new Error(`no ${what} in time`);
    await wait(20);
  }
}

function check(condition, what) {
  if (!condition) throw new Error(what);
}

const client = new Centrifuge(`${process.argv[2]}/connection/websocket`, { websocket: WebSocket });
client.connect();
await client.ready(10_000);
const state = async () => (await client.rpc('streams')).data;

function subscribe(channel, data) {
  const subscription = client.newSubscription(channel, { data, minResubscribeDelay: 20, maxResubscribeDelay: 100 });
  subscription.got = [];
  subscription.times = 0;
  subscription.codes = [];
  subscription.on('publication', (publication) => subscription.got.push(publication.data));
  subscription.on('subscribed', (context) => { subscription.times += 1; subscription.context = context; });
  subscription.on('subscribing', ({ code }) => subscription.codes.push(code));
  subscription.subscribe();
  return subscription;
}

// The publications of the application, behind its response.
const one = subscribe('one:js', { count: 50 });
await until(() => one.got.length === 50, 'publications of the stream');
check(one.got.every((data, index) => data.n === index), 'not in order');
check(one.context.data.data.count === 50, 'no data of the application');

// The end of the stream: the SDK subscribes again.
const ending = subscribe('one:ending', { count: 1, end: true });
await until(() => ending.times >= 3, 'subscriptions after the ends of streams');
check(ending.codes.slice(1).every((code) => code === 2500), `codes ${ending.codes}`);
ending.unsubscribe();
await until(async () => (await state()).open === 1, 'end of that stream');

// Both directions.
const both = subscribe('both:js');
await both.ready(10_000);
await Promise.all([1, 2, 3].map((n) => both.publish({ n })));
await until(() => both.got.length === 3, 'echoes');
check(JSON.stringify(both.got) === JSON.stringify([1, 2, 3].map((n) => ({ echo: { n } }))), JSON.stringify(both.got));
const refused = await client.publish('both:other', {}).then(() => null, (error) => error);
check(refused?.code === 103, 'a publication without a subscription is accepted');

// A lost connection cancels the streams; the SDK opens them again.
client._transport._transport.close();
await until(() => one.times === 2 && both.times === 2, 'subscriptions after a lost connection');
await until(async () => (await state()).open === 2, 'two streams');
client.disconnect();
