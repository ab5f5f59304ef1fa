// pusher-js in a real browser, as its quick start has it: chromium.mjs PLACE. PLACE is JSON with the address of a server without
// options (`node`), whose app is `app`, `key`, `secret`.
import { equal, within } from '../centrifuge/kit.mjs';
import { backendOf, openPage } from './page.mjs';

const node = new URL(JSON.parse(process.argv[2]).node);
const backend = backendOf(node);
const { browser, page } = await openPage(backend, ['pusher-js/dist/web/pusher.js'], '/auth');
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
