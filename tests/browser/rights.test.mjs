// A server that requires permission to upload: errors without it, tokens that grant it, and no secret in an address.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test from 'node:test';

import { eventually, file, fruit, serve, shows, upload, visit } from './support.mjs';

const key = '5f1c0a9be27d4836a1c45f1c0a9be27d';
const { url } = await serve('--set', `client.token.hmac_secret_key=${key}`);
const orders = file('orders.tsv', fruit(1234));
const env = { PATH: process.env.PATH, TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY: key };
const token = execFileSync(process.env.TIDINGS_BIN, ['token', 'connection', '--user', 'ann'], { env, encoding: 'utf8' }).trim();

test('an upload without permission is refused, and a token in the address grants it', async (t) => {
  const guest = await visit(t, url);
  await guest.getByLabel('Choose a file').setInputFiles(orders);
  await guest.getByText('you may not upload here').waitFor();

  const maker = await visit(t, `${url}#token=${token}`);
  const addresses = [];
  maker.on('websocket', (socket) => addresses.push(socket.url()));
  const link = await upload(maker, orders);
  assert.doesNotMatch(link, /token|owner/);
  await maker.reload();
  await shows(maker, 1);
  // The owner's secret is sent first, so the owner can upload without the token as well.
  maker.once('dialog', (dialog) => dialog.accept());
  await upload(maker, file('more.tsv', fruit(20)));
  for (const address of addresses) assert.doesNotMatch(address, /owner|token|\?/);

  const other = await visit(t, link);
  await shows(other, 1);
  other.once('dialog', (dialog) => dialog.accept());
  await other.getByLabel('Choose a file').setInputFiles(orders);
  await other.getByText('you may not upload here').waitFor();
});

test('the reason of a refused upload stays, although the server reports its pieces as discarded', async (t) => {
  const maker = await visit(t, `${url}#token=${token}`);
  const link = await upload(maker, orders);

  // The browser answers pings at once, and a busy page handles messages later: it sends all pieces before it handles the error.
  const guest = await visit(t, link, {
    prepare: (context) => context.addInitScript(() => {
      const { set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'onmessage');
      Object.defineProperty(WebSocket.prototype, 'onmessage', {
        set(handle) { set.call(this, handle && ((event) => setTimeout(() => handle.call(this, event), 500))); },
      });
    }),
  });
  const errors = [];
  guest.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => {
    if (String(payload).includes('"error"')) errors.push(JSON.parse(payload).error.code);
  }));
  await guest.reload();
  await shows(guest, 1);
  guest.once('dialog', (dialog) => dialog.accept());
  await guest.getByLabel('Choose a file').setInputFiles(orders);
  await eventually('both errors', () => errors.length === 2);
  assert.deepEqual(errors, [401, 409]);
  // Longer than the messages are delayed.
  await guest.evaluate(() => new Promise((wake) => { setTimeout(wake, 1_000); }));
  assert.match(await guest.locator('#note-text').innerText(), /you may not upload here/);
});
