// Proxies with HTTP/2: HAProxy and Caddy use it to the server too, without TLS (h2c); nginx uses it towards clients.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import { join } from 'node:path';
import test, { after } from 'node:test';

import { eventually, folder, freePort, run, serve } from './support.mjs';

const key = join(folder, 'key.pem');
const certificate = join(folder, 'cert.pem');
const both = join(folder, 'both.pem');
execFileSync('openssl', [
  'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost',
  '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', certificate,
], { stdio: 'ignore' });
writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'));
const server = await serve('--set', 'trusted_proxies=127.0.0.1', '--set', 'limits.address.connections=3');
const target = new URL(server.url).host;

const metric = async (name) => {
  const line = (await (await fetch(`${server.url}metrics`)).text()).split('\n').find((one) => one.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? 0);
};

/** Waits for a proxy, and opens a connection with HTTP/2. */
const connect = async (port) => {
  let session;
  await eventually('the proxy', () => new Promise((done) => {
    session = http2.connect(`https://localhost:${port}`, { rejectUnauthorized: false });
    session.on('error', () => done(false));
    const health = session.request({ ':path': '/health' });
    health.on('error', () => done(false));
    health.on('response', (head) => done(head[':status'] === 200));
    health.resume();
  }));
  after(() => session.destroy());
  return session;
};

const open = async (session, headers) => {
  const stream = session.request(headers, { endStream: headers[':method'] !== 'CONNECT' });
  let text = '';
  stream.setEncoding('latin1');
  stream.on('error', () => {});
  stream.on('data', (data) => { text += data; });
  const [head] = await once(stream, 'response');
  return { stream, status: head[':status'], text: () => text };
};

/** Event streams of two clients of the proxy, of which each has a limit of its own. */
const follow = async (session, channel) => {
  const streams = [];
  for (let n = 0; n < 3; n++) streams.push(await open(session, { ':path': `/events?channel=${channel}` }));
  for (const { status, text } of streams) {
    assert.equal(status, 200);
    await eventually('the stream', () => text().includes(':ok\n\n'));
  }
  const refused = await open(session, { ':path': `/events?channel=${channel}` });
  assert.equal(refused.status, 429, 'the proxy forwards the address of the client');
  await fetch(`${server.url}api/publish`, { method: 'POST', body: JSON.stringify({ channel, data: 'x' }) });
  for (const { text } of streams) await eventually('the event', () => text().endsWith('data: "x"\n\n'));
  for (const { stream } of streams) stream.close(http2.constants.NGHTTP2_CANCEL);
};

const websocket = async (session) => {
  const socket = await open(session, {
    ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/connection/websocket', 'sec-websocket-version': '13',
  });
  assert.equal(socket.status, 200);
  const text = '{"id":1,"connect":{}}';
  socket.stream.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]));
  await eventually('the answer', () => socket.text().includes('"connect"'));
  socket.stream.close(http2.constants.NGHTTP2_CANCEL);
};
const ended = () => eventually('the end of the sessions', async () => await metric('tidings_connections{transport="http2"}') === 0);

test('HAProxy carries event streams and WebSockets over h2c', async () => {
  const port = await freePort();
  const file = join(folder, 'haproxy.cfg');
  writeFileSync(file, `
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout tunnel 75s
frontend clients
    bind 127.0.0.1:${port} ssl crt ${both} alpn h2,http/1.1
    option forwardfor
    default_backend tidings
backend tidings
    option http-no-delay
    server node1 ${target} proto h2
`);
  run('/usr/sbin/haproxy', ['-db', '-f', file]);
  const session = await connect(port);
  await follow(session, 'haproxy');
  await ended();
  assert.ok(await metric('tidings_http2_connections') >= 1, 'HTTP/2 to the server');
  await websocket(session);
  await ended();
});

test('Caddy carries event streams over h2c', async () => {
  const port = await freePort();
  const file = join(folder, 'Caddyfile');
  writeFileSync(file, `{
  admin off
  auto_https off
  storage file_system ${folder}/caddy
}
https://localhost:${port} {
  bind 127.0.0.1
  tls ${certificate} ${key}
  # Event streams are flushed at once anyway; with \`flush_interval -1\` Caddy would keep the stream of a client that has left.
  reverse_proxy h2c://${target}
}
`);
  const before = await metric('tidings_http_requests_received_total{version="2"}');
  run('/usr/bin/caddy', ['run', '--config', file, '--adapter', 'caddyfile']);
  const session = await connect(port);
  await follow(session, 'caddy');
  await ended();
  assert.ok(await metric('tidings_http_requests_received_total{version="2"}') > before, 'HTTP/2 to the server');
});

test('nginx serves HTTP/2 to clients and uses HTTP/1.1 to the server', async () => {
  const port = await freePort();
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ');
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, `daemon off; master_process off; pid ${folder}/nginx.pid; error_log stderr; events { }
http { ${places} access_log off;
  server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate ${certificate}; ssl_certificate_key ${key};
    location / {
      proxy_pass http://${target};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`);
  run('/usr/sbin/nginx', ['-p', folder, '-e', 'stderr', '-c', file]);
  await follow(await connect(port), 'nginx');
});
