#!/usr/bin/env node
// CPU of the server per delivery of server-sent events, over HTTP/1.1 and over HTTP/2:
// scripts/bench-http2.mjs BINARY [CLIENTS] [PUBLICATIONS] [BYTES]
// Each case starts a server of its own. The CPU is that of the server's process, from /proc.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import { createInterface } from 'node:readline';

const [binary, clients = '500', publications = '200', bytes = '200'] = process.argv.slice(2);
if (!binary) {
  console.error('usage: bench-http2.mjs BINARY [CLIENTS] [PUBLICATIONS] [BYTES]');
  process.exit(2);
}
const CLIENTS = Number(clients);
const PUBLICATIONS = Number(publications);
const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
/** Time between two publications, so that each is a fan-out of its own. */
const INTERVAL = 20;

/** The CPU time and the resident memory of a process: seconds, KiB. */
const usage = (pid) => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  const resident = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1];
  return { cpu: (Number(fields[11]) + Number(fields[12])) / TICKS, resident: Number(resident) };
};

const start = async () => {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDINGS_')));
  const options = ['--tcp', '127.0.0.1:0', '--http', '127.0.0.1:0', '--data-dir', 'off', '--log-level', 'none'];
  const child = spawn(binary, ['serve', ...options], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const addresses = {};
  for await (const line of createInterface({ input: child.stdout })) {
    const [kind, address] = line.split(' ');
    if (kind === 'ready') return { child, ...addresses };
    addresses[kind] = new URL(address.includes('://') ? address : `tcp://${address}`);
  }
  throw new Error('the server has ended');
};

/** Opens the streams one after the other: an idle connection gives way to a new one above http.connection_limit. */
const inSequence = async (openOne) => {
  const all = [];
  for (let n = 0; n < CLIENTS; n++) all.push(await openOne(n));
  return all;
};

/** Opens the event streams; `count(n)` is called with the number of received events. */
const open = {
  'HTTP/1.1': async (url, count) => inSequence(() => new Promise((opened, failed) => {
    const socket = net.connect(Number(url.port), url.hostname);
    let isOpen = false;
    socket.on('error', failed);
    socket.on('data', (data) => {
      if (!isOpen && data.includes(':ok')) {
        isOpen = true;
        return opened(socket);
      }
      return count(data);
    });
    socket.write(`GET /events?channel=news HTTP/1.1\r\nHost: ${url.host}\r\n\r\n`);
  })),
};
for (const streams of [1, 10, 100]) {
  open[`HTTP/2, ${streams} streams a connection`] = async (url, count) => {
    let session;
    return inSequence((n) => new Promise((opened, failed) => {
      if (n % streams === 0) session = http2.connect(url.origin);
      const stream = session.request({ ':path': '/events?channel=news' });
      let isOpen = false;
      stream.on('error', failed);
      stream.on('data', (data) => {
        if (!isOpen && data.includes(':ok')) {
          isOpen = true;
          return opened(stream);
        }
        return count(data);
      });
    }));
  };
}

const body = 'x'.repeat(Number(bytes));
const END = Buffer.from('\n\n');
for (const [name, connect] of Object.entries(open)) {
  const server = await start();
  const idle = usage(server.child.pid);
  let received = 0;
  await connect(server.http, (data) => {
    for (let at = data.indexOf(END); at >= 0; at = data.indexOf(END, at + 2)) received += 1;
  });
  const before = usage(server.child.pid);
  const publisher = net.connect(Number(server.tcp.port), server.tcp.hostname);
  publisher.on('data', () => {});
  const command = `*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$${body.length}\r\n${body}\r\n`;
  for (let n = 0; n < PUBLICATIONS; n++) {
    publisher.write(command);
    await new Promise((wake) => { setTimeout(wake, INTERVAL); });
  }
  const expected = CLIENTS * PUBLICATIONS;
  const deadline = Date.now() + 60_000;
  while (received < expected && Date.now() < deadline) await new Promise((wake) => { setTimeout(wake, 20); });
  const after = usage(server.child.pid);
  const micros = ((after.cpu - before.cpu) / expected) * 1e6;
  const memory = ((before.resident - idle.resident) / CLIENTS).toFixed(1);
  console.log(`${name}: ${micros.toFixed(2)} µs of CPU a delivery, ${memory} KiB a stream, ${received} of ${expected} received`);
  server.child.kill('SIGKILL');
  publisher.destroy();
}
process.exit(0);
