// How a script of scenarios speaks with the test that started it: orders go out as lines `>ORDER` on stdout, each is
// answered by a line on stdin; everything else on stdout is said to people. The first argument is JSON that says where
// the servers are, and what signs tokens.
import { createHmac } from 'node:crypto';
import { createInterface } from 'node:readline';

export const place = JSON.parse(process.argv[2]);

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let turn = Promise.resolve();

/** Has the test do something to the link in front of the server: `cut`, `silence`, `resume`. */
export function control(order) {
  turn = turn.then(async () => {
    process.stdout.write(`>${order}\n`);
    const { value } = await answers.next();
    if (value !== 'done') throw new Error(`${order}: ${value}`);
  });
  return turn;
}

const base64url = (text) => Buffer.from(text).toString('base64url');

/** A JSON Web Token, signed as the keyed server wants it, or with another key. */
export function token(claims, { key = place.secret } = {}) {
  const body = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`;
  return `${body}.${createHmac('sha256', key).update(body).digest('base64url')}`;
}

/** A method of the keyed server's API. */
export async function api(method, params) {
  const answer = await fetch(`${place.api}api/${method}`, {
    method: 'POST',
    headers: { 'X-API-Key': place.apiKey, 'Content-Type': 'application/json' },
    body: JSON.stringify(params),
  });
  if (!answer.ok) throw new Error(`API ${method}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

export const say = (text) => process.stdout.write(`${text}\n`);

/** What scenarios know of the world. */
export const world = { servers: place.servers, control, token, api, say };

/** Ends the script as the scenarios went. */
export function end(failed) {
  say(failed.length ? `failed: ${failed.join('; ')}` : 'all well');
  process.exit(failed.length ? 1 : 0);
}
