// A page in Chromium with scripts of npm packages, and a backend that authorizes its subscriptions with the server library
// `pusher`. The page comes from another server of this machine, as that of an application does. Modules are found in the folders
// that TIDINGS_NODE_MODULES and TIDINGS_BROWSER_MODULES name.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const { chromium } = createRequire(process.env.TIDINGS_BROWSER_MODULES + '/')('playwright-core');
const Server = createRequire(process.env.TIDINGS_NODE_MODULES + '/')('pusher');

/** The server library for the app of a server without options. */
export const backendOf = (node) =>
  new Server({ appId: 'app', key: 'key', secret: 'secret', host: node.hostname, port: node.port, useTLS: false });

/** A browser, and a page with these scripts, each a path in the folder of modules. `auth` is the path of the backend. */
export async function openPage(backend, scripts, auth) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://page');
    const script = scripts.find((name) => pathname === `/${name}`);
    if (script) return response.end(await readFile(`${process.env.TIDINGS_NODE_MODULES}/node_modules/${script}`));
    if (pathname !== auth) {
      response.setHeader('Content-Type', 'text/html');
      const tags = scripts.map((name) => `<script src="/${name}"></script>`);
      return response.end(`<!doctype html><title>page</title>${tags.join('')}`);
    }
    let body = '';
    for await (const piece of request) body += piece;
    const form = new URLSearchParams(body);
    const user = { user_id: 'ann', user_info: { name: 'Ann' } };
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(backend.authorizeChannel(form.get('socket_id'), form.get('channel_name'), user)));
  });
  await new Promise((resolve) => server.listen(0, resolve));
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const page = await browser.newPage();
  await page.goto(`http://localhost:${server.address().port}/`);
  return { browser, page };
}
