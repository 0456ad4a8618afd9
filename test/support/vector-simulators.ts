// The simulator of each backend, filled from the input of a vector, behind one face.
import { tablesOf as ruleTables } from '../../backends/iptables/ruleset.ts';
import { LOCALHOST_COUNTER } from '../../backends/iptables/service-rules.ts';
import { desiredCompanion } from '../../backends/ipvs/companion.ts';
import type { CompanionSet } from '../../backends/ipvs/companion-schema.ts';
import { serviceObjects } from '../../backends/ipvs/service-objects.ts';
import { DEFAULT_SCHEDULER } from '../../backends/ipvs/settings.ts';
import { desiredTable } from '../../backends/nftables/desired.ts';
import { tablesOf } from '../../backends/nftables/render.ts';
import type { ServicePlan } from '../../backends/service-plan.ts';
import { FAMILIES } from '../../native/ip.ts';
import type { Element } from '../../native/nftables/batch.ts';
import { IptablesSimulator } from './iptables-simulator.ts';
import { IpvsSimulator } from './ipvs-simulator.ts';
import { type Packet, RulesetSimulator } from './ruleset-simulator.ts';
import { clusterOf, type VectorCluster } from './vector-cluster.ts';

export const BACKENDS = ['nftables', 'iptables', 'ipvs'] as const;
export type BackendName = (typeof BACKENDS)[number];

export function isBackend(name: string): name is BackendName {
  return (BACKENDS as readonly string[]).includes(name);
}

export interface SimulatedOutcome {
  readonly result: string;
  /** null unless DNAT. */
  readonly endpoint: string | null;
  readonly masquerade: boolean;
  readonly probability: number;
  /** It left through postrouting; mark and priority as of then. */
  readonly postrouting: boolean;
  readonly mark: number;
  /** null: the backend has no use for it. */
  readonly priority: number | null;
}

export interface SimulatedBackend {
  readonly cluster: VectorCluster;
  outcomes(packet: Packet): SimulatedOutcome[];
  connect(packet: Packet, endpoint: string): void;
  /** A sync: takes up what changed in the cluster's state since the last one. */
  sync(): Promise<void>;
}

interface Options {
  readonly nowMs?: () => number;
  /** Of packets as they come. */
  readonly mark?: number;
  readonly priority?: number;
}

/** `input`: form X-16. */
export async function simulated(backend: BackendName, input: unknown, options: Options): Promise<SimulatedBackend> {
  const cluster = clusterOf(input, backend);
  const plans = await cluster.planner.all();
  cluster.state.takeChanges();
  return SIMULATORS[backend](cluster, plans, options);
}

const SIMULATORS = { nftables, iptables, ipvs } as const;

function nftables(cluster: VectorCluster, plans: ServicePlan[], options: Options): SimulatedBackend {
  const { settings, localAddresses, planner, state } = cluster;
  const tables = tablesOf(settings, plans);
  const desired = () => tables.map((table) => desiredTable(settings, table));
  const simulator = new RulesetSimulator({ tables: desired(), localAddresses, ...options });
  return {
    cluster,
    outcomes: (packet) => simulator.outcomes(packet),
    connect: (packet, endpoint) => void simulator.connect(packet, endpoint),
    sync: async () => {
      const changes = await planner.changes(state.takeChanges().services);
      for (const table of tables) table.applied(table.prepare(changes.filter((c) => c.family === table.family)));
      simulator.replaceTables(desired());
    },
  };
}

function iptables(cluster: VectorCluster, plans: ServicePlan[], { nowMs, mark }: Options): SimulatedBackend {
  const { settings, localAddresses, planner, state } = cluster;
  const both = (all: readonly ServicePlan[]) => {
    const common = { settings, nfacct: [LOCALHOST_COUNTER], randomFully: true };
    return {
      IPv4: ruleTables(all, { ...common, family: 'IPv4' }),
      IPv6: ruleTables(all, { ...common, family: 'IPv6' }),
    };
  };
  const times = { ...(nowMs !== undefined && { nowMs }), ...(mark !== undefined && { mark }) };
  const simulator = new IptablesSimulator({ tables: both(plans), localAddresses, ...times });
  return {
    cluster,
    outcomes: (packet) => simulator.outcomes(packet).map((outcome) => ({ ...outcome, priority: null })),
    connect: (packet, endpoint) => void simulator.connect(packet, endpoint),
    sync: async () => {
      state.takeChanges();
      simulator.replaceTables(both(await planner.all()));
    },
  };
}

function ipvs(cluster: VectorCluster, plans: ServicePlan[], { nowMs, mark }: Options): SimulatedBackend {
  const { settings, localAddresses, planner, state, config } = cluster;
  const scheduler = config.ipvs.scheduler || DEFAULT_SCHEDULER;
  const objects = (all: readonly ServicePlan[]) => {
    const services = all.map((plan) => ({ family: plan.family, ...serviceObjects(plan, settings, { scheduler }) }));
    const tables = FAMILIES.map((family) => {
      const elements = new Map<CompanionSet, Map<string, Element>>();
      for (const service of services.filter((s) => s.family === family)) {
        for (const [set, own] of service.elements) elements.set(set, new Map([...(elements.get(set) ?? []), ...own]));
      }
      return desiredCompanion(family, settings, elements);
    });
    return { services, tables };
  };
  const times = { ...(nowMs !== undefined && { nowMs }), ...(mark !== undefined && { mark }) };
  const simulator = new IpvsSimulator({ ...objects(plans), localAddresses, ...times });
  return {
    cluster,
    outcomes: (packet) => simulator.outcomes(packet).map((outcome) => ({ ...outcome, priority: null })),
    connect: (packet, endpoint) => void simulator.connect(packet, endpoint),
    sync: async () => {
      state.takeChanges();
      simulator.replace(objects(await planner.all()));
    },
  };
}
