// centrifuge-js in a real browser: chromium.mjs PLACE FLAVOURS [WORDS]. Each flavour (a transport and an encoding; several
// with commas between) gets a page that loads the SDK's own bundle and lives through life.mjs. The page comes from a
// server of its own, so to the program it is a page of another site that has to be allowed: http://localhost is,
// http://127.0.0.1 is not. Modules are found in the folders that TIDINGS_NODE_MODULES and TIDINGS_BROWSER_MODULES name.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

import { api, control, end, place, say, token } from './control.mjs';

const { chromium } = createRequire(process.env.TIDINGS_BROWSER_MODULES + '/')('playwright-core');
const [flavours, only] = process.argv.slice(3);

const bundles = `${process.env.TIDINGS_NODE_MODULES}/node_modules/centrifuge/dist`;
const files = {
  '/kit.mjs': new URL('./kit.mjs', import.meta.url),
  '/life.mjs': new URL('./life.mjs', import.meta.url),
  '/maps.mjs': new URL('./maps.mjs', import.meta.url),
  '/polls.mjs': new URL('./polls.mjs', import.meta.url),
  '/centrifuge.js': `${bundles}/centrifuge.js`,
  '/centrifuge.protobuf.js': `${bundles}/centrifuge.protobuf.js`,
};

/** A page that loads the bundle its query names, and what it loads. */
const server = createServer(async (request, response) => {
  const { pathname, search } = new URL(request.url, 'http://page');
  const file = files[pathname];
  if (!file && pathname !== '/') return response.writeHead(404).end();
  response.setHeader('Content-Type', file ? 'text/javascript' : 'text/html');
  response.end(file ? await readFile(file) : `<!doctype html><title>page</title><script src="${search.slice(1)}"></script>`);
});
await new Promise((resolve) => server.listen(0, resolve));
const { port } = server.address();

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
const open = async (host, protobuf) => {
  const page = await browser.newPage();
  page.on('pageerror', (error) => say(`an error in the page: ${error.stack}`));
  await page.goto(`http://${host}:${port}/?/centrifuge${protobuf ? '.protobuf' : ''}.js`);
  return page;
};

const failed = [];
for (const name of flavours.split(',')) {
  const [transport, encoding] = name.split('-');
  const protobuf = encoding === 'protobuf';
  const page = await open('localhost', protobuf);
  for (const [called, what] of Object.entries({ token, api, control, say })) await page.exposeFunction(called, what);
  const flavour = { name, transport, protobuf };
  failed.push(
    ...(await page.evaluate(
      async ({ servers, flavour, only }) => {
        const { run } = await import('/kit.mjs');
        const { cuts, scenarios } = await import('/life.mjs');
        const { token, api, control, say, Centrifuge } = window;
        const world = { servers, token, api, control, say };
        // A browser holds six connections to a host, and a client over HTTP needs two of them.
        const beside = flavour.transport === 'websocket' ? 8 : 1;
        const all = await run(scenarios, world, { ...flavour, Centrifuge }, { beside, only });
        return [...all, ...(await run(cuts, world, { ...flavour, Centrifuge }, { beside: 1, only }))];
      },
      { servers: place.servers, flavour, only },
    )),
  );
  await page.close();

  const stranger = await open('127.0.0.1', protobuf);
  const let_in = await stranger.evaluate(
    async ({ base, transport }) => {
      const path = { websocket: 'connection/websocket', http_stream: 'connection/http_stream', sse: 'connection/sse' };
      const endpoint = (transport === 'websocket' ? base.replace('http', 'ws') : base) + path[transport];
      const client = new window.Centrifuge([{ transport, endpoint }], { emulationEndpoint: base + 'emulation' });
      const tried = new Promise((resolve) => {
        client.on('connected', () => resolve(true));
        client.on('error', () => resolve(false));
      });
      client.connect();
      return tried;
    },
    { base: place.servers.open, transport },
  );
  say(`${let_in ? 'FAILED ' : 'ok     '} ${name}: a page of a site that is not allowed is not let in`);
  if (let_in) failed.push(`${name}: a page of a site that is not allowed is let in`);
  await stranger.close();
}
await browser.close();
end(failed);
