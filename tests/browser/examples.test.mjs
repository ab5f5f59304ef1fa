// The examples in examples/, each started by its one command, on free ports.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { eventually, visit } from './support.mjs';

const root = join(import.meta.dirname, '../..');
const env = {
  ...process.env,
  CENTRIFUGE_JS: join(process.env.TIDINGS_NODE_MODULES, '../../sdk-node/node_modules/centrifuge/dist/centrifuge.js'),
};
/** A page may connect to the server of its example, which has another port. */
const allow = [/^requested http:\/\/127\.0\.0\.1:\d+\//];

/** Starts an example and waits until its output has a line; gives what the line has in its group, and the output. */
const start = async (name, line) => {
  const flags = ['--port', '0', '--http', '127.0.0.1:0', '--tcp', '127.0.0.1:0'];
  const child = spawn(join(root, 'examples', name, 'run.py'), flags.slice(name === 'iot' ? 2 : 0), { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((end) => { child.on('exit', end); });
  after(() => { child.kill('SIGTERM'); return ended; });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { output += text; });
  const [, found] = await eventually(`${name}: ${line}`, () => {
    assert.equal(child.exitCode, null, output);
    return output.match(line);
  });
  return { found, output: () => output };
};

/** Publishes with the protocol of Redis, as redis-cli does. */
const publish = (port, channel, body, password) => new Promise((done, fail) => {
  const command = (...words) => `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;
  const peer = connect(Number(port), '127.0.0.1', () => {
    peer.end((password ? command('AUTH', password) : '') + command('PUBLISH', channel, body));
  });
  let answer = '';
  peer.on('data', (text) => { answer += text; });
  peer.on('end', () => (answer.includes('-') ? fail(new Error(answer)) : done()));
  peer.on('error', fail);
});

const url = /open (http:\S+)/;
const textOf = async (page, selector) => (await page.locator(selector).innerText()).trim();

test('chat: two users see each other, and what was written before', async (t) => {
  const { found } = await start('chat', url);
  const enter = async (name) => {
    const page = await visit(t, found, { allow });
    await page.getByLabel('Your name').fill(name);
    await page.getByRole('button', { name: 'Enter' }).click();
    await page.getByText('Connected').waitFor();
    return page;
  };
  const write = async (page, text) => {
    await page.getByLabel('Message', { exact: true }).fill(text);
    await page.getByRole('button', { name: 'Send' }).click();
  };
  const ann = await enter('Ann');
  await write(ann, 'Hello <b>all</b>');
  await ann.getByText('Ann: Hello <b>all</b>').waitFor();
  const bob = await enter('Bob');
  await bob.getByText('Ann: Hello <b>all</b>').waitFor();
  await ann.getByText('Bob has joined').waitFor();
  await ann.getByText('2 people').waitFor();
  await write(bob, 'Hello Ann');
  await ann.getByText('Bob: Hello Ann').waitFor();
  await bob.close();
  await ann.getByText('Bob has left').waitFor();
});

test('scores: a page shows what a Redis client publishes, also what was published before', async (t) => {
  const { found, output } = await start('scores', url);
  const [, port] = await eventually('the command', () => output().match(/redis-cli -p (\d+)/));
  await publish(port, 'scores:nba', '{"game": "LAL - BOS", "score": "99 : 99"}');
  const page = await visit(t, found, { allow });
  await page.getByRole('cell', { name: '99 : 99' }).waitFor();
  await publish(port, 'scores:nba', '{"game": "LAL - BOS", "score": "101 : 99"}');
  await page.getByRole('cell', { name: '101 : 99' }).waitFor();
  assert.equal(await page.locator('tbody tr').count(), 1);
  assert.equal(await textOf(page, '#state'), 'Live');
});

test('ai-stream: an answer is whole after a reload in the middle of it, and on another device', async (t) => {
  const { found } = await start('ai-stream', url);
  const page = await visit(t, found, { allow });
  await page.getByLabel('Question').fill('Is it <i>whole</i>?');
  await page.getByRole('button', { name: 'Ask' }).click();
  await page.getByText('This answer').waitFor();
  await page.reload();
  const other = await visit(t, page.url(), { allow });
  for (const reader of [page, other]) {
    await reader.getByText('Complete').waitFor();
    const text = await textOf(reader, '#answer');
    assert.ok(text.startsWith('You asked: Is it <i>whole</i>? This answer is written by') && text.endsWith('and goes on.'), text);
    assert.equal(text.match(/Each word is one/g).length, 1, text);
  }
});

test('iot: values of two devices arrive, and a device obeys a command', async () => {
  const { output } = await start('iot', /(meters:meter-1 1[789]\.\d\d)/);
  await eventually('the other device', () => output().includes('meters:meter-2 '));
  const [, port, key] = output().match(/redis-cli -p (\d+) -a (\w+)/);
  const count = () => output().match(/meters:meter-1 /g).length;
  await publish(port, 'commands:#meter-1', 'interval 0.05', key);
  const [begun, before] = [Date.now(), count()];
  await eventually('twenty more values', () => count() >= before + 20);
  assert.ok(Date.now() - begun < 15_000, 'one value a second would take twenty');
  assert.ok(!output().includes('error:'), output());
});
