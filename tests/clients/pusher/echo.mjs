// Laravel Echo in a real browser, as Laravel's documentation has it for Reverb and for Pusher: echo.mjs PLACE. PLACE is JSON with
// the address of a server without options (`node`), whose app is `app`, `key`, `secret`. The events are those that Laravel
// broadcasts.
import { equal, within } from '../centrifuge/kit.mjs';
import { backendOf, openPage } from './page.mjs';

const node = new URL(JSON.parse(process.argv[2]).node);
const backend = backendOf(node);
const scripts = ['pusher-js/dist/web/pusher.js', 'laravel-echo/dist/echo.iife.js'];
const { browser, page } = await openPage(backend, scripts, '/broadcasting/auth');

for (const broadcaster of ['reverb', 'pusher']) {
  const here = await within(
    page.evaluate(
      ({ broadcaster, wsHost, wsPort }) =>
        new Promise((resolve, reject) => {
          window.got = [];
          // The script for pages exports the class as `default`.
          const Echo = window.Echo.default ?? window.Echo;
          const echo = new Echo({
            broadcaster,
            key: 'key',
            ...(broadcaster === 'pusher' && { cluster: 'mt1' }),
            wsHost,
            wsPort,
            wssPort: wsPort,
            forceTLS: false,
            enabledTransports: ['ws', 'wss'],
          });
          window.echo = echo;
          echo.connector.pusher.connection.bind('error', (error) => reject(new Error(JSON.stringify(error))));
          const subscribed = (channel) => new Promise((done) => channel.subscribed(done));
          const orders = echo.channel('orders').listen('OrderShipmentStatusUpdated', (e) => window.got.push(e.order.id));
          const own = echo.private('orders.1').listen('OrderShipmentStatusUpdated', (e) => window.got.push(e.order.id));
          own.listen('.server.created', (e) => window.got.push(e.name));
          echo.private('App.Models.User.1').notification((notification) => window.got.push(notification.type));
          const members = new Promise((done) => echo.join('chat.1').here(done).error(reject));
          Promise.all([subscribed(orders), subscribed(own)]).then(() => members.then(resolve));
        }),
      { broadcaster, wsHost: node.hostname, wsPort: node.port },
    ),
    `the subscriptions with ${broadcaster}`,
  );
  equal(here, [{ name: 'Ann' }], 'the members');
  await page.waitForFunction(() => window.echo.connector.channels['private-App.Models.User.1'].subscription.subscribed);
  const event = 'App\\Events\\OrderShipmentStatusUpdated';
  await backend.trigger('orders', event, { order: { id: 7 } });
  await backend.trigger(['private-orders.1'], event, { order: { id: 1 } });
  await backend.trigger('private-orders.1', 'server.created', { name: 'db-1' });
  const notification = 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated';
  await backend.trigger('private-App.Models.User.1', notification, { type: 'invoice.paid' });
  await page.waitForFunction(() => window.got.length === 4);
  equal(await page.evaluate(() => window.got), [7, 1, 'db-1', 'invoice.paid'], `the events with ${broadcaster}`);
  // `toOthers()` excludes the socket of the request.
  const socket = await page.evaluate(() => window.echo.socketId());
  await backend.trigger('orders', event, { order: { id: 8 } }, { socket_id: socket });
  await backend.trigger('orders', event, { order: { id: 9 } });
  await page.waitForFunction(() => window.got.length === 5);
  equal(await page.evaluate(() => window.got[4]), 9, 'the event for others');
  await page.evaluate(() => window.echo.disconnect());
}
await browser.close();
process.stdout.write('all well\n');
process.exit(0);
