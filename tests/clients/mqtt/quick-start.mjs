// MQTT.js and its commands as the beginning of its documentation uses them, with a server without options: quick-start.mjs HOST
// PORT HTTP-PORT. Modules are found in the folder that TIDINGS_NODE_MODULES names.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';

import { equal, until, within } from '../centrifuge/kit.mjs';

const mqtt = createRequire(process.env.TIDINGS_NODE_MODULES + '/')('mqtt');
const [host, port, httpPort] = process.argv.slice(2);

// A client that greets itself, over TCP and over WebSocket, in both versions.
for (const url of [`mqtt://${host}:${port}`, `ws://${host}:${httpPort}/mqtt`]) {
  for (const protocolVersion of [4, 5]) {
    const greeting = new Promise((resolve, reject) => {
      const client = mqtt.connect(url, { protocolVersion });
      client.on('error', reject);
      client.on('connect', () => {
        client.subscribe('presence', (error) => {
          if (error) return reject(error);
          client.publish('presence', 'Hello mqtt');
        });
      });
      client.on('message', (topic, message) => {
        client.end();
        resolve([topic, message.toString()]);
      });
    });
    equal(await within(greeting, url), ['presence', 'Hello mqtt'], url);
  }
}

// The commands `mqtt sub` and `mqtt pub`.
const command = `${process.env.TIDINGS_NODE_MODULES}/node_modules/.bin/mqtt`;
const run = (...args) => spawn(command, [...args, '-h', host, '-p', port], { stdio: ['ignore', 'pipe', 'inherit'] });
const subscriber = run('sub', '-t', 'hello', '-v');
let output = '';
subscriber.stdout.on('data', (bytes) => (output += bytes));
// A message is retained, so that the order of the two commands does not matter.
const publisher = run('pub', '-t', 'hello', '-m', 'from MQTT.js', '-r');
equal(await new Promise((resolve) => publisher.on('exit', resolve)), 0, 'the exit code of mqtt pub');
await until(() => output.includes('hello from MQTT.js'), 'the message');
subscriber.kill();
process.stdout.write('all well\n');
