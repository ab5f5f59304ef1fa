// The nodes, their rates as charts, the broker and readiness.

import { bytes, count, make } from '../dom.js';
import { get } from './api.js';
import { Chart } from './charts.js';
import { attempt, duration, milliseconds, missingNodes, short, table } from './parts.js';

/** @typedef {import('./types').Overview} Overview */
/** @typedef {import('./types').Sample} Sample */

/** How long the charts reach back, in seconds. */
const SPAN = 600;

/**
 * The samples of all nodes, added up by time; of the lag the longest. Times that not all nodes have reported yet are omitted.
 * @param {Map<string, Map<number, Sample>>} nodes
 * @returns {Sample[]}
 */
export const merged = (nodes) => {
  const ends = [...nodes.values()].map((samples) => Math.max(0, ...samples.keys()));
  const end = Math.min(...ends);
  /** @type {Map<number, Sample>} */
  const all = new Map();
  for (const samples of nodes.values()) {
    for (const sample of samples.values()) {
      if (sample.at > end) continue;
      const sum = all.get(sample.at);
      if (!sum) all.set(sample.at, { ...sample });
      else {
        sum.publications += sample.publications;
        sum.deliveries += sample.deliveries;
        sum.connections += sample.connections;
        sum.cut += sample.cut;
        sum.cpu += sample.cpu;
        sum.lag = Math.max(sum.lag, sample.lag);
      }
    }
  }
  return [...all.values()].sort((a, b) => a.at - b.at);
};

/** @param {HTMLElement} view @param {import('./parts').Visit} visit */
export const overview = async (view, visit) => {
  /** @type {[Chart, (sample: Sample) => number][]} */
  const charts = [
    [new Chart('Publications', 'per second, arriving at nodes'), (sample) => sample.publications],
    [new Chart('Deliveries', 'per second'), (sample) => sample.deliveries],
    [new Chart('Connections', '', count), (sample) => sample.connections],
    [new Chart('Slow consumers cut', 'per second'), (sample) => sample.cut],
    [new Chart('Publish to deliver', 'through the broker, of the canary', milliseconds), (sample) => sample.lag],
    [new Chart('Processor', 'cores'), (sample) => sample.cpu],
  ];
  const totals = make('dl', { class: 'numbers' });
  const nodes = make('div');
  const problems = make('div', { role: 'status' });
  view.replaceChildren(make('h1', {}, 'Overview'), problems, totals,
    make('section', { class: 'charts', 'aria-label': 'Rates of the last 10 minutes' }, ...charts.map(([chart]) => chart.element)),
    make('h2', {}, 'Nodes'), nodes);

  /** @type {Map<string, Map<number, Sample>>} */
  const known = new Map();
  let after = 0;

  /** @param {Overview} data */
  const show = (data) => {
    /** @type {(kind: string, name: string, text: string) => HTMLElement} */
    const problem = (kind, name, text) => make('p', { class: `state ${kind}` }, make('strong', {}, name), ' ', text);
    problems.replaceChildren(missingNodes(data.missing), ...data.nodes.flatMap(({ name, state }) => [
      ...(state.broker_down ? [problem('bad', name, `the broker is unavailable: ${state.broker_down}. Other nodes are unknown meanwhile.`)] : []),
      ...(state.not_ready && !state.broker_down ? [problem('bad', name, `not ready, ${state.not_ready[0]}: ${state.not_ready[1]}`)] : []),
    ]));
    const sum = (/** @type {(state: import('./types').NodeState) => number} */ of) => data.nodes.reduce((total, node) => total + of(node.state), 0);
    const number = (/** @type {string} */ name, /** @type {string} */ value) => make('div', {}, make('dt', {}, name), make('dd', {}, value));
    totals.replaceChildren(
      number('Nodes', count(data.nodes.length)),
      number('Connections', count(sum((state) => state.connections))),
      number('Subscriptions', count(sum((state) => state.subscriptions))),
      number('Queued', bytes(sum((state) => state.queued))),
      number('Slow now', count(sum((state) => state.stalled))),
      number('Warnings, errors', `${count(sum((state) => state.warnings[0]))}, ${count(sum((state) => state.warnings[1]))}`),
    );
    nodes.replaceChildren(table('Nodes', ['Node', 'State', '~Version', '~Up', '#Connections', '#Channels', '~#Memory', '~#Open files', '~Protocols'], data.nodes.map(({ name, own, state }) => [
      make('span', { class: 'node' }, name, own ? ' ' : '', own ? make('span', { class: 'quiet' }, '(this one)') : ''),
      make('span', { class: state.ready ? 'good' : 'bad' }, state.ready ? `ready, ${state.broker}` : 'not ready'),
      state.version, duration(state.uptime), count(state.connections), count(state.channels),
      state.memory === null ? '–' : bytes(state.memory),
      state.files[0] === null ? '–' : `${count(state.files[0])} of ${short(state.files[1] ?? 0)}`,
      state.protocols.map(([protocol, sessions]) => `${protocol} ${count(sessions)}`).join(', '),
    ])));
    for (const { uid, state } of data.nodes) {
      const samples = known.get(uid) ?? new Map();
      known.set(uid, samples);
      for (const sample of state.samples) samples.set(sample.at, sample);
    }
    for (const uid of known.keys()) if (!data.nodes.some((node) => node.uid === uid)) known.delete(uid);
    const all = merged(known);
    const to = all.at(-1)?.at ?? 0;
    const from = to - SPAN;
    for (const samples of known.values()) for (const at of samples.keys()) if (at < from) samples.delete(at);
    for (const [chart, of] of charts) chart.show(all.filter(({ at }) => at >= from).map((sample) => [sample.at, of(sample)]), from, to);
    // A node may report a sample a moment later than others.
    after = Math.max(0, to - 10);
  };

  const refresh = () => attempt(async () => {
    const data = await get(`overview?after=${after}`);
    if (visit.isCurrent()) show(data);
  });
  await refresh();
  visit.every(2000, refresh);
};
