// HTTP/2 with TLS: the tabs of a browser share one connection, and Node's client uses every transport.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import http2 from 'node:http2';
import { join } from 'node:path';
import test, { after } from 'node:test';

import { eventually, folder, serve, visit } from './support.mjs';

const key = join(folder, 'key.pem');
const certificate = join(folder, 'cert.pem');
execFileSync('openssl', [
  'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost',
  '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', certificate,
], { stdio: 'ignore' });
const server = await serve(...['tls.enabled=true', `tls.cert_pem_file=${certificate}`, `tls.key_pem_file=${key}`].flatMap((option) => ['--set', option]));

const connect = () => {
  const session = http2.connect(server.url, { rejectUnauthorized: false });
  session.on('error', () => {});
  after(() => session.destroy());
  return session;
};
const session = connect();

/** Sends a request; returns its head, and the text so far. */
const request = async (headers, body) => {
  const stream = session.request(headers, { endStream: body === undefined && headers[':method'] !== 'CONNECT' });
  let text = '';
  stream.setEncoding('latin1');
  stream.on('data', (data) => { text += data; });
  if (body !== undefined) stream.end(body);
  const [head] = await once(stream, 'response');
  return { stream, head, status: head[':status'], text: () => text };
};

const post = async (path, body) => {
  const { stream, status, text } = await request({ ':method': 'POST', ':path': path, 'content-type': 'application/json' }, JSON.stringify(body));
  await once(stream, 'close');
  assert.equal(status, 200, text());
  return JSON.parse(text());
};
const publish = (channel, data) => post('/api/publish', { channel, data });

/** The value of a metric. */
const metric = async (name) => {
  const { stream, text } = await request({ ':path': '/metrics' });
  await once(stream, 'close');
  const line = text().split('\n').find((one) => one.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? 0);
};
const CLIENTS = 'tidings_connections{transport="http2"}';

test('ten tabs of a browser have an event stream each, over one connection', async (t) => {
  const first = await visit(t, server.url, { ignoreHTTPSErrors: true });
  const protocol = await first.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  assert.equal(protocol, 'h2');
  const before = await metric(CLIENTS);
  const pages = [first];
  for (let n = 1; n < 10; n++) {
    const page = await first.context().newPage();
    await page.goto(server.url);
    pages.push(page);
  }
  const connections = await metric('tidings_http2_connections');
  await Promise.all(pages.map((page) => page.evaluate(() => new Promise((opened, failed) => {
    window.received = [];
    const events = new EventSource('/events?channel=tabs');
    events.onmessage = ({ data }) => window.received.push(data);
    events.onopen = opened;
    events.onerror = () => failed(new Error('no event stream'));
  }))));
  await eventually('a session of each tab', async () => await metric(CLIENTS) === before + 10);
  assert.equal(await metric('tidings_http2_connections'), connections, 'no further connection');
  await publish('tabs', { n: 1 });
  for (const page of pages) {
    await eventually('the publication in each tab', () => page.evaluate(() => window.received.length === 1));
    assert.deepEqual(await page.evaluate(() => window.received), ['{"n":1}']);
  }
  await pages[9].close();
  await eventually('the end of the session of a closed tab', async () => await metric(CLIENTS) === before + 9);
});

test('the WebSocket of a page is a stream of its connection', async (t) => {
  const page = await visit(t, server.url, { ignoreHTTPSErrors: true });
  const before = await metric(CLIENTS);
  const connections = await metric('tidings_http2_connections');
  const received = page.evaluate(() => new Promise((done, failed) => {
    const socket = new WebSocket(`wss://${location.host}/connection/websocket`);
    socket.onopen = () => socket.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"sockets"}}');
    socket.onerror = () => failed(new Error('no WebSocket'));
    socket.onmessage = ({ data }) => { if (data.includes('"pub"')) done(data); };
  }));
  await eventually('the session', async () => await metric(CLIENTS) === before + 1);
  await eventually('the subscription', async () => await metric('tidings_subscriptions') >= 1);
  assert.equal(await metric('tidings_http2_connections'), connections, 'no further connection');
  await eventually('the publication', async () => {
    await publish('sockets', 1);
    return Promise.race([received, new Promise((wake) => { setTimeout(wake, 100); })]);
  });
});

test('Node uses the API, event streams and WebSockets over one connection', async () => {
  const events = await request({ ':path': '/events?channel=node' });
  assert.equal(events.status, 200);
  await eventually('the stream', () => events.text().includes(':ok\n\n'));
  assert.equal(session.remoteSettings.enableConnectProtocol, true);
  assert.equal(session.remoteSettings.maxConcurrentStreams, 128);
  const socket = await request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/connection/websocket', 'sec-websocket-version': '13',
  });
  assert.equal(socket.status, 200);
  const text = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"node"}}';
  socket.stream.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]));
  await eventually('the subscription', () => socket.text().includes('"subscribe":{}'));
  assert.deepEqual(await publish('node', 'hello'), { result: {} });
  await eventually('the event', () => events.text().endsWith('data: "hello"\n\n'));
  await eventually('the message', () => socket.text().includes('"data":"hello"'));
  const before = await metric(CLIENTS);
  events.stream.close(http2.constants.NGHTTP2_CANCEL);
  socket.stream.close(http2.constants.NGHTTP2_CANCEL);
  await eventually('the end of both sessions', async () => await metric(CLIENTS) === before - 2);
});

test('curl uses HTTP/2, and HTTP/1.1 if it is told to', () => {
  for (const [flag, version] of [['--http2', '2'], ['--http1.1', '1.1']]) {
    const options = [flag, '--silent', '--cacert', certificate, '--write-out', ' %{http_version}', `${server.url}health`];
    assert.equal(execFileSync('curl', options, { encoding: 'utf8' }), `ok\n ${version}`);
  }
});
