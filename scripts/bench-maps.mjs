#!/usr/bin/env node
// Time until a client has the state of a map, over WebSocket in JSON, from its first request until it is live:
// scripts/bench-maps.mjs BINARY [KEYS] [BYTES] [ROUNDS] [BROKER], where BROKER is `memory` or the URL of a Redis
// Prints the median, the shortest and the longest time for each size of pages. Needs Node 22, or Node 20 with --experimental-websocket.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const [binary, keys = '10000', bytes = '100', rounds = '21', broker = 'memory'] = process.argv.slice(2);
if (!binary) {
  console.error('usage: bench-maps.mjs BINARY [KEYS] [BYTES] [ROUNDS] [BROKER]');
  process.exit(2);
}
const KEYS = Number(keys);

const start = async () => {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDINGS_')));
  const map = ['subscription_type=map', 'map.mode=persistent'].map((option) => `channel.namespaces.bench.${option}`);
  const settings = ['channel.namespaces=bench', ...map].flatMap((setting) => ['--set', setting]);
  const options = ['--broker', broker, '--tcp', 'off', '--http', '127.0.0.1:0', '--data-dir', 'off', '--log-level', 'none'];
  const child = spawn(binary, ['serve', ...options, ...settings], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let url;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'ready') return { child, url };
    url = new URL(line.slice(line.indexOf(' ') + 1));
  }
  throw new Error('the server has ended');
};

/** A connection; `request` sends a command and returns its result. */
const connect = async (url) => {
  const socket = new WebSocket(`ws://${url.host}/connection/websocket`);
  await new Promise((opened, failed) => { socket.onopen = opened; socket.onerror = failed; });
  let resolve;
  socket.onmessage = ({ data }) => {
    for (const line of data.split('\n')) {
      const reply = JSON.parse(line);
      if (reply.error) throw new Error(line);
      if (reply.id) resolve(reply);
    }
  };
  let id = 0;
  const request = (command) => new Promise((done) => {
    resolve = done;
    socket.send(JSON.stringify({ id: ++id, ...command }));
  });
  await request({ connect: {} });
  return { request, close: () => socket.close() };
};

const channel = 'bench:a';
/** Reads the state and follows the map; returns the number of keys, and the time in milliseconds. */
const follow = async (client, limit) => {
  const begun = performance.now();
  let [cursor, position, count] = ['', undefined, 0];
  do {
    const { subscribe } = await client.request({ subscribe: { channel, type: 1, phase: 2, limit, cursor } });
    position ??= { offset: subscribe.offset, epoch: subscribe.epoch };
    count += subscribe.state.length;
    cursor = subscribe.cursor;
  } while (cursor);
  await client.request({ subscribe: { channel, type: 1, phase: 1, ...position } });
  return [count, performance.now() - begun];
};

const { child, url } = await start();
const data = 'x'.repeat(Number(bytes) - 2);
for (let from = 0; from < KEYS; from += 1000) {
  const commands = Array.from({ length: Math.min(1000, KEYS - from) }, (_, n) => (
    { map_publish: { channel, key: `key-${from + n}`, data } }));
  await fetch(new URL('/api/batch', url), { method: 'POST', body: JSON.stringify({ commands }) });
}
for (const limit of [100, 1000]) {
  const times = [];
  for (let round = 0; round < Number(rounds); round++) {
    const client = await connect(url);
    const [count, time] = await follow(client, limit);
    if (count !== KEYS) throw new Error(`${count} of ${KEYS} keys`);
    times.push(time);
    client.close();
  }
  times.sort((a, b) => a - b);
  const [median, least, most] = [times[times.length >> 1], times[0], times.at(-1)].map((time) => time.toFixed(1));
  console.log(`${KEYS} keys of ${bytes} bytes, pages of ${limit}: ${median} ms (${least}–${most})`);
}
child.kill('SIGKILL');
process.exit(0);
