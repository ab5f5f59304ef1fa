// pusher-js in a real browser, as its quick start has it: chromium.mjs PLACE. PLACE is JSON with the address of a server without
// options (`node`), whose app is `app`, `key`, `secret`. The page comes from another server of this machine. Modules are found
// in the folders that TIDINGS_NODE_MODULES and TIDINGS_BROWSER_MODULES name.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

import { equal, within } from '../centrifuge/kit.mjs';

const { chromium } = createRequire(process.env.TIDINGS_BROWSER_MODULES + '/')('playwright-core');
const Server = createRequire(process.env.TIDINGS_NODE_MODULES + '/')('pusher');
const node = new URL(JSON.parse(process.argv[2]).node);
const bundle = `${process.env.TIDINGS_NODE_MODULES}/node_modules/pusher-js/dist/web/pusher.js`;
const backend = new Server({ appId: 'app', key: 'key', secret: 'secret', host: node.hostname, port: node.port, useTLS: false });

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://page');
  if (pathname === '/pusher.js') return response.end(await readFile(bundle));
  if (pathname !== '/auth') {
    response.setHeader('Content-Type', 'text/html');
    return response.end('<!doctype html><title>page</title><script src="/pusher.js"></script>');
  }
  let body = '';
  for await (const piece of request) body += piece;
  const form = new URLSearchParams(body);
  const user = { user_id: 'ann', user_info: { name: 'Ann' } };
  response.end(JSON.stringify(backend.authorizeChannel(form.get('socket_id'), form.get('channel_name'), user)));
});
await new Promise((resolve) => server.listen(0, resolve));

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
const page = await browser.newPage();
await page.goto(`http://localhost:${server.address().port}/`);
const members = await within(
  page.evaluate(
    ({ wsHost, wsPort }) =>
      new Promise((resolve, reject) => {
        window.events = [];
        const options = { cluster: 'none', wsHost, wsPort, forceTLS: false, enabledTransports: ['ws'], authEndpoint: '/auth' };
        const pusher = new window.Pusher('key', options);
        pusher.connection.bind('error', (error) => reject(new Error(JSON.stringify(error))));
        pusher.subscribe('my-channel').bind('my-event', (data) => window.events.push(data));
        pusher.subscribe('presence-page').bind('pusher:subscription_succeeded', ({ count, me }) => resolve({ count, me }));
      }),
    { wsHost: node.hostname, wsPort: node.port },
  ),
  'the subscriptions',
);
equal(members, { count: 1, me: { id: 'ann', info: { name: 'Ann' } } }, 'the members');
await backend.trigger('my-channel', 'my-event', { message: 'hello world' });
await page.waitForFunction(() => window.events.length > 0);
equal(await page.evaluate(() => window.events), [{ message: 'hello world' }], 'the events');

// A page of another machine may not use the app of a workbench.
const stranger = await browser.newPage();
await stranger.route('http://stranger.example/**', (route) =>
  route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>stranger</title>' }),
);
await stranger.goto('http://stranger.example/');
const outcome = await stranger.evaluate(
  (url) =>
    new Promise((resolve) => {
      const socket = new WebSocket(url);
      socket.onopen = () => resolve('open');
      socket.onerror = () => resolve('refused');
    }),
  `ws://${node.host}/app/key?protocol=7`,
);
equal(outcome, 'refused', 'the connection of a page of another machine');
await browser.close();
process.stdout.write('all well\n');
process.exit(0);
