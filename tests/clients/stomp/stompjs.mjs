// @stomp/stompjs, unchanged: stompjs.mjs PLACE. PLACE is JSON that contains the addresses of the servers; the namespaces are
// those of crates/cli/tests/sdk/keyed.toml. Modules are found in the folder that TIDINGS_NODE_MODULES names.
import { createRequire } from 'node:module';

import { api, control, end, place, say, token } from '../centrifuge/control.mjs';
import { check, equal, until, within } from '../centrifuge/kit.mjs';

const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const { WebSocket } = require('ws');
Object.assign(globalThis, { WebSocket });
const { Client } = require('@stomp/stompjs');

const address = (server) => place.servers[server].replace('http', 'ws') + 'stomp';

/** A client that is connected, and its errors. */
async function connect(server, options = {}) {
  const errors = [];
  const client = new Client({
    brokerURL: address(server),
    connectHeaders: { login: 'me', passcode: token({ sub: '42' }) },
    reconnectDelay: 100,
    onStompError: (frame) => errors.push(frame),
    ...options,
  });
  client.activate();
  await until(() => client.connected || errors.length, 'CONNECTED or ERROR');
  return { client, errors };
}

const receipt = (client, id, what) =>
  within(new Promise((resolve) => client.watchForReceipt(id, resolve)), `the receipt of ${what}`);

/** Subscribes; resolves with the messages once the subscription is confirmed. */
async function subscribe(client, destination, headers = {}) {
  const messages = [];
  const confirmed = receipt(client, `s-${destination}-${headers.id}`, destination);
  const subscription = client.subscribe(destination, (message) => messages.push(message), {
    receipt: `s-${destination}-${headers.id}`,
    ...headers,
  });
  await confirmed;
  return { messages, subscription };
}

const scenarios = {
  async 'a publication of the API reaches a subscription with its tags as headers'() {
    const { client } = await connect('keyed');
    const { messages } = await subscribe(client, 'chat:stomp-1');
    await api('publish', { channel: 'chat:stomp-1', data: { text: 'a:b\n' }, tags: { kind: 'no:te' } });
    await until(() => messages.length === 1, 'the message');
    equal(JSON.parse(messages[0].body), { text: 'a:b\n' }, 'the body');
    equal(messages[0].headers.kind, 'no:te', 'the tag');
    equal(messages[0].headers['content-type'], 'application/json', 'the content type');
    equal(messages[0].headers.destination, 'chat:stomp-1', 'the destination');
    await client.deactivate();
  },
  async 'what a client sends reaches another client and the history'() {
    const [a, b] = [await connect('keyed'), await connect('keyed', { forceBinaryWSFrames: true })];
    const { messages } = await subscribe(a.client, 'chat:stomp-2');
    const sent = receipt(b.client, 'sent', 'SEND');
    b.client.publish({ destination: 'chat:stomp-2', body: 'grüße\0', headers: { receipt: 'sent', priority: '9' } });
    await sent;
    b.client.publish({ destination: 'chat:stomp-2', binaryBody: new Uint8Array([0, 255, 1]) });
    await until(() => messages.length === 2, 'both messages');
    equal([messages[0].body, messages[0].headers.priority], ['grüße\0', '9'], 'the first message');
    equal([...messages[1].binaryBody], [0, 255, 1], 'the second message');
    const { result } = await api('history', { channel: 'chat:stomp-2', limit: 10 });
    equal(result.publications.map((publication) => publication.tags), [{ priority: '9' }, undefined], 'tags');
    equal(result.publications[0].info.user, '42', 'the publishing user');
    await Promise.all([a.client.deactivate(), b.client.deactivate()]);
  },
  async 'each of two subscriptions to a destination gets the message until it is ended'() {
    const { client } = await connect('keyed');
    const one = await subscribe(client, 'chat:stomp-3', { id: 'one' });
    const two = await subscribe(client, 'chat:stomp-3', { id: 'two' });
    await api('publish', { channel: 'chat:stomp-3', data: 1 });
    await until(() => one.messages.length === 1 && two.messages.length === 1, 'both messages');
    const ended = receipt(client, 'u', 'UNSUBSCRIBE');
    one.subscription.unsubscribe({ receipt: 'u' });
    await ended;
    await api('publish', { channel: 'chat:stomp-3', data: 2 });
    await until(() => two.messages.length === 2, 'the second message');
    equal(one.messages.length, 1, 'the number of messages of the ended subscription');
    await client.deactivate();
  },
  async 'a message in many WebSocket messages arrives whole'() {
    const { client } = await connect('keyed', { splitLargeFrames: true, maxWebSocketChunkSize: 1000 });
    const { messages } = await subscribe(client, 'chat:stomp-4');
    const body = 'x'.repeat(20_000);
    client.publish({ destination: 'chat:stomp-4', body });
    await until(() => messages.length === 1, 'the message');
    equal(messages[0].body, body, 'the body');
    await client.deactivate();
  },
  async 'other modes of acknowledgement are an error'() {
    const { client, errors } = await connect('keyed', { reconnectDelay: 0 });
    client.subscribe('chat:stomp-5', () => {}, { ack: 'client' });
    await until(() => errors.length === 1, 'the error');
    check(errors[0].headers.message.includes('only ack:auto'), errors[0].headers.message);
    equal(errors[0].headers.code, '108', 'the code');
    await client.deactivate();
  },
  async 'a wrong passcode is an error'() {
    for (const passcode of [token({ sub: '42' }, { key: 'another key' }), 'guess', '']) {
      const { client, errors } = await connect('keyed', { connectHeaders: { passcode }, reconnectDelay: 0 });
      equal([client.connected, errors[0]?.headers.code], [false, '101'], 'connected, code');
      await client.deactivate();
    }
  },
  async 'a client connects to a workbench with any passcode'() {
    const { client } = await connect('open', { connectHeaders: { login: 'guest', passcode: 'guest' } });
    check(client.connected, 'not connected');
    equal(client.connectedVersion, '1.2', 'the version');
    await client.deactivate();
  },
  async 'heart-beats keep an idle connection and find a silent link'() {
    let closes = 0;
    // The server pings every 2 s, so both sides send every 2 s.
    const { client } = await connect('cut', {
      heartbeatIncoming: 500,
      heartbeatOutgoing: 500,
      // Otherwise the library waits for the Close frame of the server.
      discardWebsocketOnCommFailure: true,
      onWebSocketClose: () => (closes += 1),
    });
    await new Promise((resolve) => setTimeout(resolve, 7000));
    equal([client.connected, closes], [true, 0], 'connected, closes');
    await control('silence');
    await until(() => closes === 1, 'the end of a silent link');
    await control('resume');
    await until(() => client.connected, 'a new connection');
    await client.deactivate();
  },
  async 'a client subscribes again after its link was cut'() {
    const messages = [];
    let confirmed = 0;
    const client = new Client({
      brokerURL: address('cut'),
      connectHeaders: { passcode: token({ sub: '42' }) },
      reconnectDelay: 100,
      onConnect: () => {
        client.watchForReceipt(`r${confirmed}`, () => (confirmed += 1));
        client.subscribe('chat:stomp-6', (message) => messages.push(JSON.parse(message.body)), { receipt: `r${confirmed}` });
      },
    });
    client.activate();
    await until(() => confirmed === 1, 'the first subscription');
    await control('cut');
    await until(() => confirmed === 2, 'the second subscription');
    await api('publish', { channel: 'chat:stomp-6', data: 'after' });
    await until(() => messages.length === 1, 'the message');
    equal(messages, ['after'], 'the messages');
    await client.deactivate();
  },
};

const failed = [];
for (const [name, scenario] of Object.entries(scenarios)) {
  if (!name.includes(process.argv[3] ?? '')) continue;
  try {
    await scenario();
  } catch (error) {
    say(`${name}: ${error.stack}`);
    failed.push(name);
  }
}
end(failed);
