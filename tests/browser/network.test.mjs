// Lost and restored connections.
import assert from 'node:assert/strict';
import test from 'node:test';

import { LOST, cable, file, fruit, ids, serve, shows, turn, upload, visit } from './support.mjs';

const server = await serve();
const orders = file('orders.tsv', fruit(1234));
const allow = [LOST];

test('a lost connection is shown, and afterwards all viewers have the same view again', async (t) => {
  const line = await cable(server.url);
  const maker = await visit(t, server.url);
  const link = await upload(maker, orders);
  const guest = await visit(t, link.replace(server.url, line.url), { allow });
  await shows(guest, 1);
  line.cut();
  await guest.getByText(/Reconnecting in \d+ s/).first().waitFor();
  assert.ok((await ids(guest)).length > 10, 'the rows stay');
  await turn(guest, 'Next page');
  await guest.getByText('Not connected: nothing was changed').waitFor();
  await turn(maker, 'Last page');
  await shows(maker, 1201);
  line.mend();
  await shows(guest, 1201);
  await guest.getByText('2 viewing').waitFor();
  await turn(guest, 'First page');
  await shows(maker, 1);
});

test('an offline browser is detected at once, and reconnects at once', async (t) => {
  const maker = await visit(t, server.url, { allow });
  await upload(maker, orders);
  await maker.context().setOffline(true);
  await maker.getByText(/Reconnecting in \d+ s/).first().waitFor();
  await maker.context().setOffline(false);
  await maker.getByText('1 viewing').waitFor();
  await turn(maker, 'Next page');
  await shows(maker, 101);
});

test('private browsing continues after a lost connection', async (t) => {
  const line = await cable(server.url);
  const page = await visit(t, line.url, { allow });
  await upload(page, orders);
  await page.getByRole('button', { name: 'Browse on my own' }).click();
  await turn(page, 'Next page');
  await shows(page, 101);
  line.cut();
  await page.getByText(/Reconnecting/).first().waitFor();
  line.mend();
  await page.getByText('1 viewing').waitFor();
  await turn(page, 'Next page');
  await shows(page, 201);
  await page.getByText('Browsing on your own').waitFor();
});

test('an upload fails with a lost connection, and can be retried', async (t) => {
  const line = await cable(server.url);
  const page = await visit(t, line.url, { allow });
  await upload(page, orders);
  const slow = await page.context().newCDPSession(page);
  await slow.send('Network.enable');
  const speed = (uploadThroughput) => slow.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput });
  await speed(4e6);
  page.once('dialog', (dialog) => dialog.accept());
  await page.locator('#file').setInputFiles(file('big.tsv', fruit(1_000_000)));
  await page.getByText(/^Uploading big\.tsv: [\d.]+ MB of/).waitFor();
  line.cut();
  await page.getByText('The upload has failed: the connection was lost.').waitFor();
  line.mend();
  await speed(-1);
  await page.getByText('1 viewing').waitFor();
  page.once('dialog', (dialog) => dialog.accept());
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByText('big.tsv is complete: 1,000,000 rows').waitFor();
});
