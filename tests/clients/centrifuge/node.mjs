// centrifuge-js in Node: node.mjs PLACE FLAVOUR [WORDS], where FLAVOUR is a transport and an encoding, and WORDS chooses
// the scenarios whose names contain them. Modules are found in the folder that TIDINGS_NODE_MODULES names.
import { createRequire } from 'node:module';

import { end, world } from './control.mjs';
import { run } from './kit.mjs';
import { cuts, scenarios } from './life.mjs';

const require = createRequire(process.env.TIDINGS_NODE_MODULES + '/');
const [name, only] = process.argv.slice(3);
const [transport, encoding] = name.split('-');
const protobuf = encoding === 'protobuf';
const { Centrifuge } = require(protobuf ? 'centrifuge/build/protobuf' : 'centrifuge');
const { EventSource } = require('eventsource');

// What Node lacks, as the SDK's documentation says.
const options = { websocket: require('ws'), eventsource: EventSource, fetch, readableStream: ReadableStream };
const flavour = { name, Centrifuge, transport, protobuf, options };
const failed = await run(scenarios, world, flavour, { beside: 8, only });
end([...failed, ...(await run(cuts, world, flavour, { beside: 1, only }))]);
