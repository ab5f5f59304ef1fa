// MQTT.js, unchanged: mqttjs.mjs PLACE. PLACE is JSON that contains the addresses of the servers. Modules are found in the folder
// that TIDINGS_NODE_MODULES names.
import { createRequire } from 'node:module';

import { api, end, place, say, token } from '../centrifuge/control.mjs';
import { check, equal, failure, until, within } from '../centrifuge/kit.mjs';

const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const mqtt = require('mqtt');

const addresses = {
  tcp: `mqtt://${place.lines.keyed}`,
  websocket: place.servers.keyed.replace('http', 'ws') + 'mqtt',
};

const failed = [];
for (const [transport, address] of Object.entries(addresses)) {
  for (const protocolVersion of [4, 5]) {
    const name = `${transport} ${protocolVersion}`;
    try {
      await scenario(address, protocolVersion);
      say(`${name}: well`);
    } catch (error) {
      say(`${name}: ${error.stack}`);
      failed.push(name);
    }
  }
}
end(failed);

async function scenario(address, protocolVersion) {
  const options = { protocolVersion, username: 'any', reconnectPeriod: 0 };
  const connect = (password) => within(mqtt.connectAsync(address, { ...options, password }), 'CONNACK');
  const client = await connect(token({ sub: '42' }));
  const got = [];
  client.on('message', (topic, payload, packet) => got.push([topic, payload.toString(), packet.qos]));
  const granted = await client.subscribeAsync({ 'chat:js': { qos: 2 } });
  equal(granted.map(({ qos }) => qos), [2], 'the granted QoS');
  for (const qos of [0, 1, 2]) {
    await within(client.publishAsync('chat:js', `${qos}`, { qos }), `QoS ${qos}`);
  }
  await api('publish', { channel: 'chat:js', data: { from: 'the API' } });
  await until(() => got.length === 4, 'four messages');
  equal(got, [['chat:js', '0', 0], ['chat:js', '1', 1], ['chat:js', '2', 2], ['chat:js', '{"from":"the API"}', 1]]);
  // A topic without permission.
  const refused = await client.subscribeAsync('closed:js').catch((error) => error);
  check(refused instanceof Error || refused[0].qos >= 128, `a closed topic: ${JSON.stringify(refused)}`);
  await client.unsubscribeAsync('chat:js');
  await client.publishAsync('chat:js', 'nobody', { qos: 1 });
  await client.endAsync();
  equal(got.length, 4, 'messages after unsubscribing');
  await failure(connect('wrong'), 'a wrong password');
}
