// What the scenarios of life.mjs stand on, in Node and in a browser alike: waiting with a deadline, comparing, and a
// client's life in one object. Nothing here knows how the servers were started: `world` says where they are.

/** How long anything may take that ought to happen at once; the machine may be busy. */
export const PATIENCE = 30_000;

/** Fails when `got` is not `wanted`, compared as JSON. */
export function equal(got, wanted, what = '') {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what} is ${a}, not ${b}`);
}

/** Fails when `holds` is false. */
export function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** Resolves as `promise` does, or fails after PATIENCE naming what was waited for. */
export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `condition` holds. */
export async function until(condition, what) {
  const end = Date.now() + PATIENCE;
  while (!condition()) {
    check(Date.now() < end, `not in time: ${what}`);
    await pause(10);
  }
}

/** The error with which `promise` fails, which it must. */
export async function failure(promise, what) {
  try {
    await within(promise, what);
  } catch (error) {
    return error;
  }
  throw new Error(`${what} succeeded`);
}

/** Everything that an emitter says of some events, in order, and waiting for it. */
export class Heard {
  constructor(emitter, ...events) {
    this.all = [];
    this.waiting = [];
    for (const event of events) {
      emitter.on(event, (context) => {
        this.all.push({ event, ...context });
        this.waiting.forEach((look) => look());
      });
    }
  }

  /** The first thing heard that `wanted` (the name of an event, or a function) means; waits for it. */
  one(wanted, what = `${wanted}`) {
    const test = typeof wanted === 'function' ? wanted : (said) => said.event === wanted;
    return this.until(() => this.all.find(test), what);
  }

  /** What `look` gives once that is something; `what` names it. */
  until(look, what) {
    const found = new Promise((resolve) => {
      const glance = () => {
        const it = look();
        if (it) resolve(it);
        return it;
      };
      if (!glance()) this.waiting.push(glance);
    });
    return within(found, what).catch((error) => {
      throw new Error(`${error.message}; heard: ${JSON.stringify(this.all)}`);
    });
  }

  /** How often an event was heard. */
  count(event) {
    return this.all.filter((said) => said.event === event).length;
  }
}

const CLIENT = ['connecting', 'connected', 'disconnected', 'error', 'subscribed', 'subscribing', 'unsubscribed',
  'publication', 'join', 'leave', 'message'];
const SUBSCRIPTION = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error'];

let names = 0;

/** One scenario's part of the world: clients of one flavour, closed when it ends. */
export class Life {
  constructor(world, flavour) {
    this.world = world;
    this.flavour = flavour;
    this.clients = [];
  }

  /** A channel's name that nobody else uses. */
  name(prefix) {
    names += 1;
    return `${prefix}${this.flavour.name}-${names}`;
  }

  /**
   * A client of the server `where` (`open`, `keyed`, or `cut`: the keyed one behind a link that can be cut), with the
   * SDK's own options. `heard` is what it says.
   */
  client(where, options = {}) {
    // Several nodes have clients in turn.
    const bases = [this.world.servers[where]].flat();
    const base = bases[this.clients.length % bases.length];
    const path = { websocket: 'connection/websocket', http_stream: 'connection/http_stream', sse: 'connection/sse' };
    const { transport } = this.flavour;
    const scheme = transport === 'websocket' ? base.replace('http', 'ws') : base;
    const endpoint = options.endpoints ?? [{ transport, endpoint: scheme + path[transport] }];
    const client = new this.flavour.Centrifuge(endpoint, {
      minReconnectDelay: 50,
      maxReconnectDelay: 500,
      timeout: PATIENCE,
      emulationEndpoint: base + 'emulation',
      ...this.flavour.options,
      ...options,
    });
    client.heard = new Heard(client, ...CLIENT);
    this.clients.push(client);
    return client;
  }

  /** A client that is connected. */
  async connected(where, options) {
    const client = this.client(where, options);
    client.connect();
    client.context = await client.heard.one('connected');
    return client;
  }

  /** A client of the keyed server with a token of this user's. */
  async user(user, options = {}, where = 'keyed') {
    return this.connected(where, { token: await this.token({ sub: user }), ...options });
  }

  /** A subscription that stands; its `heard` is what it says, its `context` how it began. */
  async subscribed(client, channel, options) {
    const subscription = this.subscription(client, channel, options);
    subscription.context = await subscription.heard.one('subscribed', `subscribed to ${channel}`);
    return subscription;
  }

  /** A subscription that is asked for. */
  subscription(client, channel, options = {}) {
    const subscription = client.newSubscription(channel, { minResubscribeDelay: 50, maxResubscribeDelay: 500, ...options });
    subscription.heard = new Heard(subscription, ...SUBSCRIPTION);
    subscription.subscribe();
    return subscription;
  }

  token(claims, options) {
    return this.world.token(claims, options);
  }

  /** A method of the server API of the keyed server; its result. */
  async api(method, params) {
    const answer = await this.world.api(method, params);
    for (const { error } of [answer, ...(answer.replies ?? [])]) check(!error, `API ${method}: ${JSON.stringify(error)}`);
    return answer.result;
  }

  control(order) {
    return this.world.control(order);
  }

  /** Data as this flavour's SDK takes it: JSON's is any value, Protobuf's is bytes. */
  data(value) {
    return this.flavour.protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value;
  }

  /** Data as this flavour's SDK gives it. */
  value(data) {
    return this.flavour.protobuf && data ? JSON.parse(new TextDecoder().decode(data)) : data;
  }

  /** The data of the publications heard so far. */
  published(heard) {
    return heard.all.filter((said) => said.event === 'publication').map((said) => this.value(said.data));
  }

  /** Waits until the publications heard are these, in this order, and fails as soon as they cannot be. */
  async publications(heard, wanted) {
    await heard.until(() => heard.count('publication') >= wanted.length, `${wanted.length} publications`);
    equal(this.published(heard), wanted, 'what was published');
  }

  close() {
    for (const client of this.clients) {
      client.removeAllListeners();
      client.disconnect();
    }
  }
}

async function live(name, scenario, world, flavour) {
  const life = new Life(world, flavour);
  const start = Date.now();
  try {
    await scenario(life);
    world.say(`ok      ${flavour.name}: ${name} (${Date.now() - start} ms)`);
    return [];
  } catch (error) {
    world.say(`FAILED  ${flavour.name}: ${name}\n${error.stack ?? error.message ?? JSON.stringify(error)}`);
    return [`${flavour.name}: ${name}`];
  } finally {
    life.close();
    await world.control('resume');
  }
}

/**
 * Runs scenarios, `beside` of them at a time, and says of each how it went; gives the names of those that failed. Only
 * those are run whose names contain `only`.
 */
export async function run(scenarios, world, flavour, { beside, only = '' }) {
  const left = Object.entries(scenarios).filter(([name]) => name.includes(only));
  const failed = [];
  const worker = async () => {
    for (let next = left.shift(); next; next = left.shift()) failed.push(...(await live(...next, world, flavour)));
  };
  await Promise.all(Array.from({ length: beside }, worker));
  return failed;
}
