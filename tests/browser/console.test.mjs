// The live console on home, against the server's own client protocol.
import assert from 'node:assert/strict';
import test from 'node:test';

import { LOST, cable, eventually, serve, visit } from './support.mjs';

const server = await serve();

const messages = (page) => page.getByRole('log').locator('p').allInnerTexts();
const subscribe = async (page, channel) => {
  await page.getByLabel('Channel').fill(channel);
  await page.getByRole('button', { name: 'Subscribe' }).click();
  await page.getByText(`Subscribed to ${channel}.`).waitFor();
};
const publish = async (page, text) => {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.getByRole('button', { name: 'Publish' }).click();
};

test('every subscriber receives publications, text as text and JSON as JSON', async (t) => {
  const [one, other] = [await visit(t, server.url), await visit(t, server.url)];
  await subscribe(one, 'news');
  await subscribe(other, 'news');
  await publish(one, '<b>hello</b> world');
  await publish(other, '{"score": [101, 98]}');
  for (const page of [one, other]) {
    await eventually('both', async () => (await messages(page)).length === 2);
    const [first, second] = await messages(page);
    assert.ok(first.endsWith('<b>hello</b> world') && second.endsWith('{"score":[101,98]}'), `${first} ${second}`);
  }
});

test('a refused channel is reported with the reason', async (t) => {
  const page = await visit(t, server.url);
  await page.getByLabel('Channel').fill('tidings.node');
  await page.getByRole('button', { name: 'Subscribe' }).click();
  await page.getByText(/^Refused: .+ \(\d+\)$/).waitFor();
});

test('after a lost connection the console subscribes again', async (t) => {
  const line = await cable(server.url);
  const page = await visit(t, line.url, { allow: [LOST] });
  const other = await visit(t, server.url);
  await subscribe(page, 'updates');
  await subscribe(other, 'updates');
  line.cut();
  await page.getByText(/^Not connected\. Trying again in/).waitFor();
  line.mend();
  await page.getByText('Subscribed to updates.').waitFor();
  await publish(other, 'hello again');
  await eventually('a message', async () => (await messages(page)).some((text) => text.endsWith('hello again')));
});
