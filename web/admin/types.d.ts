// The messages between the admin page and the server. For the type checker alone.

/** Rates of a node at a time. */
export interface Sample {
  at: number;
  publications: number;
  deliveries: number;
  connections: number;
  cut: number;
  cpu: number;
  lag: number;
}

export interface NodeState {
  version: string;
  uptime: number;
  ready: boolean;
  not_ready: [string, string] | null;
  broker: string;
  broker_down: string | null;
  connections: number;
  protocols: [string, number][];
  users: number;
  subscriptions: number;
  channels: number;
  memory: number | null;
  files: [number | null, number | null];
  queued: number;
  stalled: number;
  tables: [number, number];
  warnings: [number, number];
  samples: Sample[];
}

export interface Overview {
  nodes: { uid: string; name: string; own: boolean; state: NodeState }[];
  missing: string[];
}

export interface Connection {
  client: string;
  at: [number, number];
  node: string;
  node_name: string;
  user: string;
  address: string | null;
  transport: string;
  protocol: string;
  backend: boolean;
  since: number;
  queued: number;
  received: number | null;
  sent: number | null;
  rtt: number | null;
  subscriptions: number;
  channels: string[];
}

export interface OpenTable {
  id: string;
  name: string;
  size: number;
  rows: number;
  viewers: number;
  /** Names of the nodes where the table did not respond in time. */
  unresponsive: string[];
}

export interface StoredTable {
  id: string;
  /** `null` if its record cannot be read. */
  name: string | null;
  size: number;
  used: number | null;
  nodes: string[];
}

export interface LogEntry {
  node: string;
  line: { at: number; level: string; target: string; text: string };
}
